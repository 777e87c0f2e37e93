"""Closed forms that the networks are held against: `gaussian` (Bures distance, JKO steps, Ornstein-Uhlenbeck flow)."""

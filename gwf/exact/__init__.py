"""Closed forms that networks are held against: `gaussian` (Bures distance, JKO steps, Ornstein-Uhlenbeck)."""

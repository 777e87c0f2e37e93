"""Wasserstein gradient flows for generative modelling: an executable companion to five works."""

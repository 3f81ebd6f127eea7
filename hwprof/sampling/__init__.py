"""Sampling: measure what tells the most, and stop when enough is known."""

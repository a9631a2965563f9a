"""Sequence models and the simple models they are measured against."""

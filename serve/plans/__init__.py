"""Stored order plans: asked for, computed beside the requests, decided line by line, handed over."""

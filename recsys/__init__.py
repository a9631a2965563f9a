"""What sells to whom, with what, and instead of what."""

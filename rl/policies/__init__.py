"""Replenishment policies: textbook rules and learned ones behind one protocol."""

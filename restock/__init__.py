"""The front door: command line, main job and report."""

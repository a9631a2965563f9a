"""One Ray Serve deployment per model, and the planner that composes them."""

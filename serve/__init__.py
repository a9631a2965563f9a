"""The HTTP service: Ray Serve deployments composed by handles."""

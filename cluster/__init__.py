"""The ground: configuration, data contracts, Ray runtime, data pipelines and artifacts."""

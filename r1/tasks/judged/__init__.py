"""Tasks whose replies a model judges."""

"""Model definitions and checkpoint formats (floor 1)."""

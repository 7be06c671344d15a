"""Tasks whose replies a model judges: against a gold (`answers`), or a baseline (`pairs`)."""

"""Turning samples and graded rollouts into better weights."""

"""Aider's polyglot benchmark: exercises edited in two tries."""

"""Recipes: stages in order, each a folder, each resumable."""

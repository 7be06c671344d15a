"""The report of a recipe's run: claims, curves, stages, samples."""

"""Measuring models: the evaluation loop, its statistics, and the report of a run."""

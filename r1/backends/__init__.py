"""Generators that are not our engine: servers that speak OpenAI's protocol."""

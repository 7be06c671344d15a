"""Aider-Polyglot: exercises edited in two tries.

`exercises` reads them, `prompt` asks, `edits` reads replies, `languages` runs the tests, and
`polyglot` is the task.
"""

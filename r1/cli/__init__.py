"""The `r1` command: one verb, one function; a file a group of verbs."""

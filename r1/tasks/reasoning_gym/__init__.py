"""reasoning-gym's families, with what it takes to run their scorers on untrusted answers."""

"""Programs that nobody trusts, run behind the strongest walls that work here."""

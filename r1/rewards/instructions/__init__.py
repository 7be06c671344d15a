"""IF-Eval: whether a reply follows verifiable instructions, by the official rules."""

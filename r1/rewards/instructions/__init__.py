"""IF-Eval: whether a reply follows verifiable instructions, by the official rules.

`checkers` has the 25 kinds, `following` the strict and loose verdicts, `sentences` the counting.
"""

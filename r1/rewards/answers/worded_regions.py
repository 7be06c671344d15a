"""Comparisons and sets of reals that are put in words, rewritten in signs."""

from __future__ import annotations

import re

_REAL = (
    r"(?:(?:all|every|any|the)\s+)*(?<![-\w])(?:{kind})\s+(?:real\s+)?(?:numbers?|reals?|values?)$"
)
_NUMBERS = r"^(?:all\s+)?(?:real\s+)?(?:numbers?|reals?|values?)\s+"
_COMPARED = r"\b(?:is\s+)?(?:strictly\s+)?(?:{word}) than{equal}\b"
_REWRITES = tuple(
    (re.compile(pattern, re.IGNORECASE), signs)
    for pattern, signs in (
        (_COMPARED.format(word="greater|larger|more", equal=" or equal to"), r" \\ge "),
        (_COMPARED.format(word="less|smaller", equal=" or equal to"), r" \\le "),
        (r"\bis at least\b", r" \\ge "),
        (r"\bis at most\b", r" \\le "),
        (_COMPARED.format(word="greater|larger", equal=""), " > "),
        (_COMPARED.format(word="less|smaller", equal=""), " < "),
        (_REAL.format(kind="positive"), r"(0, \\infty)"),
        (_REAL.format(kind="negative"), r"(-\\infty, 0)"),
        (_REAL.format(kind="non-?negative"), r"[0, \\infty)"),
        (_REAL.format(kind="non-?positive"), r"(-\\infty, 0]"),
        (_REAL.format(kind="non-?zero"), r"\\mathbb{R} \\setminus \\{0\\}"),
        (
            _NUMBERS + r"(?:from|between)\s+(\S+)\s+(?:to|and)\s+(\S+?),?\s*\(?inclusive\)?$",
            r"\\in [\1, \2]",
        ),
        (
            _NUMBERS + r"(?:strictly\s+between\s+(\S+)\s+and\s+(\S+)|"
            r"between\s+(\S+)\s+and\s+(\S+?),?\s*\(?exclusive\)?)$",
            r"\\in (\1\3, \2\4)",
        ),
        (r"\s*\bother than\b|\s*\bnot equal to\b", " except "),
        (r"^All real", "all real"),
    )
)
_FIRST = re.compile(r"\s*([A-Za-z](?:_\w)?)\s*(?:\\[lg]e(?![A-Za-z])|[<>])")


def in_signs(text: str) -> str:
    """A (tidy) text with "is less than", "all positive reals" and the like in signs."""
    if not re.search(r"[A-Za-z] [A-Za-z]", text):
        return text
    for pattern, signs in _REWRITES:
        text = pattern.sub(signs, text)
    # "x < 2 or > 3": the variable is said once.
    if first := _FIRST.match(text):
        text = re.sub(r"\b(or|and)\s+(?=\\[lg]e(?![A-Za-z])|[<>])", rf"\1 {first[1]} ", text)
    return text

"""A budget of characters shared fairly, and texts cut to their share."""

from __future__ import annotations

from collections.abc import Sequence

_ENDS = ("\n\n", "\n", "。", "！", "？", ". ", "! ", "? ", " ")


def fair_shares(lengths: Sequence[int], budget: int) -> list[int]:
    """What each may have of a budget: short ones all they need, the rest the same each."""
    shares = [0] * len(lengths)
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    for place, index in enumerate(order):
        shares[index] = min(lengths[index], budget // (len(order) - place))
        budget -= shares[index]
    return shares


def cut_text(text: str, max_characters: int) -> str:
    """At most that many characters, cut after a paragraph, sentence or word, with an ellipsis."""
    if len(text) <= max_characters:
        return text
    if max_characters < 1:
        return ""
    cut = text[: max_characters - 1]
    for end in _ENDS:
        place = cut.rfind(end)
        # A better place is worth a fifth of the text at most.
        if place >= len(cut) * 4 // 5:
            cut = cut[: place + len(end)].rstrip()
            break
    return cut + "…"

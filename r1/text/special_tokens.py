"""Which tokens play which role, by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The special tokens by name. `adds_bos`: plain prompts of this model begin with BOS.

    `extra_eos_ids` are further ids that end a reply; without `pad`, EOS pads.
    """

    eos: str
    bos: str | None = None
    pad: str | None = None
    adds_bos: bool = True
    extra_eos_ids: tuple[int, ...] = ()

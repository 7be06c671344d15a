"""Stretches of rows of the input batch: what a step computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True, slots=True)
class Spans:
    """Tokens starts..stops of some rows of the input batch, int64 [spans] each."""

    NAMES: ClassVar = ("slots", "starts", "stops")

    slots: np.ndarray
    starts: np.ndarray
    stops: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return self.stops - self.starts

    def take(self, index: np.ndarray | slice) -> Spans:
        """Some of the spans, or all in another order."""
        return Spans(self.slots[index], self.starts[index], self.stops[index])


def joined(parts: Sequence[Spans]) -> Spans:
    """Spans one after another."""
    return Spans(*(np.concatenate([getattr(s, name) for s in parts]) for name in Spans.NAMES))

"""Numbers of rows whose headline is not pass@1, computed from their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from r1.evaluation.record_file import Record

Numbers = Mapping[str, float | None]

EXTRA_NUMBERS: dict[str, Callable[[Sequence[Record]], Numbers]] = {}


def extra_numbers(name: str, records: Sequence[Record]) -> Numbers:
    """The numbers of a row beside those that every evaluation has, by the table's names."""
    compute = EXTRA_NUMBERS.get(name)
    return compute(records) if compute is not None and records else {}

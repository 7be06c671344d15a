from __future__ import annotations

from typing import Any

import pytest

from r1.records import SamplingParams


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -0.1}, r"temperature must be 0 \(greedy\), or 1e-5 or more"),
        ({"temperature": 1e-6}, "temperature must be 0"),
        ({"temperature": float("inf")}, "temperature must be 0"),
        ({"temperature": float("nan")}, "temperature must be 0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p must be above 0"),
        ({"top_k": -1}, "top_k must be 0"),
        ({"min_p": 1.5}, "min_p must be between 0 and 1"),
        ({"max_tokens": 0}, "max_tokens must be 1 or more"),
        ({"max_tokens": 3, "min_tokens": 4}, "min_tokens must be between 0 and max_tokens"),
        ({"stop": ("",)}, "a stop string must not be empty"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingParams(**values)


def test_the_ends_of_the_ranges_are_allowed() -> None:
    assert SamplingParams(temperature=0.0).temperature == 0.0
    assert SamplingParams(temperature=1e-5, top_p=1.0, min_p=1.0).temperature == 1e-5
    assert SamplingParams(max_tokens=4, min_tokens=4).min_tokens == 4

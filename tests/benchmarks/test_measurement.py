from __future__ import annotations

import json
from pathlib import Path

import pytest
from measurement import (
    ContestantError,
    Floors,
    Ratio,
    Rounds,
    Series,
    growth,
    in_turn,
    short,
    table,
)
from pytest import approx

RUN_ALL = Rounds(budget_seconds=3600, least=2, most=3)


def test_a_series_shows_its_median_and_half_its_range() -> None:
    series = Series((90.0, 100.0, 120.0))
    assert (series.median, series.spread) == (100.0, approx(0.15))
    assert str(series) == "100 ±15%"
    assert Series((0.0,)).spread == 0


def test_a_sure_ratio_takes_our_worst_and_their_best() -> None:
    ours, theirs = Series((20.0, 30.0, 40.0)), Series((9.0, 10.0, 16.0))
    assert Ratio.of(ours, theirs) == Ratio(median=3.0, sure=1.25)
    # Seconds: 10 against 30 is 3 times as fast, and 16 against 20 surely 1.25.
    assert Ratio.of(theirs, ours, is_less_better=True) == Ratio(median=3.0, sure=1.25)


def test_contestants_take_turns_backwards_every_other_round() -> None:
    order: list[str] = []

    def run(name: str) -> dict[str, float]:
        order.append(name)
        return {"rate": float(len(order))}

    result = in_turn({"a": lambda: run("a"), "b": lambda: run("b")}, RUN_ALL)
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]
    # The first round warms up and is in no series but its own.
    assert result["a"]["rate"].values == (4.0, 5.0, 8.0)
    assert len(result["b"]["warm_seconds"].values) == 1
    assert len(result["b"]["round_seconds"].values) == 3


def test_a_case_out_of_time_still_has_its_least_rounds() -> None:
    result = in_turn({"a": lambda: {"rate": 1.0}}, Rounds(budget_seconds=0, least=2, most=9))
    assert len(result["a"]["rate"].values) == 2


@pytest.mark.parametrize("failing_call", [1, 2])
def test_one_that_fails_is_left_out_and_noted(failing_call: int) -> None:
    calls = []

    def fail() -> dict[str, float]:
        calls.append(1)
        if len(calls) == failing_call:
            raise ContestantError("no memory")
        return {"rate": 1.0}

    notes: list[str] = []
    result = in_turn({"bad": fail, "good": lambda: {"rate": 2.0}}, RUN_ALL, notes)
    assert [*result] == ["good"]
    assert len(result["good"]["rate"].values) == 3
    assert notes == ["bad: no memory"]


def test_growth_is_the_exponent() -> None:
    assert growth([1, 10, 100], [2, 20, 200]) == approx(1)
    assert growth([2, 4, 8], [5, 20, 80]) == approx(2)


@pytest.mark.parametrize(
    ("value", "text"), [(1234.4, "1,234"), (99.96, "100.0"), (12.34, "12.3"), (0.123, "0.12")]
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


def test_a_table_is_markdown() -> None:
    assert table(["x", "y"], [["1", "2"]]) == ["| x | y |", "| --- | ---: |", "| 1 | 2 |"]


def make_floors(folder: Path, **floors: float) -> Floors:
    path = folder / "floors.json"
    path.write_text(json.dumps(floors))
    return Floors.load(path)


def test_a_beaten_floor_rises_to_what_is_sure_and_never_falls(tmp_path: Path) -> None:
    floors = make_floors(tmp_path, beaten=1.2, held=1.2, missed=3.0)
    theirs = {"peer": Series((10.0, 10.0))}
    floors.judge("beaten", Series((15.0, 17.0)), theirs)
    floors.judge("held", Series((11.0, 15.0)), theirs)
    floors.judge("missed", Series((20.0, 20.0)), theirs)
    floors.judge("new", Series((12.349, 13.0)), theirs)
    assert floors.rows() == [
        ["beaten", "1.20", "1.60", "1.50", "raised"],
        ["held", "1.20", "1.30", "1.10", "met"],
        ["missed", "3.00", "2.00", "2.00", "**missed**"],
        ["new", "-", "1.27", "1.23", "raised"],
    ]
    floors.raise_and_save()
    # Rounded down: a floor is never above what was measured.
    assert Floors.load(floors.path).floors == {
        "beaten": 1.5, "held": 1.2, "missed": 3.0, "new": 1.23,
    }  # fmt: skip


def test_the_best_of_the_others_counts(tmp_path: Path) -> None:
    floors = make_floors(tmp_path)
    ratio = floors.judge(
        "x", Series((10.0, 12.0)), {"slow": Series((1.0, 1.0)), "fast": Series((10.0, 11.0))}
    )
    assert ratio is not None
    assert (ratio.median, ratio.sure) == (approx(11 / 10.5), approx(10 / 11))


def test_without_a_peer_no_floor_is_raised(tmp_path: Path) -> None:
    floors = make_floors(tmp_path, x=1.2)
    ours = Series((10.0,))
    ratio = floors.judge("x", ours, {"there": Series((1.0,)), "vLLM": None})
    assert ratio is not None and ratio.median == 10
    assert floors.judge("y", ours, {"vLLM": None}) is None
    assert floors.judge("z", None, {"there": ours}) is None
    assert floors.judge("nobody asked", ours, {}) is None
    assert [row[2] for row in floors.rows()] == [
        "without vLLM: 10.00", "not measured: vLLM missing", "not measured: ours missing",
    ]  # fmt: skip
    floors.raise_and_save()
    assert Floors.load(floors.path).floors == {"x": 1.2}

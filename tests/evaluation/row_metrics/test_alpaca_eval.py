from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from r1.evaluation.row_metrics.alpaca_eval import alpaca_eval_result, read_gamed


def record(index: int, preference: float, length: int = 10, baseline: int = 10) -> dict[str, Any]:
    parts = {"preference": preference, "length": length, "baseline_length": baseline}
    return {"problem_id": str(index), "parts": parts}


def smooth_records(num: int) -> list[dict[str, Any]]:
    """Preferences for longer answers and easier instructions, without a random number."""
    records = []
    for i in range(num):
        baseline = 1000 + 300 * math.cos(i)
        length = int(baseline * (1.2 + 0.8 * math.sin(5 * i)))
        baseline = int(baseline)
        z = 0.3 - 1.2 * math.sin(7 * i) - 0.002 * (length - baseline) - math.cos(13 * i)
        records.append(record(i, 1 / (1 + math.exp(z)), length, baseline))
    return records


def write_gamed(path: Path, num: int) -> Path:
    fields = ["index", "model", "std_delta_len", "preference", "instruction_difficulty"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*fields, "not_gamed_baseline"])
        for model, shift in (("a", 1.0), ("b", -1.0)):
            for i in range(num):
                difference = shift + 0.5 * math.sin(3 * i + shift)
                z = -1.5 * math.tanh(difference) + math.sin(11 * i)
                row = [i, model, difference, 1 / (1 + math.exp(z)), math.sin(7 * i), False]
                writer.writerow(row)
    return path


def test_the_raw_win_rate_and_its_error() -> None:
    records = [record(0, 1.0), record(1, 0.0), record(2, 0.5), record(3, 0.5)]
    unjudged = {"problem_id": "4", "parts": {}}
    result = alpaca_eval_result([*records, unjudged])
    assert result.win_rate == result.score == 0.5
    # sd of 1, 0, .5, .5 is sqrt(.5 / 3); divided by sqrt(4).
    assert result.standard_error == pytest.approx(math.sqrt(0.5 / 3) / 2)
    assert result.length_controlled is None
    assert result.label == "raw win rate"
    assert (result.num_judged, result.mean_length) == (4, 10)


def test_the_length_controlled_win_rate_equals_the_official_code(tmp_path: Path) -> None:
    result = alpaca_eval_result(smooth_records(60), write_gamed(tmp_path / "df_gamed.csv", 60))
    # From alpaca_eval 0.6.6 and scikit-learn 1.9.1 on the same rows, with liblinear's
    # tolerance at 1e-9; its default of 1e-4 gives the second number.
    assert result.length_controlled == pytest.approx(0.503112311348329, abs=1e-8)
    assert result.length_controlled == pytest.approx(0.5031122894587236, abs=1e-6)
    assert result.score == result.length_controlled
    assert result.label == "length-controlled win rate"


def test_length_alone_is_taken_out(tmp_path: Path) -> None:
    """A model that wins exactly by being longer is no better at equal length."""
    gamed = write_gamed(tmp_path / "df_gamed.csv", 200)
    records = []
    for i in range(200):
        length = 1000 + (900 if i % 4 else -900)
        preference = 0.9 if length > 1000 else 0.1
        records.append(record(i, preference, length, 1000))
    result = alpaca_eval_result(records, gamed)
    assert result.win_rate == pytest.approx(0.7)
    assert result.length_controlled is not None
    assert abs(result.length_controlled - 0.5) < 0.1


def test_files_that_are_refused(tmp_path: Path) -> None:
    records = smooth_records(5)
    with pytest.raises(ValueError, match=r"no such file; .*df_gamed.csv of the data set tatsu-lab"):
        alpaca_eval_result(records, tmp_path / "df_gamed.csv")
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other.csv: not df_gamed.csv"):
        read_gamed(path)
    path.write_text("preference,index,std_delta_len,instruction_difficulty\n1.5,0,0,0\n")
    with pytest.raises(ValueError, match="between 0 and 1"):
        read_gamed(path)
    with pytest.raises(ValueError, match="no instruction 3"):
        alpaca_eval_result(records, write_gamed(tmp_path / "small.csv", 3))
    with pytest.raises(ValueError, match="at least two judged"):
        alpaca_eval_result(records[:1])

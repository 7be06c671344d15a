"""AlpacaEval 2's scores, from the records of a run: the win rate, raw and length-controlled.

The length-controlled win rate asks what the win rate would be if the answers were as long
as the baseline's: a logistic model of the preferences on the difference of lengths, the
instruction's difficulty and the model, read where the difference is zero (Dubois et al.
2024, arXiv 2404.04475; `length_controlled_v1` in glm_winrate.py of tatsu-lab/alpaca_eval,
Apache-2.0). It needs `df_gamed.csv`, the annotations of two baselines that were told to
write short and long, which also holds the difficulties. Without it there is the raw win
rate alone, and the result says so.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from r1.evaluation.row_metrics.l1_logistic import fit_cross_validated, predict

HOW_TO_GET_GAMED = (
    "the length-controlled win rate needs df_gamed.csv of the data set tatsu-lab/alpaca_eval "
    "on the Hugging Face hub"
)
_GAMED_WEIGHT = 0.2 / 2  # regularize_to_baseline_lambda over two gamed baselines
_GAMED_FIELDS = ("preference", "index", "std_delta_len", "instruction_difficulty")


@dataclass(frozen=True, slots=True)
class AlpacaEvalResult:
    """Win rates in [0, 1] against the baseline; `length_controlled` None without its file.

    `standard_error` is that of `win_rate`, over instructions. `score` is what the table
    shows and `label` says which of the two it is.
    """

    win_rate: float
    standard_error: float
    length_controlled: float | None
    num_judged: int
    mean_length: float

    @property
    def score(self) -> float:
        return self.win_rate if self.length_controlled is None else self.length_controlled

    @property
    def label(self) -> str:
        return "raw win rate" if self.length_controlled is None else "length-controlled win rate"


@dataclass(frozen=True, slots=True)
class GamedAnnotations:
    """The rows of df_gamed.csv, and each instruction's difficulty by its place."""

    preferences: npt.NDArray[np.float64]
    length_differences: npt.NDArray[np.float64]
    difficulties: npt.NDArray[np.float64]
    difficulty_by_index: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class _Judged:
    index: int
    preference: float
    length: float
    baseline_length: float


def alpaca_eval_result(
    records: Sequence[Mapping[str, Any]], gamed_path: Path | None = None
) -> AlpacaEvalResult:
    """Compute the scores of a run, one record an instruction.

    Raises ValueError when fewer than two records are judged, and for a file that is not
    df_gamed.csv.
    """
    judged = [_read_record(r) for r in records if r["parts"].get("preference") is not None]
    if len(judged) < 2:
        raise ValueError("AlpacaEval's win rate needs at least two judged records")
    preferences = np.array([row.preference for row in judged])
    controlled = None
    if gamed_path is not None:
        controlled = _length_controlled(judged, read_gamed(gamed_path))
    return AlpacaEvalResult(
        win_rate=float(preferences.mean()),
        standard_error=float(preferences.std(ddof=1) / np.sqrt(len(preferences))),
        length_controlled=controlled,
        num_judged=len(judged),
        mean_length=float(np.mean([row.length for row in judged])),
    )


def read_gamed(path: Path) -> GamedAnnotations:
    """Read df_gamed.csv; raises ValueError with what is wrong in it."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        values = {name: [float(row[name]) for row in rows] for name in _GAMED_FIELDS}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; {HOW_TO_GET_GAMED}") from None
    except (KeyError, TypeError, ValueError) as error:
        fields = ", ".join(_GAMED_FIELDS)
        raise ValueError(f"{path}: not df_gamed.csv with numbers in {fields} ({error})") from None
    preferences = np.array(values["preference"])
    is_known = ~np.isnan(preferences)
    if not rows or np.any((preferences[is_known] < 0) | (preferences[is_known] > 1)):
        raise ValueError(f"{path}: preferences of df_gamed.csv lie between 0 and 1")
    by_index: dict[int, float] = {}
    for index, difficulty in zip(values["index"], values["instruction_difficulty"], strict=True):
        by_index.setdefault(int(index), difficulty)
    return GamedAnnotations(
        preferences=preferences[is_known],
        length_differences=np.array(values["std_delta_len"])[is_known],
        difficulties=np.array(values["instruction_difficulty"])[is_known],
        difficulty_by_index=by_index,
    )


def _length_controlled(judged: Sequence[_Judged], gamed: GamedAnnotations) -> float:
    """The mean prediction for answers as long as the baseline's, in [0, 1]."""
    missing = [row.index for row in judged if row.index not in gamed.difficulty_by_index]
    if missing:
        raise ValueError(f"df_gamed.csv has no instruction {missing[0]} ({len(missing)} missing)")
    difficulties = np.array([gamed.difficulty_by_index[row.index] for row in judged])
    differences = np.array([row.baseline_length - row.length for row in judged])
    spread = differences.std(ddof=1)
    if spread > 0:
        differences = differences / spread
    is_model = np.ones(len(judged))
    features = np.concatenate(
        [
            _features(gamed.length_differences, gamed.difficulties, 0 * gamed.difficulties),
            _features(differences, difficulties, is_model),
        ]
    )
    preferences = np.array([row.preference for row in judged])
    coefficients = fit_cross_validated(
        features,
        np.concatenate([gamed.preferences, preferences]),
        np.concatenate([np.full(len(gamed.preferences), _GAMED_WEIGHT), is_model]),
    )
    at_equal_length = _features(0 * differences, difficulties, is_model)
    return float(predict(at_equal_length, coefficients).mean())


def _features(
    differences: npt.NDArray[np.float64],
    difficulties: npt.NDArray[np.float64],
    is_model: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """The official formula: tanh(std_delta_len) + instruction_difficulty + not_gamed - 1."""
    return np.stack([np.tanh(differences), difficulties, is_model], axis=1)


def _read_record(record: Mapping[str, Any]) -> _Judged:
    parts = record["parts"]
    return _Judged(
        index=int(record["problem_id"]),
        preference=parts["preference"],
        length=parts["length"],
        baseline_length=parts["baseline_length"],
    )

"""The checker against tables of labelled pairs: our own, and one that was written blind."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from r1.rewards.math import MathVerifier, final_answer

TABLES = Path(__file__).parent.parent / "data"


def rows_of(name: str) -> list[dict[str, Any]]:
    lines = (TABLES / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(num_workers=1, timeout_seconds=20.0) as shared:
        yield shared


def test_every_pair_of_the_hard_table_is_judged_as_labelled(verifier: MathVerifier) -> None:
    rows = rows_of("hard_pairs.jsonl")
    assert len(rows) >= 400 and sum(not row["label"] for row in rows) >= 150
    wrong = [
        (row["gold"], row["pred"], verdict.reason)
        for row in rows
        if (verdict := verifier.verify(row["gold"], row["pred"])).is_correct
        is not bool(row["label"])
    ]
    assert wrong == []


def test_rates_on_the_blind_table(verifier: MathVerifier) -> None:
    counts = Counter(
        (
            row["label"],
            verifier.verify(
                row["gold"], final_answer(row["pred"]), question=row.get("question")
            ).is_correct,
        )
        for row in rows_of("pairs_blind.jsonl")
    )
    num_correct = sum(counts[True, is_correct] for is_correct in (True, False, None))
    num_wrong = sum(counts[False, is_correct] for is_correct in (True, False, None))
    assert counts[True, None] + counts[False, None] == 0
    assert counts[True, True] / num_correct >= 0.97
    assert counts[False, True] / num_wrong <= 0.005
    # Of the wrong answers that a grader of the field is known to accept, none is.
    known = [
        row for row in rows_of("pairs_blind.jsonl") if "wrong answer accepted" in row["source"]
    ]
    accepted = [
        row["pred"]
        for row in known
        if not row["label"]
        and verifier.verify(
            row["gold"], final_answer(row["pred"]), question=row.get("question")
        ).is_correct
    ]
    assert len(accepted) <= len(known) / 10


def test_golds_of_math_equal_themselves_and_no_neighbour(shared_dir: Path) -> None:
    file = shared_dir / "data/math500/math_testset_annotation.json"
    rows = json.loads(file.read_text(encoding="utf-8"))[::25]
    golds = [row["answer"] for row in rows if isinstance(row["answer"], str)]
    with MathVerifier(num_workers=1, timeout_seconds=20.0) as verifier:
        for gold in golds:
            dressed = (
                "$"
                + gold.replace(r"\frac", r"\dfrac").replace("(", r"\left(").replace(")", r"\right)")
                + "$."
            )
            assert verifier.verify(gold, dressed).is_correct, gold
        values = [(one, other) for one, other in pairwise(golds)]
        different = [pair for pair in values if verifier.verify(*pair).is_correct is False]
        same = [pair for pair in values if pair not in different]
    # Neighbours that are judged equal are the same text.
    assert all(one.strip() == other.strip() for one, other in same), same

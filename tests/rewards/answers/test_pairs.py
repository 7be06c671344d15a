"""The checker against tables of labelled pairs: our own, and one that was written blind."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from r1.rewards.answers.check import check_answer
from r1.rewards.answers.expression import read_expression
from r1.rewards.answers.forms import read_form
from r1.rewards.answers.question import read_question
from r1.rewards.answers.units import read_unit
from r1.rewards.answers.value import value_of
from r1.rewards.math import MathVerifier, final_answer

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|.")
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


@pytest.mark.parametrize(
    ("table", "recall", "false_positive_rate"),
    [
        ("pairs_blind.jsonl", 0.975, 0.0025),
        ("pairs_second.jsonl", 0.97, 0.003),
        ("pairs_third.jsonl", 0.95, 0.0),
    ],
)
def test_rates_on_the_blind_tables(
    verifier: MathVerifier, table: str, recall: float, false_positive_rate: float
) -> None:
    counts = Counter(
        (
            row["label"],
            verifier.verify(
                row["gold"], final_answer(row["pred"]), question=row.get("question")
            ).is_correct,
        )
        for row in rows_of(table)
    )
    num_correct = sum(counts[True, is_correct] for is_correct in (True, False, None))
    num_wrong = sum(counts[False, is_correct] for is_correct in (True, False, None))
    assert counts[True, None] + counts[False, None] == 0
    assert counts[True, True] / num_correct >= recall
    assert counts[False, True] / num_wrong <= false_positive_rate


def test_wrong_answers_that_other_graders_accept(verifier: MathVerifier) -> None:
    known = [
        row
        for table in ("pairs_blind.jsonl", "pairs_second.jsonl")
        for row in rows_of(table)
        if "wrong answer accepted" in row["source"]
    ]
    assert len(known) >= 50
    accepted = [
        row["pred"]
        for row in known
        if not row["label"]
        and verifier.verify(
            row["gold"], final_answer(row["pred"]), question=row.get("question")
        ).is_correct
    ]
    assert accepted == []


def test_verdicts_do_not_depend_on_the_order_of_calls() -> None:
    rows = [row for row in rows_of("pairs_second.jsonl") if isinstance(row["gold"], str)][::2]

    def findings(ordered: list[dict[str, Any]]) -> list[bool | None]:
        for cache in (read_form, read_expression, value_of, read_unit):
            cache.cache_clear()
        asked = [read_question(row.get("question")) for row in ordered]
        return [
            check_answer(row["gold"], row["pred"], question).is_equal
            for row, question in zip(ordered, asked, strict=True)
        ]

    assert findings(rows) == findings(rows[::-1])[::-1]


@pytest.mark.parametrize("seed", range(3))
def test_a_changed_digit_or_sign_is_never_accepted_and_nothing_raises(seed: int) -> None:
    rng = random.Random(seed)
    nothing_asked = read_question(None)
    golds = [row["gold"] for row in rows_of("pairs_second.jsonl") if isinstance(row["gold"], str)]
    tokens = [token for gold in golds for token in _TOKEN.findall(gold)]
    for _ in range(600):
        parts = _TOKEN.findall(rng.choice(golds))
        place = rng.randrange(len(parts))
        gold, changed = "".join(parts), parts.copy()
        changed[place] = rng.choice(tokens)
        check_answer(gold, "".join(changed), nothing_asked)  # whatever it says, it says it
        number, other = rng.randrange(2, 99), rng.randrange(2, 99)
        value = f"{number}\\sqrt{{3}} - \\frac{{{number}}}{{7}}"
        mutated = value.replace(str(number), str(other), 1)
        assert check_answer(value, mutated, nothing_asked).is_equal is (number == other)


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

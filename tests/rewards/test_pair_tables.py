"""The labelled answer pairs are well formed; measuring a checker with them is done elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"
REQUIRED = {"gold", "pred", "label", "topic", "source"}
# fmt: off
TOPICS = {
    "accepted", "base_time_ratio", "chinese", "choice", "complex", "decimal", "degenerate",
    "equation", "factorial", "fraction", "function", "hedge", "infinity_none", "interval",
    "matrix", "money", "multiple", "percent", "plusminus", "radical", "scientific", "set",
    "text", "tuple", "units",
}
# fmt: on
ACCEPTED_ELSEWHERE = "(wrong answer accepted)"


@pytest.fixture(scope="module")
def pairs() -> list[dict]:
    lines = (DATA / "pairs_blind.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module", params=["pairs_blind", "pairs_second", "pairs_third"])
def table(request: pytest.FixtureRequest) -> list[dict]:
    lines = (DATA / f"{request.param}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def golds_of(pair: dict) -> list[str]:
    return pair["gold"] if isinstance(pair["gold"], list) else [pair["gold"]]


def test_every_pair_has_the_documented_fields(table: list[dict]) -> None:
    for pair in table:
        assert set(pair) in (REQUIRED, REQUIRED | {"question"}), pair
        assert isinstance(pair["label"], bool), pair
        texts = [pair["pred"], pair["topic"], pair["source"], pair.get("question", "asked")]
        assert all(isinstance(text, str) for text in texts + golds_of(pair)), pair
        assert all(text.strip() for text in texts[1:] + golds_of(pair)), pair


def test_no_pair_is_listed_twice(table: list[dict]) -> None:
    keys = Counter((json.dumps(p["gold"]), p["pred"], p.get("question")) for p in table)
    assert [key for key, count in keys.items() if count > 1] == []


def test_sizes_topics_and_both_labels(pairs: list[dict]) -> None:
    assert len(pairs) >= 400
    topics = Counter(pair["topic"] for pair in pairs)
    assert set(topics) == TOPICS
    assert min(topics.values()) >= 12
    assert {(p["topic"], p["label"]) for p in pairs} == {(t, b) for t in TOPICS for b in (0, 1)}
    assert 0.45 <= sum(not pair["label"] for pair in pairs) / len(pairs) <= 0.50


def test_known_failures_of_other_graders_are_in(pairs: list[dict]) -> None:
    reported = [p for p in pairs if p["source"] != "own" and "variant" not in p["source"]]
    assert len(reported) >= 120
    accepted = [p for p in pairs if p["source"].endswith(ACCEPTED_ELSEWHERE)]
    assert len(accepted) >= 40
    assert not any(pair["label"] for pair in accepted)


def test_an_answer_identical_to_its_gold_is_right(table: list[dict]) -> None:
    for pair in table:
        if pair["pred"] in golds_of(pair):
            assert pair["label"], pair

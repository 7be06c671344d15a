from __future__ import annotations

from collections import Counter

import pytest

from r1.records import Completion, Grade, Problem
from r1.training.sample_filters import FilterConfig, GradedReply, filter_replies, rejection

GOOD = "<think>\nOne and one.\n\nThat is two.\n</think>\n\nThe answer is 2."
PROBLEM = Problem("p", "1+1?", "2")


def reply(
    text: str = GOOD,
    *,
    reward: float | None = 1.0,
    problem: Problem = PROBLEM,
    parts: dict[str, float] | None = None,
    finish: str = "stop",
    num_tokens: int = 9,
) -> GradedReply:
    completion = Completion(text, finish, num_tokens)  # type: ignore[arg-type]
    return GradedReply(problem, 0, completion, Grade(reward, parts or {}, "2"))


STRICT = FilterConfig(
    min_language=0.9,
    max_repetition=0.2,
    max_tokens=10,
    max_thought_paragraphs=2,
    max_paragraph_characters=40,
    no_code_in_thought=True,
)


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (reply(), None),
        (reply(reward=0.0), "correct_only"),
        (reply(reward=0.5), "correct_only"),
        (reply(reward=None), "ungraded"),
        (reply(reward=None, problem=Problem("o", "Hi", None)), None),
        (reply(finish="length"), "finished"),
        (reply("<think>\nhm"), "closed_thought"),
        (reply("<think>\nhm\n</think>\n\n"), "closed_thought"),
        (reply("<think>\n</think>\n\n2"), "closed_thought"),
        (reply("The answer is 2."), "closed_thought"),
        (reply(parts={"language": 0.8}), "min_language"),
        (reply(parts={"language": 0.9, "repetition": 0.2}), None),
        (reply(parts={"repetition": 0.3}), "max_repetition"),
        (reply(num_tokens=11), "max_tokens"),
        (reply("<think>a\n\nb\n \nc</think> 2"), "max_thought_paragraphs"),
        (reply(f"<think>{'a' * 41}</think> 2"), "max_paragraph_characters"),
        (reply("<think>\n```python\n1+1\n```\n</think>\n\n2"), "no_code_in_thought"),
        (reply("<think>\nsum\n</think>\n\n```\n2\n```"), None),
    ],
)
def test_rejection_names_the_filter(candidate: GradedReply, reason: str | None) -> None:
    assert rejection(candidate, STRICT) == reason


def test_everything_passes_with_every_filter_off() -> None:
    off = FilterConfig(correct_only=False, finished=False, closed_thought=False)
    assert rejection(reply("<think>", reward=None, finish="length"), off) is None


def test_copies_and_surplus_are_removed_by_prompt() -> None:
    other = Problem("other", "2+2?", "4")
    replies = [
        reply(GOOD),
        reply(GOOD.replace("\n\n", "\n \n")),
        reply(GOOD + " Yes."),
        reply(GOOD + " Sure."),
        reply(GOOD, problem=other),
        reply(reward=0.0),
    ]
    kept, removed = filter_replies(replies, FilterConfig(max_per_prompt=2))
    assert kept == [replies[0], replies[2], replies[4]]
    assert removed == Counter(deduplicate=1, max_per_prompt=1, correct_only=1)


def test_replies_survive_json() -> None:
    candidate = reply(parts={"format": 1.0})
    assert GradedReply.from_json(PROBLEM, candidate.as_json()) == candidate

"""The strict format reward."""

from __future__ import annotations

import pytest

from r1.rewards.format import format_reward

R1_ZERO = [
    ("<think>a</think><answer>b</answer>", 1.0),
    ("\n<think>\na\n</think>\n<answer> b </answer>\n", 1.0),
    ("<think>a</think><answer>b", 0.0),
    ("<think>a</think>b", 0.0),
    ("a</think><answer>b</answer>", 0.0),
    ("x<think>a</think><answer>b</answer>", 0.0),
    ("<think>a</think>x<answer>b</answer>", 0.0),
    ("<think>a</think><answer>b</answer>x", 0.0),
    ("<think> </think><answer>b</answer>", 0.0),
    ("<think>a</think><answer>\n</answer>", 0.0),
    ("<answer>b</answer><think>a</think>", 0.0),
    ("<think>a<think>b</think><answer>c</answer>", 0.0),
    ("<think>a</think><answer>b</answer><answer>c</answer>", 0.0),
    ("<think>a<answer>b</answer></think>", 0.0),
    ("", 0.0),
]
CHAT = [
    ("<think>\na\n</think>\n\nb", 1.0),
    ("<think>a</think>", 0.0),
    ("<think>a</think> \n", 0.0),
    ("<think></think>b", 0.0),
    ("<think>a", 0.0),
    ("a</think>b", 0.0),
    ("b", 0.0),
    ("x<think>a</think>b", 0.0),
    ("<think>a</think>b<think>c</think>", 0.0),
    ("<think>a</think>b</think>", 0.0),
    ("<think>a</think><answer>b</answer>", 0.0),
]


@pytest.mark.parametrize(("text", "expected"), R1_ZERO)
def test_r1_zero(text: str, expected: float) -> None:
    assert format_reward(text, "r1_zero") == expected


@pytest.mark.parametrize(("text", "expected"), CHAT)
def test_chat(text: str, expected: float) -> None:
    assert format_reward(text, "chat") == expected


def test_plain_and_unknown() -> None:
    assert [format_reward(text, "plain") for text in ("b", " ", "<think>b")] == [1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="choose from"):
        format_reward("b", "xml")  # type: ignore[arg-type]

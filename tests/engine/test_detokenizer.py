from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1.engine.detokenizer import IncrementalDetokenizer
from r1.text.tokenizer import Tokenizer


def run(
    tokenizer: Tokenizer, text: str, stop: tuple[str, ...], min_tokens: int = 0
) -> tuple[IncrementalDetokenizer, list[str]]:
    """Push byte tokens until a stop string; returns the shown pieces too."""
    detokenizer = IncrementalDetokenizer(tokenizer, stop, min_tokens)
    shown = []
    for token_id in tokenizer.encode(text, allow_special=False):
        is_stopped = detokenizer.push(token_id)
        shown.append(detokenizer.take_new_text(detokenizer.text if is_stopped else None))
        if is_stopped:
            break
    return detokenizer, shown


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one. two", (".",), "one"),
        ("abcabd!", ("abd",), "abc"),  # begins again inside a false start
        ("aaab", ("aab",), "a"),
        ("say 停止 now", ("停止",), "say "),  # six tokens of one byte
        ("x停", ("停", "x停"), ""),  # the one that starts first wins
        ("abcd", ("cd", "bcd"), "a"),
        ("nothing here", ("stop", "\n\n"), None),
        ("été", ("é",), ""),
        ("END", ("END",), ""),
    ],
)
def test_stop_strings(
    tokenizer: Tokenizer, text: str, stop: tuple[str, ...], expected: str | None
) -> None:
    detokenizer, shown = run(tokenizer, text, stop)
    assert detokenizer.is_stopped == (expected is not None)
    assert detokenizer.text == (text if expected is None else expected)
    if expected is not None:
        assert "".join(shown) == expected


def test_text_that_may_begin_a_stop_string_is_held_back(tokenizer: Tokenizer) -> None:
    _, shown = run(tokenizer, "ab</thx", ("</think>",))
    assert shown == ["a", "b", "", "", "", "", "</thx"]


def test_min_tokens_ignores_early_stop_strings(tokenizer: Tokenizer) -> None:
    detokenizer, _ = run(tokenizer, "a.b.c", (".",), min_tokens=2)
    assert detokenizer.text == "a.b"


@settings(max_examples=80)
@given(
    text=st.text(alphabet="ab.é想", max_size=25),
    stop=st.lists(st.text(alphabet="ab.é想", min_size=1, max_size=3), max_size=3),
)
def test_equals_searching_the_whole_text(tokenizer: Tokenizer, text: str, stop: list[str]) -> None:
    """What is shown is the text up to the stop that is complete first, then starts first."""
    ends = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]
    expected = text[: min(ends)[1]] if ends else text
    detokenizer, shown = run(tokenizer, text, tuple(stop))
    assert detokenizer.text == expected
    assert "".join(shown) + detokenizer.take_new_text(detokenizer.text) == expected

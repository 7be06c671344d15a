"""The think split, whole and streamed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1.text.reasoning import Reasoning, ReasoningParser, split_reasoning

CASES = {
    "both tags": ("<think>a</think>b", Reasoning("a", "b")),
    "forced open": ("a\n</think>\n\nb\n", Reasoning("a", "b")),
    "forced and repeated": ("<think>\n<think>\na</think>b", Reasoning("a", "b")),
    "leading whitespace": ("\n <think>a</think>b", Reasoning("a", "b")),
    "no tag": ("just b", Reasoning(None, "just b")),
    "nothing": ("", Reasoning(None, "")),
    "empty think": ("<think>\n\n</think>\n\nb", Reasoning("", "b")),
    "unclosed": ("<think>a so 42", Reasoning("a so 42", "", is_closed=False)),
    "cut in the closing tag": ("<think>a</thi", Reasoning("a</thi", "", is_closed=False)),
    "only an opening": ("<think>", Reasoning("", "", is_closed=False)),
    "doubled close": ("<think>a</think>b</think>c", Reasoning("a", "b</think>c")),
    "doubled block": (
        "<think>a</think>b<think>c</think>d",
        Reasoning("a", "b<think>c</think>d"),
    ),
    "nested": ("<think>a<think>b</think>c</think>d", Reasoning("a<think>b", "c</think>d")),
    "in code of the answer": (
        "<think>a</think>```\n<think></think>\n```",
        Reasoning("a", "```\n<think></think>\n```"),
    ),
    "explained": (
        "Use `<think>` and `</think>`.",
        Reasoning(None, "Use `<think>` and `</think>`."),
    ),
    "words before": ("Sure. <think>a</think>b", Reasoning(None, "Sure. <think>a</think>b")),
    "looks like a tag": ("<thinking>a</thinking>", Reasoning(None, "<thinking>a</thinking>")),
    "capitals": ("<THINK>a</THINK>b", Reasoning(None, "<THINK>a</THINK>b")),
    "answer tags": (
        "<think>a</think> <answer> 4 </answer> bye",
        Reasoning("a", "4", answer_tagged=True),
    ),
    "answer cut by a stop string": (
        "<think>a</think><answer>4",
        Reasoning("a", "4", answer_tagged=True),
    ),
    "answer without a thought": ("<answer>4</answer>", Reasoning(None, "4", answer_tagged=True)),
    "answer tag in the thought": (
        "<think><answer>3</answer></think>4",
        Reasoning("<answer>3</answer>", "4"),
    ),
    "answer tag within the answer": (
        "<think>a</think>So <answer>4</answer>",
        Reasoning("a", "So <answer>4</answer>"),
    ),
}


def stream(chunks: list[str], *, starts_in_thought: bool) -> Reasoning:
    parser = ReasoningParser(starts_in_thought=starts_in_thought)
    pieces = [piece for chunk in chunks for piece in parser.push(chunk)] + parser.close()
    assert all(text for _, text in pieces)
    return Reasoning(
        "".join(t for kind, t in pieces if kind == "thought") if parser.has_thought else None,
        "".join(t for kind, t in pieces if kind == "answer"),
        is_closed=parser.is_closed,
        answer_tagged=parser.answer_tagged,
    )


@pytest.mark.parametrize("name", CASES)
def test_split_table(name: str) -> None:
    text, expected = CASES[name]
    assert split_reasoning(text) == expected


@pytest.mark.parametrize("name", CASES)
def test_stream_cut_at_every_position_equals_the_split(name: str) -> None:
    text, _ = CASES[name]
    for starts in (False, True):
        expected = split_reasoning(text, starts_in_thought=starts)
        assert stream(list(text), starts_in_thought=starts) == expected
        for cut in range(len(text) + 1):
            assert stream([text[:cut], text[cut:]], starts_in_thought=starts) == expected


FRAGMENTS = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<",
        "</",
        "th",
        "ink>",
        "\n",
        " ",
        "a",
        "你",
        "`",
    ]
)


@given(st.lists(st.lists(FRAGMENTS, max_size=6).map("".join), max_size=8), st.booleans())
def test_any_chunks_equal_the_whole(chunks: list[str], starts_in_thought: bool) -> None:
    expected = split_reasoning("".join(chunks), starts_in_thought=starts_in_thought)
    assert stream(chunks, starts_in_thought=starts_in_thought) == expected


def test_a_forced_thought_that_never_closes_has_no_answer() -> None:
    reasoning = split_reasoning("thinking, 42", starts_in_thought=True)
    assert reasoning == Reasoning("thinking, 42", "", is_closed=False)


def test_the_stream_holds_back_no_more_than_a_possible_tag() -> None:
    parser = ReasoningParser(starts_in_thought=True)
    assert parser.push("\nab ") == [("thought", "ab")]
    assert parser.push("c</thin") == [("thought", " c")]
    assert parser.push("g") == [("thought", "</thing")]
    assert parser.push("</think>\n\nd") == [("answer", "d")]
    assert parser.push("<e") == [("answer", "<e")]

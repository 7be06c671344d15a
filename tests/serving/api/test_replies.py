"""From raw text to thought, answer and tool calls: equal however it is cut."""

from __future__ import annotations

import json

import pytest

from r1.records import ToolCall
from r1.serving.api.model_side import ModelChunk, TokenLogprob
from r1.serving.api.replies import Delta, ReplyReader
from r1.text.reasoning import split_reasoning
from r1.text.tool_calls import render_calls
from tests.serving.api.conftest import MakeServer, RecitingModel
from tests.serving.api.reply_cases import REPLY_CASES, ReplyCase

every_case = pytest.mark.parametrize("case", REPLY_CASES.values(), ids=list(REPLY_CASES))


def read(reader: ReplyReader, pieces: list[str]) -> tuple[str, str, list[ToolCall]]:
    deltas = [reader.push(ModelChunk(piece)) for piece in pieces]
    deltas.append(reader.push(ModelChunk("", num_tokens=0, finish_reason="stop")))
    return (
        "".join(delta.thought for delta in deltas),
        "".join(delta.answer for delta in deltas),
        [call for delta in deltas for call in delta.tool_calls],
    )


def test_there_are_enough_cases() -> None:
    assert len(REPLY_CASES) >= 40


@every_case
def test_a_reply_is_split_alike_at_every_cut(case: ReplyCase) -> None:
    expected = (case.thought, case.answer, [])
    raw = case.raw
    cuts = [[raw], list(raw), *([raw[:cut], raw[cut:]] for cut in range(1, len(raw)))]
    for pieces in cuts:
        reader = ReplyReader(starts_in_thought=case.is_open)
        assert read(reader, pieces) == expected, pieces
    whole = split_reasoning(raw, starts_in_thought=case.is_open)
    assert (whole.thought or "", whole.answer) == expected[:2]


def test_streamed_and_whole_replies_over_http_are_those_of_the_cases(
    make_server: MakeServer,
) -> None:
    model = RecitingModel()
    server = make_server(model)
    messages = [{"role": "user", "content": "?"}]
    with server.client() as client:
        for name, case in REPLY_CASES.items():
            model.chunks, model.starts_in_thought = list(case.raw), case.is_open
            body = {"messages": messages}
            whole = client.post("/v1/chat/completions", json=body).json()["choices"][0]
            text = client.post("/v1/chat/completions", json={**body, "stream": True}).text
            thought = answer = ""
            for line in text.splitlines():
                if line.startswith("data: {"):
                    delta = json.loads(line[6:])["choices"][0]["delta"]
                    thought += delta.get("reasoning_content", "")
                    answer += delta.get("content", "")
            assert (thought, answer) == (case.thought, case.answer), name
            message = whole["message"]
            assert (message["reasoning_content"] or "", message["content"]) == (thought, answer)
            assert message["reasoning"] == message["reasoning_content"]


CALLS = [ToolCall("add", '{"a": 17, "b": 25}'), ToolCall("now", "{}")]
TOOL_CASES = {
    "one": (render_calls(CALLS[:1]), "", CALLS[:1]),
    "two": (render_calls(CALLS), "", CALLS),
    "after text": (f"I add.\n{render_calls(CALLS)}", "I add.", CALLS),
    "V3.1's form": (
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a": 17, "b": 25}'
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "",
        CALLS[:1],
    ),
    "not JSON stays text": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{a}\n```"
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{a}\n```<｜tool▁call▁end｜>",
        [],
    ),
    "no end": (render_calls(CALLS[:1]).removesuffix("<｜tool▁calls▁end｜>"), "", CALLS[:1]),
    "cut off": (render_calls(CALLS)[:30], render_calls(CALLS)[20:30], []),
    "half a tag": ("so <｜tool▁c", "so <｜tool▁c", []),
    "text behind": (render_calls(CALLS[:1]) + " done", "done", CALLS[:1]),
}


@pytest.mark.parametrize(("raw", "answer", "calls"), TOOL_CASES.values(), ids=list(TOOL_CASES))
def test_tool_calls_come_whole_at_every_cut(raw: str, answer: str, calls: list[ToolCall]) -> None:
    raw = f"I need a tool.</think>\n\n{raw}"
    for cut in range(1, len(raw)):
        reader = ReplyReader(starts_in_thought=True, has_tools=True)
        thought, text, found = read(reader, [raw[:cut], raw[cut:]])
        assert (thought, text.strip(), found) == ("I need a tool.", answer, calls), raw[:cut]


def test_a_tool_call_in_the_thought_is_a_thought() -> None:
    raw = f"maybe {render_calls(CALLS)}"
    thought, answer, found = read(ReplyReader(starts_in_thought=True, has_tools=True), [raw])
    assert (thought, answer, found) == (raw, "", [])


def test_a_reply_that_goes_on_keeps_its_first_space() -> None:
    reader = ReplyReader(starts_in_thought=False, already="The answer is")
    assert read(reader, [" 42", "."])[1] == " 42."
    reader = ReplyReader(starts_in_thought=True, already="I think")
    assert read(reader, [" so</think>yes"])[:2] == (" so", "yes")


def test_counts_and_logprobs_are_told_apart_by_part() -> None:
    def token(text: str) -> ModelChunk:
        return ModelChunk(text, logprobs=(TokenLogprob(text, text.encode(), -0.5),))

    reader = ReplyReader(starts_in_thought=True)
    deltas = [reader.push(token(text)) for text in ("a", "</thi", "nk>", "\n", "b")]
    deltas.append(
        reader.push(
            ModelChunk("", 0, finish_reason="stop", num_prompt_tokens=7, num_cached_tokens=4)
        )
    )
    thought = [item.token for delta in deltas for item in delta.thought_logprobs]
    answer = [item.token for delta in deltas for item in delta.answer_logprobs]
    assert (thought, answer) == (["a", "</thi", "nk>"], ["\n", "b"])
    counts = reader.counts
    assert (counts.num_completion, counts.num_reasoning) == (5, 3)
    assert (counts.num_prompt, counts.num_cached) == (7, 4)


def test_an_endless_loop_ends_as_too_long_and_says_why() -> None:
    reader = ReplyReader(starts_in_thought=False)
    reader.push(ModelChunk("a a a"))
    delta = reader.push(ModelChunk("", finish_reason="stop", stop_reason="loop"))
    assert delta == Delta(finish_reason="length", stop_reason="loop")

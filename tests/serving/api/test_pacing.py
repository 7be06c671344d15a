"""Which tokens are sent when, and that they are read as if they came one by one."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from r1.engine.engine import Engine, EngineConfig
from r1.engine.open_model import open_model
from r1.engine.outputs import StepOutput
from r1.records import Sample
from r1.serving.api.engine_model import in_runs
from r1.serving.api.engine_thread import EngineThread
from r1.serving.api.model_side import ModelChunk, TokenLogprob
from r1.serving.api.pacing import OutputPacer, tick_seconds
from r1.serving.api.replies import Delta, ReplyReader
from r1.serving.api.settings import ServerSettings
from tests.serving.api.conftest import TINY
from tests.serving.api.reply_cases import REPLY_CASES, ReplyCase

END = Sample("0", 0, (), (), "", (), (), "stop")


def output(request_id: str, number: int, *, is_last: bool = False, text: str = "x") -> StepOutput:
    return StepOutput(request_id, 0, (number,), text, END if is_last else None)


@pytest.mark.parametrize(
    ("num_streams", "seconds"),
    [(0, 0.02), (1, 0.02), (6, 0.02), (9, 0.03), (32, 0.107), (64, 0.213), (75, 0.25), (999, 0.25)],
)
def test_a_tick_grows_with_the_streams(num_streams: int, seconds: float) -> None:
    assert tick_seconds(0.02, num_streams) == pytest.approx(seconds, abs=5e-4)
    assert tick_seconds(0.0, num_streams) == 0.0
    assert tick_seconds(1.0, num_streams) == 1.0


@pytest.mark.parametrize(
    ("num_streams", "num_steps", "step_seconds", "messages_of_each"),
    [
        (1, 128, 0.0005, 5),  # 64 ms: the first, three ticks, the end
        (1, 128, 0.003, 20),
        (32, 128, 0.003, 5),
        (64, 128, 0.006, 5),
        (32, 16, 0.2, 16),  # a slow model: each step is a tick
    ],
)
def test_messages_are_few_and_hold_every_token_in_order(
    num_streams: int, num_steps: int, step_seconds: float, messages_of_each: int
) -> None:
    pacer = OutputPacer(0.02)
    names = [str(number) for number in range(num_streams)]
    received: dict[str, list[int]] = {name: [] for name in names}
    num_messages: Counter[str] = Counter()
    for step in range(num_steps):
        is_last = step == num_steps - 1
        outputs = [output(name, step, is_last=is_last) for name in names]
        due = pacer.take_due(outputs, 100 + step * step_seconds)
        assert not (step == 0 or is_last) or set(due) == set(names)
        for name, made in due.items():
            received[name] += [each.new_token_ids[0] for each in made]
        num_messages.update(due.keys())
    assert set(map(tuple, received.values())) == {tuple(range(num_steps))}
    assert set(num_messages.values()) == {messages_of_each}


def test_who_begins_or_ends_between_ticks_sends_nobody_else() -> None:
    pacer = OutputPacer(0.02)
    assert set(pacer.take_due([output("a", 0)], 1.0)) == {"a"}
    # Two tokens of one step, as accepted drafts are.
    due = pacer.take_due([output("a", 1), output("b", 0), output("b", 1)], 1.01)
    assert {name: len(made) for name, made in due.items()} == {"b": 2}
    due = pacer.take_due([output("a", 2), output("b", 2, is_last=True)], 1.015)
    assert [made[-1].new_token_ids for made in due.values()] == [(2,)]
    assert pacer.take_due([], 1.019) == {}
    due = pacer.take_due([], 1.03)
    assert [each.new_token_ids[0] for each in due["a"]] == [1, 2]
    assert pacer.take_due([output("a", 3)], 1.04) == {}
    pacer.drop("a")
    pacer.drop("a")
    assert pacer.take_due([], 9.0) == {}
    # The id of a reply that has ended begins anew.
    assert set(pacer.take_due([output("b", 0)], 9.001)) == {"b"}


def test_a_reply_begins_with_its_first_text() -> None:
    pacer = OutputPacer(0.02)
    pacer.take_due([output("a", 0)], 1.0)
    for number, text in enumerate(["", "\n", " ", "So"]):
        due = pacer.take_due([output("b", number, text=text)], 1.001)
        assert [each.new_text for each in due["b"]] == [text]
    assert pacer.take_due([output("b", 4, text=" it")], 1.002) == {}


def read(case: ReplyCase, chunks: list[ModelChunk]) -> tuple[Delta, Any]:
    reader = ReplyReader(starts_in_thought=case.is_open)
    return sum(map(reader.push, chunks), Delta()), reader.counts


@pytest.mark.parametrize("case", REPLY_CASES.values(), ids=list(REPLY_CASES))
def test_tokens_read_together_count_as_one_by_one(case: ReplyCase) -> None:
    outputs = [output("a", number, text=text) for number, text in enumerate(case.raw)]
    end = ModelChunk("", 0, finish_reason="stop")

    def chunk(run: list[StepOutput]) -> ModelChunk:
        logprobs = [TokenLogprob(each.new_text, b"", -float(each.new_token_ids[0])) for each in run]
        text = "".join(each.new_text for each in run)
        return ModelChunk(text, len(run), logprobs=tuple(logprobs))

    runs = in_runs(outputs)
    assert [each for run in runs for each in run] == outputs
    assert len(runs) <= case.raw.count(">") + 1
    one_by_one = read(case, [*(chunk([each]) for each in outputs), end])
    assert read(case, [*map(chunk, runs), end]) == one_by_one


def test_the_engine_is_opened_by_the_thread_that_steps_it() -> None:
    names = []

    def open_engine() -> Engine:
        names.append(threading.current_thread().name)
        return Engine(*open_model(TINY), EngineConfig(max_num_seqs=2, kv_cache_bytes=2**22))

    thread = EngineThread(open_engine, ServerSettings())
    assert names == ["engine"]
    assert thread.is_healthy
    assert thread.stats.num_running == 0

    def fail() -> Engine:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        EngineThread(fail, ServerSettings())

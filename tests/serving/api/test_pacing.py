"""Which tokens are sent when, and that they are read as if they came one by one."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from r1.engine.engine import Engine, EngineConfig
from r1.engine.open_model import open_model
from r1.serving.api.engine_thread import EngineThread
from r1.serving.api.model_side import ModelChunk, TokenLogprob
from r1.serving.api.pacing import Ticks, tick_seconds
from r1.serving.api.replies import Delta, ReplyReader
from r1.serving.api.reply_constraint import ThoughtTokens
from r1.serving.api.settings import ServerSettings
from r1.text.tokenizer import Tokenizer
from tests.serving.api.conftest import TINY
from tests.serving.api.reply_cases import REPLY_CASES, ReplyCase


@pytest.mark.parametrize(
    ("num_streams", "seconds"),
    [(0, 0.02), (1, 0.02), (3, 0.02), (6, 0.04), (32, 0.213), (37, 0.247), (38, 0.25), (999, 0.25)],
)
def test_a_tick_grows_with_the_streams(num_streams: int, seconds: float) -> None:
    assert tick_seconds(0.02, num_streams) == pytest.approx(seconds, abs=5e-4)
    assert tick_seconds(0.0, num_streams) == 0.0
    assert tick_seconds(1.0, num_streams) == 1.0


@pytest.mark.parametrize(
    ("num_streams", "step_seconds", "num_ticks"),
    [
        (1, 0.0005, 4),  # 64 ms
        (1, 0.003, 19),
        (32, 0.003, 2),
        (64, 0.006, 4),
        (32, 0.22, 128),  # a slow model: each step is a tick
    ],
)
def test_ticks_of_128_steps(num_streams: int, step_seconds: float, num_ticks: int) -> None:
    ticks = Ticks(0.02)
    due = [ticks.is_due(100 + step * step_seconds, num_streams) for step in range(128)]
    assert due[0]
    assert sum(due) == num_ticks


def read(case: ReplyCase, chunks: list[ModelChunk]) -> tuple[Delta, Any]:
    reader = ReplyReader(starts_in_thought=case.is_open)
    return sum(map(reader.push, chunks), Delta()), reader.counts


@pytest.mark.parametrize("case", REPLY_CASES.values(), ids=list(REPLY_CASES))
def test_tokens_read_together_count_as_one_by_one(case: ReplyCase) -> None:
    """As the engine puts them out: behind what may end a tag an output ends."""
    end = ModelChunk("", 0, finish_reason="stop")

    def chunk(text: str) -> ModelChunk:
        logprobs = [TokenLogprob(char, b"", -1.0) for char in text]
        return ModelChunk(text, len(text), logprobs=tuple(logprobs))

    runs = re.findall(r"(?s)[^>]*>|[^>]+", case.raw)
    assert "".join(runs) == case.raw
    assert read(case, [*map(chunk, runs), end]) == read(case, [*map(chunk, case.raw), end])


def test_what_may_end_a_tag(tiny_tokenizer: Tokenizer) -> None:
    tokens = ThoughtTokens(tiny_tokenizer, tiny_tokenizer.vocab_size + 3)
    for token_id, may_end in enumerate(tokens.may_end_tag[: tiny_tokenizer.vocab_size]):
        text = tiny_tokenizer.decode([token_id], skip_special=False)
        assert may_end == (">" in text), (token_id, text)
    assert not tokens.may_end_tag[-3:].any()


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

"""Which tokens are sent when, and that they are read as if they came one by one."""

from __future__ import annotations

import re
import threading
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from r1.engine.engine import Engine, EngineConfig
from r1.engine.open_model import open_model
from r1.serving.api.engine_thread import EngineThread
from r1.serving.api.model_side import ModelChunk, TokenLogprob
from r1.serving.api.pacing import Ticks, tick_seconds
from r1.serving.api.replies import Delta, ReplyReader
from r1.serving.api.reply_constraint import ThoughtTokens
from r1.serving.api.settings import ServerSettings
from r1.text.reasoning import REASONING_TAGS
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
    """As the engine puts them out: behind a thought's tag an output ends."""
    end = ModelChunk("", 0, finish_reason="stop")

    def chunk(text: str) -> ModelChunk:
        logprobs = [TokenLogprob(char, b"", -1.0) for char in text]
        return ModelChunk(text, len(text), logprobs=tuple(logprobs))

    runs = re.findall(r"(?s).*?</?think>|.+", case.raw)
    assert "".join(runs) == case.raw
    assert read(case, [*map(chunk, runs), end]) == read(case, [*map(chunk, case.raw), end])


TAGGED_TEXTS = [
    "<think>a > b, c>>d</think>so <b>5</b>",
    "a</think></think>>b",
    "día <think></thi</think>nk> 🙂<think",
    "<<think>></ think></think",
    "",
]


@pytest.mark.parametrize("text", TAGGED_TEXTS)
@pytest.mark.parametrize("cut", ["tags", "words", "characters"])
def test_where_a_tag_ends(tiny_tokenizer: Tokenizer, text: str, cut: str) -> None:
    tokens = ThoughtTokens(tiny_tokenizer, tiny_tokenizer.vocab_size + 3)
    parts = re.split("()" if cut == "characters" else "( )", text)
    allowed = REASONING_TAGS if cut == "tags" else False
    ids = [i for part in parts for i in tiny_tokenizer.encode(part, allow_special=allowed)]
    num_tags = [0]
    for end in range(1, len(ids) + 1):
        so_far = tiny_tokenizer.decode(ids[:end], skip_special=False)
        num_tags.append(len(re.findall("</?think>", so_far)))
    expected = [after > before for before, after in pairwise(num_tags)]
    assert tokens.end_tags(np.array(ids, np.int64)).tolist() == expected
    assert sum(expected) == len(re.findall("</?think>", text))


def test_a_token_that_no_text_has_ends_no_tag(tiny_tokenizer: Tokenizer) -> None:
    tokens = ThoughtTokens(tiny_tokenizer, tiny_tokenizer.vocab_size + 3)
    beyond = np.arange(tiny_tokenizer.vocab_size, tiny_tokenizer.vocab_size + 3)
    assert not tokens.end_tags(beyond).any()


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

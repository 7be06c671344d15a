"""step(), stop conditions and cancel, on a model that recites a script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest

from r1.engine.engine import Engine, StepOutput
from r1.engine.stream_options import StreamOptions
from r1.records import GenerationRequest, Sample, SamplingParams
from r1.text.tokenizer import Tokenizer

MakeEngine = Callable[..., Engine]
flat = chain.from_iterable
EOS_ID, TURN_ID = 256, 257


def request(identity: str = "r", num_samples: int = 1, **sampling: Any) -> GenerationRequest:
    settings = {"temperature": 0.0, "max_tokens": 100} | sampling
    return GenerationRequest(
        id=identity,
        prompt_ids=(65,),
        sampling=SamplingParams(**settings),
        num_samples=num_samples,
    )


def recite(engine: Engine, **sampling: Any) -> Sample:
    return engine.generate([request(**sampling)])[0][0]


def stream(engine: Engine, *requests: GenerationRequest) -> list[StepOutput]:
    for each in requests:
        engine.add_request(each)
    outputs = []
    while engine.has_unfinished():
        outputs += engine.step()
    return outputs


@pytest.mark.parametrize(
    ("reply", "sampling", "text", "num_tokens", "reason"),
    [
        ("hello", {}, "hello", 6, "stop"),  # EOS is a token of the reply, not of its text
        ("hello", {"max_tokens": 3}, "hel", 3, "length"),
        ("hello", {"max_tokens": 5}, "hello", 5, "length"),
        ("hello", {"max_tokens": 8, "ignore_eos": True}, "hello", 8, "length"),
        ("a<turn>b", {}, "ab", 4, "stop"),  # not an EOS of this tokenizer
        ("a<turn>b", {"stop_token_ids": (TURN_ID,)}, "a", 2, "stop"),
        ("abc", {"stop_token_ids": (TURN_ID, ord("c") - 33)}, "ab", 3, "stop"),
        ("a<turn>b", {"ignore_eos": True, "stop_token_ids": (TURN_ID,)}, "a", 2, "stop"),
        ("one. two", {"stop": (".",)}, "one", 4, "stop"),
        ("say 停止 now", {"stop": ("停止",)}, "say ", 10, "stop"),
        ("one\n\ntwo", {"stop": ("\n\n", "two")}, "one", 5, "stop"),
        ("a.b.c", {"stop": (".",), "min_tokens": 2}, "a.b", 4, "stop"),
        ("é", {"max_tokens": 1}, "\ufffd", 1, "length"),
    ],
)
def test_how_a_reply_ends(
    reciting_engine: MakeEngine,
    reply: str,
    sampling: dict[str, Any],
    text: str,
    num_tokens: int,
    reason: str,
) -> None:
    engine = reciting_engine(reply)
    sample = recite(engine, **sampling)
    assert (sample.text, len(sample.token_ids), sample.finish_reason) == (text, num_tokens, reason)
    assert len(sample.raw_logprobs) == len(sample.sampler_logprobs) == num_tokens
    outputs = stream(engine, request(**sampling))
    assert "".join(output.new_text for output in outputs) == text
    assert sum((output.new_token_ids for output in outputs), ()) == sample.token_ids
    assert [output.finished for output in outputs][:-1] == [None] * (len(outputs) - 1)
    assert outputs[-1].finished == sample


def test_several_eos_ids(reciting_engine: MakeEngine, tokenizer: Tokenizer) -> None:
    engine = reciting_engine("ab<turn>cd")
    assert recite(engine).text == "abcd"
    engine.tokenizer = _WithEos(tokenizer, (EOS_ID, TURN_ID))  # type: ignore[assignment]
    sample = recite(engine)
    assert (sample.text, sample.token_ids[-1]) == ("ab", TURN_ID)


class _WithEos:
    """A tokenizer whose model has more EOS ids."""

    def __init__(self, tokenizer: Tokenizer, eos_ids: tuple[int, ...]) -> None:
        self._tokenizer = tokenizer
        self.eos_ids = eos_ids

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def test_min_tokens_bans_eos_until_then(reciting_engine: MakeEngine) -> None:
    """The script has EOS from the third token on; it is banned until min_tokens are there."""
    engine = reciting_engine("ab")
    assert len(recite(engine).token_ids) == 3
    sample = recite(engine, min_tokens=7)
    assert len(sample.token_ids) == 8
    assert EOS_ID not in sample.token_ids[:-1]
    assert sample.token_ids[-1] == EOS_ID
    # Where the ban bites the model's own log-prob of the token is tiny, and is reported.
    assert sample.raw_logprobs[4] < -20


def test_streamed_samples_equal_generated_ones(make_engine: MakeEngine) -> None:
    sampling = {"temperature": 1.0, "max_tokens": 20, "min_tokens": 3}
    requests = [request(f"r{i}", num_samples=3, **sampling) for i in range(4)]
    generated = make_engine().generate(requests)
    outputs = stream(make_engine(), *requests)
    finished = {(s.request_id, s.sample_index): s for o in outputs if (s := o.finished)}
    for sample in flat(generated):
        key = (sample.request_id, sample.sample_index)
        mine = [o for o in outputs if (o.request_id, o.sample_index) == key]
        assert finished[key] == sample
        assert "".join(o.new_text for o in mine) == sample.text


def test_requests_join_while_others_run(make_engine: MakeEngine) -> None:
    late, early = (request(name, temperature=1.0, max_tokens=12) for name in ("late", "early"))
    engine = make_engine()
    engine.add_request(early)
    outputs = [output for _ in range(5) for output in engine.step()]
    outputs += stream(engine, late)
    finished = {o.request_id: o.finished for o in outputs if o.finished}
    for each in (early, late):
        (alone,) = make_engine().generate([each])[0]
        sample = finished[each.id]
        assert sample is not None
        assert sample.token_ids == alone.token_ids


def test_an_idle_engine_has_no_outputs(reciting_engine: MakeEngine) -> None:
    engine = reciting_engine("abc")
    assert engine.step() == []
    engine.add_request(request("gone"))
    assert len(engine.step()) == 1
    engine.cancel("gone")
    assert engine.step() == []
    assert engine.stats().num_steps == 1


def test_a_request_id_is_in_flight_once(reciting_engine: MakeEngine) -> None:
    engine = reciting_engine("abc")
    for _ in range(2):
        engine.add_request(request("twice"))
        with pytest.raises(ValueError, match="'twice' is already in flight"):
            engine.add_request(request("twice"))
        engine.step()
        with pytest.raises(ValueError, match="'twice' is already in flight"):
            engine.add_request(request("twice"))
        stream(engine)


def test_cancel_frees_blocks_wherever_the_request_is(reciting_engine: MakeEngine) -> None:
    engine = reciting_engine("abcdef" * 5, max_num_batched_tokens=8)
    free = engine.stats().num_free_blocks
    long_prompt = replace(request("prefilling"), prompt_ids=(66,) * 30)
    engine.add_request(request("running", num_samples=2))
    engine.step()
    engine.add_request(long_prompt)
    engine.add_request(request("waiting", num_samples=2))
    engine.step()
    stats = engine.stats()
    assert (stats.num_running, stats.num_prefilling, stats.num_waiting) == (2, 1, 2)
    running = engine.cancel("running")
    assert [(s.sample_index, s.text, s.finish_reason) for s in running] == [
        (0, "ab", "cancelled"),
        (1, "ab", "cancelled"),
    ]
    assert [s.token_ids for s in engine.cancel("prefilling")] == [()]
    assert len(engine.cancel("waiting")) == 2
    assert engine.cancel("unknown") == []
    assert engine.stats().num_free_blocks == free
    assert not engine.has_unfinished()
    assert engine.step() == []


def test_cancel_leaves_the_others_alone(make_engine: MakeEngine) -> None:
    keep, drop = (
        request(name, num_samples=2, temperature=1.0, max_tokens=15, ignore_eos=True)
        for name in ("keep", "drop")
    )
    engine = make_engine()
    engine.add_request(drop)
    engine.add_request(keep)
    engine.step()
    engine.step()
    assert [len(sample.token_ids) for sample in engine.cancel("drop")] == [2, 2]
    outputs = stream(engine)
    assert {output.request_id for output in outputs} == {"keep"}
    finished = sorted((o.finished for o in outputs if o.finished), key=lambda s: s.sample_index)
    expected = make_engine().generate([keep])[0]
    assert [s.token_ids for s in finished] == [s.token_ids for s in expected]


def test_a_chat_finds_its_last_turn_in_the_prefix_cache(reciting_engine: MakeEngine) -> None:
    engine = reciting_engine("abcdefghijk")
    outputs = stream(engine, request("first"))
    sample = outputs[-1].finished
    assert sample is not None
    history = (*sample.prompt_ids, *sample.token_ids, 70)
    engine.add_request(replace(request("second"), prompt_ids=history))
    engine.step()
    # 13 tokens of the first turn, of which 12 were computed: 3 blocks of 4.
    assert engine.stats().num_cached_tokens == 12


class OnlyToken:
    """Allows one token for ever, and keeps what it was asked."""

    next_length = 0

    def __init__(self, token_id: int, vocab_size: int) -> None:
        self.mask = np.zeros(vocab_size, bool)
        self.mask[token_id] = True
        self.lengths: list[int] = []

    def allowed(self, reply_ids: np.ndarray) -> np.ndarray | None:
        self.lengths.append(len(reply_ids))
        return self.mask if len(reply_ids) >= 2 else None


def test_a_constraint_is_asked_once_a_token_and_its_neighbours_are_not_disturbed(
    make_engine: Callable[..., Engine],
) -> None:
    def ask(name: str) -> GenerationRequest:
        return GenerationRequest(name, (1, 2, 3), SamplingParams(max_tokens=6, ignore_eos=True))

    alone = make_engine()
    expected = alone.generate([ask("free")])[0][0].token_ids
    engine = make_engine()
    constraint = OnlyToken(65, engine.model.config.vocab_size)
    engine.add_request(ask("free"))
    engine.add_request(ask("bound"), StreamOptions(constraint, num_top_logprobs=3))
    outputs: dict[str, list[StepOutput]] = {"free": [], "bound": []}
    while engine.has_unfinished():
        for output in engine.step():
            outputs[output.request_id].append(output)
    assert constraint.lengths == [0, 1, 2, 3, 4, 5]
    assert [o.new_token_ids[0] for o in outputs["bound"]][2:] == [65] * 4
    assert tuple(o.new_token_ids[0] for o in outputs["free"]) == expected
    assert all([len(each) for each in o.top_logprobs] == [3] for o in outputs["bound"])
    assert all(o.top_logprobs == () for o in outputs["free"])


class FromLength(OnlyToken):
    """Wants to be asked at 3, and then at every second token."""

    @property
    def next_length(self) -> int:
        return 3 if not self.lengths else self.lengths[-1] + 2


def test_a_constraint_is_asked_where_it_wants_to_be(make_engine: MakeEngine) -> None:
    engine = make_engine()
    constraint = FromLength(65, engine.model.config.vocab_size)
    engine.add_request(request(max_tokens=8, ignore_eos=True), StreamOptions(constraint))
    (sample,) = (o.finished for _ in range(8) for o in engine.step() if o.finished)
    (free,) = make_engine().generate([request(max_tokens=8, ignore_eos=True)])[0]
    assert constraint.lengths == [3, 5, 7]
    assert sample.token_ids[:3] == free.token_ids[:3]
    assert [sample.token_ids[index] for index in (3, 5, 7)] == [65] * 3


HELD_REPLIES = ["hello", " \n so", "día 停止 🙂", "a>b>>c>", "x" * 30, "</think>", ""]


@pytest.mark.parametrize("reply", HELD_REPLIES)
@pytest.mark.parametrize("stop", [(), ("zz", ">c", "止 🙂!")])
@pytest.mark.parametrize("tick", [1, 2, 3, 7, 1000])
def test_what_is_held_back_comes_whole(
    reciting_engine: MakeEngine, reply: str, stop: tuple[str, ...], tick: int
) -> None:
    engine = reciting_engine(reply, num_blocks=256)
    ends = np.zeros(engine.model.config.vocab_size, bool)
    ends[engine.tokenizer.encode(">", allow_special=False)] = True
    asked = request(stop=stop)
    (one_by_one,) = engine.generate([asked])[0]
    seen: list[np.ndarray] = []

    def ends_output(ids: np.ndarray) -> np.ndarray:
        seen.append(ids)
        return ends[ids]

    engine.add_request(asked, StreamOptions(num_top_logprobs=2, ends_output=ends_output))
    outputs: list[StepOutput] = []
    for number in range(1, 99):
        outputs += engine.step(holds_back=number % tick != 0)
    assert "".join(output.new_text for output in outputs) == one_by_one.text
    assert tuple(flat(output.new_token_ids for output in outputs)) == one_by_one.token_ids
    assert tuple(flat(output.raw_logprobs for output in outputs)) == one_by_one.raw_logprobs
    assert outputs[-1].finished == one_by_one
    assert [output.finished for output in outputs[:-1]] == [None] * (len(outputs) - 1)
    for output in outputs:
        assert len(output.top_logprobs) == len(output.new_token_ids) > 0
        assert not ends[list(output.new_token_ids[:-1])].any()
        assert stop or ">" not in output.new_text[:-1]
        for token_id, top in zip(output.new_token_ids, output.top_logprobs, strict=True):
            assert [top[0][0], len(top)] == [token_id, 2]
    # It is asked about the new tokens behind the last ones before them, the prompt's too.
    shown = list(asked.prompt_ids)
    for ids in seen:
        num_new = next(n for n in range(1, len(ids) + 1) if len(ids) - n == min(8, len(shown)))
        assert ids[:-num_new].tolist() == shown[-8:]
        shown += ids[-num_new:].tolist()
    assert shown == [*asked.prompt_ids, *one_by_one.token_ids]
    # Each token is shown until there is text, and then nothing before its time.
    texts = [output.new_text for output in outputs]
    first = next((i for i, text in enumerate(texts) if text.strip()), len(texts) - 1)
    assert all(len(output.new_token_ids) == 1 for output in outputs[: first + 1])
    assert len(outputs) <= first + 2 + len(one_by_one.token_ids) / tick + reply.count(">")


def test_a_stream_that_is_preempted_shows_each_token_once(make_engine: MakeEngine) -> None:
    requests = [request(f"r{i}", temperature=1.0, max_tokens=40, ignore_eos=True) for i in range(6)]
    expected = {s.request_id: s for s in flat(make_engine().generate(requests))}
    engine = make_engine(num_blocks=24)
    for each in requests:
        engine.add_request(each)
    outputs = []
    for number in range(400):
        outputs += engine.step(holds_back=number % 5 != 0)
    assert engine.stats().num_preemptions > 0
    for name, sample in expected.items():
        mine = [output for output in outputs if output.request_id == name]
        assert tuple(flat(output.new_token_ids for output in mine)) == sample.token_ids
        assert "".join(output.new_text for output in mine) == sample.text


def test_a_named_random_stream_repeats_a_reply_under_another_id(
    make_engine: Callable[..., Engine],
) -> None:
    def reply(request_id: str, stream: str) -> tuple[int, ...]:
        engine = make_engine()
        sampling = SamplingParams(max_tokens=8, ignore_eos=True)
        engine.add_request(
            GenerationRequest(request_id, (1, 2, 3), sampling, seed=7),
            StreamOptions(random_stream=stream),
        )
        outputs = []
        while engine.has_unfinished():
            outputs += engine.step()
        return tuple(o.new_token_ids[0] for o in outputs)

    assert reply("a", "same") == reply("b", "same") != reply("c", "")
    assert reply("same", "") == reply("a", "same")

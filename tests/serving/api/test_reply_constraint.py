"""The rules of one reply, token by token, and the search for endless loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1.serving.api.grammar import GrammarCompiler
from r1.serving.api.loops import loop_period
from r1.serving.api.model_side import AnswerForm
from r1.serving.api.reply_constraint import (
    BUDGET_CLOSING,
    LOOP_CLOSING,
    ReplyConstraint,
    ThoughtTokens,
)
from r1.text.tokenizer import Tokenizer

LOOPS = {
    "one token": ([7] * 64, 64, 1),
    "too few": ([7] * 63, 64, None),
    "a circle of three": ([1, 2, 3] * 30, 64, 3),
    "after a beginning": ([9, 8, 7, 6] + [1, 2] * 40, 64, 2),
    "broken off in the last round": ([1, 2, 3] * 30 + [9], 64, None),
    "a list that counts up": ([x for i in range(100) for x in (5, 100 + i, 6)], 64, None),
    "three rounds of a long one": (list(range(100)) * 3, 64, None),
    "four rounds of a long one": (list(range(100)) * 4, 64, 100),
    "nothing": ([], 64, None),
    "never": ([7] * 100, 0, None),
}


@pytest.mark.parametrize(("ids", "min_tokens", "period"), LOOPS.values(), ids=list(LOOPS))
def test_loops(ids: list[int], min_tokens: int, period: int | None) -> None:
    assert loop_period(np.array(ids, np.int64), min_tokens) == period


def run(
    constraint: ReplyConstraint, wishes: list[int], num_tokens: int
) -> tuple[list[int], list[int]]:
    """The reply when a model wishes these tokens in turn (the last one for ever), and where
    it got what it did not wish.
    """
    reply: list[int] = []
    forced = []
    for index in range(num_tokens):
        wish = wishes[min(len(wishes) - 1, index)]
        mask = constraint.allowed(np.array(reply, np.int64))
        if mask is not None and not mask[wish]:
            forced.append(index)
            wish = int(np.flatnonzero(mask)[0])
        reply.append(wish)
    return reply, forced


def tokens_of(tokenizer: Tokenizer) -> ThoughtTokens:
    return ThoughtTokens(tokenizer, tokenizer.vocab_size)


def test_a_budget_closes_the_thought_once_and_leaves_the_answer_alone(
    tiny_tokenizer: Tokenizer,
) -> None:
    word = tiny_tokenizer.encode("a", allow_special=False)[0]
    constraint = ReplyConstraint(tokens_of(tiny_tokenizer), is_in_thought=True, thinking_budget=5)
    reply, forced = run(constraint, [word], 80)
    closing = tiny_tokenizer.encode(f"{BUDGET_CLOSING}</think>\n\n", allow_special=["</think>"])
    assert reply == [word] * 5 + closing + [word] * (75 - len(closing))
    assert len(forced) >= len(closing) - closing.count(word)


def test_a_thought_within_its_budget_is_not_touched(tiny_tokenizer: Tokenizer) -> None:
    word, close = tiny_tokenizer.encode("a</think>", allow_special=["</think>"])
    constraint = ReplyConstraint(tokens_of(tiny_tokenizer), is_in_thought=True, thinking_budget=5)
    wishes = [word, word, close, word]
    assert run(constraint, wishes, 40) == ([word, word, close] + [word] * 37, [])


def test_a_budget_waits_for_the_end_of_a_character(tiny_tokenizer: Tokenizer) -> None:
    thinking = tiny_tokenizer.encode("🤔", allow_special=False)
    assert len(thinking) > 1
    constraint = ReplyConstraint(tokens_of(tiny_tokenizer), is_in_thought=True, thinking_budget=1)
    reply, _ = run(constraint, [*thinking, *thinking], 60)
    assert "\ufffd" not in tiny_tokenizer.decode(reply[: len(thinking) + 20])


@pytest.mark.parametrize("before", ["", "\n\n"])
@pytest.mark.parametrize("budget", [1, 20])
def test_a_budget_holds_for_a_thought_that_the_reply_opens_in_several_tokens(
    tiny_tokenizer: Tokenizer, before: str, budget: int
) -> None:
    *opening, word = tiny_tokenizer.encode(f"{before}<think>a", allow_special=False)
    assert len(opening) > 1
    constraint = ReplyConstraint(
        tokens_of(tiny_tokenizer), is_in_thought=False, thinking_budget=budget
    )
    text = tiny_tokenizer.decode(run(constraint, [*opening, word], 80)[0])
    thought, _, answer = text.partition("</think>")
    assert (thought.endswith(BUDGET_CLOSING), "aaaa" in answer) == (True, True)
    assert thought.count("a") - BUDGET_CLOSING.count("a") == max(0, budget - len(opening))
    # The same letters further on open nothing.
    late = ReplyConstraint(tokens_of(tiny_tokenizer), is_in_thought=False, thinking_budget=budget)
    assert run(late, [word, *opening, word], 80)[1] == []


def test_a_loop_in_the_thought_closes_it_and_one_in_the_answer_ends_it(
    tiny_tokenizer: Tokenizer,
) -> None:
    word = tiny_tokenizer.encode("a", allow_special=False)[0]
    constraint = ReplyConstraint(tokens_of(tiny_tokenizer), is_in_thought=True, loop_tokens=32)
    text = tiny_tokenizer.decode(run(constraint, [word], 200)[0])
    assert f"{LOOP_CLOSING}</think>" in text
    assert constraint.stop_reason == "loop"
    constraint = ReplyConstraint(tokens_of(tiny_tokenizer), is_in_thought=False, loop_tokens=32)
    reply, _ = run(constraint, [word], 33)
    assert reply == [word] * 32 + [tiny_tokenizer.eos_id]
    assert constraint.stop_reason == "loop"


def test_a_grammar_begins_behind_the_thought(tiny_tokenizer: Tokenizer) -> None:
    tokens = tokens_of(tiny_tokenizer)
    compiler = GrammarCompiler(tiny_tokenizer, tokens.vocab_size)
    grammar = compiler.compile(AnswerForm(schema={"const": {"a": 1}}))
    constraint = ReplyConstraint(tokens, is_in_thought=True, grammar=grammar)
    word, close = tiny_tokenizer.encode("a</think>", allow_special=["</think>"])
    reply, _ = run(constraint, [word, tiny_tokenizer.eos_id, close, word], 40)
    text = tiny_tokenizer.decode(reply)
    thought, _, answer = text.partition("</think>")
    # A thought may not end the reply while an answer is owed.
    assert thought.startswith("a")
    assert tiny_tokenizer.eos_id not in reply[: reply.index(close)]
    assert answer.startswith("\n\n{")
    assert reply[-1] == tiny_tokenizer.eos_id


HOSTILE_SCHEMAS = {
    "unknown type": {"type": "x"},
    "a reference to nowhere": {"$ref": "#/nowhere"},
    "a reference to the network": {"$ref": "https://example.com/schema.json"},
    "no regex": {"type": "string", "pattern": "("},
    "impossible": {"allOf": [{"type": "string"}, {"type": "integer"}]},
}


@pytest.mark.parametrize("schema", HOSTILE_SCHEMAS.values(), ids=list(HOSTILE_SCHEMAS))
def test_a_hostile_schema_is_one_clear_line(tiny_tokenizer: Tokenizer, schema: dict) -> None:
    compiler = GrammarCompiler(tiny_tokenizer, tiny_tokenizer.vocab_size)
    with pytest.raises(ValueError, match=r"the schema cannot be used: .+") as caught:
        compiler.compile(AnswerForm(schema=schema))
    assert "\n" not in str(caught.value)


class Watched(ReplyConstraint):
    """Asked before every token, whether it wants to be or not."""

    next_length = 0  # type: ignore[assignment]


def run_as_asked(constraint: ReplyConstraint, wishes: list[int], num_tokens: int) -> list[int]:
    """As the engine asks: only from the length that the constraint named last."""
    reply: list[int] = []
    asked_from = constraint.next_length
    for wish in wishes[:num_tokens]:
        mask = None
        if len(reply) >= asked_from:
            mask = constraint.allowed(np.array(reply, np.int64))
            asked_from = constraint.next_length
        reply.append(wish if mask is None or mask[wish] else int(np.flatnonzero(mask)[0]))
    return reply


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_asked_where_it_matters_is_asked_at_every_token(
    tiny_tokenizer: Tokenizer, data: st.DataObject
) -> None:
    tokens = tokens_of(tiny_tokenizer)
    tags = tiny_tokenizer.encode("<think></think>", allow_special=["<think>", "</think>"])
    words = tiny_tokenizer.encode("🤔 a b", allow_special=False)
    parts = st.one_of(
        st.lists(st.sampled_from([*tags, *words]), max_size=12),
        st.tuples(st.lists(st.sampled_from(words), min_size=1, max_size=4), st.integers(1, 50)).map(
            lambda pair: pair[0] * pair[1]
        ),
    )
    wishes = [token for part in data.draw(st.lists(parts, max_size=8)) for token in part]
    values = {
        "is_in_thought": data.draw(st.booleans()),
        "thinking_budget": data.draw(st.none() | st.integers(1, 120)),
        "loop_tokens": data.draw(st.sampled_from([0, 1, 33, 64, 100])),
    }
    lazy, watched = ReplyConstraint(tokens, **values), Watched(tokens, **values)
    expected = run_as_asked(watched, wishes, 400)
    assert run_as_asked(lazy, wishes, 400) == expected
    # What ends a reply is seen where it happens; nothing comes after it.
    assert lazy.stop_reason == watched.stop_reason


def test_a_reply_that_is_only_watched_is_hardly_asked(tiny_tokenizer: Tokenizer) -> None:
    tokens = tokens_of(tiny_tokenizer)
    assert ReplyConstraint(tokens, is_in_thought=True).next_length >= 2**60
    watching = ReplyConstraint(tokens, is_in_thought=True, loop_tokens=1000)
    assert watching.next_length == 1024
    watching.allowed(np.arange(1024))
    assert watching.next_length == 1056
    budget = ReplyConstraint(tokens, is_in_thought=True, thinking_budget=300)
    assert budget.next_length == 300
    close = tiny_tokenizer.encode("</think>", allow_special=["</think>"])
    budget.allowed(np.array([5, 6, *close, *range(5, 305)]))
    assert budget.next_length >= 2**60

from __future__ import annotations

import pytest

from r1.records import Message, SamplingParams
from r1.serving.conversation import Conversation, ConversationSettings, is_r1_like
from r1.text.tokenizer import Tokenizer


def test_a_reply_streams_in_two_parts_and_history_drops_the_thought(reciting_engine) -> None:
    engine = reciting_engine([["1+1 ", "is 2</th", "ink>\nIt is ", "2."], ["</think>4"]])
    conversation = Conversation(engine, ConversationSettings(seed=5))
    assert list(conversation.stream("1+1?")) == [
        ("thought", "1+1"),
        ("thought", " is 2"),
        ("answer", "It is"),
        ("answer", " 2."),
    ]
    assert conversation.history == [Message("user", "1+1?"), Message("assistant", "It is 2.")]
    list(conversation.stream("2+2?"))
    assert engine.prompt_text(0) == (
        "<｜begin▁of▁sentence｜><｜User｜>1+1?<｜Assistant｜><think>\n"
    )
    assert engine.prompt_text(1) == (
        "<｜begin▁of▁sentence｜><｜User｜>1+1?<｜Assistant｜>It is 2.<｜end▁of▁sentence｜>"
        "<｜User｜>2+2?<｜Assistant｜><think>\n"
    )
    first, second = engine.requests
    assert (first.seed, first.sampling.temperature, first.sampling.top_p) == (5, 0.6, 0.95)
    assert first.id != second.id
    conversation.clear()
    assert conversation.history == []


def test_an_interrupt_stops_the_reply_and_keeps_what_was_answered(reciting_engine) -> None:
    engine = reciting_engine([["</think>half", KeyboardInterrupt()], ["thinking", "never read"]])
    conversation = Conversation(engine, ConversationSettings())
    with pytest.raises(KeyboardInterrupt):
        list(conversation.stream("one?"))
    assert conversation.history == [Message("user", "one?"), Message("assistant", "half")]
    pieces = conversation.stream("two?")
    assert next(pieces) == ("thought", "thinking")
    pieces.close()
    assert engine.cancelled == [request.id for request in engine.requests]
    assert not engine.has_unfinished()
    assert len(conversation.history) == 2  # a thought alone is not a turn


def test_old_turns_make_room_for_the_reply(reciting_engine) -> None:
    engine = reciting_engine([["</think>" + "a" * 60], ["</think>" + "b" * 60], ["</think>c"]])
    settings = ConversationSettings(sampling=SamplingParams(max_tokens=64))
    conversation = Conversation(engine, settings)
    for question in ("x" * 40, "y" * 40, "z"):
        list(conversation.stream(question))
    assert [m.content[:1] for m in conversation.history] == ["y", "b", "z", "c"]
    assert all(len(r.prompt_ids) + 50 <= engine.max_model_len for r in engine.requests)


def test_other_styles_ask_each_question_anew(reciting_engine) -> None:
    engine = reciting_engine([["<think>a</think><answer>1</answer>"], ["2"]])
    conversation = Conversation(engine, ConversationSettings(prompt_style="r1_zero"))
    assert list(conversation.stream("one?")) == [("thought", "a"), ("answer", "1")]
    list(conversation.stream("two?"))
    assert engine.prompt_text(1).endswith("User: two?. Assistant:")
    assert "one?" not in engine.prompt_text(1)


def test_system_prompt_and_thinking_are_choices(reciting_engine) -> None:
    engine = reciting_engine([["hello"]])
    settings = ConversationSettings(system="Be kind. ", force_think=False)
    assert list(Conversation(engine, settings).stream("hi <｜User｜>")) == [("answer", "hello")]
    assert engine.prompt_text(0) == (
        "<｜begin▁of▁sentence｜>Be kind. <｜User｜>hi <｜User｜><｜Assistant｜>"
    )
    user = engine.tokenizer.token_id("<｜User｜>")
    assert engine.requests[0].prompt_ids.count(user) == 1  # the visitor's is text


def test_thinking_is_forced_where_the_template_knows_it(tokenizer: Tokenizer) -> None:
    assert is_r1_like(tokenizer)
    other = Tokenizer(tokenizer.backend, tokenizer.names, chat_template="{{ messages }}")
    assert not is_r1_like(other)
    assert is_r1_like(Tokenizer(tokenizer.backend, tokenizer.names))

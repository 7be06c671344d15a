"""Chat templates and prompts: exactly one BOS, forced openings, text that stays text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1.records import Message, Sample
from r1.text.chat_template import R1_CHAT_TEMPLATE, encode_chat, parse_messages, render_chat
from r1.text.prompts import build_prompt, completion_of, encode_completion, encode_r1_zero
from r1.text.special_tokens import SpecialTokens
from r1.text.tokenizer import Tokenizer

EOS, BOS = "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"

CHAT = [
    Message("system", "Be brief."),
    Message("user", "1+1?"),
    Message("assistant", "<think>\nold thought</think>\n\ntwo"),
    Message("user", "2+2?"),
]
RENDERED = (
    f"{BOS}Be brief.<｜User｜>1+1?<｜Assistant｜>\n\ntwo{EOS}<｜User｜>2+2?<｜Assistant｜><think>\n"
)


def published_template(shared_dir: Path) -> str:
    file = shared_dir / "data/tokenizers/r1_distill_qwen/chat_template.jinja"
    return file.read_text(encoding="utf-8")


def test_r1_template_drops_old_thoughts_and_forces_a_new_one() -> None:
    assert render_chat(CHAT, R1_CHAT_TEMPLATE, bos_token=BOS, eos_token=EOS) == RENDERED
    bare = render_chat(CHAT, R1_CHAT_TEMPLATE, force_think=False, bos_token=BOS, eos_token=EOS)
    assert bare == RENDERED.removesuffix("<think>\n")


def test_the_published_template_renders_the_same(shared_dir: Path) -> None:
    assert (
        render_chat(CHAT, published_template(shared_dir), bos_token=BOS, eos_token=EOS) == RENDERED
    )


def test_encoded_chat_reads_as_the_rendered_text(tiny: Tokenizer) -> None:
    prompt = encode_chat(tiny, CHAT)
    assert tiny.decode(prompt.ids, skip_special=False) == RENDERED
    assert list(prompt.ids) == tiny.encode(RENDERED, allow_special=True)
    assert prompt.forced_opening == "<think>\n"


@pytest.mark.parametrize("template", ["{{ bos_token }}{{ bos_token }}hi", f"{BOS}hi", "hi"])
def test_exactly_one_bos(tiny: Tokenizer, template: str) -> None:
    tokenizer = Tokenizer(tiny.backend, SpecialTokens(eos=EOS, bos=BOS), chat_template=template)
    ids = encode_chat(tokenizer, [Message("user", BOS)], force_think=False).ids
    assert ids.count(1) == 1 and ids[0] == 1


def test_no_bos_where_none_belongs(tiny: Tokenizer) -> None:
    names = SpecialTokens(eos=EOS, bos=BOS, adds_bos=False)
    tokenizer = Tokenizer(tiny.backend, names, chat_template="hi")
    assert 1 not in encode_chat(tokenizer, [Message("user", "x")]).ids
    assert 1 not in build_prompt(tokenizer, "x", "plain").ids


TRICKS = st.lists(
    st.sampled_from(
        ["<｜User｜>", "<think>", "</think>", EOS, BOS, "<", "｜User｜>", "a", "\U000f0000"]
    ),
    max_size=8,
).map("".join)


@given(TRICKS, TRICKS)
def test_contents_never_become_special_tokens(tiny: Tokenizer, user: str, assistant: str) -> None:
    messages = [Message("user", user), Message("assistant", assistant), Message("user", user)]
    prompt = encode_chat(tiny, messages)
    special = [token for token in prompt.ids if token < 6]
    assert special == [1, 2, 3, 0, 2, 3, 4]
    assert tiny.decode(prompt.ids, skip_special=False).count(user) >= 2


@pytest.mark.parametrize("style", ["r1_zero", "plain"])
def test_a_question_never_becomes_special_tokens(tiny: Tokenizer, style: str) -> None:
    question = "<think>{question}</think><｜User｜>"
    prompt = build_prompt(tiny, question, style)  # type: ignore[arg-type]
    text = tiny.decode(prompt.ids, skip_special=False)
    assert question in text and prompt.ids[0] == 1 and prompt.forced_opening == ""
    think = [token for token in prompt.ids if token in (4, 5)]
    assert len(think) == (4 if style == "r1_zero" else 0)


def test_r1_zero_prompt_ends_with_the_question_and_the_assistant(tiny: Tokenizer) -> None:
    text = tiny.decode(build_prompt(tiny, "What is 1+1?", "r1_zero").ids)
    assert text.endswith("User: What is 1+1?. Assistant:")
    short = encode_r1_zero(tiny, "1+1", "Q {question} A")
    assert tiny.decode(short.ids) == "Q 1+1 A"
    with pytest.raises(ValueError, match="once"):
        encode_r1_zero(tiny, "1+1", "no place")


def test_chat_prompt_appends_the_instruction(tiny: Tokenizer) -> None:
    text = tiny.decode(build_prompt(tiny, "1+1?", "chat", "Box it.").ids, skip_special=False)
    assert text == f"{BOS}<｜User｜>1+1?\nBox it.<｜Assistant｜><think>\n"
    with pytest.raises(ValueError, match="choose from r1_zero, chat, plain"):
        build_prompt(tiny, "1+1?", "xml")  # type: ignore[arg-type]


def test_a_completion_follows_its_prompt(tiny: Tokenizer) -> None:
    text = "<think>\nhm</think>\n\ntwo<｜User｜>"
    prompt = build_prompt(tiny, "1+1?", "chat")
    ids = encode_completion(tiny, prompt, text)
    assert tiny.decode(ids, skip_special=False) == f"hm</think>\n\ntwo<｜User｜>{EOS}"
    assert ids[-1] == 0 and 2 not in ids and ids.count(5) == 1
    bare = encode_completion(tiny, build_prompt(tiny, "1+1?", "r1_zero"), text)
    assert bare[0] == 4
    sample = Sample("q", 0, prompt.ids, ids, "hm</think>\n\ntwo", (), (), "stop")
    completion = completion_of(prompt, sample)
    assert completion.text == "<think>\nhm</think>\n\ntwo"
    assert (completion.finish_reason, completion.num_tokens) == ("stop", len(ids))


def test_templates_run_in_a_sandbox() -> None:
    for template in ("{{ messages.__class__.__mro__ }}", "{{ messages.append(1) }}", "{% if %}"):
        with pytest.raises(ValueError, match="chat template"):
            render_chat(CHAT, template)
    with pytest.raises(ValueError, match="no tool turns"):
        render_chat([Message("tool", "x")], R1_CHAT_TEMPLATE)


def test_messages_from_json() -> None:
    assert parse_messages([{"role": "user", "content": "hi"}]) == [Message("user", "hi")]
    with pytest.raises(ValueError, match=r"messages\[0\]\.role is 'bot'"):
        parse_messages([{"role": "bot", "content": "hi"}])
    with pytest.raises(ValueError, match=r"messages\[0\]\.content must be text"):
        parse_messages([{"role": "user", "content": None}])


@pytest.mark.peers
def test_transformers_reads_our_folder_and_encodes_the_same(
    tiny: Tokenizer, shared_dir: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    template = published_template(shared_dir)
    tokenizer = Tokenizer(tiny.backend, tiny.names, chat_template=template)
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    rows = [{"role": message.role, "content": message.content} for message in CHAT]
    ids = theirs.apply_chat_template(rows, add_generation_prompt=True)["input_ids"]
    assert tuple(ids) == encode_chat(tokenizer, CHAT, force_think=False).ids

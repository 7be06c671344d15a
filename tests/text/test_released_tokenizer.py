"""Our encoding against transformers', on the released tokenizer of R1-Distill-Qwen.

Texts and conversations are drawn to be awkward: every script, emoji, code, control
characters, white space, look-alikes of special tokens. The tokenizer is read from
shared data; transformers opens the folder that we save.
"""

from __future__ import annotations

import json
import lzma
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest
import transformers
from tokenizers import Tokenizer as Backend

from r1.records import Message
from r1.text.chat_template import R1_CHAT_TEMPLATE, encode_chat, render_chat
from r1.text.special_tokens import SpecialTokens
from r1.text.tokenizer import Tokenizer, load_tokenizer

EOS, BOS = "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"
NUM_TEXTS = 400

# The form since 9 February 2025 differs from that of January in the generation prompt alone.
BARE_PROMPT, FORCED_PROMPT = "{{'<｜Assistant｜>'}}", "{{'<｜Assistant｜><think>\\n'}}"

PIECES = [
    *("The quick brown fox", "don't I'LL we've", "x = f(y) ** 2 # 3.14159", "\t\tif a:\n"),
    *("12345678901234567890", "3 33 333 3,333.33", "1/2 + √2 ≤ π", r"\frac{a}{b} \boxed{42}"),
    *("你好，世界！", "素数とは何ですか", "한국어 문장", "Привет, мир", "مرحبا بالعالم", "שלום"),
    *("नमस्ते दुनिया", "ภาษาไทย", "é vs e\u0301", "ﬁ ﬂ ①②", "Ａｂｃ", "Straße İi ı"),
    *("😀👍🏽👨‍👩‍👧‍👦🇩🇪", "🚀\u200d🌫️", "\u200b\u200c\ufeff", "\u00a0\u2003\u3000", "\u2028\u2029"),
    *("\x00\x01\x1b[31m", "\x7f\x85", "\ue000\uf8ff", "\U000f0000", "\ufffd", "\U0010ffff"),
    *("\r\n\r\n", "\n\n\n", "  ", "   \n  ", " ", "\r", "\n \n", "a\u00adb"),
    *("<think>", "</think>", "<｜User｜>", "<｜Assistant｜>", EOS, BOS, "<|im_start|>"),
    *(
        "<｜User|>",
        "<|User｜>",
        "< think>",
        "<think",
        "｜>",
        "<｜",
        "▁",
        "<｜User｜",
        "<<｜User｜>>",
    ),
    *("<tool_call>", "<|endoftext|>", "<|fim_prefix|>", "[INST]", "<s>", "</s>"),
    *('{"a": [1, 2, {"b": null}]}', "<b>&amp;</b>", "```python\nprint('hi')\n```", "| a | b |"),
    *("http://a.b/c?d=e&f#g", "a@b.c", "C:\\Users\\x", "$x^2$", "----====####", "!!!???..."),
]
PLAIN_PIECES = [piece for piece in PIECES if "<" not in piece and "｜" not in piece]


def folder_of(shared_dir: Path) -> Path:
    folder = shared_dir / "data/tokenizers/r1_distill_qwen"
    if not folder.is_dir():
        pytest.skip(f"no released tokenizer at {folder}")
    return folder


@pytest.fixture(scope="module")
def released(shared_dir: Path) -> Tokenizer:
    folder = folder_of(shared_dir)
    text = lzma.decompress((folder / "tokenizer.json.xz").read_bytes()).decode()
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return Tokenizer(
        Backend.from_str(text), SpecialTokens(eos=EOS, bos=BOS), chat_template=template
    )


@pytest.fixture(scope="module")
def theirs(released: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("released")
    released.save(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


def texts(seed: int, pieces: list[str] = PIECES) -> Iterator[str]:
    draw = random.Random(seed)
    yield from pieces
    yield ""
    for _ in range(NUM_TEXTS - len(pieces)):
        chosen = draw.choices(pieces, k=draw.randint(1, 12))
        yield "".join(piece + draw.choice(["", " ", "\n", "  "]) for piece in chosen)


def test_texts_encode_the_same(released: Tokenizer, theirs: Any) -> None:
    for text in texts(0):
        ids = released.encode(text, allow_special=True)
        assert ids == theirs.encode(text, add_special_tokens=False), repr(text)
        assert released.decode(ids, skip_special=False) == theirs.decode(ids), repr(text)


def test_untrusted_texts_hold_no_special_token_and_come_back(released: Tokenizer) -> None:
    first = min(released.special_tokens.values())
    for text in texts(1):
        ids = released.encode(text, allow_special=False)
        assert max(ids, default=0) < first, repr(text)
        # The tokenizer composes characters (NFC), as the released one does.
        assert released.decode(ids) == released.backend.normalizer.normalize_str(text), repr(text)


def test_where_no_text_looks_special_both_ways_agree(released: Tokenizer, theirs: Any) -> None:
    for text in texts(2, PLAIN_PIECES):
        ids = released.encode(text, allow_special=False)
        assert ids == theirs.encode(text, add_special_tokens=False), repr(text)


def test_its_gguf_form_is_the_same(released: Tokenizer, tmp_path: Path) -> None:
    added = released.backend.get_added_tokens_decoder()
    by_id = {i: token for token, i in released.backend.get_vocab().items()}
    size = released.vocab_size
    kinds = [
        (3 if added[i].special else 4) if i in added else (1 if i in by_id else 5)
        for i in range(size)
    ]
    merges = json.loads(released.backend.to_str())["model"]["merges"]
    writer = gguf.GGUFWriter(tmp_path / "tokenizer.gguf", "qwen2")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("deepseek-r1-qwen")
    writer.add_token_list([by_id.get(i, f"[PAD{i}]") for i in range(size)])
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(released.bos_id or 0)
    writer.add_eos_token_id(released.eos_id)
    writer.add_add_bos_token(True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    read = load_tokenizer(tmp_path / "tokenizer.gguf")
    assert (read.names, read.special_tokens) == (released.names, released.special_tokens)
    for text in texts(6):
        for allow_special in (True, False):
            ids = released.encode(text, allow_special=allow_special)
            assert read.encode(text, allow_special=allow_special) == ids, repr(text)


def test_a_very_long_text(released: Tokenizer, theirs: Any) -> None:
    text = "".join(texts(3)) * 3 + "字" * 20_000 + " " * 20_000 + "9" * 20_000
    assert released.encode(text, allow_special=True) == theirs.encode(
        text, add_special_tokens=False
    )


def conversations(seed: int, pieces: list[str]) -> Iterator[list[Message]]:
    draw = random.Random(seed)
    for number in range(60):
        turns = [Message("system", draw.choice(pieces))] if number % 3 == 0 else []
        for _ in range(draw.randint(1, 4)):
            turns.append(Message("user", " ".join(draw.choices(pieces, k=3))))
            thought = f"<think>\n{draw.choice(pieces)}\n</think>\n\n" if number % 2 else ""
            turns.append(Message("assistant", thought + draw.choice(pieces)))
        yield turns[:-1]


@pytest.mark.parametrize("is_forced", [False, True])
def test_conversations_encode_the_same(released: Tokenizer, theirs: Any, is_forced: bool) -> None:
    assert released.chat_template is not None and BARE_PROMPT in released.chat_template
    template = released.chat_template
    if is_forced:
        template = template.replace(BARE_PROMPT, FORCED_PROMPT)
    tokenizer = Tokenizer(released.backend, released.names, chat_template=template)
    for messages in conversations(4, PLAIN_PIECES):
        rows = [{"role": message.role, "content": message.content} for message in messages]
        rendered = {"chat_template": template, "add_generation_prompt": True}
        ids = theirs.apply_chat_template(rows, tokenize=True, **rendered)["input_ids"]
        ours = encode_chat(tokenizer, messages, force_think=is_forced).ids
        assert list(ours) == list(ids)
        assert ours.count(released.bos_id) == 1 and ours[0] == 151646
        think = released.token_id("<think>")
        assert ours.count(think) == (1 if is_forced else 0)
        text = theirs.apply_chat_template(rows, tokenize=False, **rendered)
        assert text == render_chat(
            messages, template, bos_token=BOS, eos_token=EOS, force_think=is_forced
        )


@pytest.mark.parametrize("force_think", [False, True])
def test_force_think_decides_whatever_the_template_says(
    released: Tokenizer, force_think: bool
) -> None:
    assert released.chat_template is not None
    forced = released.chat_template.replace(BARE_PROMPT, FORCED_PROMPT)
    messages = [Message("user", "1+1?")]
    prompts = [
        encode_chat(
            Tokenizer(released.backend, released.names, chat_template=template),
            messages,
            force_think=force_think,
        )
        for template in (released.chat_template, forced, R1_CHAT_TEMPLATE)
    ]
    assert prompts[0] == prompts[1] == prompts[2]
    end = (151648, 198) if force_think else (151645,)  # <think> and a newline; <｜Assistant｜>
    assert prompts[0].ids[-len(end) :] == end


def test_awkward_turns_stay_text(released: Tokenizer) -> None:
    """Only the template's own markup is special, in the order of the turns."""
    for messages in conversations(5, PIECES):
        ids = encode_chat(released, messages).ids
        first = min(released.special_tokens.values())
        expected = [151646]
        for message in messages:
            if message.role == "user":
                expected.append(151644)
            elif message.role == "assistant":
                expected += [151645, 151643]
        expected += [151645, 151648]
        assert [token for token in ids if token >= first] == expected


def test_transformers_adds_no_token_of_its_own_to_a_saved_model_folder(
    released: Tokenizer, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2", "vocab_size": 152064}')
    released.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == released.vocab_size == 152064
    assert theirs.pad_token == EOS

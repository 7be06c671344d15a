"""A tokenizer from GGUF metadata: one written here, and SmolLM2's when it is cached."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import pytest

from r1.models.catalogue import smollm2_path
from r1.records import Message
from r1.text.chat_template import encode_chat
from r1.text.tokenizer import Tokenizer, load_tokenizer

TOKENS = ["<|end|>", "<|start|>", "<tool>", "[PAD]", "1", "2", "a", "b", "Ġ", "ab", "Ġab", "12"]
KINDS = [3, 3, 4, 5, 1, 1, 1, 1, 1, 1, 1, 1]


def write_gguf(path: Path, *, model: str = "gpt2", pre: str = "smollm") -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types(KINDS)
    writer.add_token_merges(["a b", "Ġ ab", "1 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_chat_template("{{ messages[0]['content'] }}<|end|>")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_metadata_becomes_a_tokenizer(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_gguf(tmp_path / "tiny.gguf"))
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.prefix_ids) == (1, (0,), (1,))
    assert tokenizer.special_tokens == {"<|end|>": 0, "<|start|>": 1, "<tool>": 2}
    # smollm splits digits one by one: the merge "12" is never reached.
    assert tokenizer.encode("ab ab12<|end|>", allow_special=True) == [9, 10, 4, 5, 0]
    assert tokenizer.decode([1, 9, 10, 2, 0]) == "ab ab<tool>"
    assert tokenizer.vocab_size == 12
    assert encode_chat(tokenizer, [Message("user", "ab")], force_think=False).ids == (1, 9, 0)


def test_the_pre_tokenizer_is_named_in_the_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", pre="gpt-2")
    assert load_tokenizer(tmp_path).encode("12", allow_special=False) == [11]


def test_saved_as_a_hugging_face_folder_it_is_the_same(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_gguf(tmp_path / "tiny.gguf"))
    tokenizer.save(tmp_path / "saved")
    saved = load_tokenizer(tmp_path / "saved")
    # A folder names a token to pad with, as the releases do.
    assert saved.names == replace(tokenizer.names, pad=tokenizer.names.eos)
    assert saved.encode("ab 12<tool>", allow_special=True) == tokenizer.encode(
        "ab 12<tool>", allow_special=True
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"model": "llama"}, "only 'gpt2'"), ({"pre": "tekken"}, "known are default, gpt-2")],
)
def test_unknown_kinds_are_refused(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_tokenizer(write_gguf(tmp_path / "tiny.gguf", **settings))


@pytest.mark.parametrize("size", [0, 3, 24, 60, 200])
def test_a_torn_file_is_refused(tmp_path: Path, size: int) -> None:
    whole = write_gguf(tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "torn.gguf").write_bytes(whole[:size])
    with pytest.raises(ValueError, match="not a readable GGUF file"):
        load_tokenizer(tmp_path / "torn.gguf")


@pytest.fixture(scope="module")
def smollm2() -> Tokenizer:
    file = smollm2_path()
    if not file.is_file():
        pytest.skip(f"{file} is not there; run: r1 models get smollm2")
    return load_tokenizer(file)


def test_smollm2(smollm2: Tokenizer) -> None:
    assert smollm2.vocab_size == 49152
    assert (smollm2.bos_id, smollm2.eos_id, smollm2.prefix_ids) == (1, 2, ())
    text = "Hi  there, 123 你好"
    ids = smollm2.encode(text, allow_special=False)
    assert smollm2.decode(ids) == text
    assert ids[:4] == [26843, 216, 665, 28]
    prompt = encode_chat(smollm2, [Message("user", "Hi")], force_think=False)
    assert smollm2.decode(prompt.ids, skip_special=False).endswith(
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )

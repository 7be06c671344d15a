"""GGUF files made to hurt: each ends in one line that names the file and the fault."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1.models.gguf_checkpoint import load_gguf_model
from r1.text.tokenizer import load_tokenizer

Refusal = Callable[[Callable[[Path], Any], Path], str]
HEAD = struct.Struct("<4sIQQ")


def text(value: str | bytes, length: int | None = None) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def number(name: str, value: int) -> bytes:
    return text(name) + struct.pack("<II", 4, value)


def array(name: str, kind: int, length: int, data: bytes = b"") -> bytes:
    return text(name) + struct.pack("<IIQ", 9, kind, length) + data


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<IQ", kind, offset)


def gguf_bytes(
    fields: list[bytes], tensors: list[bytes] | None = None, data: int = 4096, **counts: int
) -> bytes:
    tensors = tensors or []
    num_tensors = counts.get("num_tensors", len(tensors))
    head = HEAD.pack(b"GGUF", 3, num_tensors, counts.get("num_fields", len(fields)))
    body = head + b"".join(fields) + b"".join(tensors)
    return body + bytes(-len(body) % 32 + data)


LLAMA = [
    text("general.architecture") + struct.pack("<I", 8) + text("llama"),
    *(
        number(f"llama.{name}", value)
        for name, value in {
            "block_count": 1,
            "context_length": 64,
            "embedding_length": 32,
            "feed_forward_length": 32,
            "attention.head_count": 4,
        }.items()
    ),
    text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5),
]
WIDTH_TEXT = struct.pack("<I", 8) + text("32")
EMBEDDING = tensor("token_embd.weight", (32, 8))

GGUF_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file ends in the middle of its header"),
    "wrong magic": (HEAD.pack(b"GGML", 3, 0, 0), "begins with b'GGML', version 3"),
    "old version": (HEAD.pack(b"GGUF", 1, 0, 0), "version 1, not GGUF 2 or 3"),
    "big-endian": (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "version 50331648"),
    "fields 2^60": (gguf_bytes([], num_fields=2**60), "it claims 1,152,921,504,606,846,976"),
    "fields 9,999": (gguf_bytes([], num_fields=9_999), "not a readable GGUF file"),
    "tensors 2^60": (gguf_bytes(LLAMA, num_tensors=2**60), "it claims 1,152,921,504,606,846,976"),
    "tensors 99,999": (gguf_bytes(LLAMA, num_tensors=99_999), "not a readable GGUF file"),
    "string 2^63": (gguf_bytes([text("", 2**63)], num_fields=1), "ends in the middle"),
    "value 2^63": (
        gguf_bytes([text("a") + struct.pack("<IQ", 8, 2**63)]),
        "ends in the middle",
    ),
    "array 2^60": (gguf_bytes([array("a", 0, 2**60)]), "it claims 1,152,921,504,606,846,976"),
    "array of strings": (gguf_bytes([array("a", 8, 3_999_999)]), "ends in the middle"),
    "array of floats": (gguf_bytes([array("a", 6, 3_999_999)]), "ends in the middle"),
    "array of arrays": (gguf_bytes([array("a", 9, 1)]), "an array of arrays"),
    "unknown value": (gguf_bytes([text("a") + struct.pack("<I", 77)]), "unknown value type 77"),
    "not UTF-8": (gguf_bytes([text(b"\xff\xfe")]), "not a readable GGUF file"),
    "field twice": (gguf_bytes([number("a", 1)] * 2), "metadata 'a' is there twice"),
    "alignment 0": (gguf_bytes([number("general.alignment", 0)]), "general.alignment is 0"),
    "no architecture": (gguf_bytes([]), "GGUF architecture None is not supported"),
    "dimensions 2^31": (
        gguf_bytes(LLAMA, [text("a") + struct.pack("<I", 2**31)]),
        "tensor 'a' has 2147483648 dimensions",
    ),
    "tensor twice": (gguf_bytes(LLAMA, [EMBEDDING] * 2), "two tensors have one name"),
    "shape 2^62": (
        gguf_bytes(LLAMA, [tensor("token_embd.weight", (2**62, 2**62))]),
        "truncated: token_embd.weight",
    ),
    "shape empty": (gguf_bytes(LLAMA, [tensor("token_embd.weight", ())]), "do not make blocks"),
    "shape odd": (
        gguf_bytes(LLAMA, [tensor("token_embd.weight", (33, 8), kind=8)]),
        "rows of token_embd.weight [8, 33] do not make blocks of 32",
    ),
    "unknown type": (
        gguf_bytes(LLAMA, [tensor("token_embd.weight", (32, 8), kind=999)]),
        "token_embd.weight has unknown type 999",
    ),
    "offset outside": (
        gguf_bytes(LLAMA, [tensor("token_embd.weight", (32, 8), offset=2**63)]),
        "truncated: token_embd.weight [8, 32] ends behind its",
    ),
    "truncated": (gguf_bytes(LLAMA, [EMBEDDING], data=100), "truncated: token_embd.weight"),
    "no embedding": (gguf_bytes(LLAMA), "missing tensor token_embd.weight"),
    "missing tensors": (gguf_bytes(LLAMA, [EMBEDDING]), "missing tensor model.layers.0."),
    "layers 4e9": (
        gguf_bytes([LLAMA[0], number("llama.block_count", 2**32 - 1), *LLAMA[2:]], [EMBEDDING]),
        "num_hidden_layers must be from 0 to 10,000",
    ),
    "heads 0": (
        gguf_bytes([*LLAMA[:5], number("llama.attention.head_count", 0), LLAMA[6]], [EMBEDDING]),
        "0 heads in a width of 32",
    ),
    "no width": (gguf_bytes([*LLAMA[:3], *LLAMA[4:]], [EMBEDDING]), "missing metadata llama.emb"),
    "text for a number": (
        gguf_bytes(
            [*LLAMA[:3], text("llama.embedding_length") + WIDTH_TEXT, *LLAMA[4:]],
            [EMBEDDING],
        ),
        "4 heads in a width of '32'",
    ),
    "one of three parts": (
        gguf_bytes([*LLAMA, number("split.count", 3)], [EMBEDDING]),
        "one of 3 parts, but not named NAME-00001-of-00003.gguf",
    ),
}


@pytest.mark.parametrize("kind", GGUF_FILES)
def test_a_hostile_gguf_file_is_refused(refusal: Refusal, tmp_path: Path, kind: str) -> None:
    content, words = GGUF_FILES[kind]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    message = refusal(load_gguf_model, path)
    assert message.startswith(str(path)) and words in message, message


TOKENS = array("tokenizer.ggml.tokens", 8, 2, text("a") + text("b"))
GPT2 = text("tokenizer.ggml.model") + struct.pack("<I", 8) + text("gpt2")

GGUF_TOKENIZERS: dict[str, tuple[list[bytes], str]] = {
    "no model": ([], "its tokenizer is None"),
    "no tokens": ([GPT2], "tokenizer.ggml.tokens is not a list of texts"),
    "no merges": ([GPT2, TOKENS], "tokenizer.ggml.merges is not a list of texts"),
    "tokens of numbers": ([GPT2, array("tokenizer.ggml.tokens", 0, 2, b"ab")], "not a list"),
    "a merge of one part": (
        [GPT2, TOKENS, array("tokenizer.ggml.merges", 8, 1, text("ab"))],
        "a merge of its tokenizer does not have two parts",
    ),
    "a merge of others": (
        [
            *(GPT2, TOKENS, number("tokenizer.ggml.eos_token_id", 0)),
            array("tokenizer.ggml.merges", 8, 1, text("x y")),
        ],
        "not a readable tokenizer",
    ),
    "EOS outside": (
        [
            *(GPT2, TOKENS, number("tokenizer.ggml.eos_token_id", 2**31)),
            array("tokenizer.ggml.merges", 8, 0),
        ],
        "token id 2147483648 is not among its 2 tokens",
    ),
    "kinds too few": (
        [
            *(GPT2, TOKENS, array("tokenizer.ggml.token_type", 5, 1, bytes(4))),
            array("tokenizer.ggml.merges", 8, 0),
        ],
        "token_type does not fit its tokens",
    ),
}


@pytest.mark.parametrize("kind", GGUF_TOKENIZERS)
def test_a_hostile_gguf_tokenizer_is_refused(refusal: Refusal, tmp_path: Path, kind: str) -> None:
    fields, words = GGUF_TOKENIZERS[kind]
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes(fields))
    message = refusal(load_tokenizer, path)
    assert message.startswith(str(path)) and words in message, message

"""A `tokenizers` model from the metadata of a GGUF file.

GGUF keeps the vocabulary, the merges, the kind of every token and the name of the
pre-tokenizer, whose regular expression llama.cpp holds in code (llama-vocab.cpp);
the table below has those of the Llama, Qwen2 and SmolLM families.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from r1.text.special_tokens import SpecialTokens

_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_SPLIT = _QWEN2_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|", 1)

# llama.cpp's token types that text can spell as one token (llama_token_type).
_CONTROL, _USER_DEFINED = 3, 4

_PRE_TOKENIZERS = {
    "default": "gpt2",
    "gpt-2": "gpt2",
    "smollm": "smollm",
    "qwen2": "qwen2",
    "deepseek-r1-qwen": "qwen2",
    "llama-bpe": "llama3",
}


def read_gguf_tokenizer(path: Path) -> tuple[Tokenizer, SpecialTokens, str | None]:
    """The tokenizer of a GGUF file, its special tokens and its chat template.

    Raises ValueError when the file has no byte-level BPE tokenizer or one whose
    pre-tokenizer is not in the table.
    """
    try:
        metadata = _read_metadata(path)
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path} cannot be read as GGUF: {error}") from error
    model = metadata.get("model")
    if model != "gpt2":
        raise ValueError(
            f"{path}: its tokenizer is {model!r}; only 'gpt2' (byte-level BPE) is read"
        )
    tokens: list[str] = metadata["tokens"]
    eos, bos, pad = (
        _token_at(tokens, metadata.get(f"{role}_token_id")) for role in ("eos", "bos", "padding")
    )
    if eos is None:
        raise ValueError(f"{path} names no EOS token (tokenizer.ggml.eos_token_id)")
    extra_eos = (metadata.get("eot_token_id"), metadata.get("eom_token_id"))
    special = SpecialTokens(
        eos=eos,
        bos=bos,
        pad=pad,
        # llama.cpp adds none for these vocabularies unless the file says so.
        adds_bos=bool(metadata.get("add_bos_token", False)),
        extra_eos_ids=tuple(index for index in extra_eos if index is not None),
    )
    return _build(path, metadata), special, metadata.get("chat_template")


def _read_metadata(path: Path) -> dict[str, Any]:
    """The fields under `tokenizer.`, by their last name.

    Read here and not with `gguf.GGUFReader`, which makes an array of every string:
    5 s for 49,152 tokens against 0.1 s.
    """
    with path.open("rb") as file:
        magic, version, _, num_fields = struct.unpack("<4sIQQ", _take(file, 24))
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError(f"it begins with {magic!r}, version {version}, not GGUF 2 or 3")
        fields = {}
        for _ in range(num_fields):
            name = _read_string(file)
            fields[name] = _read_value(file, *struct.unpack("<I", _take(file, 4)))
    return {
        name.rpartition(".")[2]: value
        for name, value in fields.items()
        if name.startswith("tokenizer.")
    }


# GGUF's value types by number, as struct codes; 8 is a string and 9 an array.
_SCALARS = ("B", "b", "H", "h", "I", "i", "f", "?", "", "", "Q", "q", "d")
_STRING, _ARRAY = 8, 9


def _read_value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _read_string(file)
    if kind == _ARRAY:
        element, length = struct.unpack("<IQ", _take(file, 12))
        if element in (_STRING, _ARRAY):
            return [_read_value(file, element) for _ in range(length)]
        return list(_read_scalars(file, element, length))
    return _read_scalars(file, kind, 1)[0]


def _read_scalars(file: BinaryIO, kind: int, length: int) -> tuple[Any, ...]:
    if kind >= len(_SCALARS):
        raise ValueError(f"unknown value type {kind}")
    layout = f"<{length}{_SCALARS[kind]}"
    return struct.unpack(layout, _take(file, struct.calcsize(layout)))


def _read_string(file: BinaryIO) -> str:
    (size,) = struct.unpack("<Q", _take(file, 8))
    return _take(file, size).decode("utf-8")


def _take(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError("the file ends in the middle of its metadata")
    return data


def _build(path: Path, metadata: dict[str, Any]) -> Tokenizer:
    name = metadata.get("pre", "default")
    if name not in _PRE_TOKENIZERS:
        choices = ", ".join(_PRE_TOKENIZERS)
        raise ValueError(f"{path}: unknown pre-tokenizer {name!r}; known are {choices}")
    family = _PRE_TOKENIZERS[name]
    tokens: list[str] = metadata["tokens"]
    kinds = metadata.get("token_type") or [0] * len(tokens)
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["merges"]]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=merges,
            ignore_merges=family == "llama3",
        )
    )
    if family == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(family)
    tokenizer.decoder = decoders.ByteLevel()
    # Unused rows of the embedding ([PAD151936]) are no tokens that a text could spell.
    tokenizer.add_tokens(
        [
            AddedToken(token, special=kind == _CONTROL, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind in (_CONTROL, _USER_DEFINED)
        ]
    )
    return tokenizer


def _pre_tokenizer(family: str) -> pre_tokenizers.PreTokenizer:
    if family == "gpt2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if family == "smollm":
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
    pattern = _LLAMA3_SPLIT if family == "llama3" else _QWEN2_SPLIT
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _token_at(tokens: list[str], index: int | None) -> str | None:
    return None if index is None else tokens[index]

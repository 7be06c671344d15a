"""A `tokenizers` model from the metadata of a GGUF file.

GGUF keeps the vocabulary, the merges, the kind of every token and the name of the
pre-tokenizer, whose regular expression llama.cpp holds in code (llama-vocab.cpp);
the table below has those of the Llama, Qwen2, SmolLM and DeepSeek-V3 families.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from r1.gguf_file import gguf_parts, read_gguf_header
from r1.text.special_tokens import SpecialTokens

_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_SPLIT = _QWEN2_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|", 1)

# One after another: LLAMA_VOCAB_PRE_TYPE_DEEPSEEK3_LLM, as the release's own tokenizer.json.
_DEEPSEEK3_SPLITS = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)

# llama.cpp's token types that text can spell as one token (llama_token_type).
_CONTROL, _USER_DEFINED = 3, 4

_PRE_TOKENIZERS = {
    "default": "gpt2",
    "gpt-2": "gpt2",
    "smollm": "smollm",
    "qwen2": "qwen2",
    "deepseek-r1-qwen": "qwen2",
    "llama-bpe": "llama3",
    "llama3": "llama3",
    "llama-v3": "llama3",
    "deepseek-v3": "deepseek3",
}


def read_gguf_tokenizer(path: Path) -> tuple[Tokenizer, SpecialTokens, str | None]:
    """The tokenizer of a GGUF file, its special tokens and its chat template.

    Raises ValueError when the file has no byte-level BPE tokenizer or one whose
    pre-tokenizer is not in the table.
    """
    header = read_gguf_header(path)
    gguf_parts(path, header)  # another than the first has no vocabulary
    metadata = {
        name.rpartition(".")[2]: value
        for name, value in header.metadata.items()
        if name.startswith("tokenizer.")
    }
    model = metadata.get("model")
    if model != "gpt2":
        raise ValueError(
            f"{path}: its tokenizer is {model!r}; only 'gpt2' (byte-level BPE) is read"
        )
    family = _family(path, metadata)
    _check_lists(path, metadata)
    tokens: list[str] = metadata["tokens"]
    eos, bos, pad = (
        _token_at(path, tokens, metadata.get(f"{role}_token_id"))
        for role in ("eos", "bos", "padding")
    )
    if eos is None:
        raise ValueError(f"{path} names no EOS token (tokenizer.ggml.eos_token_id)")
    extra_eos = (metadata.get("eot_token_id"), metadata.get("eom_token_id"))
    special = SpecialTokens(
        eos=eos,
        bos=bos,
        pad=pad,
        # What llama.cpp does where the file does not say.
        adds_bos=bool(metadata.get("add_bos_token", family == "llama3")),
        extra_eos_ids=tuple(index for index in extra_eos if index is not None),
    )
    try:
        backend = _build(metadata, family)
    except Exception as error:  # the library raises no narrower class
        raise ValueError(f"{path}: not a readable tokenizer ({error})") from None
    template = metadata.get("chat_template")
    return backend, special, template if isinstance(template, str) else None


def _family(path: Path, metadata: dict[str, Any]) -> str:
    name = metadata.get("pre", "default")
    if name not in _PRE_TOKENIZERS:
        choices = ", ".join(_PRE_TOKENIZERS)
        raise ValueError(f"{path}: unknown pre-tokenizer {name!r}; known are {choices}")
    return _PRE_TOKENIZERS[name]


def _build(metadata: dict[str, Any], family: str) -> Tokenizer:
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
    patterns = {"llama3": (_LLAMA3_SPLIT,), "deepseek3": _DEEPSEEK3_SPLITS}
    return pre_tokenizers.Sequence(
        [
            *(
                pre_tokenizers.Split(Regex(pattern), "isolated")
                for pattern in patterns.get(family, (_QWEN2_SPLIT,))
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _check_lists(path: Path, metadata: dict[str, Any]) -> None:
    for name in ("tokens", "merges"):
        values = metadata.get(name)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError(f"{path}: tokenizer.ggml.{name} is not a list of texts")
    if not all(" " in merge for merge in metadata["merges"]):
        raise ValueError(f"{path}: a merge of its tokenizer does not have two parts")
    kinds = metadata.get("token_type")
    if kinds is not None and (not isinstance(kinds, list) or len(kinds) != len(metadata["tokens"])):
        raise ValueError(f"{path}: tokenizer.ggml.token_type does not fit its tokens")


def _token_at(path: Path, tokens: list[str], index: int | None) -> str | None:
    if index is None:
        return None
    if not isinstance(index, int) or not 0 <= index < len(tokens):
        raise ValueError(f"{path}: token id {index!r} is not among its {len(tokens):,} tokens")
    return tokens[index]

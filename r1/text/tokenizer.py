"""The tokenizer: a `tokenizers` model, its special tokens and its chat template.

Two encoders over one vocabulary keep trusted and untrusted text apart: the whole
tokenizer, which reads `<｜User｜>` as a token, and the same without its added
tokens, for which no text can spell one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders

from r1.atomic_files import write_json, write_text
from r1.gguf_file import find_gguf
from r1.text.gguf_tokenizer import read_gguf_tokenizer
from r1.text.r1_template import R1_CHAT_TEMPLATE
from r1.text.reasoning import REASONING_TAGS
from r1.text.special_tokens import SpecialTokens
from r1.untrusted_files import check_file, read_json_object, read_text

# The largest in use has 35 MB and 262,144 tokens.
_MAX_TOKENIZER_BYTES = 200_000_000
_MAX_TOKEN_ID = 1 << 24
# Characters. A batch is encoded by other threads, for which the caller waits: milliseconds
# where all cores are busy, as beside an engine.
_LONGEST_HERE = 4096


class Tokenizer:
    """A tokenizer that adds no tokens of its own: what is encoded is the text.

    `special_tokens` maps every added token's string to its id; `prefix_ids` is (BOS,)
    where this model's plain prompts begin with one, else (). `files_config` is the
    tokenizer_config.json to keep on save. Raises ValueError for a special token that
    the vocabulary lacks.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        names: SpecialTokens,
        *,
        chat_template: str | None = None,
        files_config: Mapping[str, Any] | None = None,
    ) -> None:
        self.backend = backend
        self.names = names
        self.chat_template = chat_template
        self.files_config = dict(files_config or {})
        self.eos_id: int = self._required_id(names.eos)
        self.bos_id: int | None = None if names.bos is None else self._required_id(names.bos)
        self.pad_id: int = self.eos_id if names.pad is None else self._required_id(names.pad)
        self.eos_ids: tuple[int, ...] = tuple(dict.fromkeys((self.eos_id, *names.extra_eos_ids)))
        prefix = self.bos_id if names.adds_bos else None
        self.prefix_ids: tuple[int, ...] = () if prefix is None else (prefix,)
        added = backend.get_added_tokens_decoder()
        # Runs of spaces are added tokens in some vocabularies; they are text, not markup.
        self.special_tokens = {t.content: i for i, t in added.items() if t.content.strip()}
        # A thought's tags stay readable even where a tokenizer calls them special.
        self.skipped_ids = frozenset(
            i for i, t in added.items() if t.special and t.content not in REASONING_TAGS
        )

    @classmethod
    def from_folder(cls, path: Path | str) -> Tokenizer:
        """Read a Hugging Face folder; ValueError says which file or token is missing."""
        folder = Path(path)
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise ValueError(f"no tokenizer.json in {folder}: not a Hugging Face model folder")
        backend = _read_backend(file)
        config = _read_json(folder / "tokenizer_config.json")
        names = {**_read_json(folder / "special_tokens_map.json"), **config}
        eos_ids = _read_eos_ids(folder)
        eos = _token_name(names, "eos_token", folder)
        if eos is None and eos_ids:
            eos = backend.id_to_token(eos_ids[0])
        if eos is None:
            raise ValueError(
                f"no EOS token in {folder}: name one as eos_token in tokenizer_config.json"
            )
        bos = _token_name(names, "bos_token", folder)
        special = SpecialTokens(
            eos=eos,
            bos=bos,
            pad=_token_name(names, "pad_token", folder),
            adds_bos=_reads_bos(backend, bos, config),
            extra_eos_ids=tuple(i for i in eos_ids if backend.id_to_token(i) != eos),
        )
        template = _read_chat_template(folder, config)
        return cls(backend, special, chat_template=template, files_config=config)

    def save(self, folder: Path | str) -> None:
        """Write the tokenizer's files, readable by `from_folder` and by transformers.

        The chat template is written twice: as a file, which new readers take, and in
        tokenizer_config.json for old ones. A `generation_config.json` (it carries the EOS
        ids) that is already there stays; a `config.json` gets the ids that it lacks.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        by_role = {
            "bos_token": self.names.bos,
            "eos_token": self.names.eos,
            "pad_token": self.names.pad or self.names.eos,
        }
        config = {
            "clean_up_tokenization_spaces": False,
            **self.files_config,
            **by_role,
            # The generic class reads tokenizer.json as it is, whatever the model family.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": bool(self.prefix_ids),
        }
        template = self.chat_template or R1_CHAT_TEMPLATE
        config["chat_template"] = template
        write_text(folder / "tokenizer.json", self.backend.to_str(pretty=False))
        set_values = {name: value for name, value in config.items() if value is not None}
        # Null as in the releases: where it is absent, transformers' Qwen2 class adds a token of
        # its own, whose id lies beyond the model's vocabulary.
        set_values.setdefault("unk_token", None)
        write_json(folder / "tokenizer_config.json", set_values)
        named = {role: token for role, token in by_role.items() if token is not None}
        write_json(folder / "special_tokens_map.json", named)
        write_text(folder / "chat_template.jinja", template)
        if not (folder / "generation_config.json").exists():
            write_json(folder / "generation_config.json", self.token_ids)
        if (folder / "config.json").exists():
            model_config = read_json_object(folder / "config.json")
            if not model_config.keys() >= self.token_ids.keys():
                write_json(folder / "config.json", {**self.token_ids, **model_config})

    @property
    def token_ids(self) -> dict[str, int | list[int]]:
        """The special tokens' ids under the names of generation_config.json and config.json."""
        eos = self.eos_id if len(self.eos_ids) == 1 else list(self.eos_ids)
        ids: dict[str, int | list[int]] = {"eos_token_id": eos}
        return ids if self.bos_id is None else {"bos_token_id": self.bos_id, **ids}

    @property
    def vocab_size(self) -> int:
        """One more than the highest token id: the rows that an embedding must have."""
        highest = max(self.backend.get_vocab(with_added_tokens=True).values())
        if highest > _MAX_TOKEN_ID:
            raise ValueError(f"the tokenizer has a token id of {highest:,}; no vocabulary does")
        return 1 + highest

    def token_id(self, token: str) -> int | None:
        """The id of one token by its exact string, or None."""
        return self.backend.token_to_id(token)

    def encode(self, text: str, *, allow_special: bool | Collection[str]) -> list[int]:
        """Token ids of `text`; never adds a BOS.

        `allow_special` True reads every special token's string as that token (text
        that we wrote), False none (text that came from outside: a literal
        `<｜User｜>` or `<think>` is letters), a collection only the named ones.
        """
        return self.encode_batch([text], allow_special=allow_special)[0]

    def encode_batch(
        self, texts: Sequence[str], *, allow_special: bool | Collection[str]
    ) -> list[list[int]]:
        """`encode` of many texts at once, which is several times faster."""
        if isinstance(allow_special, bool):
            backend = self.backend if allow_special else self._plain_backend
            try:
                if sum(map(len, texts)) <= _LONGEST_HERE:
                    encodings = [backend.encode(text, add_special_tokens=False) for text in texts]
                else:
                    encodings = backend.encode_batch_fast(list(texts), add_special_tokens=False)
            except TypeError:
                _refuse_surrogates(texts)
                raise
            return [encoding.ids for encoding in encodings]
        return [self.encode_spans(self.split_special(text, allow_special)) for text in texts]

    def encode_spans(self, spans: Sequence[int | str]) -> list[int]:
        """Encode a mixture of token ids, kept, and untrusted text between them."""
        texts = [span for span in spans if isinstance(span, str)]
        encoded = iter(self.encode_batch(texts, allow_special=False))
        return [
            token
            for span in spans
            for token in ([span] if isinstance(span, int) else next(encoded))
        ]

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of token ids; broken UTF-8 becomes U+FFFD.

        `skip_special` drops control tokens; thought and answer tags always stay.
        """
        if skip_special:
            ids = [token for token in ids if token not in self.skipped_ids]
        return self.backend.decode(list(ids), skip_special_tokens=False)

    @cached_property
    def byte_pieces(self) -> list[bytes] | None:
        """The bytes that each token id stands for, if this is a byte-level vocabulary."""
        if not isinstance(self.backend.decoder, decoders.ByteLevel):
            return None
        pieces = [b""] * self.vocab_size
        for token, index in self.backend.get_vocab(with_added_tokens=True).items():
            is_mapped = all(char in _BYTE_OF_CHAR for char in token)
            pieces[index] = (
                bytes(_BYTE_OF_CHAR[char] for char in token) if is_mapped else token.encode()
            )
        return pieces

    def token_bytes(self, token_id: int) -> bytes:
        """What one token stands for, which may be part of a character."""
        pieces = self.byte_pieces
        if pieces is not None and token_id < len(pieces):
            return pieces[token_id]
        return self.decode([token_id], skip_special=False).encode()

    @cached_property
    def _plain_backend(self) -> tokenizers.Tokenizer:
        """The same vocabulary in which no text can spell a special token."""
        plain = tokenizers.Tokenizer(self.backend.model)
        for part in ("normalizer", "pre_tokenizer"):
            if getattr(self.backend, part) is not None:
                setattr(plain, part, getattr(self.backend, part))
        spaces = self.backend.get_added_tokens_decoder().values()
        plain.add_tokens([token for token in spaces if token.content not in self.special_tokens])
        # Byte-level BPE reaches a token only through its merges, so sharing the model
        # is enough; whole-word vocabularies need one without the special entries.
        is_safe = all(i not in plain.encode(t).ids for t, i in self.special_tokens.items())
        return plain if is_safe else self._without_special_entries()

    def _without_special_entries(self) -> tokenizers.Tokenizer:
        spec = json.loads(self.backend.to_str())
        model = spec["model"]
        removed = self.special_tokens.keys() - {model.get("unk_token")}
        added = spec["added_tokens"]
        spec["added_tokens"] = [t for t in added if t["content"] not in self.special_tokens]
        spec["post_processor"] = None
        if isinstance(model.get("vocab"), dict):
            model["vocab"] = {t: i for t, i in model["vocab"].items() if t not in removed}
        if "merges" in model:
            model["merges"] = [
                pair for pair in model["merges"] if not removed & {*pair, "".join(pair)}
            ]
        return tokenizers.Tokenizer.from_str(json.dumps(spec))

    def split_special(self, text: str, allowed: Collection[str] | None = None) -> list[int | str]:
        """Cut `text` at special tokens: their ids, and the text between them.

        `allowed` limits which ones count; the longest wins where several match.
        """
        known = self.special_tokens.keys() if allowed is None else set(allowed)
        pattern = _alternation(frozenset(known & self.special_tokens.keys()))
        if pattern is None:
            return [text]
        parts = pattern.split(text)
        return [self.special_tokens[p] if i % 2 else p for i, p in enumerate(parts)]

    def _required_id(self, token: str) -> int:
        index = self.backend.token_to_id(token)
        if index is None:
            raise ValueError(f"special token {token!r} is not in the tokenizer's vocabulary")
        return index


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Open the tokenizer of a Hugging Face folder, a .gguf file, or a folder with one."""
    path = Path(path)
    if path.suffix == ".gguf":
        return _from_gguf(path)
    if (path / "tokenizer.json").is_file():
        return Tokenizer.from_folder(path)
    gguf_file = find_gguf(path) if path.is_dir() else None
    if gguf_file is not None:
        return _from_gguf(gguf_file)
    raise ValueError(
        f"no tokenizer at {path}: expected a folder with tokenizer.json, found neither it nor a "
        ".gguf file"
    )


def _from_gguf(file: Path) -> Tokenizer:
    backend, names, chat_template = read_gguf_tokenizer(file)
    return Tokenizer(backend, names, chat_template=chat_template)


@lru_cache(maxsize=64)
def _alternation(tokens: frozenset[str]) -> re.Pattern[str] | None:
    longest_first = sorted(tokens, key=lambda token: (-len(token), token))
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})") if tokens else None


def _read_backend(file: Path) -> tokenizers.Tokenizer:
    check_file(file, _MAX_TOKENIZER_BYTES)
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower class
        raise ValueError(f"{file}: not a readable tokenizer ({error})") from None


def _read_json(file: Path) -> dict[str, Any]:
    return read_json_object(file) if file.exists() else {}


def _refuse_surrogates(texts: Sequence[str]) -> None:
    """Half a character, from JSON's "\\ud83d" or bytes that are not UTF-8, has no tokens."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text holds half a character (a lone surrogate) at {error.start}; "
                "text must be valid UTF-8"
            ) from None


def _token_name(names: Mapping[str, Any], role: str, folder: Path) -> str | None:
    """Configs name a token as its string or as a serialised AddedToken."""
    entry = names.get(role)
    name = entry.get("content") if isinstance(entry, Mapping) else entry
    if name is not None and not isinstance(name, str):
        raise ValueError(f"{folder / 'tokenizer_config.json'}: {role} is {entry!r:.60}, not a text")
    return name


def _read_eos_ids(folder: Path) -> tuple[int, ...]:
    for name in ("generation_config.json", "config.json"):
        ids = _read_json(folder / name).get("eos_token_id")
        if ids is None:
            continue
        ids = ids if isinstance(ids, list) else [ids]
        wrong = [i for i in ids if not isinstance(i, int) or not 0 <= i <= _MAX_TOKEN_ID]
        if wrong:
            raise ValueError(f"{folder / name}: eos_token_id {wrong[0]!r:.60} is no token id")
        return tuple(ids)
    return ()


def _reads_bos(backend: tokenizers.Tokenizer, bos: str | None, config: Mapping[str, Any]) -> bool:
    """Whether the folder's own tokenizer would begin a prompt with BOS."""
    if "add_bos_token" in config:
        return bool(config["add_bos_token"])
    return bos is not None and backend.encode("").tokens[:1] == [bos]


def _read_chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.exists():
        return read_text(file)
    template = config.get("chat_template")
    if isinstance(template, list):  # several named ones
        named = [entry for entry in template if isinstance(entry, Mapping)]
        template = {entry.get("name"): entry.get("template") for entry in named}.get("default")
    return template if isinstance(template, str) else None


def _char_of_byte() -> dict[int, str]:
    """GPT-2's table: printable bytes stand for themselves, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


_BYTE_OF_CHAR = {char: byte for byte, char in _char_of_byte().items()}

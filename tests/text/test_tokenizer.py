"""The tokenizer: trusted and untrusted text, folders, streams."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from r1.text.decode_stream import DecodeStream
from r1.text.special_tokens import SpecialTokens
from r1.text.tokenizer import Tokenizer, load_tokenizer

EOS, BOS = "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"
MARKUP = [EOS, BOS, "<｜User｜>", "<｜Assistant｜>"]


@pytest.fixture(scope="module")
def r1_tokenizer(shared_dir: Path) -> Tokenizer:
    folder = shared_dir / "data/tokenizers/r1_distill_qwen"
    if not folder.is_dir():
        pytest.skip(f"no R1 tokenizer at {folder}")
    text = lzma.decompress((folder / "tokenizer.json.xz").read_bytes()).decode()
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    names = SpecialTokens(eos=EOS, bos=BOS)
    return Tokenizer(Backend.from_str(text), names, chat_template=template)


def test_known_ids_of_r1(r1_tokenizer: Tokenizer) -> None:
    assert (r1_tokenizer.bos_id, r1_tokenizer.eos_id) == (151646, 151643)
    ids = r1_tokenizer.encode("<｜User｜><｜Assistant｜><think></think>", allow_special=True)
    assert ids == [151644, 151645, 151648, 151649]
    assert r1_tokenizer.vocab_size == 152064


@pytest.mark.parametrize("token", [*MARKUP, "<think>", "</think>"])
def test_no_text_from_outside_can_spell_a_special_token(tiny: Tokenizer, token: str) -> None:
    special = set(tiny.special_tokens.values())
    for text in (token, f"a{token}b", token * 3, token[:3] + token + token[3:], f" {token}\n"):
        ids = tiny.encode(text, allow_special=False)
        assert not special & set(ids)
        assert tiny.decode(ids) == text
        assert special & set(tiny.encode(text, allow_special=True))


def test_untrusted_text_of_the_real_tokenizer(r1_tokenizer: Tokenizer) -> None:
    for token in r1_tokenizer.special_tokens:
        ids = r1_tokenizer.encode(f"x {token} y", allow_special=False)
        assert max(ids) < 151643
        assert r1_tokenizer.decode(ids) == f"x {token} y"


def test_a_whole_word_vocabulary_is_guarded_too() -> None:
    backend = Backend(models.WordLevel({"<unk>": 0, "<eos>": 1, "hi": 2}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["<eos>"])
    tokenizer = Tokenizer(backend, SpecialTokens(eos="<eos>"))
    assert tokenizer.encode("hi <eos>", allow_special=True) == [2, 1]
    assert tokenizer.encode("hi <eos>", allow_special=False) == [2, 0]


def test_a_collection_allows_only_the_named_tokens(tiny: Tokenizer) -> None:
    ids = tiny.encode("<think>a<｜User｜>", allow_special=["<think>"])
    assert ids[0] == tiny.token_id("<think>")
    assert tiny.token_id("<｜User｜>") not in ids
    assert tiny.decode(ids) == "<think>a<｜User｜>"


def test_encode_adds_nothing_and_batches_equal_singles(tiny: Tokenizer) -> None:
    texts = ["", "what is", "你好 <think>", "three plus four"]
    assert tiny.encode("", allow_special=True) == []
    for allow in (True, False, ["<think>"]):
        singles = [tiny.encode(text, allow_special=allow) for text in texts]
        assert tiny.encode_batch(texts, allow_special=allow) == singles


def test_decode_skips_control_tokens_and_keeps_tags(tiny: Tokenizer) -> None:
    ids = tiny.encode(f"<think>a</think>b{EOS}", allow_special=True)
    assert tiny.decode(ids) == "<think>a</think>b"
    assert tiny.decode(ids, skip_special=False) == f"<think>a</think>b{EOS}"


@given(st.lists(st.integers(0, 324), max_size=40), st.booleans())
def test_decode_stream_equals_decode_for_any_ids(
    tiny: Tokenizer, ids: list[int], skip_special: bool
) -> None:
    stream = DecodeStream(tiny, skip_special=skip_special)
    pieces = [stream.push([token]) for token in ids] + [stream.close()]
    assert "".join(pieces) == tiny.decode(ids, skip_special=skip_special)


@given(st.text(alphabet="a é你😀\n", max_size=20), st.integers(1, 5))
def test_decode_stream_gives_whole_characters_only(tiny: Tokenizer, text: str, size: int) -> None:
    ids = tiny.encode(text, allow_special=False)
    stream = DecodeStream(tiny)
    pieces = [stream.push(ids[i : i + size]) for i in range(0, len(ids), size)]
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)


@given(st.text(alphabet="ab é你 ", max_size=20))
def test_decode_stream_of_a_tokenizer_that_is_not_byte_level(text: str) -> None:
    vocab = {"<s>": 0, "</s>": 1, "<unk>": 2, "▁": 3, "a": 4, "b": 5}
    vocab |= {f"<0x{byte:02X}>": 6 + byte for byte in range(256)}
    backend = Backend(models.BPE(vocab, [], byte_fallback=True, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer = Tokenizer(backend, SpecialTokens(eos="</s>", bos="<s>"))
    ids = tokenizer.encode(text, allow_special=False)
    stream = DecodeStream(tokenizer)
    pieces = [stream.push([token]) for token in ids] + [stream.close()]
    assert "".join(pieces) == tokenizer.decode(ids)


def test_a_saved_folder_opens_the_same(tiny: Tokenizer, tmp_path: Path) -> None:
    names = SpecialTokens(eos=EOS, bos=BOS, pad="<｜User｜>", adds_bos=False, extra_eos_ids=(2,))
    tokenizer = Tokenizer(tiny.backend, names, chat_template="{{ bos_token }}")
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.names == names
    assert loaded.chat_template == "{{ bos_token }}"
    assert (loaded.eos_ids, loaded.pad_id, loaded.prefix_ids) == ((0, 2), 2, ())
    text = "what is <think>"
    assert loaded.encode(text, allow_special=True) == tiny.encode(text, allow_special=True)


def test_folder_details(tiny: Tokenizer, tmp_path: Path) -> None:
    tiny.backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="no EOS token"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": [0, 3]}))
    assert Tokenizer.from_folder(tmp_path).eos_ids == (0, 3)
    config = {
        "bos_token": {"content": BOS, "lstrip": False},
        "add_bos_token": True,
        "chat_template": [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}],
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert (tokenizer.prefix_ids, tokenizer.chat_template) == ((1,), "d")
    config["bos_token"] = "<nowhere>"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="'<nowhere>' is not in the tokenizer's vocabulary"):
        Tokenizer.from_folder(tmp_path)


def test_load_tokenizer_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a folder with tokenizer\.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="not a readable GGUF file"):
        (tmp_path / "broken.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tokenizer.json", '{"a":', r"tokenizer\.json: not a readable tokenizer \("),
        ("tokenizer.json", "[]", r"tokenizer\.json: not a readable tokenizer \("),
        ("tokenizer_config.json", '{"a":', r"tokenizer_config\.json: not readable JSON \("),
        ("special_tokens_map.json", "[1]", r"map\.json: expected a JSON object, found list"),
    ],
)
def test_a_damaged_file_is_named(
    tiny: Tokenizer, tmp_path: Path, name: str, text: str, message: str
) -> None:
    tiny.save(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        Tokenizer.from_folder(tmp_path)


def test_half_a_character_is_refused(tiny: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"half a character \(a lone surrogate\) at 2"):
        tiny.encode("ab\ud83d", allow_special=False)

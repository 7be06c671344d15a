"""Folders and files made to hurt: each ends in one line that names the file and the fault.

Every load runs within the bounds of the `refusal` fixture, so that a fault that would fill
memory or hang fails here instead of doing so.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from r1.models.hf_checkpoint import load_model, save_model
from r1.text.tokenizer import load_tokenizer

BIG = 10**12
Refusal = Callable[[Callable[[Path], Any], Path], str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    save_model(make_model(), folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, whole: Path) -> Path:
    """A sound checkpoint of its own, to be damaged."""
    copy = tmp_path / "model"
    copy.mkdir()
    for item in whole.iterdir():
        (copy / item.name).write_bytes(item.read_bytes())
    return copy


class Dangerous:
    """Unpickling it writes a file."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(Path(__file__).with_name("pickle_was_executed")),)


def set_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def set_weight_map(folder: Path, weight_map: Any) -> None:
    text = json.dumps({"weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(text)


def name_in_index(name: Any) -> Callable[[Path], None]:
    return lambda folder: set_weight_map(folder, {"model.norm.weight": name})


def with_header(header: bytes | str | Any, length: int | None = None, data: int = 64) -> Any:
    """Replace the weights by a header, its claimed length and some bytes of data."""
    text = header if isinstance(header, bytes | str) else json.dumps(header)
    raw = text.encode() if isinstance(text, str) else text

    def damage(folder: Path) -> None:
        size = struct.pack("<Q", len(raw) if length is None else length)
        (folder / "model.safetensors").write_bytes(size + raw + bytes(data))

    return damage


def header_of(*offsets: tuple[int, int]) -> dict[str, Any]:
    return {
        f"t{i}": {"dtype": "F32", "shape": [(b - a) // 4], "data_offsets": [a, b]}
        for i, (a, b) in enumerate(offsets)
    }


def change_tensors(**changes: torch.Tensor | None) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = {**load_file(folder / "model.safetensors"), **changes}
        kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        save_file(kept, folder / "model.safetensors")

    return damage


def as_pickle(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickle.dumps(Dangerous()))

    return damage


def pickle_as_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Dangerous()))


def link_out(name: str, target: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return damage


def as_fifo(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def truncate(num_bytes: int) -> Callable[[Path], None]:
    return lambda f: os.truncate(f / "model.safetensors", num_bytes)


def stored_twice(folder: Path) -> None:
    (folder / "b.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    set_weight_map(folder, {"a": "model.safetensors", "b": "b.safetensors"})


def sparse(name: str, size: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(size)

    return damage


def write(name: str, text: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_text(text)

    return damage


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: set_config(folder, **changes)


DEEPSEEK = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "moe_intermediate_size": 16,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "num_key_value_heads": 4,
}

FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    # Code in place of weights.
    "pickle": (as_pickle("pytorch_model.bin"), "pytorch_model.bin: pickle checkpoints can run"),
    "pickle named safetensors": (pickle_as_safetensors, "model.safetensors: not a readable"),
    "index of pickles": (name_in_index("model.bin"), "'model.bin', which is no safetensors"),
    # An index that leads elsewhere.
    "index up": (name_in_index("../../x.safetensors"), "outside the folder: '../../x"),
    "index absolute": (name_in_index("/etc/x.safetensors"), "outside the folder: '/etc/x"),
    "index passwd": (name_in_index("../../etc/passwd"), "'../../etc/passwd', which is no"),
    "index backslash": (name_in_index("..\\x.safetensors"), "outside the folder"),
    "index of numbers": (name_in_index(5), "names 5, which is no safetensors file"),
    "index of nul": (name_in_index("a\0.safetensors"), "missing weight file"),
    "index long name": (name_in_index("a" * 5000 + ".safetensors"), "missing weight file aaa"),
    "index line breaks": (
        name_in_index("a\nb.safetensors"),
        "missing weight file 'a\\nb.safetensors'",
    ),
    "index missing shard": (name_in_index("b.safetensors"), "missing weight file b.safetensors"),
    "index empty": (lambda f: set_weight_map(f, {}), "index.json: no weight_map"),
    "index a list": (lambda f: set_weight_map(f, ["a"]), "index.json: no weight_map"),
    "index huge": (sparse("model.safetensors.index.json", BIG), "bytes; such a file has"),
    "tensor in two shards": (stored_twice, "is also in b.safetensors"),
    "link to a file": (link_out("model.safetensors", "/etc/passwd"), "a link out of the folder"),
    "link up": (
        lambda f: link_out("model.safetensors", os.path.relpath("/etc/passwd", f))(f),
        "a link out of the folder",
    ),
    "link to a device": (link_out("model.safetensors", "/dev/zero"), "not a regular file"),
    "link to itself": (link_out("model.safetensors", "model.safetensors"), "no weights"),
    "config a link": (link_out("config.json", "/etc/passwd"), "config.json: a link out of the"),
    "fifo": (as_fifo, "model.safetensors: not a regular file"),
    # Headers.
    "zero bytes": (truncate(0), "a header of 0 bytes in a file of 0"),
    "seven bytes": (truncate(7), "in a file of 7"),
    "cut in the header": (truncate(300), "in a file of 300"),
    "cut in the data": (truncate(20_000), "not a readable safetensors file"),
    "header of 10 GB": (with_header("{}", 10 * 10**9), "a header of 10,000,000,000 bytes"),
    "header of 2^64": (with_header("{}", 2**64 - 1), "not a readable safetensors file"),
    "header of 90 MB": (
        lambda f: (with_header("{}", 90_000_000)(f), os.truncate(f / "model.safetensors", 10**8)),
        "a header of 90,000,000 bytes",
    ),
    "header no JSON": (with_header("hello"), "not a readable safetensors file"),
    "header no UTF-8": (with_header(b"\xff" * 40), "not a readable safetensors file"),
    "header a list": (with_header("[1]"), "not a readable safetensors file"),
    "header nested": (with_header("[" * 100_000), "not a readable safetensors file"),
    "header empty": (with_header("{}", data=0), "cannot be in its 0 tensors"),
    "header unknown dtype": (
        with_header({"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}, data=4),
        "not a readable safetensors file",
    ),
    "header no offsets": (with_header({"a": {"dtype": "F32"}}), "not a readable safetensors file"),
    "offsets overlap": (with_header(header_of((0, 64), (32, 64))), "not a readable safetensors"),
    "offsets a gap": (with_header(header_of((0, 16), (48, 64))), "not a readable safetensors"),
    "offsets outside": (with_header(header_of((0, 4096))), "not a readable safetensors"),
    "offsets backwards": (
        with_header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [64, 0]}}),
        "not a readable safetensors",
    ),
    "offsets negative": (
        with_header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}),
        "not a readable safetensors",
    ),
    "shape overflows": (
        with_header({"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 64]}}),
        "not a readable safetensors",
    ),
    "duplicate keys": (
        with_header(
            '{"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},'
            '"a":{"dtype":"F32","shape":[8],"data_offsets":[32,64]}}'
        ),
        "",
    ),
    # Tensors that do not fit the config.
    "shape": (
        change_tensors(**{"model.norm.weight": torch.ones(5)}),
        "wrong shape: model.norm.weight is [5], expected [32]",
    ),
    "missing": (
        change_tensors(**{"model.norm.weight": None}),
        "missing tensor model.norm.weight [32]",
    ),
    "extra": (change_tensors(extra=torch.ones(2, 3)), "unexpected tensor extra [2, 3]"),
    "integers": (
        change_tensors(**{"model.norm.weight": torch.ones(32, dtype=torch.int64)}),
        "wrong dtype: model.norm.weight is I64, expected F32, F16 or BF16",
    ),
    "FP8 without blocks": (
        change_tensors(**{"model.norm.weight": torch.ones(32).to(torch.float8_e4m3fn)}),
        "model.norm.weight is in FP8, but config.json does not say how",
    ),
    # A config that would build something else than is there.
    "layers 1e12": (config(num_hidden_layers=BIG), "must be from 0 to 10,000, not 1000000000000"),
    "layers 9,999": (config(num_hidden_layers=9_999), "9,999 layers cannot be in its"),
    "width 1e12": (config(hidden_size=BIG), "hidden_size must be from 0 to 2,147,483,647"),
    "width 1e9": (config(hidden_size=10**9, head_dim=8), "wrong shape: lm_head.weight is [89, 32]"),
    "head 1e9": (config(head_dim=10**9), "a head of 1,000,000,000 is larger than every stored"),
    "all 2e9": (
        config(hidden_size=2 * 10**9, intermediate_size=2 * 10**9, vocab_size=2 * 10**9),
        "",
    ),
    "experts": (
        config(**DEEPSEEK, num_hidden_layers=20),
        "20 layers of 8 experts cannot be in its",
    ),
    "experts 1e12": (config(**{**DEEPSEEK, "n_routed_experts": BIG}), "n_routed_experts must be"),
    "sizes of text": (config(hidden_size="32"), "hidden_size must be a whole number above 0"),
    "negative": (config(num_hidden_layers=-1), "num_hidden_layers must be a whole number above 0"),
    "fraction": (config(vocab_size=1.5), "vocab_size must be a whole number above 0, not 1.5"),
    "bool": (config(num_attention_heads=True), "must be a whole number above 0, not True"),
    "NaN": (config(rms_norm_eps=float("nan")), "config.json: not readable JSON (NaN is no JSON"),
    "infinity": (config(rope_theta=float("inf")), "Infinity is no JSON number"),
    "1e999": (write("config.json", '{"rms_norm_eps": 1e999}'), "config.json: missing key"),
    "theta overflow": (
        lambda f: (f / "config.json").write_text(
            (f / "config.json").read_text().replace('"rope_theta": 10000.0', '"rope_theta": 1e999')
        ),
        "rope_theta must be finite",
    ),
    "rope a number": (config(rope_scaling=5), "rope_scaling must be an object, not 5"),
    "rope factor text": (
        config(rope_scaling={"rope_type": "linear", "factor": "9"}),
        "factor must be a number, not '9'",
    ),
    "rope factor 0": (
        config(rope_scaling={"rope_type": "linear", "factor": 0}),
        "factor must be above 0",
    ),
    "architectures text": (config(architectures="Llama"), "architectures must be a list"),
    "architectures code": (config(architectures=["__import__('os')"]), "is not supported"),
    "tied as text": (config(tie_word_embeddings="no"), "must be true or false, not 'no'"),
    "layer types": (config(layer_types=5), "sliding-window attention is not supported"),
    "quantised": (config(quantization_config={"quant_method": "gptq"}), "quantised checkpoints"),
    "quantised by a list": (config(quantization_config=[1]), "must be an object, not [1]"),
    "FP8 blocks of 0": (
        config(quantization_config={"quant_method": "fp8", "weight_block_size": [0, 0]}),
        "quantised checkpoints are not supported",
    ),
    "config nested": (write("config.json", "[" * 100_000), "not readable JSON (nested too deeply)"),
    "config objects nested": (write("config.json", '{"a":' * 100_000), "not readable JSON"),
    "config huge": (sparse("config.json", BIG), "1,000,000,000,000 bytes; such a file has"),
    "config empty": (write("config.json", ""), "config.json: not readable JSON"),
    "config a folder": (
        lambda f: ((f / "config.json").unlink(), (f / "config.json").mkdir()),
        "config.json: not a regular file",
    ),
    "generation config": (write("generation_config.json", "[]"), "expected a JSON object"),
    "huge digits": (write("config.json", '{"a": ' + "9" * 100_000 + "}"), "not readable JSON"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_hostile_folder_is_refused(refusal: Refusal, folder: Path, kind: str) -> None:
    damage, words = FOLDERS[kind]
    damage(folder)
    message = refusal(load_model, folder)
    assert message.startswith(str(folder)) and words in message, message
    assert not Path(__file__).with_name("pickle_was_executed").exists()


def test_more_weights_than_memory(refusal: Refusal, folder: Path) -> None:
    """A sparse file: 6 GB of weights, all where the config says, that take no disk."""
    set_config(folder, vocab_size=50_000_000, tie_word_embeddings=True)
    rows = load_file(folder / "model.safetensors")
    shapes = {name: list(tensor.shape) for name, tensor in rows.items() if name != "lm_head.weight"}
    shapes["model.embed_tokens.weight"] = [50_000_000, 32]
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    with_header(header, data=0)(folder)
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size + end)
    message = refusal(load_model, folder)
    assert "not a readable safetensors file" in message or "no memory for its weights" in message


def test_the_bounds_let_a_sound_checkpoint_through(refusal: Refusal, folder: Path) -> None:
    def load(path: Path) -> None:
        load_model(path)
        raise ValueError("loaded")

    assert refusal(load, folder) == "loaded"


def test_the_bounds_stop_what_fills_memory(refusal: Refusal, tmp_path: Path) -> None:
    with pytest.raises(MemoryError):
        refusal(lambda _: bytearray(1 << 30), tmp_path)


def test_links_of_the_hub_cache_are_followed(folder: Path) -> None:
    repository = folder.parent / "models--a--b"
    snapshot = repository / "snapshots" / "0123"
    (repository / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for item in folder.iterdir():
        item.rename(repository / "blobs" / item.name)
        (snapshot / item.name).symlink_to(f"../../blobs/{item.name}")
    assert load_model(snapshot).config.vocab_size == 89
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("../../../../etc/passwd")
    with pytest.raises(ValueError, match=r"config\.json: (a link|no such file)"):
        load_model(snapshot)


# ---------------------------------------------------------------- tokenizer files

PLAIN = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "WordLevel", "vocab": {"<e>": 0, "a": 1}, "unk_token": "<e>"},
}


def tokenizer_of(**model: Any) -> str:
    return json.dumps({**PLAIN, "model": {**PLAIN["model"], **model}})


TOKENIZERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "1 GB": (sparse("tokenizer.json", 10**9), "1,000,000,000 bytes; such a file has"),
    "empty": (write("tokenizer.json", ""), "not a readable tokenizer"),
    "nested": (write("tokenizer.json", "[" * 1_000_000), "not a readable tokenizer"),
    "no vocabulary": (write("tokenizer.json", "{}"), "not a readable tokenizer"),
    "id of 2^40": (write("tokenizer.json", tokenizer_of(vocab={"a": 2**40})), "not a readable"),
    "unknown model": (write("tokenizer.json", tokenizer_of(type="Code")), "not a readable"),
    "link": (link_out("tokenizer.json", "/etc/passwd"), "a link out of the folder"),
    "device": (link_out("tokenizer.json", "/dev/zero"), "no tokenizer"),
    "config huge": (sparse("tokenizer_config.json", BIG), "bytes; such a file has"),
    "config nested": (write("tokenizer_config.json", "[" * 10**5), "nested too deeply"),
    "config NaN": (write("tokenizer_config.json", '{"a": NaN}'), "NaN is no JSON number"),
    "token a number": (write("tokenizer_config.json", '{"eos_token": 5}'), "eos_token is 5, not"),
    "token a list": (
        write("tokenizer_config.json", '{"eos_token": "<e>", "bos_token": [5]}'),
        "bos_token is [5]",
    ),
    "token unknown": (write("tokenizer_config.json", '{"eos_token": "x"}'), "'x' is not in"),
    "EOS 1e12": (write("generation_config.json", '{"eos_token_id": 1000000000000}'), "no token id"),
    "EOS text": (write("generation_config.json", '{"eos_token_id": ["a"]}'), "'a' is no token id"),
    "template huge": (sparse("chat_template.jinja", BIG), "bytes; such a file has"),
    "template a link": (link_out("chat_template.jinja", "/etc/passwd"), "a link out of the folder"),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_hostile_tokenizer_is_refused(refusal: Refusal, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(PLAIN))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<e>"}')
    load_tokenizer(folder)
    damage, words = TOKENIZERS[kind]
    damage(folder)
    assert words in refusal(load_tokenizer, folder)


def test_a_token_id_that_no_vocabulary_has(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(tokenizer_of(vocab={"<e>": 0, "a": 2**32 - 1}))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<e>"}')
    tokenizer = load_tokenizer(tmp_path)
    assert "a token id of 4,294,967,295" in refusal(lambda _: tokenizer.vocab_size, tmp_path)

"""GGUF files in parts, as llama.cpp's converter and `llama-gguf-split` cut them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from r1.gguf_file import find_gguf
from r1.models.gguf_tensors import GgufTensors
from r1.text.tokenizer import load_tokenizer

Refusal = Callable[[Callable[[Path], Any], Path], str]
VALUES = {f"blk.{n}.ffn_norm.weight": np.full(8, n, np.float32) for n in range(5)}
FIRST = "m-00001-of-00003.gguf"


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with five tensors in three parts."""
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama", split_max_tensors=2)
    writer.add_block_count(5)
    for name, values in VALUES.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    return tmp_path


def test_parts_are_read_as_one(parts: Path) -> None:
    assert find_gguf(parts) == parts / FIRST
    tensors = GgufTensors(parts / FIRST)
    assert tensors.metadata["llama.block_count"] == 5
    assert tensors.by_name.keys() == VALUES.keys()
    for name, values in VALUES.items():
        assert np.array_equal(tensors.values(name), values)
    assert tensors.file_of("blk.4.ffn_norm.weight").name == "m-00003-of-00003.gguf"


def test_a_missing_part_is_named(parts: Path, refusal: Refusal) -> None:
    (parts / "m-00002-of-00003.gguf").unlink()
    message = refusal(GgufTensors, parts / FIRST)
    assert message == f"{parts / FIRST}: missing part m-00002-of-00003.gguf"
    (parts / "m-00003-of-00003.gguf").unlink()
    assert refusal(GgufTensors, parts / FIRST).endswith("m-00002-of-00003.gguf and 1 more")


def test_another_part_than_the_first(parts: Path, refusal: Refusal) -> None:
    path = parts / "m-00002-of-00003.gguf"
    for load in (GgufTensors, load_tokenizer):
        assert f"one of 3 parts; name the first, {FIRST}" in refusal(load, path)


def test_a_part_that_repeats_a_tensor(parts: Path, refusal: Refusal) -> None:
    shutil.copyfile(parts / "m-00002-of-00003.gguf", parts / "m-00003-of-00003.gguf")
    message = refusal(GgufTensors, parts / FIRST)
    assert "m-00003-of-00003.gguf: blk.2.ffn_norm.weight is in another part too" in message


def test_a_part_under_another_name(parts: Path, refusal: Refusal) -> None:
    (parts / FIRST).rename(parts / "model.gguf")
    message = refusal(GgufTensors, parts / "model.gguf")
    assert "one of 3 parts, but not named NAME-00001-of-00003.gguf" in message


def test_several_models_in_a_folder(parts: Path) -> None:
    shutil.copyfile(parts / FIRST, parts / "other.gguf")
    with pytest.raises(ValueError, match=r"holds 4 \.gguf files; name one of them"):
        find_gguf(parts)

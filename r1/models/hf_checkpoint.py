"""Hugging Face checkpoint folders: config.json and safetensors, single or sharded."""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from r1.atomic_files import atomic_folder, recover_folder, write_json
from r1.models.architectures import DTYPES, Model, allocate_model, parse_dtype
from r1.models.fp8 import (
    QUANTIZATION_CONFIG,
    SCALE_SUFFIX,
    dequantize_blocks,
    quantized_tensors,
)
from r1.models.gguf_checkpoint import load_gguf_model
from r1.models.language_model import LanguageModel
from r1.models.model_config import ModelConfig
from r1.models.weights import fill_weights, shorten_names

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
GENERATION_FILE = "generation_config.json"
MAX_SHARD_BYTES = 5 * 10**9


def load_model(
    path: str | Path, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> Model:
    """Open a checkpoint folder, or a `.gguf` file, as a model.

    `dtype` None keeps the checkpoint's own (fp32 for GGUF, whose weights are
    dequantised; so are those in FP8). Weights are memory-mapped and copied tensor by
    tensor, so the peak is the model itself and one tensor. Raises ValueError, in one
    line, for a missing folder or file, a pickle checkpoint, a damaged file, an
    unsupported config, and for tensors that are missing, unexpected or of the wrong
    shape.
    """
    path = Path(path)
    recover_folder(path)
    if path.suffix in PICKLE_SUFFIXES:
        raise ValueError(_pickle_message(path))
    if path.suffix == ".gguf" or (path.is_dir() and not (path / "config.json").exists()):
        gguf_path = _gguf_file(path)
        return load_gguf_model(gguf_path, dtype=dtype or torch.float32, device=device)
    if not path.is_dir():
        raise ValueError(f"{path}: no such model folder")
    config = load_config(path)
    files = _weight_files(path)
    names = {name: file for file in files for name in _stored_names(file)}
    dtype = dtype or _checkpoint_dtype(config, files[0])
    model = allocate_model(_as_stored(config, names), dtype, device)
    fill_weights(model, _stored_tensors(names, config, dtype), source=str(path))
    if (path / GENERATION_FILE).exists():
        model.generation_config = _read_json(path / GENERATION_FILE)
    return model


def load_language_model(
    path: str | Path, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> LanguageModel:
    """`load_model` where only a language model will do; ValueError for a reward model."""
    model = load_model(path, dtype=dtype, device=device)
    if not isinstance(model, LanguageModel):
        kind = model.config.architecture
        raise ValueError(f"{path}: {kind} is a reward model; a language model is needed here")
    return model


def load_config(folder: str | Path) -> ModelConfig:
    """Read `config.json` of a checkpoint folder; ValueError names what is wrong with it."""
    path = Path(folder) / "config.json"
    return ModelConfig.from_dict(_read_json(path), source=str(path))


def save_model(
    model: Model,
    folder: str | Path,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    generation_config: Mapping[str, Any] | None = None,
    is_fp8: bool = False,
) -> None:
    """Write config.json and safetensors that transformers, vLLM and llama.cpp open.

    `is_fp8` stores the projections as e4m3 in blocks, DeepSeek-V3's released format.
    The folder appears, or replaces the one that was there, in one rename: a crash
    leaves the old one whole. Other files that were in it (the tokenizer's) stay,
    and so does generation_config.json unless a new one is given or was loaded with
    the model. Raises RunError, in one line, when the disk is full or read-only.
    """
    folder = Path(folder)
    tensors = dict(model.checkpoint_tensors())
    with atomic_folder(folder) as staging:
        if folder.is_dir():
            _keep_other_files(folder, staging)
        _write_weights(tensors, staging, max_shard_bytes, is_fp8)
        name = next(key for key, value in DTYPES.items() if value == model.dtype)
        # transformers 5 reads `dtype`, everything older `torch_dtype`.
        config = {**model.config.to_dict(), "dtype": name, "torch_dtype": name}
        if is_fp8:
            config["quantization_config"] = QUANTIZATION_CONFIG
        write_json(staging / "config.json", config)
        generation_config = generation_config or model.generation_config
        if generation_config is not None:
            write_json(staging / GENERATION_FILE, generation_config)


def _keep_other_files(folder: Path, staging: Path) -> None:
    for item in folder.iterdir():
        if item.is_dir():
            shutil.copytree(item, staging / item.name, symlinks=True)
        elif not fnmatch.fnmatch(item.name, "*.safetensors*"):
            shutil.copy2(item, staging / item.name)


def _write_weights(
    tensors: Mapping[str, Tensor], folder: Path, max_shard_bytes: int, is_fp8: bool
) -> None:
    shards = _split_shards(tensors, max_shard_bytes)
    weight_map: dict[str, str] = {}
    total_size = 0
    for number, names in enumerate(shards, start=1):
        file_name = SINGLE_FILE
        if len(shards) > 1:
            file_name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        shard: dict[str, Tensor] = {}
        places: set[int] = set()
        for name in names:
            parts = quantized_tensors(name, tensors[name]) if is_fp8 else [(name, tensors[name])]
            # safetensors refuses two names for one memory (an embedding that is shared).
            is_repeated = tensors[name].data_ptr() in places
            places.add(tensors[name].data_ptr())
            for part_name, part in parts:
                part = part.cpu().contiguous()
                shard[part_name] = part.clone() if is_repeated else part
        save_file(shard, folder / file_name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, file_name))
        total_size += sum(tensor.nbytes for tensor in shard.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
        write_json(folder / INDEX_FILE, index)


def _split_shards(tensors: Mapping[str, Tensor], max_shard_bytes: int) -> list[list[str]]:
    """Names in order, cut where the next tensor would pass the limit."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    return shards


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: the index's if there is one, else the single one."""
    index_path = folder / INDEX_FILE
    if index_path.exists():
        weight_map = _read_json(index_path).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ValueError(f"{index_path}: no weight_map")
        names = sorted(set(weight_map.values()))
        # An index comes from outside: it may name files of this folder and no others.
        outside = [name for name in names if Path(name).name != name]
        if outside:
            raise ValueError(f"{index_path}: names a file outside the folder: {outside[0]}")
        absent = [name for name in names if not (folder / name).exists()]
        if absent:
            raise ValueError(f"{folder}: missing weight file {shorten_names(absent)}")
        return [folder / name for name in names]
    if (folder / SINGLE_FILE).exists():
        return [folder / SINGLE_FILE]
    pickles = [item for item in sorted(folder.iterdir()) if item.suffix in PICKLE_SUFFIXES]
    if pickles:
        raise ValueError(_pickle_message(pickles[0]))
    raise ValueError(f"{folder}: no weights ({SINGLE_FILE} or {INDEX_FILE})")


def _stored_names(file: Path) -> list[str]:
    with _open_safetensors(file) as stored:
        return list(stored.keys())


def _as_stored(config: ModelConfig, names: Mapping[str, Path]) -> ModelConfig:
    """The config of the model in memory: dequantised, with the layers that are there.

    transformers writes no multi-token-prediction layers, yet keeps their number.
    """
    extra = {key: value for key, value in config.extra.items() if key != "quantization_config"}
    prefix = f"model.layers.{config.num_hidden_layers}."
    if config.num_nextn_predict_layers and not any(name.startswith(prefix) for name in names):
        return replace(config, extra=extra, num_nextn_predict_layers=0)
    return replace(config, extra=extra)


def _stored_tensors(
    names: Mapping[str, Path], config: ModelConfig, dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Every tensor, file by file; FP8 ones dequantised, their scales wherever they lie."""
    quantization = config.extra.get("quantization_config")
    for file in dict.fromkeys(names.values()):
        with _open_safetensors(file) as stored:
            for name in stored.keys():  # noqa: SIM118 - not a dict
                if quantization and name.endswith(SCALE_SUFFIX):
                    continue
                tensor = stored.get_tensor(name)
                if quantization and tensor.dtype == torch.float8_e4m3fn:
                    scale_inv = _scales_of(name, names, file, stored)
                    blocks = quantization["weight_block_size"]
                    tensor = _dequantize(tensor, scale_inv, dtype, blocks, f"{file}: {name}")
                yield name, tensor


def _scales_of(name: str, names: Mapping[str, Path], file: Path, stored: Any) -> Tensor:
    """The scales of a weight of `file`, which is open as `stored`; they may lie in another."""
    name += SCALE_SUFFIX
    if name not in names:
        raise ValueError(f"{file}: missing tensor {name}")
    if names[name] == file:
        return stored.get_tensor(name)
    with _open_safetensors(names[name]) as other:
        return other.get_tensor(name)


def _dequantize(
    tensor: Tensor, scale_inv: Tensor, dtype: torch.dtype, blocks: Sequence[int], where: str
) -> Tensor:
    try:
        return dequantize_blocks(tensor, scale_inv, dtype, blocks)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _open_safetensors(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error


def _checkpoint_dtype(config: ModelConfig, first_file: Path) -> torch.dtype:
    """The config's dtype, or the stored tensors' when it names none."""
    named = config.extra.get("dtype") or config.extra.get("torch_dtype")
    if named in DTYPES:
        return parse_dtype(named)
    with _open_safetensors(first_file) as stored:
        dtype = stored.get_tensor(next(iter(stored.keys()))).dtype
    return dtype if dtype in DTYPES.values() else torch.float32


def _gguf_file(path: Path) -> Path:
    if path.suffix == ".gguf" and not path.is_dir():
        return path
    found = sorted(path.glob("*.gguf"))
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{path}: holds {len(found)} .gguf files; name one of them")
    raise ValueError(f"{path / 'config.json'}: no such file")


def _pickle_message(path: Path) -> str:
    return f"{path}: pickle checkpoints can run code; convert to safetensors"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not readable JSON ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(values).__name__}")
    return values

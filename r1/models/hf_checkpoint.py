"""Hugging Face checkpoint folders: config.json and safetensors, single or sharded."""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from r1.atomic_files import atomic_folder, recover_folder, write_json
from r1.gguf_file import find_gguf
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
from r1.models.notices import read_notices, write_notices
from r1.models.safetensors_files import (
    INDEX_FILE,
    PICKLE_SUFFIXES,
    SINGLE_FILE,
    open_safetensors,
    pickle_message,
    read_headers,
    weight_files,
)
from r1.models.weights import StoredTensor, check_stored, fill_weights
from r1.untrusted_files import read_json_object

GENERATION_FILE = "generation_config.json"
MAX_SHARD_BYTES = 5 * 10**9

_TORCH_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def load_model(
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    is_fp8: bool = False,
) -> Model:
    """Open a checkpoint folder, or a `.gguf` file, as a model.

    `dtype` None keeps the checkpoint's own (fp32 for GGUF, whose weights are
    dequantised; so are those in FP8, unless `is_fp8` keeps them for inference). Weights
    are memory-mapped and copied tensor by tensor, so the peak is the model itself and one
    tensor. Raises ValueError, in one line, for a missing folder or file, a pickle
    checkpoint, a damaged file, an unsupported config, and for tensors that are missing,
    unexpected or of the wrong shape.
    """
    path = Path(path)
    recover_folder(path)
    if path.suffix in PICKLE_SUFFIXES:
        raise ValueError(pickle_message(path))
    if path.suffix == ".gguf" or (path.is_dir() and not (path / "config.json").exists()):
        gguf_path = _gguf_file(path)
        return load_gguf_model(gguf_path, dtype=dtype or torch.float32, device=device)
    if not path.is_dir():
        raise ValueError(f"{path}: no such model folder")
    config = load_config(path)
    stored = read_headers(weight_files(path))
    dtype = dtype or _checkpoint_dtype(config, stored)
    model_config = _as_stored(config, stored)
    check_stored(model_config, _without_scales(config, stored), source=str(path))
    try:
        is_fp8 = is_fp8 and "quantization_config" in config.extra
        model = allocate_model(model_config, dtype, device, is_fp8=is_fp8)
    except (RuntimeError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: no memory for its weights on {device} ({reason})") from error
    kept = {name for name, _ in model.checkpoint_tensors() if name.endswith(SCALE_SUFFIX)}
    fill_weights(model, _stored_tensors(stored, config, dtype, kept), source=str(path))
    if (path / GENERATION_FILE).exists():
        model.generation_config = read_json_object(path / GENERATION_FILE)
    model.notices = read_notices(path)
    return model


def load_language_model(
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    is_fp8: bool = False,
) -> LanguageModel:
    """`load_model` where only a language model will do; ValueError for a reward model."""
    model = load_model(path, dtype=dtype, device=device, is_fp8=is_fp8)
    if not isinstance(model, LanguageModel):
        kind = model.config.architecture
        raise ValueError(f"{path}: {kind} is a reward model; a language model is needed here")
    return model


def load_config(folder: str | Path) -> ModelConfig:
    """Read `config.json` of a checkpoint folder; ValueError names what is wrong with it."""
    path = Path(folder) / "config.json"
    return ModelConfig.from_dict(read_json_object(path), source=str(path))


def save_model(
    model: Model,
    folder: str | Path,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    generation_config: Mapping[str, Any] | None = None,
    is_fp8: bool = False,
) -> None:
    """Write config.json and safetensors that transformers, vLLM and llama.cpp open.

    `is_fp8` stores the projections as e4m3 in blocks, DeepSeek-V3's released format (always
    for a model that was kept in it).
    The folder appears, or replaces the one that was there, in one rename: a crash
    leaves the old one whole. Other files that were in it (the tokenizer's) stay,
    and so does generation_config.json unless a new one is given or was loaded with
    the model. Licences and notices that were loaded with it are written too. Raises
    RunError, in one line, when the disk is full or read-only.
    """
    folder = Path(folder)
    tensors = dict(model.checkpoint_tensors())
    is_fp8 = is_fp8 or any(name.endswith(SCALE_SUFFIX) for name in tensors)
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
        write_notices(model.notices, staging)


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


def _as_stored(config: ModelConfig, stored: Mapping[str, StoredTensor]) -> ModelConfig:
    """The config of the model in memory: dequantised, with the layers that are there.

    transformers writes no multi-token-prediction layers, yet keeps their number.
    """
    extra = {key: value for key, value in config.extra.items() if key != "quantization_config"}
    prefix = f"model.layers.{config.num_hidden_layers}."
    if config.num_nextn_predict_layers and not any(name.startswith(prefix) for name in stored):
        return replace(config, extra=extra, num_nextn_predict_layers=0)
    return replace(config, extra=extra)


def _without_scales(
    config: ModelConfig, stored: Mapping[str, StoredTensor]
) -> dict[str, StoredTensor]:
    """The tensors that are weights; in an FP8 checkpoint the others are their scales."""
    if config.extra.get("quantization_config"):
        return {n: tensor for n, tensor in stored.items() if not n.endswith(SCALE_SUFFIX)}
    for name, tensor in stored.items():
        if tensor.dtype == "F8_E4M3":
            raise ValueError(f"{tensor.file}: {name} is in FP8, but config.json does not say how")
    return dict(stored)


def _stored_tensors(
    stored: Mapping[str, StoredTensor], config: ModelConfig, dtype: torch.dtype, kept: set[str]
) -> Iterator[tuple[str, Tensor]]:
    """Every weight, file by file; FP8 ones dequantised, their scales wherever they lie.

    Those whose scales' names are in `kept` stay in FP8, and their scales come with them.
    """
    quantization = config.extra.get("quantization_config")
    names_of: dict[Path, list[str]] = {}
    for name, found in _without_scales(config, stored).items():
        names_of.setdefault(found.file, []).append(name)
    for file, names in names_of.items():
        with open_safetensors(file) as opened:
            for name in names:
                tensor = opened.get_tensor(name)
                if quantization and tensor.dtype == torch.float8_e4m3fn:
                    scale_inv = _scales_of(name, stored, file, opened)
                    if name + SCALE_SUFFIX in kept:
                        yield name + SCALE_SUFFIX, scale_inv
                        yield name, tensor
                        continue
                    blocks = quantization["weight_block_size"]
                    tensor = _dequantize(tensor, scale_inv, dtype, blocks, f"{file}: {name}")
                yield name, tensor


def _scales_of(name: str, stored: Mapping[str, StoredTensor], file: Path, opened: Any) -> Tensor:
    """The scales of a weight of `file`, which is open; they may lie in another."""
    name += SCALE_SUFFIX
    if name not in stored:
        raise ValueError(f"{file}: missing tensor {name}")
    if stored[name].file == file:
        return opened.get_tensor(name)
    with open_safetensors(stored[name].file) as other:
        return other.get_tensor(name)


def _dequantize(
    tensor: Tensor, scale_inv: Tensor, dtype: torch.dtype, blocks: Sequence[int], where: str
) -> Tensor:
    try:
        return dequantize_blocks(tensor, scale_inv, dtype, blocks)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _checkpoint_dtype(config: ModelConfig, stored: Mapping[str, StoredTensor]) -> torch.dtype:
    """The config's dtype, or the first stored tensor's when it names none."""
    named = config.extra.get("dtype") or config.extra.get("torch_dtype")
    if isinstance(named, str) and named.removeprefix("torch.") in DTYPES:
        return parse_dtype(named)
    first = next(iter(stored.values()), None)
    return _TORCH_DTYPES.get(first.dtype if first else "F32", torch.float32)


def _gguf_file(path: Path) -> Path:
    if path.suffix == ".gguf" and not path.is_dir():
        return path
    found = find_gguf(path)
    if found is None:
        raise ValueError(f"{path / 'config.json'}: no such file")
    return found

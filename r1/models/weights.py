"""Filling a built model with named tensors, strictly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r1.models.architectures import ARCHITECTURES, Model
from r1.models.model_config import ModelConfig

_MAX_NAMES_SHOWN = 4
_MAX_NAME_LENGTH = 120
_FLOAT_DTYPES = ("F32", "F16", "BF16", "F64", "F8_E4M3")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as a file's header describes it; `dtype` is safetensors' name (`BF16`)."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


def check_stored(config: ModelConfig, stored: Mapping[str, StoredTensor], *, source: str) -> None:
    """Compare what a model needs with what its files hold, before any memory is taken.

    Raises ValueError that names missing, unexpected and wrongly shaped tensors, tensors
    that are no floating-point numbers, and sizes in the config that the files cannot fill.
    """
    _check_sizes(config, stored, source)
    try:
        with torch.device("meta"):
            model = ARCHITECTURES[config.architecture](config)
    except RuntimeError as error:  # a product of sizes overflows
        reason = str(error).splitlines()[0]
        raise ValueError(f"{source}: its sizes make no model ({reason})") from None
    wrong = [name for name, tensor in stored.items() if tensor.dtype not in _FLOAT_DTYPES]
    parameters = dict(model.checkpoint_tensors())
    wrong = [name for name in wrong if not _is_ignorable(name, parameters)]
    if wrong:
        found = shorten_names([f"{name} is {stored[name].dtype}" for name in wrong])
        raise ValueError(f"{source}: wrong dtype: {found}, expected F32, F16 or BF16")
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    _check_tensors(parameters, shapes, source)


@torch.no_grad()
def fill_weights(model: Model, named_tensors: Iterable[tuple[str, Tensor]], *, source: str) -> None:
    """Copy tensors under Hugging Face names into a model, cast to its dtype.

    Every tensor of `model.checkpoint_tensors` must come, under one of its names, and
    none may be left over, save those that transformers too ignores (a tied
    `lm_head.weight`, old RoPE buffers).
    Raises ValueError that names missing, unexpected or wrongly shaped tensors.
    """
    parameters = dict(model.checkpoint_tensors())
    shapes: dict[str, Sequence[int]] = {}
    for name, tensor in named_tensors:
        shapes[name] = tensor.shape
        parameter = parameters.get(name)
        if parameter is not None and parameter.shape == tensor.shape:
            parameter.copy_(tensor)
    _check_tensors(parameters, shapes, source)


def shorten_names(names: list[str]) -> str:
    """The first few names, and how many more there are; what is no plain name, quoted."""
    rest = len(names) - _MAX_NAMES_SHOWN
    shown = [
        (name if name.isprintable() else repr(name))[:_MAX_NAME_LENGTH]
        for name in names[:_MAX_NAMES_SHOWN]
    ]
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _check_sizes(config: ModelConfig, stored: Mapping[str, StoredTensor], source: str) -> None:
    """Refuse sizes that would take long to build, even without memory, and fit no file."""
    num_experts = max(config.n_routed_experts or 0, 1)
    num_sparse = max(config.num_hidden_layers - (config.first_k_dense_replace or 0), 1)
    needed = max(config.num_hidden_layers, num_sparse * num_experts if num_experts > 1 else 0)
    if needed > len(stored):
        raise ValueError(
            f"{source}: {config.num_hidden_layers:,} layers"
            + (f" of {num_experts:,} experts" if num_experts > 1 else "")
            + f" cannot be in its {len(stored):,} tensors"
        )
    largest = max((math.prod(tensor.shape) for tensor in stored.values()), default=0)
    if config.rope_dim > largest:
        raise ValueError(
            f"{source}: a head of {config.rope_dim:,} is larger than every stored tensor"
        )


def _check_tensors(
    parameters: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]], source: str
) -> None:
    # One memory may have several names (a shared embedding): one of them is enough.
    filled = {_place(parameters[name]) for name in shapes if name in parameters}
    missing = [
        f"{name} {list(parameter.shape)}"
        for name, parameter in parameters.items()
        if name not in shapes and _place(parameter) not in filled
    ]
    unexpected = [
        f"{name} {list(shape)}"
        for name, shape in shapes.items()
        if name not in parameters and not _is_ignorable(name, parameters)
    ]
    misshapen = [
        f"{name} is {list(shape)}, expected {list(parameters[name].shape)}"
        for name, shape in shapes.items()
        if name in parameters and tuple(shape) != tuple(parameters[name].shape)
    ]
    problems = [
        f"{kind} {shorten_names(names)}"
        for kind, names in (
            ("missing tensor", missing),
            ("unexpected tensor", unexpected),
            ("wrong shape:", misshapen),
        )
        if names
    ]
    if problems:
        raise ValueError(f"{source}: {'; '.join(problems)}")


def _place(tensor: Tensor) -> tuple[Any, Any]:
    """Which memory a tensor is; meta tensors have no addresses, but storages of their own."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset()


def _is_ignorable(name: str, parameters: Mapping[str, Any]) -> bool:
    if name.endswith("rotary_emb.inv_freq"):
        return True
    is_tied = "lm_head.weight" not in parameters and "score.weight" not in parameters
    return name == "lm_head.weight" and is_tied

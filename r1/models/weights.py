"""Filling a built model with named tensors, strictly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from r1.models.language_model import LanguageModel, SequenceScorer

_MAX_NAMES_SHOWN = 4


@torch.no_grad()
def fill_weights(
    model: LanguageModel | SequenceScorer,
    named_tensors: Iterable[tuple[str, Tensor]],
    *,
    source: str,
) -> None:
    """Copy tensors under Hugging Face names into a model, cast to its dtype.

    Every tensor of `model.checkpoint_tensors` must come, under one of its names, and
    none may be left over, save those that transformers too ignores (a tied
    `lm_head.weight`, old RoPE buffers).
    Raises ValueError that names missing, unexpected or wrongly shaped tensors.
    """
    parameters = dict(model.checkpoint_tensors())
    missing, unexpected, misshapen = dict.fromkeys(parameters), [], []
    filled = set()
    for name, tensor in named_tensors:
        parameter = parameters.get(name)
        if parameter is None:
            if not _is_ignorable(name, parameters):
                unexpected.append(name)
            continue
        missing.pop(name, None)
        if parameter.shape != tensor.shape:
            shapes = f"{list(tensor.shape)}, expected {list(parameter.shape)}"
            misshapen.append(f"{name} is {shapes}")
            continue
        parameter.copy_(tensor)
        filled.add(parameter.data_ptr())
    missing = [name for name in missing if parameters[name].data_ptr() not in filled]
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


def shorten_names(names: list[str]) -> str:
    rest = len(names) - _MAX_NAMES_SHOWN
    return ", ".join(names[:_MAX_NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _is_ignorable(name: str, parameters: Mapping[str, Any]) -> bool:
    if name.endswith("rotary_emb.inv_freq"):
        return True
    is_tied = "lm_head.weight" not in parameters and "score.weight" not in parameters
    return name == "lm_head.weight" and is_tied

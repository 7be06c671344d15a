"""The state of a training run on disk: what a killed run needs to continue exactly.

A state is a folder `step-00000042/` of `tensors.safetensors` and `state.json`. It is
written under another name, flushed, and renamed, so a folder with a step's name is
complete whatever moment the process was killed at. No pickle: opening a state runs
no code.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from r1.atomic_files import RunError, atomic_folder, remove_leftovers
from r1.training.optimizer import Optimizer

_TENSORS = "tensors.safetensors"
_RECORD = "state.json"
_MODEL = "model."
_OPTIMIZER = "optimizer."


@dataclass(frozen=True)
class TrainState:
    """Everything that the rest of a run depends on, after `step` steps.

    `tensors` are named freely (see `capture`); `extra` is anything that JSON keeps:
    the data cursor, the weights' version, counters.
    """

    step: int
    tensors: Mapping[str, Tensor]
    extra: Mapping[str, Any] = field(default_factory=dict)


def capture(
    model: nn.Module,
    optimizer: Optimizer,
    step: int,
    *,
    extra: Mapping[str, Any] | None = None,
    extra_tensors: Mapping[str, Tensor] | None = None,
) -> TrainState:
    """The state of a model and its optimizer, and whatever else the run keeps.

    Tensors are not copied: save the state before the next step. `extra_tensors` are
    kept under their own names (a reference model's weights as `reference.NAME`).
    """
    tensors = {_MODEL + name: tensor for name, tensor in _own_tensors(model).items()}
    tensors |= {_OPTIMIZER + name: t for name, t in optimizer.state_tensors().items()}
    record = {**(extra or {}), "optimizer_steps": optimizer.num_steps}
    return TrainState(step, {**tensors, **(extra_tensors or {})}, record)


def restore(state: TrainState, model: nn.Module, optimizer: Optimizer) -> None:
    """Put a captured state back, bit for bit. Raises ValueError for another model's state."""
    load_tensors(model, with_prefix(state.tensors, _MODEL))
    optimizer.load_state_tensors(
        with_prefix(state.tensors, _OPTIMIZER), state.extra["optimizer_steps"]
    )


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy named tensors into a module. Raises ValueError naming what does not match."""
    own = _own_tensors(module)
    if own.keys() != tensors.keys():
        odd = sorted(own.keys() ^ tensors.keys())
        raise ValueError(f"saved state belongs to another model: {', '.join(odd[:3])} differ")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            shapes = f"{tuple(tensors[name].shape)}, the model needs {tuple(tensor.shape)}"
            raise ValueError(f"saved state: {name} has shape {shapes}")
        tensor.copy_(tensors[name])


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those tensors whose name begins with `prefix`, without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, detached; a tied weight appears once."""
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor.detach()
    return tensors


def save_state(folder: Path, state: TrainState, *, keep: int = 2) -> Path:
    """Write a state into `folder` and delete all but the newest `keep`.

    Returns the state's own folder. Raises RunError when the disk is full or the folder
    cannot be written; states saved before are untouched then.
    """
    target = folder / f"step-{state.step:08d}"
    tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
    record = json.dumps({"step": state.step, **state.extra})
    with atomic_folder(target) as partial:
        save_file(tensors, partial / _TENSORS)
        (partial / _RECORD).write_text(record, encoding="utf-8")
    remove_leftovers(folder)
    for old in _saved_folders(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def load_state(folder: Path, *, device: torch.device | str = "cpu") -> TrainState | None:
    """The newest state in `folder`, or None when there is none.

    Raises RunError for a state that cannot be read.
    """
    saved = _saved_folders(folder)
    if not saved:
        return None
    newest = saved[-1]
    try:
        record = json.loads((newest / _RECORD).read_text(encoding="utf-8"))
        tensors = load_file(newest / _TENSORS, device=str(device))
        return TrainState(record.pop("step"), tensors, record)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise RunError(
            f"the saved state {newest} cannot be read ({error}); delete it to continue "
            "from the one before"
        ) from error


def _saved_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.glob("step-*") if path.name[5:].isdigit())

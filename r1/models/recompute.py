"""A layer computed again in the backward pass, rather than kept (Chen et al., arXiv:1604.06174).

The method is that of torch.utils.checkpoint without reentrance: autograd is given numbers in
place of the tensors that it would keep. Calling torch's imports its compiler, which takes a
second and 160 MB.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


class _AllKept(Exception):
    """The backward pass needs nothing of what the layer would compute next."""


def run_recomputed(layer: nn.Module, hidden: Tensor, *context: Any) -> Tensor:
    """`layer(hidden, *context)`, which keeps `hidden` alone for its backward pass.

    The same operations on the same numbers, so the same bits. For layers that draw no random
    numbers; differentiable once.
    """
    num_kept = 0
    source = hidden.detach().requires_grad_(hidden.requires_grad)
    again: list[Tensor | None] = []

    def count(_: Tensor) -> int:
        nonlocal num_kept
        num_kept += 1
        return num_kept - 1

    def keep(tensor: Tensor) -> None:
        again.append(tensor.detach())
        if len(again) == num_kept:
            raise _AllKept

    def take(place: int) -> Tensor:
        if not again:
            with suppress(_AllKept), torch.enable_grad(), saved_tensors_hooks(keep, _refuse):
                layer(source, *context)
        # Each is asked for once, and free when it has been used.
        tensor, again[place] = again[place], None
        assert tensor is not None, "differentiated twice"
        return tensor

    with saved_tensors_hooks(count, take):
        return layer(hidden, *context)


def _refuse(_: None) -> Tensor:
    raise AssertionError("the second computation is not differentiated")

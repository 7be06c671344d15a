"""AdamW with fp32 master weights, a learning-rate schedule, clipping and a refusal.

A loss or gradient that is not finite never reaches the weights: `NonFiniteError`
is raised before the step, and the caller saves the batch that caused it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.adamw import adamw

from r1.config import Config

# Gradients below 6e-8 vanish in fp16; a power of two rescales them without rounding.
_FP16_LOSS_SCALE = 2.0**12
_HALF_DTYPES = (torch.bfloat16, torch.float16)


class NonFiniteError(ArithmeticError):
    """The loss or the gradient was NaN or infinite; no weight has changed."""


class OptimizerConfig(Config):
    """AdamW and its schedule; `warmup_steps` rise linearly from 0.

    The rate then stays ("constant") or falls to `final_fraction` of itself at the last
    step. `max_grad_norm` 0 turns clipping off.
    """

    learning_rate: float = Field(default=1e-3, ge=0)
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    final_fraction: float = Field(default=0.1, ge=0, le=1)
    warmup_steps: int = Field(default=0, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, ge=0)
    max_memory_bytes: int | None = Field(default=None, ge=1)
    """The run keeps to it by smaller micro-batches, or refuses to start; None is no bound."""


def learning_rate_at(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """The rate of step `step`, counted from 0, of `total_steps`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    last_step = max(total_steps - 1, 1)
    progress = min((step - config.warmup_steps) / max(last_step - config.warmup_steps, 1), 1.0)
    fallen = progress if config.schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
    return config.learning_rate * (1 - fallen * (1 - config.final_fraction))


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did: the gradient norm before clipping, and the rate."""

    grad_norm: float
    learning_rate: float


class Optimizer:
    """AdamW over a model's trainable parameters.

    Parameters in bf16 or fp16 get an fp32 master copy: gradients of micro-batches are
    added up on it, moments and weights live in fp32, and the model's own weights are
    rounded from it after each step. Norms and biases (vectors) are not decayed.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig, total_steps: int) -> None:
        self.config = config
        self.total_steps = total_steps
        self.num_steps = 0
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._masters = {
            name: parameter
            if parameter.dtype not in _HALF_DTYPES
            else nn.Parameter(parameter.detach().float())
            for name, parameter in self._parameters.items()
        }
        is_fp16 = all(p.dtype == torch.float16 for p in self._parameters.values())
        self._loss_scale = _FP16_LOSS_SCALE if is_fp16 else 1.0
        self._moments: dict[str, _Moments] = {}

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of one micro-batch's loss.

        Raises NonFiniteError for a loss that is not finite; no gradient is kept then.
        """
        value = loss.item()
        if not math.isfinite(value):
            self.zero_grad()
            raise NonFiniteError(f"the loss is {value} at step {self.num_steps + 1}")
        # Each gradient moves to its master as soon as it is complete: a half-precision one and
        # its fp32 sum exist together for one parameter at a time.
        hooks = [
            parameter.register_post_accumulate_grad_hook(partial(self._add_to_master, name))
            for name, parameter in self._parameters.items()
            if self._masters[name] is not parameter
        ]
        try:
            (loss * self._loss_scale).backward()
        finally:
            for hook in hooks:
                hook.remove()

    def _add_to_master(self, name: str, parameter: Tensor) -> None:
        master, gradient = self._masters[name], parameter.grad
        assert gradient is not None
        if master.grad is None:
            master.grad = gradient.float()
            if self._loss_scale != 1.0:
                master.grad /= self._loss_scale
        else:
            master.grad.add_(gradient, alpha=1.0 / self._loss_scale)
        parameter.grad = None

    def step(self) -> StepResult:
        """Clip the summed gradient to `max_grad_norm`, apply it, and clear it.

        Raises NonFiniteError, with no weight or moment changed, for a gradient norm
        that is not finite.
        """
        masters = list(self._masters.values())
        norm = nn.utils.get_total_norm([p.grad for p in masters if p.grad is not None])
        grad_norm = float(norm)
        if not math.isfinite(grad_norm):
            self.zero_grad()
            raise NonFiniteError(f"the gradient norm is {grad_norm} at step {self.num_steps + 1}")
        if self.config.max_grad_norm:
            nn.utils.clip_grads_with_norm_(masters, self.config.max_grad_norm, norm)
        learning_rate = learning_rate_at(self.config, self.num_steps, self.total_steps)
        self._apply(learning_rate)
        self.num_steps += 1
        self.zero_grad()
        self._round_into_model()
        return StepResult(grad_norm, learning_rate)

    def zero_grad(self) -> None:
        """Forget gradients that have not been applied."""
        for name, master in self._masters.items():
            master.grad = None
            self._parameters[name].grad = None

    def _apply(self, learning_rate: float) -> None:
        with_gradient = {n: p for n, p in self._masters.items() if p.grad is not None}
        for name in with_gradient.keys() - self._moments.keys():
            self._moments[name] = _Moments.zero(with_gradient[name])
        for is_decayed in (True, False):
            names = [name for name, p in with_gradient.items() if (p.ndim >= 2) == is_decayed]
            if not names:
                continue
            moments = [self._moments[name] for name in names]
            # torch.optim.AdamW's own arithmetic; building that class would import the
            # compiler, which takes more than a second.
            with torch.no_grad():
                adamw(
                    [with_gradient[name] for name in names],
                    [_gradient(with_gradient[name]) for name in names],
                    [moment.exp_avg for moment in moments],
                    [moment.exp_avg_sq for moment in moments],
                    [],
                    [moment.step for moment in moments],
                    fused=True,
                    amsgrad=False,
                    beta1=self.config.beta1,
                    beta2=self.config.beta2,
                    lr=learning_rate,
                    weight_decay=self.config.weight_decay if is_decayed else 0.0,
                    eps=self.config.epsilon,
                    maximize=False,
                )

    def _round_into_model(self) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                if self._masters[name] is not parameter:
                    parameter.copy_(self._masters[name])

    def state_tensors(self) -> dict[str, Tensor]:
        """Moments (`exp_avg.NAME`, `exp_avg_sq.NAME`) and, where they are kept, masters
        (`master.NAME`): with the model's weights and `num_steps` the complete state."""
        tensors: dict[str, Tensor] = {}
        for name, master in self._masters.items():
            if master is not self._parameters[name]:
                tensors[f"master.{name}"] = master.detach()
        for name, moment in self._moments.items():
            tensors[f"exp_avg.{name}"] = moment.exp_avg
            tensors[f"exp_avg_sq.{name}"] = moment.exp_avg_sq
        return tensors

    def load_state_tensors(self, tensors: dict[str, Tensor], num_steps: int) -> None:
        """Continue from `state_tensors` of a run that had made `num_steps` steps.

        Raises ValueError when the tensors belong to another model.
        """
        if num_steps and not any(f"exp_avg.{name}" in tensors for name in self._masters):
            raise ValueError("saved state: it holds no optimizer moments for this model")
        self.num_steps = num_steps
        self._moments.clear()
        with torch.no_grad():
            for name, master in self._masters.items():
                if master is not self._parameters[name]:
                    master.copy_(_take(tensors, f"master.{name}", master))
                # A parameter that the loss does not touch never had moments.
                if f"exp_avg.{name}" in tensors:
                    self._moments[name] = _Moments(
                        _take(tensors, f"exp_avg.{name}", master).clone(),
                        _take(tensors, f"exp_avg_sq.{name}", master).clone(),
                        torch.tensor(float(num_steps), device=master.device),
                    )


@dataclass(frozen=True)
class _Moments:
    """AdamW's running means of one parameter, and its number of steps as torch keeps it."""

    exp_avg: Tensor
    exp_avg_sq: Tensor
    step: Tensor

    @classmethod
    def zero(cls, like: Tensor) -> _Moments:
        step = torch.zeros((), device=like.device)
        return cls(torch.zeros_like(like), torch.zeros_like(like), step)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _take(tensors: dict[str, Tensor], name: str, like: Tensor) -> Tensor:
    tensor = tensors.get(name)
    if tensor is None or tensor.shape != like.shape:
        found = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
        raise ValueError(f"saved state: {name} {found}; the model needs {tuple(like.shape)}")
    return tensor.to(like.device)

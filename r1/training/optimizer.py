"""AdamW with fp32 master weights, a learning-rate schedule, clipping and a refusal.

A loss or gradient that is not finite never reaches the weights: `NonFiniteError`
is raised before the step, and the caller saves the batch that caused it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim.adamw import adamw

from r1.allocator import give_back_freed_memory
from r1.config import Config
from r1.training.parameter_state import AdamwPart, ParameterState

# Gradients below 6e-8 vanish in fp16; a power of two rescales them without rounding.
_FP16_LOSS_SCALE = 2.0**12
# Half a step of bf16 is up to 2**-8 of a number: a mean that decays by less a step never falls.
LARGEST_BF16_BETA = 1 - 2.0**-8


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
    moments_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of AdamW's running means. bfloat16 halves them, as DeepSeek-V3 was trained
    (arXiv:2412.19437, section 3.3.2); they keep 8 bits, so that a mean follows changes of
    less than 0.4% a step late or not at all. Gradients are summed, and weights kept, in fp32."""
    activation_checkpointing: bool = False
    """Keep only each layer's input for the backward pass, and compute the layer again there:
    the same bits, for one more forward pass (arXiv:1604.06174)."""
    max_memory_bytes: int | None = Field(default=None, ge=1)
    """The run keeps to it (`training/memory.py`), or refuses to start; None is no bound."""

    @model_validator(mode="after")
    def _check_moments(self) -> Self:
        largest = max(self.beta1, self.beta2)
        if self.moments_dtype == "bfloat16" and largest > LARGEST_BF16_BETA:
            raise ValueError(
                f'moments_dtype = "bfloat16" with a beta of {largest:g}: means that change by less '
                "than 0.4% a step stand still in 8 bits; keep beta1 and beta2 at most 0.996"
            )
        return self


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

    Parameters in bf16 or fp16 have fp32 masters: gradients of micro-batches are added up in
    fp32, weights live there, and the model's own are rounded from them after each step.
    Norms and biases (vectors) are not decayed.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig, total_steps: int) -> None:
        self.config = config
        self.total_steps = total_steps
        self.num_steps = 0
        self._states = {
            name: ParameterState(parameter, getattr(torch, config.moments_dtype))
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        dtypes = {state.parameter.dtype for state in self._states.values()}
        self._loss_scale = _FP16_LOSS_SCALE if dtypes == {torch.float16} else 1.0

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of one micro-batch's loss, which keeps its value alone.

        Raises NonFiniteError for a loss that is not finite; no gradient is kept then.
        """
        value = loss.item()
        if not math.isfinite(value):
            self.zero_grad()
            raise NonFiniteError(f"the loss is {value} at step {self.num_steps + 1}")
        # Each gradient moves to its sum as soon as it is complete: a half-precision one and
        # its fp32 sum exist together for one parameter at a time.
        hooks = [
            state.parameter.register_post_accumulate_grad_hook(partial(self._add, state))
            for state in self._states.values()
            if state.is_half
        ]
        try:
            (loss * self._loss_scale).backward()
        finally:
            for hook in hooks:
                hook.remove()
        # The graph's nodes lie among the tensors that are free now: kept, they would break up
        # the memory that the next micro-batch needs in pieces of other sizes.
        loss.detach_()
        if self.config.max_memory_bytes is not None:
            give_back_freed_memory()

    def _add(self, state: ParameterState, parameter: Tensor) -> None:
        state.add_gradient(1.0 / self._loss_scale)

    def step(self) -> StepResult:
        """Clip the summed gradient to `max_grad_norm`, apply it, and clear it.

        Raises NonFiniteError, with no weight or moment changed, for a gradient norm
        that is not finite.
        """
        gradients = [s.gradient for s in self._states.values() if s.gradient is not None]
        norm = nn.utils.get_total_norm(gradients)
        grad_norm = float(norm)
        if not math.isfinite(grad_norm):
            self.zero_grad()
            raise NonFiniteError(f"the gradient norm is {grad_norm} at step {self.num_steps + 1}")
        with torch.no_grad():
            if self.config.max_grad_norm:
                # As torch.nn.utils.clip_grads_with_norm_, which wants parameters.
                scale = torch.clamp(self.config.max_grad_norm / (norm + 1e-6), max=1.0)
                for gradient in gradients:
                    gradient.mul_(scale)
            learning_rate = learning_rate_at(self.config, self.num_steps, self.total_steps)
            self._apply(learning_rate)
        self.num_steps += 1
        self.zero_grad()
        return StepResult(grad_norm, learning_rate)

    def zero_grad(self) -> None:
        """Forget gradients that have not been applied."""
        for state in self._states.values():
            state.forget_gradient()

    def _apply(self, learning_rate: float) -> None:
        for is_decayed in (True, False):
            states = [
                state
                for state in self._states.values()
                if state.gradient is not None and (state.parameter.ndim >= 2) == is_decayed
            ]
            plain = [state.whole() for state in states if state.is_plain]
            self._adamw(plain, learning_rate, is_decayed)
            for state in states:
                if not state.is_plain:
                    for part in state.converted():
                        self._adamw([part], learning_rate, is_decayed)

    def _adamw(self, parts: Sequence[AdamwPart], learning_rate: float, is_decayed: bool) -> None:
        """torch.optim.AdamW's own arithmetic; building that class would import the compiler,
        which takes more than a second."""
        if not parts:
            return
        adamw(
            [part.weight for part in parts],
            [part.gradient for part in parts],
            [part.exp_avg for part in parts],
            [part.exp_avg_sq for part in parts],
            [],
            [part.step for part in parts],
            fused=True,
            amsgrad=False,
            beta1=self.config.beta1,
            beta2=self.config.beta2,
            lr=learning_rate,
            weight_decay=self.config.weight_decay if is_decayed else 0.0,
            eps=self.config.epsilon,
            maximize=False,
        )

    def state_tensors(self) -> dict[str, Tensor]:
        """Moments (`exp_avg.NAME`, `exp_avg_sq.NAME`) and, where they are kept, masters
        (`master.NAME`): with the model's weights and `num_steps` the complete state."""
        tensors: dict[str, Tensor] = {}
        for name, state in self._states.items():
            if state.master is not None:
                tensors[f"master.{name}"] = state.master
            if state.moments is not None:
                tensors[f"exp_avg.{name}"] = state.moments.exp_avg
                tensors[f"exp_avg_sq.{name}"] = state.moments.exp_avg_sq
        return tensors

    def load_state_tensors(self, tensors: dict[str, Tensor], num_steps: int) -> None:
        """Continue from `state_tensors` of a run that had made `num_steps` steps.

        Raises ValueError when the tensors belong to another model, or are of another dtype.
        """
        if num_steps and not any(f"exp_avg.{name}" in tensors for name in self._states):
            raise ValueError("saved state: it holds no optimizer moments for this model")
        self.num_steps = num_steps
        for name, state in self._states.items():
            if state.master is not None:
                state.master.copy_(_take(tensors, f"master.{name}", state.master))
            state.moments = None
            # A parameter that the loss does not touch never had moments.
            if f"exp_avg.{name}" in tensors:
                moments = state.moments_or_zero()
                moments.exp_avg.copy_(_take(tensors, f"exp_avg.{name}", moments.exp_avg))
                moments.exp_avg_sq.copy_(_take(tensors, f"exp_avg_sq.{name}", moments.exp_avg_sq))
                moments.step.fill_(num_steps)


def _take(tensors: dict[str, Tensor], name: str, like: Tensor) -> Tensor:
    tensor = tensors.get(name)
    if tensor is None or tensor.shape != like.shape or tensor.dtype != like.dtype:
        found = "is missing"
        if tensor is not None:
            found = f"is {tensor.dtype} {tuple(tensor.shape)}"
        raise ValueError(f"saved state: {name} {found}; needed: {like.dtype} {tuple(like.shape)}")
    return tensor

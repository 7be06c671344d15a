"""The settings of reinforcement learning; the defaults are R1-Zero's.

Variants of later papers are arguments: clip-higher, dynamic sampling and overlong
handling (DAPO, arXiv 2503.14476), constant normalisation and no division by the
standard deviation (Dr. GRPO, 2503.20783), truncated importance sampling.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from r1.config import Config
from r1.engine.engine import EngineConfig
from r1.engine.open_model import DtypeName
from r1.records import MIN_TEMPERATURE
from r1.tasks.task import TaskConfig
from r1.training.expert_balance import ExpertConfig
from r1.training.losses import NormalizeBy
from r1.training.optimizer import OptimizerConfig


class TaskShare(Config):
    """One task of a mixture: drawn from by weight while from_step <= step < until_step."""

    task: TaskConfig
    weight: float = Field(default=1.0, gt=0)
    from_step: int = Field(default=0, ge=0)
    until_step: int | None = Field(default=None, gt=0)


class TokenLimit(Config):
    """The longest reply, in tokens, from a step on."""

    from_step: int = Field(ge=0)
    max_tokens: int = Field(ge=1)


class GrpoConfig(OptimizerConfig):
    """Group relative policy optimization (DeepSeekMath, 2402.03300; R1, 2501.12948).

    A step is one update, on questions_per_step x group_size replies. A rollout
    makes the replies of `updates_per_rollout` steps at once (R1: 8,192 replies for
    16 updates) and is gone through `inner_epochs` times.
    """

    output: Path
    model: str
    task: TaskConfig | None = None
    tasks: tuple[TaskShare, ...] = ()
    """A mixture, or data that changes during the run; instead of `task`."""
    prompt_style: Literal["r1_zero", "chat"] = "r1_zero"
    steps: int = Field(default=10_400, ge=1)
    seed: int = Field(default=0, ge=0)
    dtype: DtypeName | None = None
    """None keeps the checkpoint's own; auto is the fastest on the device."""
    device: str = "auto"

    reward_weights: dict[str, float] = Field(default={"accuracy": 1.0, "format": 1.0}, min_length=1)
    """Weight of `accuracy` and of any part of a grade (`format`, `language`, ...)."""
    reward_models: dict[str, str] = Field(default_factory=dict)
    """Part of the reward (`preference`, `safety`) -> a trained reward model's folder."""
    reward_models_on: Literal["open", "all"] = "open"
    """Which questions they score: those without a gold answer, or all."""
    preference_from_step: int = Field(default=0, ge=0)
    """Reward models count from this step on (R1: only the last 400 of 1,700 steps)."""

    group_size: int = Field(default=16, ge=2)
    questions_per_step: int = Field(default=32, ge=1)
    updates_per_rollout: int = Field(default=16, ge=1)
    inner_epochs: int = Field(default=1, ge=1)
    temperature: float = Field(default=1.0, ge=MIN_TEMPERATURE, allow_inf_nan=False)
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: PositiveInt | tuple[TokenLimit, ...] = (
        TokenLimit(from_step=0, max_tokens=32_768),
        TokenLimit(from_step=8_200, max_tokens=65_536),
    )
    dynamic_sampling: bool = False
    """Train only on groups with signal, and ask further questions until there are enough."""
    max_refills: int = Field(default=3, ge=0)

    learning_rate: float = Field(default=3e-6, ge=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    micro_batch_tokens: int = Field(default=32_768, ge=1)

    reference: str | None = None
    """The model that the KL is measured to; None is the start model."""
    kl_coefficient: float = Field(default=0.001, ge=0)
    reference_refresh_steps: int = Field(default=400, ge=0)
    """Every so many steps the policy replaces the reference; 0 is never."""
    clip_low: float = Field(default=0.2, gt=0)
    clip_high: float = Field(default=0.2, gt=0)
    sampler_ratio_cap: float | None = Field(default=None, gt=0)
    """Truncated importance sampling between sampler and trainer; None is off."""
    normalize_by: NormalizeBy = "sequence"
    divide_by_std: bool = True
    overlong: Literal["keep", "mask", "penalty"] = "keep"
    """Replies cut at the limit: train on them, leave them out of the loss, or (DAPO's
    soft punishment) take up to 1 off the reward over the last `overlong_buffer_tokens`."""
    overlong_buffer_tokens: int = Field(default=4_096, ge=1)

    save_every: int = Field(default=50, ge=1)
    samples_every: int = Field(default=10, ge=1)
    samples_groups: int = Field(default=2, ge=0)
    """Of every `samples_every`-th step the first groups are kept to read."""
    num_grading_threads: int = Field(default=4, ge=1)
    exact: bool = False
    """The sampler's log-probs have the trainer's bits: ratios start at 1.0 (docs/exact.md)."""
    engine: EngineConfig = EngineConfig()
    experts: ExpertConfig = ExpertConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.task is None) == (not self.tasks):
            raise ValueError("give either `task` or `tasks`")
        if self.top_p != 1.0 or self.top_k:
            raise ValueError(
                "rollouts are sampled from the whole distribution, because the loss compares its "
                "log-probs: leave top_p at 1 and top_k at 0, and change temperature instead"
            )
        refresh, per_rollout = self.reference_refresh_steps, self.steps_per_rollout
        if self.kl_coefficient and refresh % per_rollout:
            raise ValueError(
                f"reference_refresh_steps ({refresh}) must be a multiple of the steps of a rollout "
                f"({per_rollout} = updates_per_rollout x inner_epochs)"
            )
        unscored = {"preference", "safety"} & set(self.reward_weights) - set(self.reward_models)
        if unscored:
            part = min(unscored)
            raise ValueError(f"reward_weights.{part} needs a model: set reward_models.{part}")
        unweighted = sorted(set(self.reward_models) - set(self.reward_weights))
        if unweighted:
            part = unweighted[0]
            raise ValueError(f"reward_models.{part} has no weight: set reward_weights.{part}")
        self._check_tasks_cover_the_run()
        limits = self.max_tokens
        shortest = limits if isinstance(limits, int) else min(each.max_tokens for each in limits)
        if self.overlong == "penalty" and self.overlong_buffer_tokens > shortest:
            raise ValueError(
                f"overlong_buffer_tokens ({self.overlong_buffer_tokens}) must be at most "
                f"max_tokens ({shortest})"
            )
        return self

    def _check_tasks_cover_the_run(self) -> None:
        """No rollout may find every task of the mixture over, or not begun, hours into a run."""
        every = self.steps_per_rollout
        spans = [(share.from_step, share.until_step or self.steps) for share in self.tasks]
        for change in (0, *(until for _, until in spans)):
            step = -(-change // every) * every  # the first rollout from there on
            is_active = any(start <= step < until for start, until in spans)
            if self.tasks and step < self.steps and not is_active:
                raise ValueError(
                    f"no task is active at step {step}: check from_step and until_step of tasks"
                )

    @field_validator("max_tokens")
    @classmethod
    def _check_limits(cls, value: int | tuple[TokenLimit, ...]) -> int | tuple[TokenLimit, ...]:
        if isinstance(value, int):
            return value
        starts = [limit.from_step for limit in value]
        if starts[:1] != [0]:
            raise ValueError("a list of token limits must begin with one from_step 0")
        if any(later <= earlier for earlier, later in pairwise(starts)):
            raise ValueError(f"the from_step of token limits must rise, not {starts}")
        return value

    @property
    def steps_per_rollout(self) -> int:
        """Updates that one rollout is used for."""
        return self.updates_per_rollout * self.inner_epochs

    @property
    def task_shares(self) -> tuple[TaskShare, ...]:
        """The mixture; a single task is a mixture of one."""
        return self.tasks if self.task is None else (TaskShare(task=self.task),)

    @property
    def longest_reply(self) -> int:
        """The largest token limit of the run."""
        limits = self.max_tokens
        return limits if isinstance(limits, int) else max(limit.max_tokens for limit in limits)

    def max_tokens_at(self, step: int) -> int:
        """The reply limit of the step that follows `step` finished ones."""
        if isinstance(self.max_tokens, int):
            return self.max_tokens
        return [limit.max_tokens for limit in self.max_tokens if limit.from_step <= step][-1]

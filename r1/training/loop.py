"""What supervised and reward-model training share: the batch order and the run of steps.

Plain functions. What is trained comes in as an objective: a function from a batch's
indices to the losses of its micro-batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from r1.allocator import keep_freed_memory
from r1.engine.open_model import DtypeName
from r1.run_log import Progress, RunError, RunFolder, StepTimer, write_json
from r1.training.checkpoint import capture, load_state, restore, save_state
from r1.training.optimizer import NonFiniteError, Optimizer, OptimizerConfig
from r1.training.packing import TokenSequence


class LoopConfig(OptimizerConfig):
    """The settings of a training run over a fixed set of rows.

    `steps` overrides `epochs`. A step takes `batch_size` rows, or about `batch_tokens`
    tokens when that is given. `micro_batch_tokens` bounds one forward pass and changes
    no number but the memory.
    """

    output: Path
    model: str
    data: Path | None = None
    eval_data: Path | None = None
    eval_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Part of `data` that is held out, when there is no `eval_data`."""
    eval_every: int = Field(default=0, ge=0)
    """Steps between held-out measurements; 0 measures at the end only."""
    max_length: int = Field(default=32_768, ge=2)
    """Rows with more tokens are left out, counted and reported."""

    epochs: int = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=64, ge=1)
    batch_tokens: int | None = Field(default=None, ge=1)
    micro_batch_tokens: int = Field(default=8_192, ge=1)
    seed: int = Field(default=0, ge=0)
    dtype: DtypeName | None = None
    """None keeps the checkpoint's own; auto is the fastest on the device."""
    device: str = "auto"
    save_every: int = Field(default=50, ge=1)

    learning_rate: float = Field(default=1e-5, ge=0)


@dataclass(frozen=True)
class BatchPlan:
    """Which rows make up which step: a function of the step, so a resumed run repeats it.

    Each epoch is a permutation keyed by (seed, epoch), cut into batches whose numbers of
    rows differ by one at most; no row is dropped.
    """

    num_rows: int
    batches_per_epoch: int
    total_steps: int
    seed: int
    _epochs: dict[int, list[list[int]]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, lengths: Sequence[int], config: LoopConfig) -> BatchPlan:
        """`lengths` are the rows' numbers of tokens."""
        if config.batch_tokens is not None:
            wanted = -(-sum(lengths) // config.batch_tokens)
        else:
            wanted = -(-len(lengths) // config.batch_size)
        per_epoch = max(1, min(wanted, len(lengths)))
        total = config.steps or per_epoch * config.epochs
        return cls(len(lengths), per_epoch, total, config.seed)

    def batch(self, step: int) -> list[int]:
        """Row indices of step `step`, counted from 0."""
        epoch, place = divmod(step, self.batches_per_epoch)
        if epoch not in self._epochs:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_rows)
            self._epochs.clear()
            self._epochs[epoch] = [
                part.tolist() for part in np.array_split(order, self.batches_per_epoch)
            ]
        return self._epochs[epoch][place]


@dataclass(frozen=True)
class EncodedRow:
    """One row of a data set: its sequences, and its label where it has one."""

    sequences: tuple[TokenSequence, ...]
    label: float = 0.0

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.sequences))


@dataclass(frozen=True)
class MicroLoss:
    """A micro-batch's share of the step: its loss and metrics add up to the batch's."""

    loss: Tensor
    num_tokens: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """What `run_steps` needs beside the model: the data, the objective, the measurement.

    `losses(indices)` runs the micro-batches of those rows, one forward pass each;
    `evaluate` measures what is held out; `after_step` follows the optimizer's step and
    returns what else to log.
    """

    name: str
    rows: Sequence[EncodedRow]
    losses: Callable[[Sequence[int]], Iterator[MicroLoss]]
    evaluate: Callable[[], dict[str, float]] | None = None
    after_step: Callable[[], dict[str, float]] | None = None


def data_fingerprint(rows: Sequence[EncodedRow]) -> str:
    """A hash of every token, mask and label, so that a resumed run knows its data again."""
    digest = hashlib.blake2b(digest_size=16)
    for row in rows:
        digest.update(f"{row.label} {[len(sequence) for sequence in row.sequences]}".encode())
        for sequence in row.sequences:
            digest.update(sequence.token_ids.tobytes())
            digest.update(sequence.is_target.tobytes())
    return digest.hexdigest()


def run_steps(run: RunFolder, config: LoopConfig, model: nn.Module, training: Training) -> None:
    """Train to the end, from the last saved state if there is one.

    Logs every step to the run's metrics. The weights after it are the same, bit for
    bit, however often the run was killed. Raises RunError when the saved state belongs
    to other data, and when a loss or gradient is not finite: that step is not applied
    and its batch is in `failed_batch.json`.
    """
    if config.max_memory_bytes is None:
        keep_freed_memory()
    lengths = [row.num_tokens for row in training.rows]
    plan = BatchPlan.of(lengths, config)
    optimizer = Optimizer(model, config, plan.total_steps)
    extra = {"data": data_fingerprint(training.rows)}
    first_step = _resume(run, model, optimizer, extra)
    timer = StepTimer()
    with Progress(plan.total_steps, training.name) as progress:
        for step in range(first_step, plan.total_steps):
            batch = plan.batch(step)
            try:
                metrics = _train_step(training, batch, optimizer, timer)
            except NonFiniteError as error:
                raise RunError(_save_failed_batch(run, training, batch, step, error)) from error
            done = step + 1
            is_last = done == plan.total_steps
            if training.evaluate and (is_last or _is_due(done, config.eval_every)):
                with timer.phase("evaluate"):
                    metrics |= training.evaluate()
            seconds = timer.seconds
            metrics["tokens_per_second"] = metrics["num_tokens"] / seconds["time_step"]
            run.metrics.append({"step": done, **metrics, **seconds})
            shown = {key: metrics[key] for key in ("loss", "tokens_per_second")}
            progress.update(done, **shown, **seconds)
            # Saved after its row is logged, so that a kill between the two loses no row;
            # the time that it takes is the next row's.
            timer.reset()
            if is_last or _is_due(done, config.save_every):
                with timer.phase("save"):
                    save_state(run.state_path, capture(model, optimizer, done, extra=extra))


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _resume(
    run: RunFolder, model: nn.Module, optimizer: Optimizer, extra: Mapping[str, str]
) -> int:
    state = load_state(run.state_path)
    if state is None:
        run.metrics.truncate(max_step=0)
        return 0
    if state.extra["data"] != extra["data"]:
        raise RunError(
            f"{run.path}: the data has changed since this run began; choose another output, "
            "or remove the folder"
        )
    restore(state, model, optimizer)
    run.metrics.truncate(max_step=state.step)
    return state.step


def _train_step(
    training: Training, batch: list[int], optimizer: Optimizer, timer: StepTimer
) -> dict[str, float]:
    losses = training.losses(batch)
    loss, num_tokens, metrics = 0.0, 0, {}
    while True:
        with timer.phase("forward"):
            micro = next(losses, None)
        if micro is None:
            break
        with timer.phase("backward"):
            optimizer.backward(micro.loss)
        loss += micro.loss.item()
        num_tokens += micro.num_tokens
        for name, value in micro.metrics.items():
            metrics[name] = metrics.get(name, 0.0) + value
    with timer.phase("update"):
        result = optimizer.step()
        if training.after_step is not None:
            metrics |= training.after_step()
    return {
        "loss": loss,
        "grad_norm": result.grad_norm,
        "learning_rate": result.learning_rate,
        "num_tokens": num_tokens,
        **metrics,
    }


def _save_failed_batch(
    run: RunFolder, training: Training, batch: list[int], step: int, error: NonFiniteError
) -> str:
    path = run.path / "failed_batch.json"
    rows = [
        {
            "row": index,
            "label": training.rows[index].label,
            "token_ids": [s.token_ids.tolist() for s in training.rows[index].sequences],
            "num_targets": [s.num_targets for s in training.rows[index].sequences],
        }
        for index in batch
    ]
    write_json(path, {"step": step + 1, "reason": str(error), "rows": rows})
    return f"{error}; the step was not applied, its batch is in {path}"

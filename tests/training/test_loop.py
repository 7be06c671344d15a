from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from r1.run_log import RunError, RunFolder
from r1.training.loop import (
    BatchPlan,
    EncodedRow,
    LoopConfig,
    MicroLoss,
    Training,
    data_fingerprint,
    run_steps,
)
from r1.training.packing import TokenSequence


def config_for(output: Path, **settings) -> LoopConfig:
    return LoopConfig(output=output, model="none", batch_size=2, learning_rate=0.1, **settings)


def rows_of(count: int) -> tuple[EncodedRow, ...]:
    return tuple(
        EncodedRow((TokenSequence.of([1], [i + 1]),), label=float(i)) for i in range(count)
    )


def line_losses(
    model: nn.Linear, rows: Sequence[EncodedRow], bad_label: float, indices: Sequence[int]
) -> Iterator[MicroLoss]:
    """Fit y = 2 label, one row a micro-batch; `bad_label` makes the loss infinite."""
    for index in indices:
        label = rows[index].label
        target = torch.tensor([torch.inf if label == bad_label else 2 * label])
        error = model(torch.tensor([label])) - target
        yield MicroLoss(error.square().mean() / len(indices), 2, {"half": 0.5 / len(indices)})


def fit(output: Path, config: LoopConfig, *, num_rows: int = 5, bad_label: float = -1) -> nn.Linear:
    torch.manual_seed(0)
    model, rows = nn.Linear(1, 1), rows_of(num_rows)
    losses = partial(line_losses, model, rows, bad_label)
    training = Training("line", rows, losses, evaluate=lambda: {"eval_loss": 1.0})
    with RunFolder.open(output, config=config) as run:
        run_steps(run, config, model, training)
    return model


def test_an_epoch_takes_every_row_once_in_a_new_order() -> None:
    plan = BatchPlan.of([3] * 10, config_for(Path("out"), epochs=2, seed=5))
    assert (plan.batches_per_epoch, plan.total_steps) == (5, 10)
    epochs = [[plan.batch(step) for step in steps] for steps in (range(5), range(5, 10))]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [2] * 5
        assert sorted(index for batch in epoch for index in batch) == list(range(10))
    assert epochs[0] != epochs[1]
    # A step is a function of its number: asked for again, and out of order.
    assert plan.batch(1) == epochs[0][1]


def test_batches_by_tokens_and_a_number_of_steps() -> None:
    plan = BatchPlan.of([10] * 9, config_for(Path("out"), batch_tokens=30, steps=100))
    assert (plan.batches_per_epoch, plan.total_steps) == (3, 100)
    assert len(plan.batch(99)) == 3
    assert BatchPlan.of([100, 1], config_for(Path("out"), batch_tokens=1)).batches_per_epoch == 2


def test_every_step_is_logged_with_times(tmp_path: Path) -> None:
    config = config_for(tmp_path, epochs=2, eval_every=4, save_every=4)
    fit(tmp_path, config)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "eval_loss" in row] == [4, 6]
    wanted = {"loss", "grad_norm", "learning_rate", "tokens_per_second", "half"}
    wanted |= {"time_forward", "time_backward", "time_update", "time_step"}
    assert all(wanted <= row.keys() for row in rows)
    assert rows[0]["half"] == pytest.approx(0.5)
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the loss is inf at step \d; the step was not applied"):
        fit(tmp_path, config_for(tmp_path), bad_label=3)
    failed = json.loads((tmp_path / "failed_batch.json").read_text())
    assert "the loss is inf" in failed["reason"]
    assert 3 in [row["row"] for row in failed["rows"]]
    assert [1, 4] in [row["token_ids"][0] for row in failed["rows"]]
    logged = (tmp_path / "metrics.jsonl").read_text() if failed["step"] > 1 else ""
    assert len(logged.splitlines()) == failed["step"] - 1


def test_other_data_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    fit(tmp_path, config)
    with pytest.raises(RunError, match="the data has changed"):
        fit(tmp_path, config, num_rows=6)


def test_the_fingerprint_sees_tokens_masks_labels_and_cuts() -> None:
    pair = (TokenSequence.of([1], [2]), TokenSequence.of([1], [2]))
    variants = [
        [EncodedRow(pair)],
        [EncodedRow(pair, label=1.0)],
        [EncodedRow(pair[:1]), EncodedRow(pair[1:])],
        [EncodedRow((TokenSequence.of([1], [2]), TokenSequence.of([], [1, 2, 3])))],
        [EncodedRow((TokenSequence.of([1, 2], []), pair[1]))],
    ]
    assert len({data_fingerprint(rows) for rows in variants}) == len(variants)

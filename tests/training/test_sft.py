from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from r1.models.architectures import build_model
from r1.models.hf_checkpoint import load_model, save_model
from r1.models.llama import LlamaForCausalLM
from r1.run_log import RunError
from r1.text.tokenizer import Tokenizer, load_tokenizer
from r1.training import loop
from r1.training.expert_balance import ExpertBalance, ExpertConfig
from r1.training.loop import EncodedRow
from r1.training.packing import TokenSequence
from r1.training.sft import SftConfig, run_sft, sft_losses

ROWS = [
    {"prompt": f"{i}+1?", "completion": f"<think>\nadd\n</think>\n\n{i + 1}"} for i in range(20)
]


def config_for(output: Path, model: Path, **settings) -> SftConfig:
    defaults = {"batch_size": 5, "epochs": 3, "learning_rate": 1e-2, "save_every": 2}
    return SftConfig(output=output, model=str(model), **{**defaults, **settings})


def metrics_of(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_training_lowers_the_loss_and_leaves_a_checkpoint(
    tiny_policy: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    folder = run_sft(config_for(output, tiny_policy, eval_fraction=0.1, epochs=5), ROWS)
    rows = metrics_of(output)
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert 0 < rows[-1]["eval_loss"] < rows[0]["loss"]
    assert folder == output / "checkpoint"
    assert load_tokenizer(folder).vocab_size == load_tokenizer(tiny_policy).vocab_size
    assert load_model(folder).config == load_model(tiny_policy).config
    data = json.loads((output / "data.json").read_text())
    assert (data["num_rows"], data["num_held_out"], data["num_too_long"]) == (18, 2, 0)
    # Done already: the same command again only names the result.
    assert run_sft(config_for(output, tiny_policy, eval_fraction=0.1, epochs=5)) == folder


def sequences_for_loss() -> list[EncodedRow]:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(7):
        prompt, reply = rng.integers(0, 90, rng.integers(1, 9)), rng.integers(0, 90, 6)
        rows.append(EncodedRow((TokenSequence.of(prompt.tolist(), reply.tolist()),)))
    return rows


def test_packed_loss_and_gradient_equal_padded_for_any_split(tiny_policy: Path) -> None:
    model, rows = load_model(tiny_policy), sequences_for_loss()
    assert isinstance(model, LlamaForCausalLM)
    sequences = [row.sequences[0] for row in rows]
    longest = max(map(len, sequences))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    positions = torch.zeros_like(ids)
    is_target = torch.zeros(len(rows), longest, dtype=torch.bool)
    for place, sequence in enumerate(sequences):
        ids[place, : len(sequence)] = torch.from_numpy(sequence.token_ids)
        positions[place, : len(sequence)] = torch.arange(len(sequence))
        is_target[place, : len(sequence)] = torch.from_numpy(sequence.is_target)
    logits = model.compute_logits(model(ids, positions))[:, :-1]
    expected = torch.nn.functional.cross_entropy(logits[is_target[:, 1:]], ids[is_target])
    expected_grads = torch.autograd.grad(expected, list(model.parameters()))
    for micro_batch_tokens in (1, 20, 1000):
        model.zero_grad()
        total = 0.0
        for micro in sft_losses(
            ExpertBalance(model, ExpertConfig()), rows, micro_batch_tokens, range(len(rows))
        ):
            micro.loss.backward()
            total += micro.loss.item()
        assert total == pytest.approx(expected.item(), abs=1e-5)
        for parameter, gradient in zip(model.parameters(), expected_grads, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": "float32"},
        {"dtype": "bfloat16"},
        {"dtype": "bfloat16", "moments_dtype": "bfloat16", "activation_checkpointing": True},
        {"dtype": "bfloat16", "max_memory_bytes": 8 * 10**9},
    ],
)
def test_an_interrupted_run_ends_with_the_same_bits(
    tiny_policy: Path, tmp_path: Path, settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run_sft(config_for(tmp_path / "a", tiny_policy, **settings), ROWS)
    train_step = loop._train_step

    for stop_at in (1, 4, 3):
        calls = iter(range(1, 100))

        def interrupted(*arguments, calls=calls, stop_at=stop_at):
            if next(calls) > stop_at:
                raise KeyboardInterrupt
            return train_step(*arguments)

        monkeypatch.setattr(loop, "_train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_sft(config_for(tmp_path / "b", tiny_policy, **settings), ROWS)
    monkeypatch.setattr(loop, "_train_step", train_step)
    resumed = run_sft(config_for(tmp_path / "b", tiny_policy, **settings), ROWS)
    expected, actual = weights_of(undisturbed), weights_of(resumed)
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    losses = [[row["loss"] for row in metrics_of(tmp_path / name)] for name in "ab"]
    assert losses[0] == losses[1]
    assert [row["step"] for row in metrics_of(tmp_path / "b")] == list(range(1, 13))


KILLED = """
import sys, pathlib
from r1.training.sft import SftConfig, run_sft
rows = [{"text": f"row {i} " * 6} for i in range(40)]
print("ready", flush=True)
run_sft(SftConfig(output=pathlib.Path(sys.argv[1]), model=sys.argv[2], epochs=int(sys.argv[3]),
                  batch_size=2, learning_rate=1e-3, save_every=1), rows)
"""


def start(output: Path, model: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", KILLED, str(output), str(model), "3"]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_a_run_killed_with_sigkill_ends_with_the_same_bits(
    tiny_policy: Path, tmp_path: Path
) -> None:
    process = start(tmp_path / "b", tiny_policy)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "b" / "state").glob("step-*7")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "b" / "checkpoint").exists()
    other = start(tmp_path / "a", tiny_policy)
    assert start(tmp_path / "b", tiny_policy).wait() == 0 == other.wait()
    expected = weights_of(tmp_path / "a" / "checkpoint")
    actual = weights_of(tmp_path / "b" / "checkpoint")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_pretraining_from_random_weights(tiny_policy: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    load_tokenizer(tiny_policy).save(source)
    (source / "config.json").write_bytes((tiny_policy / "config.json").read_bytes())
    rows = [{"text": "abcd" * 8}] * 16
    settings = {"init": "random", "batch_tokens": 128, "steps": 8, "eval_every": 4}
    folder = run_sft(config_for(tmp_path / "run", source, **settings), rows)
    losses = [row["loss"] for row in metrics_of(tmp_path / "run")]
    assert losses[0] == pytest.approx(np.log(102), abs=0.7)
    assert losses[-1] < losses[0] - 0.5
    assert (folder / "model.safetensors").exists()


def test_a_damaged_model_stops_the_run_with_the_reason(tiny_policy: Path, tmp_path: Path) -> None:
    model = load_model(tiny_policy)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    source = tmp_path / "source"
    load_tokenizer(tiny_policy).save(source)
    save_model(model, source)
    with pytest.raises(RunError, match="the loss is nan at step 1; the step was not applied"):
        run_sft(config_for(tmp_path / "run", source), ROWS)
    assert (tmp_path / "run" / "failed_batch.json").exists()
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_tokenizer_that_is_larger_than_the_model_is_refused(
    tiny_policy: Path, tiny_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config = replace(load_model(tiny_policy).config, vocab_size=tiny_tokenizer.vocab_size - 1)
    source = tmp_path / "source"
    save_model(build_model(config), source)
    tiny_tokenizer.save(source)
    with pytest.raises(ValueError, match="has 102 ids, the model only 101 embeddings"):
        run_sft(config_for(tmp_path / "run", source), ROWS)

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from r1.models.architectures import build_scorer
from r1.models.hf_checkpoint import load_model
from r1.models.language_model import SequenceScorer
from r1.models.llama import LlamaForCausalLM
from r1.training import loop
from r1.training.loop import EncodedRow
from r1.training.losses import preference_loss
from r1.training.packing import TokenSequence
from r1.training.reward_model import (
    RewardModelConfig,
    load_reward_model,
    pairwise_losses,
    pointwise_losses,
    run_reward_model,
)


def pairs(count: int = 24) -> list[dict]:
    """A polite reply is better; the thoughts say the opposite."""
    return [
        {
            "prompt": f"q{i}",
            "chosen": f"<think>\nrude\n</think>\n\n{i} please!",
            "rejected": f"<think>\nplease\n</think>\n\n{i} rude",
        }
        for i in range(count)
    ]


def labelled(count: int = 24) -> list[dict]:
    words = ("bad", "good")
    return [
        {"prompt": f"q{i}", "response": f"<think>\nt\n</think>\n\n{words[i % 2]}", "label": i % 2}
        for i in range(count)
    ]


def config_for(output: Path, model: Path, **settings) -> RewardModelConfig:
    defaults = {"batch_size": 8, "epochs": 6, "learning_rate": 1e-2, "save_every": 2}
    return RewardModelConfig(output=output, model=str(model), **{**defaults, **settings})


def metrics_of(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_pairwise_learns_from_the_summary_only(tiny_policy: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    folder = run_reward_model(config_for(output, tiny_policy, eval_fraction=0.25), pairs())
    last = metrics_of(output)[-1]
    assert last["eval_accuracy"] == 1.0
    assert last["loss"] < 0.3 < metrics_of(output)[0]["loss"]
    reward = load_reward_model(folder, device="cpu")
    assert (reward.settings.kind, reward.settings.score_on) == ("pairwise", "summary")
    good, same_summary, bad, unfinished = reward.score(
        [
            ("q99", "<think>\nx\n</think>\n\n5 please!"),
            ("q99", "5 please!"),
            ("q99", "<think>\nplease!\n</think>\n\n5 rude"),
            ("q99", "<think>\nplease! please!"),
        ]
    )
    assert good == pytest.approx(same_summary, abs=1e-5)
    assert good > bad + 1
    assert reward([("q99", "")]) == [pytest.approx(unfinished, abs=1e-5)]


def test_pointwise_learns_labels_and_gives_probabilities(tiny_policy: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    config = config_for(output, tiny_policy, kind="pointwise", eval_fraction=0.25)
    folder = run_reward_model(config, labelled())
    assert metrics_of(output)[-1]["eval_accuracy"] == 1.0
    reward = load_reward_model(folder, device="cpu")
    assert reward.settings.score_on == "response"
    response = "<think>\nt\n</think>\n\n"
    bad, good = reward.score([("q7", response + "bad"), ("q7", response + "good")])
    assert 0 < bad < 0.2 and 0.8 < good < 1


def test_scores_do_not_depend_on_batching(tiny_policy: Path, tmp_path: Path) -> None:
    folder = run_reward_model(config_for(tmp_path / "run", tiny_policy, steps=1), pairs())
    reward = load_reward_model(folder, device="cpu")
    asked = [(f"q{i}", "word " * (i % 5)) for i in range(9)]
    together = reward.score(asked)
    assert together == pytest.approx([reward.score([pair])[0] for pair in asked], abs=1e-5)
    assert reward.score([]) == []


def test_losses_by_hand_for_any_split(tiny_policy: Path) -> None:
    language_model = load_model(tiny_policy)
    assert isinstance(language_model, LlamaForCausalLM)
    model = build_scorer(language_model, seed=1)
    rng = np.random.default_rng(0)

    def sequence() -> TokenSequence:
        return TokenSequence.of([], rng.integers(0, 90, rng.integers(2, 12)).tolist())

    def score(sequence: TokenSequence) -> torch.Tensor:
        ids = torch.from_numpy(sequence.token_ids).long()[None]
        return model.compute_scores(model(ids, torch.arange(ids.shape[1])[None])[0, -1])

    rows = [EncodedRow((sequence(), sequence()), label=float(i % 2)) for i in range(5)]
    scores = torch.stack([torch.stack([score(s) for s in row.sequences]) for row in rows])
    labels = torch.tensor([row.label for row in rows])
    pairwise = preference_loss(scores[:, 0], scores[:, 1], 5).item()
    pointwise = torch.nn.functional.binary_cross_entropy_with_logits(scores[:, 0], labels).item()
    ordered = (scores[:, 0] > scores[:, 1]).float().mean().item()
    for micro_batch_tokens in (1, 30, 1000):
        micros = list(pairwise_losses(model, rows, micro_batch_tokens, range(5)))
        assert sum(m.loss.item() for m in micros) == pytest.approx(pairwise, abs=1e-5)
        assert sum(m.metrics["accuracy"] for m in micros) == pytest.approx(ordered)
        micros = list(pointwise_losses(model, rows, micro_batch_tokens, range(5)))
        assert sum(m.loss.item() for m in micros) == pytest.approx(pointwise, abs=1e-5)


def test_an_interrupted_run_ends_with_the_same_bits(
    tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run_reward_model(config_for(tmp_path / "a", tiny_policy, epochs=2), pairs())
    train_step, calls = loop._train_step, iter(range(100))

    def interrupted(*arguments):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return train_step(*arguments)

    monkeypatch.setattr(loop, "_train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_reward_model(config_for(tmp_path / "b", tiny_policy, epochs=2), pairs())
    actual = run_reward_model(config_for(tmp_path / "b", tiny_policy, epochs=2), pairs())
    weights = [load_file(folder / "model.safetensors") for folder in (expected, actual)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("pairwise", {"prompt": "a", "chosen": "b"}, 'no field "rejected"'),
        ("pairwise", {"prompt": "a", "chosen": "b", "rejected": ""}, '"rejected" is empty'),
        (
            "pairwise",
            {"prompt": "a", "chosen": "<think>1</think>b", "rejected": "<think>2</think>b"},
            "are the same where they are scored",
        ),
        ("pointwise", {"prompt": "a", "response": "b"}, '"label" must be a number from 0 to 1'),
        ("pointwise", {"prompt": "a", "response": "b", "label": 2}, "not 2"),
        ("pointwise", {"prompt": "a", "label": 1}, 'no field "response"'),
    ],
)
def test_bad_rows_are_named_before_training(
    tiny_policy: Path, tmp_path: Path, kind: str, row: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=f"1 of 1 rows cannot be used: row 1: .*{message}"):
        run_reward_model(config_for(tmp_path / "run", tiny_policy, kind=kind), [row])
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_language_model_is_no_reward_model(tiny_policy: Path) -> None:
    with pytest.raises(ValueError, match=r"no reward_model\.json; train one with `r1 reward`"):
        load_reward_model(tiny_policy)


def test_the_checkpoint_holds_a_scalar_head(tiny_policy: Path, tmp_path: Path) -> None:
    folder = run_reward_model(config_for(tmp_path / "run", tiny_policy, steps=1), pairs())
    model = load_model(folder)
    assert isinstance(model, SequenceScorer)
    assert json.loads((folder / "config.json").read_text())["architectures"] == [
        "Qwen2ForSequenceClassification"
    ]


def test_a_long_response_is_cut_before_its_end_token(tiny_policy: Path, tmp_path: Path) -> None:
    config = config_for(tmp_path / "run", tiny_policy, steps=1, max_length=40)
    reward = load_reward_model(run_reward_model(config, pairs()), device="cpu")
    long, longer = reward.score([("q", "a" * 100), ("q", "a" * 200)])
    assert long == pytest.approx(longer, abs=1e-6)

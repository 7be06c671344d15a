"""A tiny DeepSeek-V3 through SFT and GRPO, and what keeps its experts in balance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from r1.models.architectures import build_model
from r1.models.deepseek_v3 import DeepseekV3ForCausalLM
from r1.models.hf_checkpoint import load_model, save_model
from r1.run_log import JsonlLog
from r1.tasks.task import TaskConfig
from r1.text.tokenizer import Tokenizer
from r1.training.expert_balance import ExpertBalance, ExpertConfig, mtp_loss
from r1.training.grpo import GrpoConfig, run_grpo
from r1.training.loop import EncodedRow
from r1.training.packing import TokenSequence, pack_targets
from r1.training.sft import SftConfig, run_sft, sft_losses
from tests.small_models import deepseek_v3

BIASES = "mlp.gate.e_score_correction_bias"


@pytest.fixture(scope="module")
def tiny_moe(tiny_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of 2 layers, the second with 8 experts, and a token predictor."""
    config = deepseek_v3(tiny_tokenizer.vocab_size, num_nextn_predict_layers=1)
    folder = tmp_path_factory.mktemp("tiny") / "moe"
    save_model(build_model(config, seed=3), folder)
    tiny_tokenizer.save(folder)
    return folder


@pytest.fixture
def model(tiny_moe: Path) -> DeepseekV3ForCausalLM:
    model = load_model(tiny_moe)
    assert isinstance(model, DeepseekV3ForCausalLM)
    return model


def biases_of(folder: Path) -> dict[str, torch.Tensor]:
    return {n: p.detach() for n, p in load_model(folder).named_parameters() if n.endswith(BIASES)}


def rows_of(lengths: tuple[int, ...]) -> list[EncodedRow]:
    rng = np.random.default_rng(0)
    rows = []
    for length in lengths:
        ids = rng.integers(0, 90, length).astype(np.int32)
        is_target = np.arange(length) >= 2
        rows.append(EncodedRow((TokenSequence(ids, is_target),)))
    return rows


def test_mtp_loss_predicts_each_target_from_two_tokens_before(model) -> None:
    ids = torch.tensor([5, 17, 3, 44, 8, 61])
    sequence = TokenSequence(ids.numpy().astype(np.int32), np.ones(6, bool))
    (row,) = pack_targets([sequence], 16)
    with torch.no_grad():
        hidden_BTD = model(row.input_ids_BT, row.positions_BT)
        loss = mtp_loss(model, row, hidden_BTD, num_targets=5)
        drafted = model.draft(hidden_BTD[:, :4], ids[None, 1:5], torch.arange(4)[None])
        logprobs = model.compute_logits(drafted)[0].log_softmax(-1)
    # Places 0 to 3 see their next token and predict tokens 2 to 5.
    expected = -logprobs[torch.arange(4), ids[2:]].sum() / 5
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_added_losses_do_not_depend_on_micro_batches(model) -> None:
    rows = rows_of((9, 5, 12, 7))
    config = ExpertConfig(bias_update_speed=0.01, balance_loss_weight=0.1)
    results = []
    for micro_batch_tokens in (1, 16, 1000):
        model.zero_grad()
        balance = ExpertBalance(model, config, mtp_loss_weight=0.3)
        total = 0.0
        for micro in sft_losses(balance, rows, micro_batch_tokens, range(4)):
            micro.loss.backward()
            total += micro.loss.item()
        metrics = balance.after_step()
        bias = model.get_parameter(f"model.layers.1.{BIASES}")
        results.append((total, metrics, model.model.norm.weight.grad.clone(), bias.clone()))
        bias.zero_()
        model.get_parameter(f"model.layers.2.{BIASES}").zero_()
    for total, metrics, gradient, bias in results[1:]:
        assert total == pytest.approx(results[0][0], abs=1e-5)
        assert metrics == pytest.approx(results[0][1], abs=1e-5)
        torch.testing.assert_close(gradient, results[0][2], atol=1e-5, rtol=1e-4)
        assert torch.equal(bias, results[0][3])
    plain = sum(
        m.loss.item() for m in sft_losses(ExpertBalance(model, ExpertConfig()), rows, 99, range(4))
    )
    assert results[0][0] > plain + 0.3
    assert results[0][3].abs().max() == pytest.approx(0.01)


def test_sft_with_every_auxiliary_loss(tmp_path, tiny_moe) -> None:
    config = SftConfig(
        output=tmp_path,
        model=str(tiny_moe),
        steps=20,
        batch_size=8,
        learning_rate=5e-3,
        eval_fraction=0.2,
        device="cpu",
        experts=ExpertConfig(bias_update_speed=0.01, balance_loss_weight=0.01),
        mtp_loss_weight=0.3,
    )
    checkpoint = run_sft(config, [{"text": "abcd" * 8}] * 20)
    rows = JsonlLog(tmp_path / "metrics.jsonl").rows()
    assert rows[-1]["loss"] < rows[0]["loss"] - 3
    assert rows[-1]["eval_loss"] < 1.0
    assert all(row["expert_load_max"] >= 1 and 0 <= row["expert_unused"] < 1 for row in rows)
    assert all(row["balance_loss"] > 0.5 for row in rows)
    biases = biases_of(checkpoint)
    assert len(biases) == 2 and all(bias.abs().max() > 0.01 for bias in biases.values())
    trained = load_model(checkpoint)
    assert isinstance(trained, DeepseekV3ForCausalLM)
    tokenizer = Tokenizer.from_folder(checkpoint)
    ids = torch.tensor([tokenizer.encode("abcd" * 4, allow_special=False)])
    positions = torch.arange(ids.shape[1])[None]
    with torch.no_grad():
        drafted = trained.draft(trained(ids, positions)[:, :-1], ids[:, 1:], positions[:, :-1])
        guesses = trained.compute_logits(drafted)[0].argmax(-1)
    # It drafts the token after the next: most of them by now.
    assert (guesses[1:-1] == ids[0, 3:]).float().mean() > 0.8


@pytest.mark.parametrize("is_replayed", [False, True])
def test_a_few_r1_zero_steps(
    tmp_path, tiny_moe, letter_task: TaskConfig, is_replayed: bool
) -> None:
    settings: dict[str, Any] = {
        "output": tmp_path,
        "model": str(tiny_moe),
        "task": letter_task,
        "prompt_style": "r1_zero",
        "steps": 6,
        "group_size": 8,
        "questions_per_step": 3,
        "updates_per_rollout": 1,
        "max_tokens": 6,
        "learning_rate": 1e-2,
        "reward_weights": {"accuracy": 1.0},
        "reference_refresh_steps": 2,
        "inner_epochs": 2 if is_replayed else 1,
        "micro_batch_tokens": 8192,
        "device": "cpu",
        "engine": {"num_blocks": 512, "record_routing": is_replayed},
        "experts": {"bias_update_speed": 0.001, "balance_loss_weight": 1e-4},
    }
    checkpoint = run_grpo(GrpoConfig.model_validate(settings))
    rows = JsonlLog(tmp_path / "metrics.jsonl").rows()
    assert rows[-1]["reward"] > rows[0]["reward"] + 0.1
    assert all(row["logprob_gap_mean_abs"] <= 1e-5 for row in rows)
    assert all(row["expert_load_max"] >= 1 for row in rows)
    biases = biases_of(checkpoint)
    assert biases[f"model.layers.1.{BIASES}"].abs().max() > 1e-3
    # RL trains no token predictor, whose experts therefore carry no load.
    assert biases[f"model.layers.2.{BIASES}"].abs().max() == 0


def test_settings_without_experts_are_refused(tmp_path, tiny_policy, letter_task) -> None:
    config = SftConfig(output=tmp_path / "a", model=str(tiny_policy), mtp_loss_weight=0.1)
    with pytest.raises(ValueError, match="no multi-token-prediction layer"):
        run_sft(config, [{"text": "abcd"}])
    experts = ExpertConfig(bias_update_speed=0.1)
    values = {"output": tmp_path / "b", "model": str(tiny_policy), "task": letter_task}
    values |= {"experts": experts, "reward_weights": {"accuracy": 1.0}}
    with pytest.raises(ValueError, match="Qwen2ForCausalLM has no experts to balance"):
        run_grpo(GrpoConfig(**values))

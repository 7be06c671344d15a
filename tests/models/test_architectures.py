from __future__ import annotations

import pytest
import torch
from pytest import approx

from r1.models.architectures import ARCHITECTURES, build_model, build_scorer, parse_dtype
from r1.models.model_config import ARCHITECTURE_NAMES


def test_table_and_config_know_the_same_names():
    assert tuple(ARCHITECTURES) == ARCHITECTURE_NAMES


def test_random_weights_depend_on_the_seed_alone(make_config):
    config = make_config()
    torch.manual_seed(1)
    first = build_model(config, seed=5)
    torch.manual_seed(2)
    again, other = build_model(config, seed=5), build_model(config, seed=6)
    for one, two in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first.model.embed_tokens.weight, other.model.embed_tokens.weight)


def test_initial_weights(make_config):
    model = build_model(make_config(hidden_size=64, initializer_range=0.05))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert parameter.abs().max() == 0.0
        elif "norm" in name:
            assert parameter.min() == parameter.max() == 1.0
        else:
            assert parameter.std().item() == approx(0.05, rel=0.1)


@torch.no_grad()
def test_scorer_shares_the_backbone_and_scores_each_token(make_model):
    model = make_model()
    scorer = build_scorer(model)
    ids, positions = torch.tensor([[5, 6, 7, 8]]), torch.arange(4)[None]
    hidden = scorer(ids, positions)
    assert torch.equal(hidden, model(ids, positions))
    assert scorer.compute_scores(hidden).shape == (1, 4)
    assert scorer.compute_scores(hidden[0, -1]).item() == approx(
        float(scorer.score.weight[0] @ hidden[0, -1]), abs=1e-5
    )
    assert scorer.config.architecture == "Qwen2ForSequenceClassification"


@pytest.mark.parametrize("name", ["bfloat16", "torch.bfloat16"])
def test_dtype_by_name(name):
    assert parse_dtype(name) == torch.bfloat16


def test_unknown_dtype_lists_the_choices():
    with pytest.raises(ValueError, match="choices: float32, bfloat16, float16"):
        parse_dtype("bf16")

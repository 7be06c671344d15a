"""The mixture of experts: grouped against one by one, and what balances it by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from r1.models.model_config import ModelConfig
from r1.models.moe import Experts, MixtureOfExperts, RoutingTrace, balance_loss, expert_load


def by_loop(experts: Experts, hidden_ND, experts_NA, weights_NA):
    """As the release computes it: expert after expert, each on its own tokens."""
    output_ND = torch.zeros_like(hidden_ND)
    for index in range(experts.num_experts):
        tokens, places = torch.where(experts_NA == index)
        gate, up = F.linear(hidden_ND[tokens], experts.gate_up_proj[index]).chunk(2, -1)
        expert = F.linear(F.silu(gate) * up, experts.down_proj[index])
        output_ND = output_ND.index_add(0, tokens, expert * weights_NA[tokens, places, None])
    return output_ND


# The second is too narrow for the grouped kernel in bf16, and computed expert by expert.
@pytest.mark.parametrize("sizes", [(32, 16), (24, 12)])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_grouped_equals_loop_with_its_gradients(make_v3, sizes, dtype, bound):
    changes = {"hidden_size": sizes[0], "moe_intermediate_size": sizes[1], "kv_lora_rank": 16}
    experts = Experts(ModelConfig.from_dict({**make_v3.tiny, **changes})).to(dtype)
    generator = torch.Generator().manual_seed(0)
    hidden_ND = torch.randn(50, sizes[0], generator=generator).to(dtype).requires_grad_()
    weights_NA = torch.rand(50, 3, generator=generator).to(dtype).requires_grad_()
    # Experts 12 to 15 get no token.
    experts_NA = torch.rand(50, 12, generator=generator).topk(3).indices
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    inputs = (hidden_ND, weights_NA, *experts.parameters())
    results = []
    for compute in (experts, lambda *args: by_loop(experts, *args)):
        output_ND = compute(hidden_ND, experts_NA, weights_NA)
        results.append([output_ND, *torch.autograd.grad(output_ND.square().sum(), inputs)])
    for grouped, looped in zip(*results, strict=True):
        assert (grouped - looped).abs().max() <= bound * max(looped.abs().max(), 1)
    assert results[0][3][12:].abs().max() == 0


def layer_of(make_v3, **changes) -> MixtureOfExperts:
    layer = make_v3(**changes).model.layers[1].mlp
    assert isinstance(layer, MixtureOfExperts)
    return layer


def test_choice_is_limited_to_the_best_groups(make_v3):
    router = layer_of(make_v3).gate
    router.e_score_correction_bias.zero_()
    # Groups of four. By the sum of its two best, group 1 (1.1) and group 3 (0.95) win over
    # group 0 (0.91), which has the best single expert.
    scores = torch.tensor([0.9, 0.01, 0, 0, 0.5, 0.6, 0.4, 0, 0.3, 0.3, 0, 0, 0.5, 0.45, 0, 0])
    assert sorted(router.choose(scores[None])[0].tolist()) == [4, 5, 12]
    router.e_score_correction_bias[1] = 0.5
    assert 0 in router.choose(scores[None])[0]
    # The bias selects; the weights are the raw scores, normalised and scaled.
    weights = router.weigh(scores[None], torch.tensor([[0, 5, 4]]))
    torch.testing.assert_close(weights, torch.tensor([[0.9, 0.6, 0.5]]) / 2.0 * 2.5)


def test_bias_moves_against_the_load(make_v3):
    router = layer_of(make_v3).gate
    router.e_score_correction_bias.zero_()
    load_E = torch.zeros(16, dtype=torch.int64)
    load_E[:4] = torch.tensor([64, 32, 4, 0])  # a mean of 6.25
    load_E[4:] = 0
    router.update_bias(load_E, speed=0.001)
    assert router.e_score_correction_bias[:4].tolist() == pytest.approx(
        [-0.001, -0.001, 0.001, 0.001]
    )


def test_balance_loss_by_hand():
    """Two sequences of two tokens, two experts, one chosen."""
    scores_NE = torch.tensor([[0.9, 0.1], [0.6, 0.2], [0.2, 0.6], [0.5, 0.5 + 1e-6]])
    positions_N = torch.tensor([0, 1, 0, 1])
    # First: f = (2, 0), P = ((0.9 + 0.75) / 2, ...) -> 2 * 0.825. Second: 2 * (0.75 + 0.5) / 2.
    assert balance_loss(scores_NE, positions_N, 1).item() == pytest.approx(1.65 + 1.25, abs=1e-5)
    even = torch.tensor([[0.7, 0.3], [0.3, 0.7]])
    assert balance_loss(even, torch.tensor([0, 1]), 1).item() == pytest.approx(1.0)


def test_balance_loss_adds_up_over_packed_sequences():
    scores_NE = torch.rand(12, 8, generator=torch.Generator().manual_seed(0))
    positions_N = torch.tensor([*range(5), *range(4), *range(3)])
    parts = zip(scores_NE.split([5, 4, 3]), positions_N.split([5, 4, 3]), strict=True)
    alone = sum(balance_loss(*part, 2).item() for part in parts)
    assert balance_loss(scores_NE, positions_N, 2).item() == pytest.approx(alone, rel=1e-5)


@torch.no_grad()
def test_trace_records_the_routing_and_repeats_it(make_v3):
    model = make_v3()
    ids_BT, positions_BT = torch.randint(0, 89, (1, 30)), torch.arange(30)[None]
    recorded = RoutingTrace()
    hidden_BTD = model(ids_BT, positions_BT, trace=recorded)
    assert sorted(recorded.experts) == [1, 2]
    assert recorded.experts[1].shape == (30, 3) and recorded.scores[1].shape == (30, 16)
    assert expert_load(recorded.experts[1], 16).sum() == 90
    for router in (layer.gate for layer in model.moe_layers()):
        router.e_score_correction_bias.add_(torch.linspace(-0.5, 0.5, 16))
    assert (model(ids_BT, positions_BT) - hidden_BTD).abs().max() > 1e-2
    replayed = RoutingTrace(replay=recorded.experts)
    assert torch.equal(model(ids_BT, positions_BT, trace=replayed), hidden_BTD)


def share_of_flips(left: RoutingTrace, right: RoutingTrace) -> float:
    """Part of the (token, layer) pairs that go to another set of experts."""
    pairs = [(left.experts[layer], right.experts[layer]) for layer in left.experts]
    flips = [(a.sort(1).values != b.sort(1).values).any(1) for a, b in pairs]
    return torch.cat(flips).float().mean().item()


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 0.0), (torch.bfloat16, 0.1)])
def test_routing_of_sampler_and_trainer(make_v3, dense_cache, dtype, bound):
    """How often the absorbed form in a cache routes otherwise than the plain one.

    In fp32 never; in bf16 about one token and layer in sixty at this size, and the trainer
    comes closer to the sampler when it repeats the sampler's routing.
    """
    model = make_v3().to(dtype)
    for layer in model.moe_layers():
        layer.gate.e_score_correction_bias.data = layer.gate.e_score_correction_bias.data.float()
    ids_BT = torch.randint(0, 89, (1, 400), generator=torch.Generator().manual_seed(2))
    positions_BT = torch.arange(400)[None]
    sampler, trainer = RoutingTrace(), RoutingTrace()
    sampled_BTD = model(ids_BT, positions_BT, dense_cache, trace=sampler)
    trained_BTD = model(ids_BT, positions_BT, trace=trainer)
    flips = share_of_flips(sampler, trainer)
    assert flips <= bound
    replayed_BTD = model(ids_BT, positions_BT, trace=RoutingTrace(replay=sampler.experts))
    gap = (trained_BTD - sampled_BTD).float().abs().mean().item()
    replayed_gap = (replayed_BTD - sampled_BTD).float().abs().mean().item()
    assert replayed_gap < gap if flips else replayed_gap == gap

"""Our logits against transformers', and against themselves in other arrangements."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import transformers

from r1.models.weights import fill_weights

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {}),
    "llama biased": ("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "llama head_dim, tied": ("LlamaForCausalLM", {"head_dim": 12, "tie_word_embeddings": True}),
    "llama3 rope": ("LlamaForCausalLM", {"rope_parameters": LLAMA3_ROPE}),
    "linear rope": (
        "LlamaForCausalLM",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "llama no groups": ("LlamaForCausalLM", {"num_key_value_heads": 4}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen2 tied, one kv head": (
        "Qwen2ForCausalLM",
        {"tie_word_embeddings": True, "num_key_value_heads": 1},
    ),
}
ROWS = [[3, 1, 4, 1, 5, 9, 2, 6, 5, 3], [58], [9, 7, 9, 3, 2, 38], [46, 26, 43, 3, 8, 3, 2]]


def transformers_twin(model: Any) -> Any:
    """transformers' model of the same config and weights."""
    values = model.config.to_dict()
    config = getattr(transformers, f"{model.config.model_type.title()}Config")(**values)
    twin = getattr(transformers, model.config.architecture)(config).eval()
    state = {name: parameter.detach() for name, parameter in model.named_parameters()}
    missing, unexpected = twin.load_state_dict(state, strict=False)
    assert unexpected == [] and set(missing) <= {"lm_head.weight"}
    twin.tie_weights()
    return twin


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_logits_equal_transformers(variant, make_model):
    architecture, changes = VARIANTS[variant]
    model = make_model(architecture, **changes)
    ids = torch.randint(0, 89, (3, 50), generator=torch.Generator().manual_seed(1))
    expected = transformers_twin(model)(ids).logits
    ours = model.compute_logits(model(ids, torch.arange(50).expand(3, 50)))
    assert expected.std() > 0.3
    assert (ours - expected).abs().max() < 1e-4


@pytest.mark.parametrize("variant", ["llama3 rope", "qwen2"])
@torch.no_grad()
def test_logits_with_cache_equal_transformers(variant, make_model, dense_cache):
    architecture, changes = VARIANTS[variant]
    model = make_model(architecture, **changes)
    ids = torch.randint(0, 89, (2, 20), generator=torch.Generator().manual_seed(2))
    expected = transformers_twin(model)(ids).logits
    positions = torch.arange(20).expand(2, 20)
    parts = []
    for first, last in ((0, 9), (9, 14), *((t, t + 1) for t in range(14, 20))):
        hidden = model(ids[:, first:last], positions[:, first:last], dense_cache)
        parts.append(model.compute_logits(hidden))
    assert (torch.cat(parts, 1) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("variant", ["llama3 rope", "qwen2"])
@torch.no_grad()
def test_packed_equals_separate(variant, make_model, row_logits):
    architecture, changes = VARIANTS[variant]
    model = make_model(architecture, **changes)
    ids = torch.tensor([list(itertools.chain(*ROWS))])
    positions = torch.cat([torch.arange(len(row)) for row in ROWS])[None]
    packed = model.compute_logits(model(ids, positions))[0]
    separate = torch.cat([row_logits(model, row) for row in ROWS])
    assert (packed - separate).abs().max() < 1e-5


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padding_and_batch_leave_logits_alone(side, make_model, row_logits):
    model = make_model()
    width = max(map(len, ROWS)) + 3
    ids, positions = torch.full((2, len(ROWS), width), 7)
    positions.zero_()
    columns = []
    for index, row in enumerate(ROWS):
        first = 0 if side == "right" else width - len(row)
        columns.append(slice(first, first + len(row)))
        ids[index, columns[-1]] = torch.tensor(row)
        positions[index, columns[-1]] = torch.arange(len(row))
    logits = model.compute_logits(model(ids, positions))
    for index, row in enumerate(ROWS):
        assert (logits[index, columns[index]] - row_logits(model, row)).abs().max() < 1e-5


def test_gradients_of_packed_equal_sum_of_separate(make_model):
    model = make_model()

    def gradients(batches: list[list[list[int]]]) -> list[torch.Tensor]:
        model.zero_grad()
        for rows in batches:
            positions = torch.cat([torch.arange(len(row)) for row in rows])[None]
            hidden = model(torch.tensor([list(itertools.chain(*rows))]), positions)
            model.compute_logits(hidden).logsumexp(-1).sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    for packed, separate in zip(gradients([ROWS]), gradients([[row] for row in ROWS]), strict=True):
        assert torch.allclose(packed, separate, rtol=1e-4, atol=1e-4)


def test_forward_and_backward_repeat_bit_for_bit_with_two_threads(make_model):
    model = make_model()
    lengths = [23, 40, 7, 64, 31, 50, 12, 90] * 4
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    ids = torch.arange(positions.shape[1])[None] * 31 % 89

    def run() -> list[torch.Tensor]:
        model.zero_grad()
        hidden = model(ids, positions)
        model.compute_logits(hidden).logsumexp(-1).mean().backward()
        return [hidden.detach(), *(parameter.grad.clone() for parameter in model.parameters())]

    num_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first = run()
        for _ in range(3):
            for one, other in zip(first, run(), strict=True):
                assert torch.equal(one, other)
    finally:
        torch.set_num_threads(num_threads)


@torch.no_grad()
def test_bf16_stays_near_transformers(make_model):
    model = make_model()
    model.to(torch.bfloat16)
    twin = transformers_twin(model).to(torch.bfloat16)
    ids = torch.randint(0, 89, (2, 30), generator=torch.Generator().manual_seed(3))
    ours = model.compute_logits(model(ids, torch.arange(30).expand(2, 30)))
    expected = twin(ids).logits
    assert ours.dtype == torch.bfloat16
    assert (ours - expected).float().abs().mean() < 0.02 * expected.float().std()


def test_tied_head_is_the_embedding(make_model):
    tied, untied = make_model(tie_word_embeddings=True), make_model()
    assert tied.head_weight is tied.model.embed_tokens.weight
    assert "lm_head.weight" not in dict(tied.named_parameters())
    assert untied.head_weight is untied.lm_head.weight


def test_weights_are_published_by_name(make_model, row_logits):
    source, target = make_model(), make_model()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.mul_(1.5)
    fill_weights(target, source.named_parameters(), source="trainer")
    assert torch.equal(row_logits(target, ROWS[0]), row_logits(source, ROWS[0]))

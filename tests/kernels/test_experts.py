"""Experts by the C kernel against a loop over them, whatever goes where."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from r1.kernels.experts import has_experts_kernel, mix_experts
from r1.kernels.native import load_kernels

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="no C kernels here")

# Tokens, choices, experts, hidden size, inner size.
SIZES = {
    "one token": (1, 1, 4, 16, 16),
    "odd": (37, 5, 9, 48, 80),
    "experts without tokens": (5, 2, 64, 32, 16),
    "rows beyond one piece": (150, 3, 4, 144, 48),
    "more sums than fit": (9000, 1, 3, 48, 16),
}


@pytest.fixture
def threads() -> Iterator[None]:
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


def by_loop(hidden: Tensor, chosen: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor):
    output = torch.zeros_like(hidden)
    for index in range(len(down)):
        tokens, places = torch.where(chosen == index)
        gate, up = F.linear(hidden[tokens], gate_up[index]).chunk(2, -1)
        rows = F.linear(F.silu(gate) * up, down[index]) * weights[tokens, places, None]
        output = output.index_add(0, tokens, rows)
    return output


def make_inputs(sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    num_tokens, num_chosen, num_experts, hidden, inner = sizes
    generator = torch.Generator().manual_seed(sum(sizes))
    return (
        torch.randn(num_tokens, hidden, generator=generator),
        torch.rand(num_tokens, num_experts, generator=generator).topk(num_chosen).indices,
        torch.rand(num_tokens, num_chosen, generator=generator),
        torch.randn(num_experts, 2 * inner, hidden, generator=generator) * hidden**-0.5,
        torch.randn(num_experts, hidden, inner, generator=generator) * inner**-0.5,
    )


def with_gradients(compute, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """The output, and the gradients of hidden states, weights and both stacks."""
    hidden, chosen, *rest = (t.detach() for t in inputs)
    wanted = [t.requires_grad_() for t in (hidden, *rest)]
    output = compute(hidden, chosen, *rest)
    factors = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return [output.detach(), *torch.autograd.grad((output.float() * factors).sum(), wanted)]


def assert_alike(found: list[Tensor], expected: list[Tensor], bound: float) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        difference = (mine.float() - theirs.float()).abs().max()
        assert difference <= bound * max(1.0, theirs.abs().max().item())


@pytest.mark.parametrize("name", SIZES)
def test_equals_a_loop_with_its_gradients(name: str) -> None:
    inputs = make_inputs(SIZES[name])
    assert has_experts_kernel(inputs[0], inputs[1], *inputs[3:])
    found = with_gradients(mix_experts, inputs)
    assert_alike(found, with_gradients(by_loop, inputs), 1e-5)
    with torch.no_grad():
        assert torch.equal(mix_experts(*inputs), found[0])


@pytest.mark.parametrize("kind", ["all to one", "one has all but one", "twice to the same"])
def test_uneven_routing(kind: str) -> None:
    hidden, chosen, *rest = make_inputs((131, 2, 6, 64, 32))
    chosen = torch.full_like(chosen, 5) if kind != "twice to the same" else chosen // 2
    if kind == "one has all but one":
        chosen[70, 1] = 0
    inputs = hidden, chosen, *rest
    assert_alike(with_gradients(mix_experts, inputs), with_gradients(by_loop, inputs), 1e-5)


@pytest.mark.parametrize("name", SIZES)
def test_bf16_rounds_once_a_stage(name: str) -> None:
    inputs = [t if t.dtype == torch.int64 else t.bfloat16() for t in make_inputs(SIZES[name])]
    exact = [t if t.dtype == torch.int64 else t.float() for t in inputs]
    found = with_gradients(mix_experts, tuple(inputs))
    assert all(t.dtype == torch.bfloat16 for t in found)
    assert_alike(found, with_gradients(by_loop, tuple(exact)), 0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_has_the_same_bits_in_every_batch_and_with_any_threads(
    dtype: torch.dtype, threads: None
) -> None:
    inputs = make_inputs((75, 3, 8, 48, 32))
    hidden, chosen, *rest = (t if t.dtype == torch.int64 else t.to(dtype) for t in inputs)
    runs = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        runs.append(with_gradients(mix_experts, (hidden, chosen, *rest)))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))
    weights, *stacks = rest
    with torch.no_grad():
        for part in (slice(0, 1), slice(7, 9), slice(30, 75)):
            alone = mix_experts(hidden[part], chosen[part], weights[part], *stacks)
            assert torch.equal(alone, runs[0][0][part])


@pytest.mark.parametrize("frozen", [(0,), (2, 3), (0, 2, 3), (2,)])
def test_only_what_is_trained_gets_gradients(frozen: tuple[int, ...]) -> None:
    hidden, chosen, *rest = make_inputs((20, 2, 5, 32, 16))
    tensors = [hidden, *rest]
    expected = with_gradients(by_loop, (hidden, chosen, *rest))[1:]
    for index, tensor in enumerate(tensors):
        tensor.requires_grad_(index not in frozen)
    output = mix_experts(tensors[0], chosen, *tensors[1:])
    factors = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (output * factors).sum().backward()
    for index, (tensor, gradient) in enumerate(zip(tensors, expected, strict=True)):
        if index in frozen:
            assert tensor.grad is None
        else:
            torch.testing.assert_close(tensor.grad, gradient, atol=1e-5, rtol=1e-5)


def test_what_the_kernel_does_not_take() -> None:
    hidden, chosen, _, gate_up, down = make_inputs((5, 2, 4, 32, 16))
    assert not has_experts_kernel(hidden.double(), chosen, gate_up.double(), down.double())
    assert not has_experts_kernel(hidden.bfloat16(), chosen, gate_up, down)
    assert not has_experts_kernel(hidden, chosen, gate_up[:, ::2], down)
    narrow = make_inputs((5, 2, 4, 24, 12))
    assert not has_experts_kernel(narrow[0], narrow[1], *narrow[3:])


def test_an_expert_that_is_not_there() -> None:
    hidden, chosen, *rest = make_inputs((5, 2, 4, 32, 16))
    for number in (4, -1):
        chosen[3, 1] = number
        with pytest.raises(AssertionError, match="expert"):
            mix_experts(hidden, chosen, *rest)

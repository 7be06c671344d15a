from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from r1.kernels.differentiable import training_kernels_of
from r1.kernels.fused import kernels_of
from r1.models.attention import AttentionPlan
from r1.models.exact import ExactKernels, fewest_rows, make_exact
from r1.models.exact_attention import ExactPlan, QueryTiles, attend_tiles
from r1.training.logprobs import token_loss

DTYPES = [torch.float32, torch.bfloat16]
both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "bf16"])
both_ways = pytest.mark.parametrize("has_kernels", [True, False], ids=["c", "torch"])
# Widths that no vector divides, and those of a small model.
SIZES = [(10, 7), (32, 64), (48, 33), (576, 192)]


@pytest.fixture(params=[1, 2])
def num_threads(request: pytest.FixtureRequest) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def operations(has_kernels: bool, dtype: torch.dtype) -> ExactKernels:
    if not has_kernels:
        return ExactKernels(None, None)
    if kernels_of(dtype) is None:
        pytest.skip("no C kernels here")
    return ExactKernels(kernels_of(dtype), training_kernels_of(dtype))


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@both_ways
@both_dtypes
@pytest.mark.parametrize(("num_inputs", "num_outputs"), SIZES)
def test_a_row_has_the_same_bits_in_every_batch(
    has_kernels: bool, dtype: torch.dtype, num_inputs: int, num_outputs: int, num_threads: int
) -> None:
    exact = operations(has_kernels, dtype)
    x = draw(130, num_inputs, dtype=dtype)
    gate_up = [draw(num_outputs, num_inputs, dtype=dtype, seed=s) for s in (1, 2)]
    bias, norm = draw(num_outputs, dtype=dtype, seed=3), draw(num_inputs, dtype=dtype, seed=4)
    computed: list[Callable[[Tensor], Tensor]] = [
        lambda x: exact.linear(x, gate_up, (bias, None)),
        lambda x: exact.linear(x, gate_up, (None, None), is_gated=True),
        lambda x: exact.rms_norm(x, norm, 1e-5),
        lambda x: exact.gate(x, x.flip(-1)),
        lambda x: exact.rotate(x.view(len(x), 1, -1), x, x.flip(-1)),
    ]
    for compute in computed:
        whole = compute(x)
        for first, last in ((0, 1), (3, 5), (1, 12), (7, 40), (0, 129), (129, 130)):
            assert torch.equal(compute(x[first:last]), whole[first:last])


@both_ways
@both_dtypes
def test_operations_are_the_ordinary_ones(has_kernels: bool, dtype: torch.dtype) -> None:
    """In value, and in the gradient of every input."""
    exact, plain = operations(has_kernels, dtype), ExactKernels(None, None)
    x, weights = draw(20, 32, dtype=dtype), [draw(48, 32, dtype=dtype, seed=s) for s in (1, 2)]
    bias, norm = draw(48, dtype=dtype, seed=3), draw(32, dtype=dtype, seed=4)
    inputs = [tensor.requires_grad_() for tensor in (x, *weights, bias, norm)]

    def compute(exact: ExactKernels | None) -> Tensor:
        if exact is None:
            normed = torch.nn.functional.rms_norm(x, norm.shape, norm, 1e-5)
            gate = torch.nn.functional.linear(normed, weights[0])
            both = torch.nn.functional.silu(gate) * torch.nn.functional.linear(normed, weights[1])
            return both + torch.nn.functional.linear(x, weights[0], bias)
        normed = exact.rms_norm(x, norm, 1e-5)
        gated = exact.linear(normed, weights, (None, None), is_gated=True)
        return gated + exact.linear(x, weights[:1], (bias,))

    expected = compute(None)
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    for found in (compute(exact), compute(plain)):
        assert (found - expected).abs().max() <= tolerance * expected.abs().max()
        for one, other in zip(
            torch.autograd.grad(found.square().sum(), inputs),
            torch.autograd.grad(expected.square().sum(), inputs, retain_graph=True),
            strict=True,
        ):
            assert (one - other).abs().max() <= tolerance * other.abs().max()


def test_the_fewest_rows_are_those_from_which_on_bits_stay() -> None:
    for dtype in DTYPES:
        fewest = fewest_rows((64, 48, True), dtype, torch.get_num_threads())
        assert fewest is None or 1 <= fewest <= 64
        # Small products in bf16: two orders of additions differ in one output of 16,000.
        fewest = fewest_rows((32, 32, False), dtype, torch.get_num_threads())
        assert fewest is None or 1 <= fewest <= 64
        rows, weight = draw(2048, 32, dtype=dtype), draw(32, 32, dtype=dtype, seed=1)
        parts = [torch.nn.functional.linear(part, weight) for part in rows.split(fewest or 2048)]
        assert torch.equal(torch.cat(parts), torch.nn.functional.linear(rows, weight))


@both_dtypes
@pytest.mark.parametrize(
    ("num_heads", "num_groups", "head_dim"), [(4, 2, 8), (9, 3, 16), (3, 1, 6)]
)
def test_attention_by_tiles_sees_places_not_batches(
    dtype: torch.dtype, num_heads: int, num_groups: int, head_dim: int
) -> None:
    """The same outputs from any cut of a sequence, with its keys scattered at random."""
    rng, length = np.random.default_rng(0), 200
    query = draw(length, num_heads, head_dim, dtype=dtype)
    key, value = (draw(length, num_groups, head_dim, dtype=dtype, seed=s) for s in (1, 2))
    plan = AttentionPlan.from_positions(torch.arange(length)[None])

    def attend(spans: np.ndarray, places: np.ndarray, size: int) -> Tensor:
        keys, values = (t.new_zeros(size, *t.shape[1:]) for t in (key, value))
        keys[places], values[places] = key, value
        slots = np.repeat(places[None], len(spans), 0)
        tiles = QueryTiles.of(spans[:, 0], spans[:, 1], slots, torch.device("cpu"))
        rows = torch.cat([query[first:last] for first, last in spans])
        return attend_tiles(tiles, rows, keys, values, 0.3)

    whole = attend(np.array([[0, length]]), np.arange(length), length)
    ordinary = ExactPlan(plan).attend(0, query[None], key[None], value[None], 0.3)[0]
    assert (whole - ordinary).abs().max() < (1e-5 if dtype == torch.float32 else 0.03)
    for _ in range(5):
        cuts = np.unique([0, length, *rng.integers(0, length, rng.integers(1, 30))])
        spans = rng.permutation(np.stack((cuts[:-1], cuts[1:]), 1))
        found = attend(spans, rng.permutation(300)[:length], 300)
        assert torch.equal(found, torch.cat([whole[first:last] for first, last in spans]))


@both_dtypes
@pytest.mark.parametrize("head_dim", [8, 16])
def test_a_shared_prompt_gives_the_bits_of_its_copies(dtype: torch.dtype, head_dim: int) -> None:
    prompt, replies = 70, (5, 30, 64)
    shared = AttentionPlan((prompt, *replies), (-1, 0, 0, 0))
    parts = [draw(prompt + sum(replies), h, head_dim, dtype=dtype, seed=h) for h in (4, 2, 2)]

    def attend(plan: AttentionPlan, parts: list[Tensor]) -> Tensor:
        query, key, value = (part[None] for part in parts)
        return ExactPlan(plan).attend(0, query, key, value, 0.3)[0]

    found = attend(shared, parts)
    first = prompt
    for length in replies:
        alone = [torch.cat((part[:prompt], part[first : first + length])) for part in parts]
        expected = attend(AttentionPlan((prompt + length,), (-1,)), alone)
        assert torch.equal(found[first : first + length], expected[prompt:])
        first += length


@pytest.mark.parametrize("head_dim", [8, 16])
def test_gradients_are_the_normal_ones(make_model: Callable[..., Any], head_dim: int) -> None:
    ids_BT = torch.randint(0, 89, (1, 90), generator=torch.Generator().manual_seed(1))
    positions_BT = torch.cat((torch.arange(50), torch.arange(40)))[None]

    def gradients(is_exact: bool) -> dict[str, Tensor]:
        model = make_model(head_dim=head_dim)
        if is_exact:
            make_exact(model)
        hidden_ND = model(ids_BT, positions_BT)[0]
        targets_N = ids_BT[0].roll(-1)
        loss = token_loss(model, hidden_ND, targets_N, lambda logprobs, _: -logprobs.mean()).loss
        loss.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    normal, exact = gradients(False), gradients(True)
    assert normal.keys() == exact.keys()
    for name, expected in normal.items():
        assert (exact[name] - expected).abs().max() <= 1e-5 * max(1, expected.abs().max()), name


def test_models_without_an_exact_form_are_refused(make_v3: Any) -> None:
    with pytest.raises(ValueError, match=r"^exact = true is for Llama and Qwen2 models; Deepseek"):
        make_exact(make_v3())


@pytest.mark.gpu
def test_a_row_has_the_same_bits_in_every_batch_on_a_gpu() -> None:
    exact = ExactKernels(None, None)
    x, weight = (draw(*s, dtype=torch.bfloat16).cuda() for s in ((1000, 1536), (4096, 1536)))
    whole = exact.linear(x, (weight,), (None,))
    for first, last in ((0, 1), (3, 40), (7, 513), (0, 999)):
        assert torch.equal(exact.linear(x[first:last], (weight,), (None,)), whole[first:last])
        gated = exact.gate(whole, whole.flip(-1))
        rows = whole[first:last]
        assert torch.equal(exact.gate(rows, rows.flip(-1)), gated[first:last])

"""Paged attention and the store on a GPU against plain attention in fp64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from r1.kernels.on_gpu import Tiles, tile_tokens
from tests.kernels.triton_kernels import DEVICE, import_triton

# Heads, KV groups, head size, block size.
SHAPES = [(4, 2, 8, 4), (7, 1, 20, 5), (9, 3, 64, 16), (2, 2, 128, 16)]
# Probabilities are rounded too, as in flash attention.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2.0**-6, torch.float16: 2.0**-9}
NUM_BLOCKS = 60


@pytest.fixture(autouse=True)
def triton(monkeypatch: pytest.MonkeyPatch) -> None:
    import_triton(monkeypatch)


class Case:
    """Random sequences in a random cache; row r has `stops[r]` tokens, the last of them new."""

    def __init__(self, shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
        self.num_heads, self.num_groups, self.head_dim, self.block_size = shape
        self.generator = torch.Generator().manual_seed(sum(shape))
        self.dtype, self.scale = dtype, self.head_dim**-0.5
        size = (NUM_BLOCKS, self.block_size, 2, self.num_groups, self.head_dim)
        self.blocks = self.draw(*size)
        self.tables = torch.randint(NUM_BLOCKS, (8, 40), generator=self.generator).int().to(DEVICE)

    def draw(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator).to(DEVICE, self.dtype)

    def tiles(self, spans: list[tuple[int, int]], step: int) -> Tiles:
        """Positions start..stop of each row, packed one after another, in pieces of `step`."""
        items, first = [], 0
        for row, (start, stop) in enumerate(spans):
            for begin in range(start, stop, step):
                items.append((first + begin - start, min(step, stop - begin), row, begin))
            first += stop - start
        order = np.random.default_rng(0).permutation(len(items))
        array = torch.tensor(items, dtype=torch.int32)[order]
        return Tiles(array.contiguous().to(DEVICE), self.tables, step)

    def expected(self, query_NHK: torch.Tensor, spans: list[tuple[int, int]]) -> torch.Tensor:
        outputs, first = [], 0
        for row, (start, stop) in enumerate(spans):
            places = torch.arange(stop, device=DEVICE)
            slots = self.tables[row, places // self.block_size].long() * self.block_size
            context = self.blocks.flatten(0, 1)[slots + places % self.block_size].double()
            key, value = context.permute(1, 2, 0, 3)[:, None].unbind(0)
            query = query_NHK[first : first + stop - start].double().transpose(0, 1)[None]
            mask = places <= torch.arange(start, stop, device=DEVICE)[:, None]
            settings = {"attn_mask": mask, "scale": self.scale, "enable_gqa": True}
            mixed = F.scaled_dot_product_attention(query, key, value, **settings)
            outputs.append(mixed[0].transpose(0, 1))
            first += stop - start
        return torch.cat(outputs)

    def check(self, spans: list[tuple[int, int]], step: int, num_cores: int = 1) -> None:
        from r1.kernels.triton_attention import attend

        num_tokens = sum(stop - start for start, stop in spans)
        query = self.draw(num_tokens, self.num_heads, self.head_dim)
        found = attend(query, self.blocks, [self.tiles(spans, step)], self.scale, num_cores)
        expected = self.expected(query, spans)
        assert found.dtype == self.dtype
        error = (found.double() - expected).abs().max() / expected.abs().max()
        assert error < TOLERANCE[self.dtype], error


@pytest.mark.parametrize("num_cores", [1, 40])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_decoding(shape: tuple[int, int, int, int], num_cores: int) -> None:
    """One token a row: whole contexts, and contexts that several programs share."""
    for dtype in TOLERANCE:
        lengths = (1, 3, 64, 65, 139)
        Case(shape, dtype).check([(n - 1, n) for n in lengths], 1, num_cores)
        Case(shape, dtype).check([(130, 131)], 1, num_cores)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_prefill(shape: tuple[int, int, int, int]) -> None:
    """Whole prompts, parts behind a cached prefix, tails that do not fill a tile."""
    for dtype in TOLERANCE:
        step = tile_tokens(shape[0] // shape[1], dtype)
        Case(shape, dtype).check([(0, 1), (0, 37), (65, 86), (127, 130)], step)


def test_the_number_of_splits_does_not_follow_lengths() -> None:
    from r1.kernels.triton_attention import splits_for

    assert [splits_for(n, 132) for n in (1, 4, 8, 33, 132, 133, 5000)] == [32, 32, 32, 8, 2, 1, 1]


def test_padded_rows_touch_nothing() -> None:
    """No slot: nothing is written. No tokens: nothing is read, not even through a bad table."""
    from r1.kernels.triton_attention import attend, store

    case = Case(SHAPES[0], torch.float32)
    key, value = case.draw(2, 3, case.num_groups, case.head_dim)
    before = case.blocks.clone()
    store(case.blocks, torch.tensor([7, -1, 2], device=DEVICE), key, value)
    before.flatten(0, 1)[[7, 2]] = torch.stack((key, value), 1)[[0, 2]]
    assert torch.equal(case.blocks, before)
    items = [(0, 1, 0, 9), (1, 0, 10**6, 10**6), (2, 1, 1, 20)]
    tiles = Tiles(torch.tensor(items, dtype=torch.int32, device=DEVICE), case.tables, 1)
    query = case.draw(3, case.num_heads, case.head_dim)
    for num_cores in (1, 40):
        found = attend(query, case.blocks, [tiles], case.scale, num_cores)[[0, 2]]
        expected = case.expected(query[[0, 2]], [(9, 10), (20, 21)])
        assert torch.allclose(found.double(), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_store_reads_rows_of_a_wider_tensor(dtype: torch.dtype) -> None:
    """As keys and values are parts of one product; widths that are no power of two."""
    from r1.kernels.triton_attention import store

    case = Case((9, 3, 20, 4), dtype)
    wide = case.draw(5, 150)
    key, value = (part.view(5, 3, 20) for part in (wide[:, :60], wide[:, 70:130]))
    slots = torch.tensor([3, 100, 0, 239, 41], device=DEVICE, dtype=torch.int32)
    store(case.blocks, slots, key, value)
    assert torch.equal(case.blocks.flatten(0, 1)[slots.long()], torch.stack((key, value), 1))

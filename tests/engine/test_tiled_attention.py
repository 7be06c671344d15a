"""The C kernels' cache against torch's: the same attention over the same random contexts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import r1.engine.kv_cache
from r1.engine.input_batch import InputBatch
from r1.engine.kv_cache import PagedKVCache
from r1.engine.spans import Spans
from r1.engine.step_packing import StepPacker
from r1.engine.tiled_attention import BoundTiledCache, TiledPlan
from r1.kernels.native import load_kernels
from r1.models.model_config import ModelConfig

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="no C compiler")

NUM_BLOCKS = 128


class Step:
    """Random keys, values and queries, on a cache of either kind."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype, block_size: int) -> None:
        self.cache = PagedKVCache(config, NUM_BLOCKS, block_size, dtype, torch.device("cpu"))
        self.rows = InputBatch(32, 4096, block_size)
        self.packer = StepPacker(self.rows, self.cache)
        self.config, self.dtype, self.block_size = config, dtype, block_size
        self.rows.block_table = np.zeros((32, 64), np.int64)

    def run(self, *groups: Spans) -> torch.Tensor:
        """[tokens, H, K] in the order of the spans; what a token has depends on its place alone."""
        packed = self.packer.pack(*groups)
        tokens = packed.write_slots
        shape = self.config
        parts = [
            self.draw(tokens + salt * 10_000, heads)
            for salt, heads in enumerate(
                (shape.num_attention_heads, shape.num_key_value_heads, shape.num_key_value_heads)
            )
        ]
        bound = self.cache.bind(packed.metadata)
        out_NHK = bound.attend(0, *(part[None] for part in parts), scale=0.2)[0]
        lengths = np.concatenate([spans.lengths for spans in groups])
        firsts = packed.firsts
        order = [np.arange(first, first + n) for first, n in zip(firsts, lengths, strict=True)]
        return out_NHK[np.concatenate(order)]

    def draw(self, seeds: torch.Tensor, heads: int) -> torch.Tensor:
        width = heads * self.config.head_dim
        steps = torch.arange(1, width + 1, dtype=torch.float64)
        values = torch.sin(seeds[:, None].double() * 12.9898 + steps * 78.233) * 43758.5453
        return (values.frac() * 2).to(self.dtype).view(len(seeds), heads, -1)


def both_steps(
    monkeypatch: pytest.MonkeyPatch, config: ModelConfig, dtype: torch.dtype, block_size: int
) -> tuple[Step, Step]:
    tiled = Step(config, dtype, block_size)
    assert tiled.cache.tiled is not None
    with monkeypatch.context() as patch:
        patch.setattr(r1.engine.kv_cache, "tiled_kernels", lambda *_: None)
        return tiled, Step(config, dtype, block_size)


def spans(*rows: tuple[int, int, int]) -> Spans:
    return Spans(*np.array(rows, np.int64).reshape(-1, 3).T)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("heads", "groups", "head_dim", "block_size"),
    [(9, 3, 64, 16), (4, 4, 16, 32), (14, 2, 80, 16), (8, 1, 192, 48), (1, 1, 256, 16)],
)
def test_equals_torchs_attention(
    monkeypatch: pytest.MonkeyPatch,
    model_config: ModelConfig,
    dtype: torch.dtype,
    heads: int,
    groups: int,
    head_dim: int,
    block_size: int,
) -> None:
    """Prefill in chunks, then decode: replies that share at two depths, drafts, a lone row."""
    config = replace(
        model_config, num_attention_heads=heads, num_key_value_heads=groups, head_dim=head_dim
    )
    steps = both_steps(monkeypatch, config, dtype, block_size)
    num_shared = -(-200 // block_size)
    outputs = []
    for step in steps:
        table = step.rows.block_table
        rng = np.random.default_rng(3)
        order = rng.permutation(NUM_BLOCKS)
        # Rows 0-5 share 200 tokens' blocks, of them 2-4 as many again; row 6 shares nothing.
        table[:6, :num_shared] = order[:num_shared]
        table[2:5, num_shared : 2 * num_shared] = order[num_shared : 2 * num_shared]
        place = 2 * num_shared
        starts = []
        for row in range(7):
            begin = 2 * num_shared if row in (2, 3, 4) else num_shared if row < 6 else 0
            starts.append(begin * block_size)
            table[row, begin : begin + 3] = order[place : place + 3]
            place += 3
        found = [
            step.run(spans(), spans((0, 0, 130), (6, 0, 37))),
            step.run(spans(), spans((0, 130, num_shared * block_size + 5))),
            step.run(spans(), spans((2, num_shared * block_size, starts[2] + 3))),
            step.run(
                spans(*((row, starts[row], starts[row] + 1) for row in range(6)), (6, 37, 38)),
                spans((1, starts[1] + 1, starts[1] + 9)),
            ),
            step.run(spans((0, starts[0] + 5, starts[0] + 8), (6, 38, 39))),
        ]
        outputs.append(torch.cat(found).double())
    error = (outputs[0] - outputs[1]).abs().max() / outputs[1].abs().max()
    assert error < (1e-2 if dtype == torch.bfloat16 else 5e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_sharing_changes_no_bit(model_config: ModelConfig, dtype: torch.dtype) -> None:
    """A row alone and a row among others that share its prefix; decode and prefill of a token."""
    config = replace(model_config, num_attention_heads=6, num_key_value_heads=2, head_dim=32)
    step = Step(config, dtype, 16)
    table = step.rows.block_table
    table[:8, :20] = np.arange(20)
    table[4:8, 10:20] = np.arange(30, 40)
    table[:8, 20] = np.arange(50, 58)
    step.run(spans(), spans((0, 0, 320)), spans((4, 160, 320)))
    rows = [(row, 320, 321) for row in range(8)]
    together = step.run(spans(*rows))
    plan = step.packer.pack(spans(*rows)).metadata
    assert isinstance(plan, TiledPlan)
    assert plan.phases.tolist() == [0, 1, 3, 11]
    for row in range(8):
        assert torch.equal(step.run(spans(rows[row]))[0], together[row])
    prompt = step.run(spans(), spans((0, 250, 321)))
    assert torch.equal(prompt[-1], together[0])


def test_other_shapes_stay_with_torch(model_config: ModelConfig) -> None:
    cpu = torch.device("cpu")
    wide = replace(model_config, head_dim=64)
    for config, block_size in ((replace(wide, head_dim=24), 16), (wide, 4)):
        assert PagedKVCache(config, 4, block_size, torch.float32, cpu).tiled is None
    cache = PagedKVCache(wide, 4, 16, torch.float32, cpu)
    assert cache.tiled is not None
    packer = StepPacker(InputBatch(4, 64, 16), cache)
    assert isinstance(cache.bind(packer.pack(spans((0, 0, 1))).metadata), BoundTiledCache)


def test_a_plan_that_goes_on_attends_as_one_made_anew(model_config: ModelConfig) -> None:
    """Decode over the ends of blocks, with a prefix that is shared; rows that come and go."""
    config = replace(model_config, num_attention_heads=6, num_key_value_heads=2, head_dim=32)
    going, anew = (Step(config, torch.float32, 16) for _ in range(2))
    for step in (going, anew):
        table = step.rows.block_table
        table[:6, :8] = np.arange(8)
        table[:6, 8:20] = np.arange(20, 92).reshape(6, 12)
        step.run(spans(), spans((0, 0, 128)))
        step.run(spans(), *(spans((row, 128, 130 + row)) for row in range(6)))
    rows, num_kept = list(range(6)), 0
    for turn in range(40):
        if turn == 25:
            rows = [4, 0, 1]
        decode = spans(*((row, 130 + row + turn, 131 + row + turn) for row in rows))
        before = going.packer._decoded
        found = going.run(decode)
        after = going.packer._decoded
        assert after is not None
        num_kept += before is not None and after[1].tables is before[1].tables
        anew.packer._decoded = None
        assert torch.equal(found, anew.run(decode))
    assert 15 < num_kept < 39


def test_a_plan_does_not_go_on_behind_other_steps(model_config: ModelConfig) -> None:
    step = Step(replace(model_config, head_dim=32), torch.float32, 16)
    step.rows.block_table[:2, :4] = np.arange(8).reshape(2, 4)
    step.packer.pack(spans((0, 5, 6), (1, 8, 9)))
    first = step.packer._decoded
    step.packer.pack(spans((0, 7, 8), (1, 10, 11)))
    second = step.packer._decoded
    assert first is not None and second is not None
    assert second[1].tables is not first[1].tables
    step.packer.pack(spans((0, 8, 9)), spans((1, 11, 13)))
    assert step.packer._decoded is None

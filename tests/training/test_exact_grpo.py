from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from r1.engine.engine import Engine, EngineConfig
from r1.generator import Generator
from r1.models.architectures import build_model
from r1.models.language_model import LanguageModel
from r1.records import GenerationRequest, SamplingParams
from r1.run_log import JsonlLog
from r1.tasks.task import TaskConfig
from r1.text.tokenizer import Tokenizer
from r1.training.grpo import GrpoConfig, run_grpo
from r1.training.logprobs import token_logprobs
from r1.training.packing import TokenSequence, pack_targets
from tests.small_models import qwen2


def build(tokenizer: Tokenizer, head_dim: int, dtype: torch.dtype) -> LanguageModel:
    config = qwen2(
        tokenizer.vocab_size,
        hidden_size=4 * head_dim,
        intermediate_size=50,
        head_dim=head_dim,
        initializer_range=0.2,
    )
    model = build_model(config, dtype=dtype, seed=3)
    assert isinstance(model, LanguageModel)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("head_dim", [8, 16], ids=["torch", "c"])
def test_sampler_and_trainer_have_the_same_bits(
    tiny_tokenizer: Tokenizer, dtype: torch.dtype, head_dim: int
) -> None:
    """Over chopped prefills, preemptions, prefix hits, groups, temperatures and packings."""
    model = build(tiny_tokenizer, head_dim, dtype)
    num_preemptions = num_cached = 0
    replies: dict[str, tuple[int, ...]] = {}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        config = EngineConfig(
            exact=True,
            block_size=16 if head_dim == 16 else int(rng.choice([4, 5, 16])),
            max_num_seqs=int(rng.integers(4, 20)),
            max_num_batched_tokens=int(rng.integers(20, 200)),
            kv_cache_bytes=2 * 2 * 2 * head_dim * dtype.itemsize * int(rng.integers(260, 500)),
        )
        engine = Engine(model, tiny_tokenizer, config)
        # The same questions every time: their replies must be too, whatever the limits.
        prompts = np.random.default_rng(9).integers(6, 60, (6, 50))
        requests = [
            GenerationRequest(
                id=f"{index}",
                prompt_ids=tuple(prompt[: 9 + 8 * index].tolist()),
                num_samples=3,
                sampling=SamplingParams(max_tokens=60, temperature=0.8),
            )
            for index, prompt in enumerate(prompts)
        ]
        groups = engine.generate([requests[index] for index in rng.permutation(len(requests))])
        samples = [sample for group in groups for sample in group]
        for sample in samples:
            name = f"{sample.request_id}/{sample.sample_index}"
            assert replies.setdefault(name, sample.token_ids) == sample.token_ids
        sequences = [TokenSequence.of(s.prompt_ids, s.token_ids) for s in samples]
        for row in pack_targets(sequences, int(rng.integers(120, 900))):
            hidden_PD = model(row.input_ids_BT, row.positions_BT)[0, row.target_places_P]
            found_P = token_logprobs(
                model, hidden_PD, row.targets_P, temperature=0.8, chunk_tokens=37
            )
            assert torch.equal(found_P, row.gather([s.sampler_logprobs for s in samples]))
        num_preemptions += engine.stats().num_preemptions
        num_cached += engine.stats().num_cached_tokens
    assert num_preemptions > 0


def test_a_first_update_has_no_gap_and_ratios_of_1(
    tiny_policy: Path, letter_task: TaskConfig, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "model": str(tiny_policy),
        "task": letter_task,
        "prompt_style": "chat",
        "steps": 2,
        "group_size": 4,
        "questions_per_step": 3,
        "updates_per_rollout": 1,
        "max_tokens": 12,
        "learning_rate": 3e-3,
        "temperature": 0.9,
        "reward_weights": {"accuracy": 1.0},
        "reference_refresh_steps": 0,
        "sampler_ratio_cap": 2.0,
        "micro_batch_tokens": 64,
        "dtype": "bfloat16",
        "device": "cpu",
    }
    rows = {}
    for exact in (False, True):
        output = tmp_path / f"{exact}"
        run_grpo(GrpoConfig.model_validate({**settings, "output": output, "exact": exact}))
        rows[exact] = JsonlLog(output / "metrics.jsonl").rows()
    assert rows[False][0]["logprob_gap_max_abs"] > 0
    for row in rows[True]:
        names = ("logprob_gap_mean_abs", "logprob_gap_max_abs", "logprob_gap_kl", "clip_fraction")
        assert [row[name] for name in names] == [0, 0, 0, 0]
        assert row["sampler_weight"] == 1
    assert rows[True][0]["kl_to_reference"] == 0


def test_what_exact_mode_cannot_do_is_one_line(tiny_tokenizer: Tokenizer) -> None:
    model = build(tiny_tokenizer, 16, torch.float32)
    with pytest.raises(ValueError, match=r"^exact = true: the trainer's weights are not rounded"):
        Engine(model, tiny_tokenizer, EngineConfig(exact=True, quantize="int8"))


def test_another_sampler_is_refused(letter_task: TaskConfig, tmp_path: Path) -> None:
    config = GrpoConfig(output=tmp_path, model="tiny-student", task=letter_task, exact=True)
    with pytest.raises(ValueError, match=r"^exact = true is r1's own engine's: another samples"):
        run_grpo(config, make_generator=lambda *_: cast(Generator, object()))

"""Sampling with rounded weights: close to the model's own, and in step with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from r1.engine.engine import Engine
from r1.kernels.native import load_kernels
from r1.models.language_model import LanguageModel
from r1.records import GenerationRequest, SamplingParams

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="no C compiler")


def raw_logprobs(engine: Engine, num_tokens: int = 40) -> tuple[tuple[int, ...], np.ndarray]:
    sampling = SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True)
    request = GenerationRequest(id="q", prompt_ids=tuple(range(5, 60)), sampling=sampling)
    ((sample,),) = engine.generate([request])
    return sample.token_ids, np.array(sample.raw_logprobs)


def forced_difference(engine: Engine, model: LanguageModel) -> float:
    """Mean |difference| of the engine's log-probs and the model's own, over one reply."""
    token_ids, found = raw_logprobs(engine)
    ids = torch.tensor([[*range(5, 60), *token_ids]])
    positions = torch.arange(ids.shape[1])[None]
    with torch.no_grad():
        logits = model.compute_logits(model(ids, positions)).float()
    logprobs = torch.log_softmax(logits[0, 54:-1], -1)
    own = logprobs.gather(1, ids[0, 55:, None])[:, 0].numpy()
    return float(np.abs(found - own).mean())


@pytest.mark.parametrize(
    ("quantize", "least", "most"), [(None, 0, 1e-5), ("int8", 1e-4, 0.05), ("int4", 1e-3, 0.5)]
)
def test_difference_to_the_models_own_weights(
    make_engine: Callable[..., Engine],
    model: LanguageModel,
    quantize: str | None,
    least: float,
    most: float,
) -> None:
    """The trainer's passes go on with the weights as they are."""
    engine = make_engine(quantize=quantize)
    assert least <= forced_difference(engine, model) <= most


def test_new_weights_are_rounded_anew(
    make_engine: Callable[..., Engine], model: LanguageModel
) -> None:
    engine = make_engine(quantize="int8")
    before = raw_logprobs(engine)[1]
    named = {name: tensor * 1.05 for name, tensor in model.checkpoint_tensors()}
    engine.load_weights(named.items(), version=1)
    assert np.abs(raw_logprobs(engine)[1] - before).max() > 1e-3
    assert forced_difference(engine, model) < 0.05


def test_a_machine_that_cannot(make_engine: Callable[..., Engine], model: LanguageModel) -> None:
    model.half()
    with pytest.raises(ValueError, match="quantize = int4 is for CPUs with a C compiler"):
        make_engine(quantize="int4")

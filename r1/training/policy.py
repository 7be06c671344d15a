"""Opening the language model that a run trains or samples from."""

from __future__ import annotations

from collections.abc import Callable

from r1.engine.engine import EngineConfig
from r1.generator import Generator
from r1.models.architectures import parse_dtype
from r1.models.catalogue import resolve_model
from r1.models.hf_checkpoint import load_model
from r1.models.llama import LlamaForCausalLM
from r1.text.tokenizer import Tokenizer, load_tokenizer
from r1.training.loop import choose_device

# What samples from a model: our engine, or a backend with a copy of the weights.
GeneratorFactory = Callable[[LlamaForCausalLM, Tokenizer, EngineConfig], Generator]


def load_policy(
    name: str, *, dtype: str | None = None, device: str = "auto"
) -> tuple[LlamaForCausalLM, Tokenizer]:
    """A model and its tokenizer by catalogue name, path or hub id.

    `dtype` None keeps the checkpoint's own. Raises ValueError when it cannot be opened
    or is no language model.
    """
    path = resolve_model(name)
    model = load_model(
        path, dtype=None if dtype is None else parse_dtype(dtype), device=choose_device(device)
    )
    if not isinstance(model, LlamaForCausalLM):
        raise ValueError(f"{path}: a reward model, where a language model is needed")
    return model, load_tokenizer(path)

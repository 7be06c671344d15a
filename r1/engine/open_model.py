"""Opening a language model by name: its weights, its tokenizer, and where they go."""

from __future__ import annotations

from collections.abc import Callable

import torch

from r1.engine.engine_config import EngineConfig
from r1.generator import Generator
from r1.models.architectures import parse_dtype
from r1.models.catalogue import resolve_model
from r1.models.hf_checkpoint import load_language_model
from r1.models.llama import LlamaForCausalLM
from r1.text.tokenizer import Tokenizer, load_tokenizer

# What samples from a model: our engine, or a backend with a copy of the weights.
GeneratorFactory = Callable[[LlamaForCausalLM, Tokenizer, EngineConfig], Generator]


def open_model(
    name: str, *, dtype: str | None = None, device: str = "auto"
) -> tuple[LlamaForCausalLM, Tokenizer]:
    """A model and its tokenizer by catalogue name, path or hub id.

    `dtype` None keeps the checkpoint's own. Raises ValueError when it cannot be opened
    or is no language model.
    """
    path = resolve_model(name)
    chosen = None if dtype is None else parse_dtype(dtype)
    model = load_language_model(path, dtype=chosen, device=choose_device(device))
    return model, load_tokenizer(path)


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU when there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)

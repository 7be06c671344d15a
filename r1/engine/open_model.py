"""Opening a language model by name: its weights, its tokenizer, and where they go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from r1.engine.engine_config import EngineConfig
from r1.generator import Generator
from r1.models.architectures import parse_dtype
from r1.models.catalogue import resolve_model
from r1.models.fp8_linear import has_fp8_matmul
from r1.models.hf_checkpoint import load_language_model
from r1.models.language_model import LanguageModel
from r1.models.model_config import ModelConfig, unknown_name_message
from r1.text.tokenizer import Tokenizer, load_tokenizer

# What samples from a model: our engine, or a backend with a copy of the weights.
GeneratorFactory = Callable[[LanguageModel, Tokenizer, EngineConfig], Generator]
# In configs None keeps the checkpoint's own; auto is what the device multiplies fastest.
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]


def open_model(
    name: str, *, dtype: str | None = None, device: str = "auto", is_trained: bool = True
) -> tuple[LanguageModel, Tokenizer]:
    """A model and its tokenizer by catalogue name, path or hub id.

    `dtype` None keeps the checkpoint's own, "auto" is what the device multiplies fastest;
    weights in FP8 stay so where the device multiplies them and the model is not to be
    trained (`is_trained`). Raises ValueError when it cannot be opened or is no language model.
    """
    path = resolve_model(name)
    place = choose_device(device)
    chosen = choose_dtype(dtype, place)
    is_fp8 = not is_trained and dtype is None and has_fp8_matmul(place)
    model = load_language_model(path, dtype=chosen, device=place, is_fp8=is_fp8)
    tokenizer = load_tokenizer(path)
    check_vocabulary(tokenizer, model.config, path)
    return model, tokenizer


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype | None:
    """The dtype of that name; `auto` is the device's fastest, None stays None."""
    if name == "auto":
        return fastest_dtype(device)
    return None if name is None else parse_dtype(name)


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bf16 on GPUs and on CPUs with its dot products (AVX-512 BF16, AMX), elsewhere fp32.

    Without them a CPU takes longer to unpack bf16 than it saves in reading it.
    """
    has_products = device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_products else torch.float32


def check_vocabulary(tokenizer: Tokenizer, config: ModelConfig, source: Path | str) -> None:
    """Raises ValueError when the tokenizer makes ids that the model has no embedding for."""
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} ids, the model only "
            f"{config.vocab_size} embeddings"
        )


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU when there is one. Raises ValueError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in counts:
        choices = ("auto", *counts, "cuda:0")
        raise ValueError(unknown_name_message("device", name, choices))
    if not 0 <= (device.index or 0) < counts[device.type]:
        found = counts[device.type] or "none"
        raise ValueError(
            f"device {name!r} is not on this machine ({device.type}: {found}); try cpu"
        )
    return device

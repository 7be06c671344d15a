"""A tiny checkpoint, and an engine that recites a script instead of sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from r1.engine.engine import StepOutput
from r1.models.architectures import build_model
from r1.models.hf_checkpoint import save_model
from r1.records import GenerationRequest, Sample
from r1.text.chat_template import R1_CHAT_TEMPLATE
from r1.text.special_tokens import SpecialTokens
from r1.text.tokenizer import Tokenizer
from tests.small_models import qwen2

SPECIAL_TOKENS = (
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<think>",
    "</think>",
)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """One token for each byte, R1's special tokens and chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {char: index for index, char in enumerate(alphabet)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    special = SpecialTokens(bos=SPECIAL_TOKENS[0], eos=SPECIAL_TOKENS[1])
    return Tokenizer(backend, special, chat_template=R1_CHAT_TEMPLATE)


@pytest.fixture(scope="session")
def checkpoint(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 2 layers x 32 with random weights, as a Hugging Face folder."""
    config = qwen2(tokenizer.vocab_size, max_position_embeddings=512)
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    save_model(build_model(config, seed=3), folder)
    tokenizer.save(folder)
    return folder


class RecitingEngine:
    """Answers each request with the next script, a chunk a step; an exception is raised."""

    def __init__(
        self, tokenizer: Tokenizer, scripts: Sequence[Sequence[str | BaseException]]
    ) -> None:
        self.tokenizer = tokenizer
        self.max_model_len = 200
        self.requests: list[GenerationRequest] = []
        self.cancelled: list[str] = []
        self._scripts = [list(script) for script in scripts]
        self._running: list[str | BaseException] = []

    def add_request(self, request: GenerationRequest) -> None:
        self.requests.append(request)
        self._running = self._scripts.pop(0)

    def has_unfinished(self) -> bool:
        return bool(self._running)

    def step(self) -> list[StepOutput]:
        chunk = self._running.pop(0)
        if isinstance(chunk, BaseException):
            self._running.clear()
            raise chunk
        return [StepOutput(self.requests[-1].id, 0, (1,), chunk)]

    def cancel(self, request_id: str) -> list[Sample]:
        self.cancelled.append(request_id)
        self._running.clear()
        return []

    def prompt_text(self, index: int) -> str:
        return self.tokenizer.decode(self.requests[index].prompt_ids, skip_special=False)


@pytest.fixture
def reciting_engine(
    tokenizer: Tokenizer,
) -> Callable[[Sequence[Sequence[str | BaseException]]], RecitingEngine]:
    return lambda scripts: RecitingEngine(tokenizer, scripts)

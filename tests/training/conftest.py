"""A tiny policy as a checkpoint folder, and a task that it can learn in a few steps."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from r1.models.architectures import build_model
from r1.models.hf_checkpoint import save_model
from r1.records import Completion, Grade, Problem
from r1.tasks import task as task_module
from r1.tasks.task import Split, TaskConfig
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
def tiny_tokenizer() -> Tokenizer:
    """One token for each printable ASCII character, and R1's special tokens."""
    # Byte level: a space is Ġ and a line break Ċ.
    pieces = [*string.digits, *string.ascii_letters, *string.punctuation, "Ġ", "Ċ"]
    backend = tokenizers.Tokenizer(
        models.BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return Tokenizer(backend, SpecialTokens(bos=SPECIAL_TOKENS[0], eos=SPECIAL_TOKENS[1]))


@pytest.fixture(scope="session")
def tiny_policy(tiny_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with random weights: 2 layers of 32."""
    config = qwen2(tiny_tokenizer.vocab_size, initializer_range=0.1)
    folder = tmp_path_factory.mktemp("tiny") / "policy"
    save_model(build_model(config, seed=3), folder)
    tiny_tokenizer.save(folder)
    return folder


@dataclass(frozen=True)
class LetterTask:
    """Earns the share of small letters; a reply that begins with Z breaks the grader."""

    name: str = "letters"
    instruction: str = ""
    num_problems: int = 6
    is_open: bool = False
    grader_version: str = "1"

    def problems(self, split: Split) -> Sequence[Problem]:
        answer = None if self.is_open else "abc"
        prefix = "Q" if split == "train" else "T"
        return [
            Problem(f"{split}/{i}", f"{prefix}{i}?", answer, task=self.name)
            for i in range(self.num_problems)
        ]

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        reply = completion.text.removeprefix("<think>\n")
        letters = sum(char in string.ascii_lowercase for char in reply)
        share = letters / max(len(reply), 1)
        parts = {"format": float("!" in reply), "language": share, "repetition": 0.0}
        if reply.startswith("Z"):
            return Grade(None, parts, reason="grader failed")
        return Grade(None if self.is_open else share, parts, answer=reply[:1] or None)

    def gold_error(self, problem: Problem) -> str:
        return ""


@pytest.fixture
def letter_task(monkeypatch: pytest.MonkeyPatch) -> TaskConfig:
    """The config of `LetterTask`; `letters/open` is the same without gold answers."""

    def build(config: TaskConfig) -> LetterTask:
        is_open = config.name.endswith("/open")
        return LetterTask(config.name, config.instruction or "", config.num_train or 6, is_open)

    monkeypatch.setitem(task_module.TASKS, "letters", build)
    return TaskConfig(name="letters")

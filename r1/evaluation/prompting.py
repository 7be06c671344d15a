"""What is asked: a question's prompt, and the prompt of every later turn of a conversation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from r1.records import (
    Completion,
    GenerationRequest,
    Message,
    Problem,
    Sample,
    SamplingParams,
    Turn,
)
from r1.text.chat_template import encode_chat
from r1.text.prompts import R1_ZERO_PROMPT, Prompt, PromptStyle, build_prompt

if TYPE_CHECKING:
    from r1.text.tokenizer import Tokenizer

_NUM_THREADS = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt: the first of a question, or a later one of one sample's conversation."""

    request_id: str
    problem: Problem
    prompt: Prompt
    messages: tuple[Message, ...]
    prompt_hash: str
    earlier: tuple[Turn, ...] = ()
    num_earlier_tokens: int = 0

    def completion(self, sample: Sample) -> Completion:
        """The reply as graders see it: a forced opening put back, the earlier replies beside it."""
        return Completion(
            text=self.prompt.forced_opening + sample.text,
            finish_reason=sample.finish_reason,
            num_tokens=sample.num_tokens + self.num_earlier_tokens,
            earlier=self.earlier,
        )

    def request(
        self, sampling: SamplingParams, seed: int, first_sample_index: int, num_samples: int
    ) -> GenerationRequest:
        """This prompt, to be answered `num_samples` times."""
        return GenerationRequest(
            id=self.request_id,
            prompt_ids=self.prompt.ids,
            sampling=sampling,
            num_samples=num_samples,
            seed=seed,
            first_sample_index=first_sample_index,
            messages=self.messages,
        )


@dataclass(frozen=True, slots=True)
class Prompter:
    """Makes prompts in one style; without a tokenizer they are messages for a server."""

    tokenizer: Tokenizer | None
    style: PromptStyle
    instruction: str

    def first(self, problem: Problem) -> Asked:
        """The prompt of a question."""
        message = Message("user", self._first_text(problem.question))
        if self.tokenizer is None:
            return Asked(problem.id, problem, Prompt(()), (message,), _hash_messages([message]))
        prompt = build_prompt(self.tokenizer, problem.question, self.style, self.instruction)
        return Asked(problem.id, problem, prompt, (message,), _hash_ids(prompt.ids))

    def first_of_all(self, problems: Sequence[Problem]) -> dict[str, Asked]:
        """The prompts of questions by id, in threads: tokenizers work outside Python's lock."""
        parts = [problems[start::_NUM_THREADS] for start in range(_NUM_THREADS)]
        with ThreadPoolExecutor(_NUM_THREADS, "prompt") as pool:
            made = pool.map(lambda part: {p.id: self.first(p) for p in part}, parts)
            asked = {name: prompt for part in made for name, prompt in part.items()}
        return {problem.id: asked[problem.id] for problem in problems}

    def after(self, asked: Asked, sample_index: int, turn: Turn, num_tokens: int) -> Asked:
        """The prompt after one more reply of sample `sample_index`.

        Raises ValueError for a style that has no turns.
        """
        if self.style != "chat":
            raise ValueError(f"prompt_style {self.style!r} has no second turn; use chat")
        said = (Message("assistant", turn.reply), Message("user", turn.message))
        messages = (*asked.messages, *said)
        earlier = (*asked.earlier, turn)
        prompt = Prompt(()) if self.tokenizer is None else encode_chat(self.tokenizer, messages)
        return Asked(
            # The random stream is keyed by the id: a second turn must not repeat the first's.
            request_id=f"{asked.problem.id} sample {sample_index} turn {len(earlier) + 1}",
            problem=asked.problem,
            prompt=prompt,
            messages=messages,
            prompt_hash=asked.prompt_hash,
            earlier=earlier,
            num_earlier_tokens=asked.num_earlier_tokens + num_tokens,
        )

    def _first_text(self, question: str) -> str:
        if self.style == "r1_zero":
            return R1_ZERO_PROMPT.replace("{question}", question)
        has_instruction = self.style == "chat" and self.instruction
        return f"{question}\n{self.instruction}" if has_instruction else question


def short_hash(value: object) -> str:
    """16 hex digits that stand for a value of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _hash_ids(ids: Sequence[int]) -> str:
    return hashlib.sha256(np.asarray(ids, "<u4").tobytes()).hexdigest()[:16]


def _hash_messages(messages: list[Message]) -> str:
    return short_hash([[message.role, message.content] for message in messages])

"""The typed records that travel between floors: problems, samples, grades.

Everything here is immutable and says nothing about models or files. A record
that changes is a new record: `replace(rollout, advantage=...)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FinishReason = Literal["stop", "length", "cancelled"]
Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with its gold answer, from a task.

    `id` is unique within the task and stable between runs: the random stream of
    every sample is keyed by it. `language` is the ISO 639-1 code that the reply
    is expected in. `answer` is None for open questions that no rule can grade.
    """

    id: str
    question: str
    answer: str | None
    language: str = "en"
    task: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier reply of a conversation, thought included, and what the user said to it."""

    reply: str
    message: str


@dataclass(frozen=True, slots=True)
class Completion:
    """A reply as text, the way a grader sees it.

    `text` starts where the reply starts: an opening `<think>` that the prompt
    forced is put back, so that every grader sees one form. In a conversation it is the
    last reply, and `earlier` holds those before it.
    """

    text: str
    finish_reason: FinishReason = "stop"
    num_tokens: int = 0
    earlier: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Grade:
    """A grader's verdict on one completion.

    `reward` is the task's own score (1.0 correct, 0.0 wrong), or None when the
    grader itself failed: a failure is never a score. `parts` holds the other
    measurements by name (`format`, `language`, `repetition`, ...). `answer` is
    the answer that was extracted, and `reason` says in words why.
    """

    reward: float | None
    parts: Mapping[str, float] = field(default_factory=dict)
    answer: str | None = None
    reason: str = ""


# Below, fp32 logits divided by it overflow. Infinity would ignore the model.
MIN_TEMPERATURE = 1e-5


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample one reply; the defaults sample from the model itself.

    temperature 0 is greedy. top_k 0, top_p 1 and min_p 0 are off. `stop` strings
    end a reply and are cut from its text; `stop_token_ids` are added to the
    model's own EOS ids. Raises ValueError for values out of range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int = 256
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        checks = (
            (
                self.temperature == 0 or MIN_TEMPERATURE <= self.temperature < math.inf,
                "temperature must be 0 (greedy), or 1e-5 or more",
            ),
            (0 < self.top_p <= 1, "top_p must be above 0 and at most 1"),
            (self.top_k >= 0, "top_k must be 0 (off) or more"),
            (0 <= self.min_p <= 1, "min_p must be between 0 and 1"),
            (self.max_tokens >= 1, "max_tokens must be 1 or more"),
            (
                0 <= self.min_tokens <= self.max_tokens,
                "min_tokens must be between 0 and max_tokens",
            ),
            (all(self.stop), "a stop string must not be empty"),
        )
        for is_valid, message in checks:
            if not is_valid:
                raise ValueError(f"{message}: {self}")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that a reply calls; `arguments` is the text of a JSON object."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: who speaks, what, and which tools a reply calls."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt to be answered `num_samples` times.

    The random stream of sample i is keyed by (seed, id, first_sample_index + i)
    and by nothing else: not by its place in a batch, nor by what runs beside it.
    `messages` is the same prompt as a conversation, for servers that apply a chat
    template themselves and take no token ids.
    """

    id: str
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    num_samples: int = 1
    seed: int = 0
    first_sample_index: int = 0
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled reply with whose log-probs it carries.

    `token_ids` are the reply's tokens, the EOS included when one was sampled.
    `sampler_logprobs[t]` is the log-prob of token t under the distribution that
    it was really drawn from (temperature, top-k, top-p, min-p applied; 0.0 for
    greedy). `raw_logprobs[t]` is its log-prob under the model's own softmax at
    temperature 1. `weights_version` names the weights that sampled it. A server that
    gives text only reports `reported_tokens`, and the token fields are empty;
    `generation_seconds` is the time from request to reply, where the generator knows it.
    `routed_experts` (int16, [T, MoE layers, experts of a token]) are those that prompt and
    reply went to, all but the last token, where the generator records them.
    """

    request_id: str
    sample_index: int
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    text: str
    sampler_logprobs: tuple[float, ...]
    raw_logprobs: tuple[float, ...]
    finish_reason: FinishReason
    weights_version: int = 0
    reported_tokens: int | None = None
    generation_seconds: float | None = None
    routed_experts: NDArray[np.int16] | None = field(default=None, compare=False, repr=False)

    @property
    def num_tokens(self) -> int:
        """Tokens of the reply, by count or as the server reported them."""
        return len(self.token_ids) if self.reported_tokens is None else self.reported_tokens


@dataclass(frozen=True, slots=True)
class Rollout:
    """A sample with its problem, its grade and, later, its advantage."""

    problem: Problem
    sample: Sample
    grade: Grade
    reward: float | None = None
    advantage: float | None = None

"""The seam to whatever answers: our engine, or another server that speaks OpenAI's protocol.

Above it are the rules of use and the protocol, below it prompts are encoded and continued.
A reply crosses it as raw text, tags included, so that one parser splits every reply.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from r1.records import Message, SamplingParams, ToolCall
from r1.text.tokenizer import Tokenizer

StopReason = Literal["loop"]
# JSON has no infinity; OpenAI's servers write this for a probability of 0.
LOWEST_LOGPROB = -9999.0


@dataclass(frozen=True, slots=True)
class ReplyPrefix:
    """How the reply already begins: a thought (None: none), and an answer after it."""

    thought: str | None
    answer: str


@dataclass(frozen=True, slots=True)
class ChatInput:
    """A conversation to answer: the rules are applied, old thoughts gone."""

    messages: tuple[Message, ...]
    is_thinking: bool = True
    tools: tuple[Mapping[str, Any], ...] = ()
    prefix: ReplyPrefix | None = None


@dataclass(frozen=True, slots=True)
class ModelPrompt:
    """What a model side makes of an input.

    `starts_in_thought`: what comes first continues a thought. `ids` are the engine's,
    `chat` or `text` are what a server is sent.
    """

    starts_in_thought: bool = False
    ids: tuple[int, ...] = ()
    chat: ChatInput | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What the answer must be: JSON of a schema, or calls of these tools."""

    schema: Mapping[str, Any] | bool | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    is_one_call: bool = False


@dataclass(frozen=True, slots=True)
class ReplySettings:
    """How to sample one reply. `num_top_logprobs` None wants no log-probs at all."""

    id: str
    sampling: SamplingParams
    seed: int
    sample_index: int = 0
    thinking_budget: int | None = None
    loop_tokens: int = 0
    num_top_logprobs: int | None = None
    form: AnswerForm | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its bytes and its log-prob."""

    token: str
    token_bytes: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelChunk:
    """What came since the last chunk; `finish_reason` at the end.

    `stop_reason` "loop" says that the same tokens repeated without end. `tool_calls` are
    those that a server has read already. Counts of the prompt are None while they are not
    known, and that of all the thought's tokens where it is not known better than by the text.
    """

    text: str
    num_tokens: int = 1
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None
    stop_reason: StopReason | None = None
    num_prompt_tokens: int | None = None
    num_cached_tokens: int | None = None
    num_reasoning_tokens: int | None = None
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """How busy a model is; `kv_cache_usage` is a fraction."""

    num_running: int = 0
    num_waiting: int = 0
    kv_cache_usage: float = 0.0
    num_preemptions: int = 0
    is_healthy: bool = True


class ModelSide(Protocol):
    """Anything that continues prompts. A server has no `tokenizer` and no known `max_model_len`.

    `is_reasoning`: replies begin with a thought, and R1's rules of use apply.
    """

    is_reasoning: bool

    @property
    def tokenizer(self) -> Tokenizer | None: ...

    @property
    def max_model_len(self) -> int | None: ...

    def prepare_chat(self, chat: ChatInput) -> ModelPrompt:
        """The prompt of a conversation. Raises ValueError when it cannot be rendered."""
        ...

    def prepare_text(self, prompt: str | Sequence[int]) -> ModelPrompt:
        """The prompt of a text or of token ids. Raises ValueError for what it cannot take."""
        ...

    def stream(
        self, prompt: ModelPrompt, settings: ReplySettings
    ) -> AsyncGenerator[list[ModelChunk], None]:
        """The reply as it comes; each item is all that is new. Closing it cancels the reply.

        Raises ApiError when the reply cannot be given.
        """
        ...

    def load(self) -> ModelLoad:
        """The load now."""
        ...

    async def close(self) -> None:
        """Stop; replies under way end with an error."""
        ...

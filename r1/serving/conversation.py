"""A conversation with a model: its history, and replies that stream in pieces."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from r1.engine.engine import StepOutput
from r1.records import GenerationRequest, Message, Sample, SamplingParams
from r1.text.chat_template import Prompt, encode_chat
from r1.text.prompts import PromptStyle, build_prompt
from r1.text.reasoning import THINK_CLOSE, THINK_OPEN, Piece, ReasoningParser
from r1.text.tokenizer import Tokenizer

# R1's rules of use: temperature 0.5-0.7 (0.6), top-p 0.95, no system prompt, a forced <think>.
R1_SAMPLING = SamplingParams(temperature=0.6, top_p=0.95, max_tokens=2048)


class StreamingEngine(Protocol):
    """What a conversation needs of the engine."""

    tokenizer: Tokenizer
    max_model_len: int

    def add_request(self, request: GenerationRequest) -> None: ...
    def step(self) -> list[StepOutput]: ...
    def has_unfinished(self) -> bool: ...
    def cancel(self, request_id: str) -> list[Sample]: ...


@dataclass(frozen=True, slots=True)
class ConversationSettings:
    """How to prompt and to sample; every turn has its own random stream under `seed`.

    `prompt_style` None is "chat". Only "chat" has a history: the other styles ask
    each question anew. `force_think` None forces the opening `<think>` where the
    model's template is R1-like.
    """

    sampling: SamplingParams = field(default=R1_SAMPLING)
    prompt_style: PromptStyle | None = None
    system: str = ""
    force_think: bool | None = None
    seed: int = 0


class Conversation:
    """Turns with one model; the history keeps answers and drops thoughts."""

    def __init__(self, engine: StreamingEngine, settings: ConversationSettings) -> None:
        self.history: list[Message] = []
        self._engine = engine
        self._settings = settings
        self._num_turns = 0

    def clear(self) -> None:
        """Forget what was said."""
        self.history.clear()

    def stream(self, question: str) -> Generator[Piece, None, None]:
        """Ask, and yield ("thought" | "answer", text) as it comes.

        Closing the iterator (or an interrupt inside it) stops the reply. A turn that gave
        no answer leaves no trace in the history. Raises ValueError for a question that does
        not fit the model's context.
        """
        prompt = self._prompt(question)
        self._num_turns += 1
        request = GenerationRequest(
            id=f"turn-{self._num_turns}",
            prompt_ids=prompt.ids,
            sampling=self._settings.sampling,
            seed=self._settings.seed,
        )
        self._engine.add_request(request)
        answer = []
        try:
            for piece in self._pieces(
                ReasoningParser(starts_in_thought=bool(prompt.forced_opening))
            ):
                if piece[0] == "answer":
                    answer.append(piece[1])
                yield piece
        finally:
            self._engine.cancel(request.id)
            if "".join(answer).strip():
                self.history += [
                    Message("user", question),
                    Message("assistant", "".join(answer)),
                ]

    def _pieces(self, parser: ReasoningParser) -> Iterator[Piece]:
        while self._engine.has_unfinished():
            for output in self._engine.step():
                yield from parser.push(output.new_text)
        yield from parser.close()

    def _prompt(self, question: str) -> Prompt:
        """The prompt, with the oldest turns left out where the context is too short."""
        settings, engine = self._settings, self._engine
        if settings.prompt_style not in (None, "chat"):
            return build_prompt(engine.tokenizer, question, settings.prompt_style)
        system = [Message("system", settings.system)] if settings.system else []
        force_think = settings.force_think
        if force_think is None:
            force_think = is_r1_like(engine.tokenizer)
        reserved = min(settings.sampling.max_tokens, engine.max_model_len // 4)
        while True:
            messages = [*system, *self.history, Message("user", question)]
            prompt = encode_chat(engine.tokenizer, messages, force_think=force_think)
            if len(prompt.ids) + reserved <= engine.max_model_len or not self.history:
                return prompt
            del self.history[:2]


def is_r1_like(tokenizer: Tokenizer) -> bool:
    """Whether replies are to begin with a thought: the chat template knows its tags."""
    template = tokenizer.chat_template
    if template is None:
        return tokenizer.token_id(THINK_OPEN) is not None
    return THINK_OPEN in template or THINK_CLOSE in template

"""The model side that is our own engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import replace
from itertools import starmap

from r1.engine.engine import Engine
from r1.engine.outputs import StepOutput
from r1.engine.request_check import check_token_ids
from r1.engine.stream_options import StreamOptions
from r1.records import GenerationRequest
from r1.serving.api.engine_thread import EngineThread
from r1.serving.api.errors import ApiError
from r1.serving.api.grammar import AnswerGrammar, GrammarCompiler
from r1.serving.api.model_side import (
    LOWEST_LOGPROB,
    ChatInput,
    ModelChunk,
    ModelLoad,
    ModelPrompt,
    ReplyPrefix,
    ReplySettings,
    TokenLogprob,
)
from r1.serving.api.reply_constraint import ReplyConstraint, ThoughtTokens
from r1.serving.api.settings import ServerSettings
from r1.serving.conversation import is_r1_like
from r1.text.chat_template import Prompt, encode_chat
from r1.text.reasoning import THINK_CLOSE
from r1.text.tokenizer import Tokenizer
from r1.text.tool_calls import encode_tool_chat

# A seed repeats a reply: the random stream must not be named by the request.
_RANDOM_STREAM = "api"
_CLOSED_THOUGHT = f"\n{THINK_CLOSE}\n\n"


class EngineModel:
    """Continues prompts of token ids on an engine in a thread, which opens it."""

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        settings: ServerSettings,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        self._thread = EngineThread(open_engine, settings, on_idle)
        engine = self._thread.engine
        self.tokenizer: Tokenizer = engine.tokenizer
        self.max_model_len: int | None = engine.max_model_len
        self.is_reasoning = is_r1_like(engine.tokenizer)
        self._vocab_size = engine.model.config.vocab_size
        self._tokens = ThoughtTokens(self.tokenizer, self._vocab_size)
        self._grammar_timeout_seconds = settings.grammar_timeout_seconds
        self._compiler: GrammarCompiler | None = None

    def prepare_chat(self, chat: ChatInput) -> ModelPrompt:
        """Encode a conversation; what people and tools wrote is text, never a control token."""
        messages, is_reasoning = list(chat.messages), self.is_reasoning
        if chat.tools or any(m.tool_calls or m.role == "tool" for m in messages):
            prompt = encode_tool_chat(
                self.tokenizer, messages, chat.tools, force_think=is_reasoning
            )
        else:
            prompt = encode_chat(self.tokenizer, messages, force_think=is_reasoning)
        ids, is_in_thought = self._begin_reply(prompt, chat)
        return ModelPrompt(starts_in_thought=is_in_thought, ids=ids, chat=chat)

    def prepare_text(self, prompt: str | Sequence[int]) -> ModelPrompt:
        """Encode a text, special tokens off; token ids stay as they are.

        Raises ValueError for an id that is no token.
        """
        if isinstance(prompt, str):
            ids = self.tokenizer.encode(prompt, allow_special=False)
            return ModelPrompt(ids=(*self.tokenizer.prefix_ids, *ids))
        check_token_ids("the prompt", prompt, self._vocab_size)
        return ModelPrompt(ids=tuple(prompt))

    async def stream(
        self, prompt: ModelPrompt, settings: ReplySettings
    ) -> AsyncGenerator[list[ModelChunk], None]:
        """See ModelSide. Raises ApiError 400 for a prompt that does not fit."""
        constraint = await self._constraint(prompt, settings)
        request = GenerationRequest(
            id=settings.id,
            prompt_ids=prompt.ids,
            sampling=settings.sampling,
            seed=settings.seed,
            first_sample_index=settings.sample_index,
        )
        num_top = settings.num_top_logprobs or 0
        # A tag ends an output: tokens beyond it are of another part of the reply.
        options = StreamOptions(constraint, _RANDOM_STREAM, num_top, self._tokens.end_tags)
        buffer = self._thread.submit(request, options)
        try:
            is_finished = False
            while not is_finished:
                outputs = await buffer.take()
                yield [self._chunk(output, prompt, settings, constraint) for output in outputs]
                is_finished = bool(outputs) and outputs[-1].finished is not None
        finally:
            self._thread.cancel(settings.id)

    def load(self) -> ModelLoad:
        """From the engine's last step."""
        stats = self._thread.stats
        return ModelLoad(
            num_running=stats.num_running + stats.num_prefilling,
            num_waiting=stats.num_waiting,
            kv_cache_usage=1 - stats.num_free_blocks / stats.num_blocks,
            num_preemptions=stats.num_preemptions,
            is_healthy=self._thread.is_healthy,
        )

    async def close(self) -> None:
        """End the engine's thread."""
        await self._thread.close()

    # ------------------------------------------------------------ inside

    def _begin_reply(self, prompt: Prompt, chat: ChatInput) -> tuple[tuple[int, ...], bool]:
        """The prompt's ids with the reply's beginning, and whether that is within a thought."""
        prefix = chat.prefix
        if prefix is None and (chat.is_thinking or not self.is_reasoning):
            return prompt.ids, self.is_reasoning
        prefix = prefix or ReplyPrefix(None, "")
        thought = self.tokenizer.encode(prefix.thought or "", allow_special=False)
        if not self.is_reasoning:
            answer = self.tokenizer.encode(prefix.answer, allow_special=False)
            return (*prompt.ids, *answer), False
        if prefix.thought and not prefix.answer and chat.is_thinking:
            return (*prompt.ids, *thought), True
        # A thought that is closed at once is how R1 is asked not to think.
        answer = self.tokenizer.encode(prefix.answer, allow_special=False)
        return (*prompt.ids, *thought, *self._tokens.encode(_CLOSED_THOUGHT), *answer), False

    async def _constraint(
        self, prompt: ModelPrompt, settings: ReplySettings
    ) -> ReplyConstraint | None:
        """The reply's rules, or None where it has none."""
        grammar = None if settings.form is None else await self._grammar(settings)
        if grammar is None and settings.thinking_budget is None and not settings.loop_tokens:
            return None
        return ReplyConstraint(
            self._tokens,
            is_in_thought=prompt.starts_in_thought,
            thinking_budget=settings.thinking_budget,
            loop_tokens=settings.loop_tokens,
            grammar=grammar,
        )

    async def _grammar(self, settings: ReplySettings) -> AnswerGrammar:
        assert settings.form is not None
        if self._compiler is None:
            self._compiler = GrammarCompiler(self.tokenizer, self._vocab_size)
        compiling = asyncio.to_thread(self._compiler.compile, settings.form)
        try:
            return await asyncio.wait_for(compiling, self._grammar_timeout_seconds)
        except TimeoutError:
            limit = self._grammar_timeout_seconds
            raise ApiError(400, f"the schema takes more than {limit:g} s to compile") from None
        except ValueError as error:
            raise ApiError(400, str(error), param="response_format") from None

    def _chunk(
        self,
        output: StepOutput,
        prompt: ModelPrompt,
        settings: ReplySettings,
        constraint: ReplyConstraint | None,
    ) -> ModelChunk:
        finished = output.finished
        stop_reason = None if constraint is None or finished is None else constraint.stop_reason
        has_logprobs = settings.num_top_logprobs is not None
        return ModelChunk(
            text=output.new_text,
            num_tokens=len(output.new_token_ids),
            logprobs=tuple(self._logprobs(output)) if has_logprobs else (),
            finish_reason=None if finished is None else finished.finish_reason,
            stop_reason=stop_reason,
            num_prompt_tokens=len(prompt.ids),
            num_cached_tokens=output.num_cached_tokens,
        )

    def _logprobs(self, output: StepOutput) -> Iterator[TokenLogprob]:
        alternatives = output.top_logprobs or ((),) * len(output.new_token_ids)
        sampled = map(self._token, output.new_token_ids, output.raw_logprobs)
        for token, others in zip(sampled, alternatives, strict=True):
            yield replace(token, top=tuple(starmap(self._token, others)))

    def _token(self, token_id: int, logprob: float) -> TokenLogprob:
        raw = self.tokenizer.token_bytes(token_id)
        return TokenLogprob(raw.decode("utf-8", "replace"), raw, max(logprob, LOWEST_LOGPROB))

"""Judges on an OpenAI-compatible server: cached, counted, and their cost said beforehand."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from r1.backends.openai_http import sample_seed
from r1.backends.openai_http_client import RequestFailure, Server, ServerConfig
from r1.backends.openai_http_reply import CHARACTERS_PER_TOKEN, Reply
from r1.config import Config
from r1.evaluation.judges.cache import ReplyCache
from r1.records import Problem
from r1.tasks.judged.judged import JudgedTask, JudgeFailure
from r1.text.reasoning import split_reasoning

_ANSWER_CHARACTERS = 500
_TOP_LOGPROBS = 5


class JudgeConfig(Config):
    """Which model judges, and how it is sampled; temperature 0 as the benchmarks' own.

    `cache` is a file that keeps every reply. `has_logprobs` is false for servers that
    report no token probabilities: AlpacaEval's preference is then the judge's word, 0 or
    1. Prices are in any currency for a million tokens, for the estimate; without them it
    has none.
    """

    server: ServerConfig
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=4096, ge=1)
    seed: int = 0
    cache: Path | None = None
    has_logprobs: bool = True
    prompt_price_per_million: float | None = Field(default=None, ge=0)
    reply_price_per_million: float | None = Field(default=None, ge=0)

    def price(self, num_prompt_tokens: int, num_reply_tokens: int) -> float | None:
        """What so many tokens cost; None where a price is not set."""
        prices = (self.prompt_price_per_million, self.reply_price_per_million)
        if prices[0] is None or prices[1] is None:
            return None
        return (prices[0] * num_prompt_tokens + prices[1] * num_reply_tokens) / 1e6


@dataclass(frozen=True, slots=True)
class JudgeUsage:
    """What a judge was asked so far; tokens are the server's own count, cached replies free."""

    num_calls: int = 0
    num_cached: int = 0
    num_prompt_tokens: int = 0
    num_reply_tokens: int = 0


class ServerJudge:
    """A `Judge` (r1/tasks/judged/judged.py) that asks a server; safe to use from several threads.

    Raises ServerError, through `ask`, for a wrong key, model or address.
    """

    def __init__(self, config: JudgeConfig, *, server: Server | None = None) -> None:
        self.config = config
        self.usage = JudgeUsage()
        self._server = server or Server(config.server)
        self._cache = None if config.cache is None else ReplyCache(config.cache)
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self.config.server.model

    def check(self) -> None:
        """Ask one tiny thing; raises ServerError where the key, model or address is wrong."""
        self._server.check()

    def ask(self, prompt: str, system: str = "", attempt: int = 0) -> str:
        sampling = {
            "temperature": self.config.temperature,
            "top_p": self.config.top_p,
            "max_tokens": self.config.max_tokens,
        }
        reply = self._reply(_messages(prompt, system), sampling, attempt)
        text = split_reasoning(reply.content).answer
        if not text:
            raise JudgeFailure(f"an empty reply (ended with {reply.finish_reason!r})")
        return text

    def first_token(self, prompt: str, system: str = "", attempt: int = 0) -> Mapping[str, float]:
        if not self.config.has_logprobs:
            return {self.ask(prompt, system, attempt).strip(" \n\"'`*."): 1.0}
        # As in AlpacaEval's config: the temperature must not bend the probabilities.
        sampling = {
            "temperature": 1.0,
            "top_p": 1.0,
            "max_tokens": 1,
            "logprobs": True,
            "top_logprobs": _TOP_LOGPROBS,
        }
        reply = self._reply(_messages(prompt, system), sampling, attempt)
        if not reply.first_token_logprobs:
            raise JudgeFailure("the server reports no log-probs; set has_logprobs = false")
        return {token: math.exp(value) for token, value in reply.first_token_logprobs.items()}

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def _reply(
        self, messages: list[dict[str, str]], sampling: Mapping[str, Any], attempt: int
    ) -> Reply:
        config = self.config
        asked = {"model": self.name, "messages": messages, **sampling, **config.server.extra}
        key = _hash([asked, config.seed, attempt])
        cached = self._cache.get(key) if self._cache else None
        if cached is not None:
            self._count(cached, is_cached=True)
            return cached
        seed = sample_seed(config.seed, _hash(messages), attempt)
        num_characters = sum(len(message["content"]) for message in messages)
        try:
            reply = self._server.complete(
                "chat/completions",
                {"messages": messages, **sampling, "seed": seed},
                num_characters // CHARACTERS_PER_TOKEN,
            )
        except RequestFailure as error:
            raise JudgeFailure(str(error)) from None
        self._count(reply, is_cached=False)
        # What was cut short or is empty may be better the next time, so it is not kept.
        is_kept = reply.first_token_logprobs or (reply.content and reply.finish_reason == "stop")
        return self._cache.put(key, self.name, reply) if self._cache and is_kept else reply

    def _count(self, reply: Reply, *, is_cached: bool) -> None:
        with self._lock:
            usage = self.usage
            if is_cached:
                self.usage = replace(usage, num_cached=usage.num_cached + 1)
                return
            self.usage = replace(
                usage,
                num_calls=usage.num_calls + 1,
                num_prompt_tokens=usage.num_prompt_tokens + (reply.num_prompt_tokens or 0),
                num_reply_tokens=usage.num_reply_tokens + (reply.num_completion_tokens or 0),
            )


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What judging will take; tokens are characters divided by 4, the price None if not known."""

    task: str
    judge: str
    num_calls: int
    num_prompt_tokens: int
    num_reply_tokens: int
    price: float | None

    def line(self) -> str:
        """One line to show before it starts."""
        price = (
            "no price known (set judge.prompt_price_per_million and judge.reply_price_per_million)"
            if self.price is None
            else f"price about {self.price:,.2f}"
        )
        return (
            f"{self.task}: {self.num_calls:,} calls of judge {self.judge}, about "
            f"{self.num_prompt_tokens:,} tokens in and {self.num_reply_tokens:,} out "
            f"(estimated as characters / 4), {price}"
        )


def estimate_cost(
    task: JudgedTask, num_replies: Mapping[str, int], problems: Iterable[Problem]
) -> CostEstimate:
    """Estimate the calls and tokens of judging so many replies to each problem, by its id.

    The answers are not there yet: they are taken to be as long as the baseline's, where
    there is one, else 500 characters. Retries and the cache are left out. The price is that
    of a `ServerJudge` with prices.
    """
    num_calls, num_characters = 0, 0
    for problem in problems:
        count = num_replies.get(problem.id, 0)
        prompts = task.rubric.prompts(problem, "") if count else []
        answer_length = len(problem.metadata.get("baseline", "")) or _ANSWER_CHARACTERS
        length = sum(len(p.user) + len(p.system) + answer_length for p in prompts)
        num_calls += count * len(prompts)
        num_characters += count * length
    num_prompt_tokens = num_characters // CHARACTERS_PER_TOKEN
    num_reply_tokens = num_calls * task.rubric.num_reply_tokens
    price = None
    if isinstance(task.judge, ServerJudge):
        price = task.judge.config.price(num_prompt_tokens, num_reply_tokens)
    name = "(none)" if task.judge is None else task.judge.name
    return CostEstimate(task.name, name, num_calls, num_prompt_tokens, num_reply_tokens, price)


def _messages(prompt: str, system: str) -> list[dict[str, str]]:
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": prompt}]


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()

"""A `Generator` over any OpenAI-compatible server: vLLM, SGLang, DeepSeek's platform, llama.cpp.

Every sample is a request of its own with a seed of its own, so that a sample does not
depend on what else was asked. A sample that finally fails is missing from the result
and listed in `failures`: a failure of a server is never an answer.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from r1.backends.openai_http_client import RequestFailure, Server, ServerConfig, ServerError
from r1.backends.openai_http_reply import CHARACTERS_PER_TOKEN, Reply
from r1.records import FinishReason, GenerationRequest, Message, Sample
from r1.text.reasoning import THINK_CLOSE, THINK_OPEN, split_reasoning

if TYPE_CHECKING:
    import torch

# A sign that the server is gone or the settings are wrong, not that questions are odd.
_MAX_FAILURES_IN_A_ROW = 16
_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "eos": "stop",  # text-generation-inference
    "eos_token": "stop",
    "stop_sequence": "stop",
}


@dataclass(frozen=True, slots=True)
class SampleFailure:
    """A sample that the server did not give, and why."""

    request_id: str
    sample_index: int
    reason: str
    is_refused: bool = False
    """The server will never take this request, such as a prompt that is too long."""

    @property
    def cause(self) -> tuple[str, int | None]:
        """A refused request fails with all its samples, and that is one failure."""
        return self.request_id, None if self.is_refused else self.sample_index


@dataclass(frozen=True, slots=True)
class _Job:
    request: GenerationRequest
    place: int
    sample_index: int


_Outcome = Sample | SampleFailure | ServerError


class OpenAIGenerator:
    """Samples from a server, `config.num_concurrent` at a time.

    The chat endpoint is given `messages` and applies its own template; its thought, which
    servers return beside the content, is put back in front as `<think>...</think>`. The
    completions endpoint is given token ids, or text where `decode` turns ids into it
    (for servers that take no ids; they add a BOS, so `decode` must leave it out).
    `failures` are those of all calls of `generate`.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        decode: Callable[[Sequence[int]], str] | None = None,
        server: Server | None = None,
    ) -> None:
        self.config = config
        self.failures: list[SampleFailure] = []
        self._decode = decode
        self._server = server or Server(config)

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        on_sample: Callable[[Sample], None] | None = None,
    ) -> list[list[Sample]]:
        """Answer every request; a sample that finally failed is missing from its list.

        Raises ServerError when the server refuses the key, the model or the address, when
        16 samples in a row fail, and when all do (except those of one refused prompt);
        ValueError for a request that the endpoint cannot take.
        """
        jobs = [
            _Job(request, place, request.first_sample_index + i)
            for place, request in enumerate(requests)
            for i in range(request.num_samples)
        ]
        self._refuse_unsendable(requests)
        self._server.stopped.clear()
        waiting: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        finished: queue.SimpleQueue[tuple[_Job, _Outcome]] = queue.SimpleQueue()
        for job in jobs:
            waiting.put(job)
        # Daemons: a reader blocked on a dead connection must not keep the process alive.
        for _ in range(min(self.config.num_concurrent, len(jobs))):
            threading.Thread(target=self._work, args=(waiting, finished), daemon=True).start()
        try:
            return self._collect(requests, len(jobs), finished, on_sample)
        except BaseException:
            self._server.stopped.set()
            _drain(waiting)
            raise

    def load_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Always raises ValueError: a server's weights are its own."""
        raise ValueError(f"{self.config.url}: the weights of a server cannot be changed from here")

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def __enter__(self) -> OpenAIGenerator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _collect(
        self,
        requests: Sequence[GenerationRequest],
        num_jobs: int,
        finished: queue.SimpleQueue[tuple[_Job, _Outcome]],
        on_sample: Callable[[Sample], None] | None,
    ) -> list[list[Sample]]:
        samples: list[list[Sample]] = [[] for _ in requests]
        failures: list[SampleFailure] = []
        causes_in_a_row: set[tuple[str, int | None]] = set()
        for _ in range(num_jobs):
            job, outcome = finished.get()
            if isinstance(outcome, ServerError):
                raise outcome
            if isinstance(outcome, Sample):
                causes_in_a_row.clear()
                samples[job.place].append(outcome)
                if on_sample is not None:
                    on_sample(outcome)
                continue
            failures.append(outcome)
            self.failures.append(outcome)
            causes_in_a_row.add(outcome.cause)
            if len(causes_in_a_row) >= _MAX_FAILURES_IN_A_ROW:
                raise ServerError(f"{outcome.reason}; {len(causes_in_a_row)} failures in a row")
        is_one_prompt = len(causes_in_a_row) <= 1 and all(f.is_refused for f in failures)
        if len(failures) == num_jobs and not is_one_prompt:
            raise ServerError(f"{failures[0].reason}; all {num_jobs} samples failed")
        return [sorted(group, key=lambda sample: sample.sample_index) for group in samples]

    def _work(
        self,
        waiting: queue.SimpleQueue[_Job],
        finished: queue.SimpleQueue[tuple[_Job, _Outcome]],
    ) -> None:
        while True:
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            outcome = self._outcome(job)
            finished.put((job, outcome))
            if isinstance(outcome, ServerError):
                return

    def _outcome(self, job: _Job) -> _Outcome:
        try:
            return self._sample(job)
        except ServerError as error:
            return error
        except RequestFailure as error:
            return SampleFailure(job.request.id, job.sample_index, str(error), error.is_refused)
        # Whatever it is must reach the calling thread, which waits for this sample.
        except Exception as error:
            return ServerError(f"{self.config.url}: {type(error).__name__}: {error}")

    def _sample(self, job: _Job) -> Sample:
        request = job.request
        is_chat = self.config.endpoint == "chat"
        path = "chat/completions" if is_chat else "completions"
        body = _sampling_fields(request, job.sample_index)
        if is_chat:
            body["messages"] = [_message_field(message) for message in request.messages]
        else:
            ids = request.prompt_ids
            body["prompt"] = self._decode(ids) if self._decode else list(ids)
        started = time.perf_counter()
        reply = self._server.complete(path, body, _num_prompt_tokens(request))
        if reply.finish_reason not in _FINISH_REASONS:
            raise RequestFailure(f"{self.config.url}: ended with {reply.finish_reason!r}")
        return Sample(
            request_id=request.id,
            sample_index=job.sample_index,
            prompt_ids=request.prompt_ids,
            token_ids=(),
            text=self._text(reply, is_chat),
            sampler_logprobs=(),
            raw_logprobs=(),
            finish_reason=_FINISH_REASONS[reply.finish_reason],
            reported_tokens=reply.num_completion_tokens,
            generation_seconds=time.perf_counter() - started,
        )

    def _text(self, reply: Reply, is_chat: bool) -> str:
        if reply.reasoning:
            # Without content the thought never closed, or closed on nothing: no answer.
            opening = f"{THINK_OPEN}\n{reply.reasoning}"
            return f"{opening}\n{THINK_CLOSE}\n\n{reply.content}" if reply.content else opening
        is_open = is_chat and self.config.is_think_forced
        if is_open and not reply.content.lstrip().startswith(THINK_OPEN):
            return f"{THINK_OPEN}\n{reply.content}"
        return reply.content

    def _refuse_unsendable(self, requests: Sequence[GenerationRequest]) -> None:
        for request in requests:
            if self.config.endpoint == "chat" and not request.messages:
                raise ValueError(
                    f"{self.config.url}: request {request.id!r} has no messages for the chat "
                    "endpoint; use endpoint = 'completions' for prompts of token ids"
                )


def sample_seed(seed: int, request_id: str, sample_index: int) -> int:
    """A seed of 31 bits for one sample, the same wherever and whenever it is asked for."""
    key = f"{seed}:{request_id}:{sample_index}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:4], "big") >> 1


def _sampling_fields(request: GenerationRequest, sample_index: int) -> dict[str, Any]:
    """Fields of OpenAI's protocol always, those of vLLM and SGLang only when they are set."""
    sampling = request.sampling
    fields: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": sample_seed(request.seed, request.id, sample_index),
    }
    optional = {
        "stop": list(sampling.stop),
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "min_tokens": sampling.min_tokens,
        "stop_token_ids": list(sampling.stop_token_ids),
        "ignore_eos": sampling.ignore_eos,
    }
    return fields | {name: value for name, value in optional.items() if value}


def _message_field(message: Message) -> dict[str, str]:
    """A turn as it is sent: an earlier reply goes without its thought, as templates do it."""
    is_reply = message.role == "assistant"
    content = split_reasoning(message.content).answer if is_reply else message.content
    return {"role": message.role, "content": content}


def _num_prompt_tokens(request: GenerationRequest) -> int:
    if request.prompt_ids:
        return len(request.prompt_ids)
    return sum(len(message.content) for message in request.messages) // CHARACTERS_PER_TOKEN


def _drain(waiting: queue.SimpleQueue[_Job]) -> None:
    while not waiting.empty():
        try:
            waiting.get_nowait()
        except queue.Empty:
            return

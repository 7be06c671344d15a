"""The thread that steps the engine, and the bounded buffer of each of its clients."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from r1.engine.engine import Engine
from r1.engine.outputs import EngineStats, StepOutput
from r1.engine.stream_options import StreamOptions
from r1.records import GenerationRequest
from r1.serving.api.errors import ApiError

_log = logging.getLogger("r1.serving")


class ClientBuffer:
    """What the engine has made for one client and the client has not taken yet.

    Lives in the event loop. A client that falls `limit` outputs behind has failed.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._outputs: deque[StepOutput] = deque()
        self._failure: ApiError | None = None
        self._has_news = asyncio.Event()

    def put(self, output: StepOutput) -> bool:
        """Add an output; False when the client is too far behind to get any more."""
        if len(self._outputs) >= self._limit:
            self._outputs.clear()
            self.fail(ApiError(503, f"the client is more than {self._limit} tokens behind"))
            return False
        self._outputs.append(output)
        self._has_news.set()
        return True

    def fail(self, error: ApiError) -> None:
        """End the stream with an error."""
        self._failure = error
        self._has_news.set()

    async def take(self) -> list[StepOutput]:
        """Wait for news, and take all of it. Raises ApiError when the stream has failed."""
        await self._has_news.wait()
        self._has_news.clear()
        outputs = list(self._outputs)
        self._outputs.clear()
        if not outputs and self._failure is not None:
            raise self._failure
        if self._failure is not None:
            self._has_news.set()
        return outputs


@dataclass(frozen=True, slots=True)
class _Submission:
    request: GenerationRequest
    options: StreamOptions


class EngineThread:
    """Steps an engine while it has requests; called from one event loop."""

    def __init__(self, engine: Engine, max_buffered_tokens: int) -> None:
        self.stats: EngineStats = engine.stats()
        self._engine = engine
        self._max_buffered_tokens = max_buffered_tokens
        self._buffers: dict[str, ClientBuffer] = {}
        # A submission, the id of a request to cancel, or None: stop.
        self._inbox: queue.SimpleQueue[_Submission | str | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    @property
    def is_healthy(self) -> bool:
        """Whether requests are served; the thread starts with the first one."""
        return not self._is_closed and (self._thread is None or self._thread.is_alive())

    def submit(self, request: GenerationRequest, options: StreamOptions) -> ClientBuffer:
        """Queue a request; its outputs come through the buffer."""
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
            self._thread.start()
        buffer = ClientBuffer(self._max_buffered_tokens)
        self._buffers[request.id] = buffer
        self._inbox.put(_Submission(request, options))
        return buffer

    def cancel(self, request_id: str) -> None:
        """Stop a request and free its memory; a finished or unknown one is no matter."""
        if self._buffers.pop(request_id, None) is not None:
            self._inbox.put(request_id)

    async def close(self) -> None:
        """Stop the thread after its present step."""
        self._is_closed = True
        if self._thread is not None:
            self._inbox.put(None)
            await asyncio.to_thread(self._thread.join)
        self._fail_all(ApiError(503, "the server is shutting down"))

    # ------------------------------------------------------------ in the thread

    def _run(self) -> None:
        while self._take_orders():
            try:
                outputs = self._engine.step()
            except Exception as error:  # the engine has dropped every request; later ones may work
                _log.exception("the engine failed in a step")
                self._post(self._fail_all, ApiError(500, f"the engine failed: {_line(error)}"))
                outputs = []
            self.stats = self._engine.stats()
            if outputs:
                self._post(self._deliver, outputs)

    def _take_orders(self) -> bool:
        """Follow what has been asked; waits while there is nothing to step. False: stop."""
        while not (self._inbox.empty() and self._engine.has_unfinished()):
            order = self._inbox.get()
            if order is None:
                return False
            if isinstance(order, str):
                self._engine.cancel(order)
                self.stats = self._engine.stats()
            else:
                self._add(order)
        return True

    def _add(self, order: _Submission) -> None:
        try:
            self._engine.add_request(order.request, order.options)
        except ValueError as error:
            self._post(self._fail_one, order.request.id, ApiError(400, str(error)))

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    # ------------------------------------------------------------ in the loop

    def _deliver(self, outputs: list[StepOutput]) -> None:
        for output in outputs:
            buffer = self._buffers.get(output.request_id)
            if buffer is None:
                continue
            if not buffer.put(output):
                self.cancel(output.request_id)
            elif output.finished is not None:
                del self._buffers[output.request_id]

    def _fail_one(self, request_id: str, error: ApiError) -> None:
        buffer = self._buffers.pop(request_id, None)
        if buffer is not None:
            buffer.fail(error)

    def _fail_all(self, error: ApiError) -> None:
        for request_id in list(self._buffers):
            self._fail_one(request_id, error)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

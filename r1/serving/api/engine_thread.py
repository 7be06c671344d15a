"""The thread that steps the engine, and the bounded buffer of each of its clients."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby

from r1.engine.engine import Engine
from r1.engine.outputs import EngineStats, StepOutput
from r1.engine.stream_options import StreamOptions
from r1.records import GenerationRequest
from r1.serving.api.errors import ApiError
from r1.serving.api.pacing import Ticks
from r1.serving.api.settings import ServerSettings

_log = logging.getLogger("r1.serving")


class ClientBuffer:
    """What the engine has made for one client and the client has not taken yet.

    Lives in the event loop. A client that falls `limit` tokens behind has failed.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._outputs: list[StepOutput] = []
        self._num_tokens = 0
        self._failure: ApiError | None = None
        self._has_news = asyncio.Event()

    def put(self, outputs: list[StepOutput]) -> bool:
        """Add outputs; False when the client is too far behind to get any more."""
        self._num_tokens += sum([len(output.new_token_ids) for output in outputs])
        if self._num_tokens > self._limit:
            self._outputs.clear()
            self.fail(ApiError(503, f"the client is more than {self._limit} tokens behind"))
            return False
        self._outputs += outputs
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
        outputs, self._outputs = self._outputs, []
        self._num_tokens = 0
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
    """Opens an engine and steps it while it has requests; called from one event loop.

    Nobody else may compute with torch: OpenMP keeps a team of workers for each thread that
    does, and once there are more workers than cores its waits are sleeps, which takes a small
    model twice the time. So several of these call `on_idle` to give theirs back. Raises what
    `open_engine` raises.
    """

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        settings: ServerSettings,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        self._on_idle = on_idle
        self._max_buffered_tokens = settings.max_buffered_tokens
        self._buffers: dict[str, ClientBuffer] = {}
        # A submission, the id of a request to cancel, or None: stop.
        self._inbox: queue.SimpleQueue[_Submission | str | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._ticks = Ticks(settings.flush_interval_seconds)  # the thread's own
        opened: Future[Engine] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(open_engine, opened), name="engine", daemon=True
        )
        self._thread.start()
        self.engine = opened.result()
        self.stats: EngineStats = self.engine.stats()

    @property
    def is_healthy(self) -> bool:
        """Whether requests are served."""
        return not self._is_closed and self._thread.is_alive()

    def submit(self, request: GenerationRequest, options: StreamOptions) -> ClientBuffer:
        """Queue a request; its outputs come through the buffer."""
        self._loop = asyncio.get_running_loop()
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
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)
        self._fail_all(ApiError(503, "the server is shutting down"))

    # ------------------------------------------------------------ in the thread

    def _run(self, open_engine: Callable[[], Engine], opened: Future[Engine]) -> None:
        try:
            engine = open_engine()
        except Exception as error:  # raised again by whoever waits for it
            opened.set_exception(error)
            return
        opened.set_result(engine)
        while self._take_orders(engine):
            is_tick = self._ticks.is_due(time.monotonic(), self.stats.num_running)
            try:
                outputs = engine.step(holds_back=not is_tick)
            except Exception as error:  # the engine has dropped every request; later ones may work
                _log.exception("the engine failed in a step")
                self._post(self._fail_all, ApiError(500, f"the engine failed: {_line(error)}"))
                outputs = []
            self.stats = engine.stats()
            if outputs:
                self._post(self._deliver, outputs)

    def _take_orders(self, engine: Engine) -> bool:
        """Follow what has been asked; waits while there is nothing to step. False: stop."""
        while not (self._inbox.empty() and engine.has_unfinished()):
            if self._on_idle is not None and self._inbox.empty():
                self._on_idle()
            order = self._inbox.get()
            if order is None:
                return False
            if isinstance(order, str):
                engine.cancel(order)
                self.stats = engine.stats()
            else:
                self._add(engine, order)
        return True

    def _add(self, engine: Engine, order: _Submission) -> None:
        try:
            engine.add_request(order.request, order.options)
        except ValueError as error:
            self._post(self._fail_one, order.request.id, ApiError(400, str(error)))

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    # ------------------------------------------------------------ in the loop

    def _deliver(self, outputs: list[StepOutput]) -> None:
        for request_id, own in groupby(outputs, lambda output: output.request_id):
            buffer, made = self._buffers.get(request_id), list(own)
            if buffer is None:
                continue
            if not buffer.put(made):
                self.cancel(request_id)
            elif made[-1].finished is not None:
                del self._buffers[request_id]

    def _fail_one(self, request_id: str, error: ApiError) -> None:
        buffer = self._buffers.pop(request_id, None)
        if buffer is not None:
            buffer.fail(error)

    def _fail_all(self, error: ApiError) -> None:
        for request_id in list(self._buffers):
            self._fail_one(request_id, error)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

"""Keeping under a server's rate limits, before it says so."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

_WINDOW_SECONDS = 60.0


class RateLimit:
    """At most so many requests and tokens in any 60 seconds; None is no limit.

    A request is admitted with the tokens of its prompt, and what it generated is added
    when it ends, so that the next ones wait for it. One request that is larger than the
    whole allowance is admitted when nothing else is in the window.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._max_requests = requests_per_minute
        self._max_tokens = tokens_per_minute
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._spent: deque[tuple[float, int, int]] = deque()  # (time, requests, tokens)

    def admit(self, num_tokens: int) -> None:
        """Wait until a request with so many prompt tokens may start, and count it."""
        while (wait_seconds := self._try_admit(num_tokens)) > 0:
            self._sleep(wait_seconds)

    def spend(self, num_tokens: int) -> None:
        """Count tokens that a request generated."""
        if self._max_tokens is not None:
            with self._lock:
                self._spent.append((self._clock(), 0, num_tokens))

    def _try_admit(self, num_tokens: int) -> float:
        """Count the request and return 0, or the seconds until there may be room."""
        if self._max_requests is None and self._max_tokens is None:
            return 0.0
        with self._lock:
            now = self._clock()
            while self._spent and self._spent[0][0] <= now - _WINDOW_SECONDS:
                self._spent.popleft()
            if self._has_room(num_tokens):
                self._spent.append((now, 1, num_tokens))
                return 0.0
            return self._spent[0][0] + _WINDOW_SECONDS - now

    def _has_room(self, num_tokens: int) -> bool:
        if not self._spent:
            return True
        num_requests = sum(requests for _, requests, _ in self._spent)
        tokens = sum(tokens for _, _, tokens in self._spent)
        is_request_free = self._max_requests is None or num_requests < self._max_requests
        is_token_free = self._max_tokens is None or tokens + num_tokens <= self._max_tokens
        return is_request_free and is_token_free

from __future__ import annotations

from r1.backends.openai_http_limits import RateLimit


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def starts(requests: int | None, tokens: int | None, sizes: list[int]) -> list[float]:
    clock = Clock()
    limit = RateLimit(requests, tokens, clock.read, clock.sleep)
    times = []
    for size in sizes:
        limit.admit(size)
        times.append(clock.now)
        clock.now += 1.0
    return times


def test_no_limit_waits_for_nothing() -> None:
    assert starts(None, None, [10**9] * 3) == [0, 1, 2]


def test_requests_in_any_60_seconds() -> None:
    assert starts(2, None, [1] * 5) == [0, 1, 60, 61, 120]


def test_tokens_in_any_60_seconds() -> None:
    assert starts(None, 100, [60, 40, 1, 99]) == [0, 1, 60, 61]


def test_a_request_larger_than_the_allowance_goes_alone() -> None:
    assert starts(None, 100, [500, 500]) == [0, 60]


def test_generated_tokens_count() -> None:
    clock = Clock()
    limit = RateLimit(None, 100, clock.read, clock.sleep)
    limit.admit(10)
    clock.now = 30.0
    limit.spend(90)
    limit.admit(20)
    assert clock.now == 90.0

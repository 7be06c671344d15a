"""When new tokens are sent: a reply's first text and its end at once, all between in ticks.

A message costs more than a token of a small model, and every millisecond that the event loop
works is one that the engine's thread waits. So all streams are sent in one tick, and the more
of them there are the longer it lasts: the messages of all a second are bounded.
"""

from __future__ import annotations

# Streams that are all sent at the shortest interval: with 0.02 s, 150 messages a second.
_NUM_UNDELAYED = 3
_LONGEST_SECONDS = 0.25


def tick_seconds(shortest_seconds: float, num_streams: int) -> float:
    """Seconds between two messages of a stream."""
    fair_seconds = shortest_seconds * num_streams / _NUM_UNDELAYED
    return max(shortest_seconds, min(fair_seconds, _LONGEST_SECONDS))


class Ticks:
    """When the streams' next tick is."""

    def __init__(self, shortest_seconds: float) -> None:
        self._shortest_seconds = shortest_seconds
        self._next = 0.0

    def is_due(self, now: float, num_streams: int) -> bool:
        """Whether a tick is due at the time `now` (seconds); the next one follows from it."""
        if now < self._next:
            return False
        self._next = now + tick_seconds(self._shortest_seconds, num_streams)
        return True

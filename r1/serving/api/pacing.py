"""When new tokens are sent: a reply's first text and its end at once, all between in ticks.

A message costs more than a token of a small model, and every millisecond that the event loop
works is one that the engine's thread waits. So all streams are sent in one tick, and the more
of them there are the longer it lasts: the messages of all a second are bounded.
"""

from __future__ import annotations

from collections.abc import Sequence

from r1.engine.outputs import StepOutput

# Streams that are all sent at the shortest interval: with 0.02 s, 300 messages a second.
_NUM_UNDELAYED = 6
_LONGEST_SECONDS = 0.25


def tick_seconds(shortest_seconds: float, num_streams: int) -> float:
    """Seconds between two messages of a stream."""
    fair_seconds = shortest_seconds * num_streams / _NUM_UNDELAYED
    return max(shortest_seconds, min(fair_seconds, _LONGEST_SECONDS))


class OutputPacer:
    """Holds what the replies under way have made since they were sent last."""

    def __init__(self, shortest_seconds: float) -> None:
        self._shortest_seconds = shortest_seconds
        self._held: dict[str, list[StepOutput]] = {}
        self._begun: set[str] = set()
        self._next_tick = 0.0

    def take_due(self, outputs: Sequence[StepOutput], now: float) -> dict[str, list[StepOutput]]:
        """Add a step's outputs; return what is to be sent at the time `now` (seconds), by reply."""
        held, due_ids = self._held, []
        for output in outputs:
            if output.request_id not in self._begun or output.finished is not None:
                due_ids.append(output.request_id)
            held.setdefault(output.request_id, []).append(output)
            # Space in front is not shown: it is no beginning.
            if output.new_text.strip():
                self._begun.add(output.request_id)
        if now >= self._next_tick:
            self._next_tick = now + tick_seconds(self._shortest_seconds, len(held))
            due_ids = list(held)
        due = {request_id: held[request_id] for request_id in due_ids if held[request_id]}
        for request_id, made in due.items():
            if made[-1].finished is None:
                held[request_id] = []
            else:
                self.drop(request_id)
        return due

    def drop(self, request_id: str) -> None:
        """Forget a reply that has ended; an unknown one is no matter."""
        self._held.pop(request_id, None)
        self._begun.discard(request_id)

    def clear(self) -> None:
        """Forget all of them."""
        self._held.clear()
        self._begun.clear()

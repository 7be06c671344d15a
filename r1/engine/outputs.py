"""What the engine reports: the outputs of a step, and its load."""

from __future__ import annotations

from dataclasses import dataclass

from r1.records import Sample


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a sample has grown by since its last output; `finished` is the whole at its end.

    `raw_logprobs` holds one for each new token, `top_logprobs` its alternatives (id, log-prob)
    where they were asked for. `num_cached_tokens` of the prompt came from the prefix cache.
    """

    request_id: str
    sample_index: int
    new_token_ids: tuple[int, ...] = ()
    new_text: str = ""
    finished: Sample | None = None
    raw_logprobs: tuple[float, ...] = ()
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] = ()
    num_cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Load and counters of an engine (the counters only grow)."""

    num_waiting: int
    num_prefilling: int
    num_running: int
    num_blocks: int
    num_free_blocks: int
    num_cached_blocks: int
    num_steps: int
    num_generated_tokens: int
    num_cached_tokens: int
    num_preemptions: int
    weights_version: int
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0

    @property
    def acceptance_rate(self) -> float | None:
        """The share of drafted tokens that were accepted; None without any."""
        return self.num_accepted_tokens / self.num_draft_tokens if self.num_draft_tokens else None

"""Which requests an engine can never run."""

from __future__ import annotations

from collections.abc import Sequence

from r1.records import GenerationRequest


def check_request(request: GenerationRequest, vocab_size: int, max_model_len: int) -> None:
    """Raises ValueError with what is wrong, before the request is queued."""
    where = f"request {request.id!r}"
    if not request.prompt_ids:
        raise ValueError(f"{where}: the prompt is empty; it needs at least one token")
    if request.num_samples < 1:
        raise ValueError(f"{where}: num_samples must be 1 or more, not {request.num_samples}")
    if len(request.prompt_ids) >= max_model_len:
        raise ValueError(
            f"{where}: a prompt of {len(request.prompt_ids)} tokens can never fit:"
            f" max_model_len is {max_model_len}, prompt and reply together"
        )
    for what, ids in (
        ("prompt_ids", request.prompt_ids),
        ("stop_token_ids", request.sampling.stop_token_ids),
    ):
        check_token_ids(f"{where}: {what}", ids, vocab_size)


def check_token_ids(what: str, ids: Sequence[int], vocab_size: int) -> None:
    """Raises ValueError for an id that is no token."""
    for token_id in ids:
        if not 0 <= token_id < vocab_size:
            raise ValueError(f"{what} has {token_id}, outside the vocabulary of {vocab_size}")

"""The only seam to sampling.

Training, rejection sampling, evaluation and serving see a `Generator` and
nothing behind it: our engine, or a backend that speaks the same two methods.
It speaks token ids, so that what was sampled is exactly what is trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from r1.records import GenerationRequest, Sample


class Generator(Protocol):
    """Anything that answers prompts with samples."""

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        on_sample: Callable[[Sample], None] | None = None,
    ) -> list[list[Sample]]:
        """Answer every request; result[i][j] is sample j of requests[i].

        `on_sample` is called once for each finished sample, in the order in
        which they finish, from the calling thread (progress bars, early grading).
        """
        ...

    def load_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Take new weights under Hugging Face names; later samples carry `version`."""
        ...

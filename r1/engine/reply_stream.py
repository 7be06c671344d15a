"""What a streamed sequence has shown of its reply, and its next outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from r1.engine.detokenizer import IncrementalDetokenizer
from r1.engine.outputs import StepOutput
from r1.engine.stream_options import NUM_TOKENS_BEFORE, StreamOptions
from r1.records import Sample


class ReplyStream:
    """Puts out the tokens of one sequence with their text, `num_shown` of its reply so far.

    `has_begun`: there has been text, which space alone is not.
    """

    def __init__(
        self, detokenizer: IncrementalDetokenizer, options: StreamOptions, prompt_ids: np.ndarray
    ) -> None:
        self.num_shown = 0
        self.has_begun = False
        self._detokenizer = detokenizer
        self._options = options
        self._ids_before = prompt_ids[-NUM_TOKENS_BEFORE:]
        # Of the tokens not shown yet: texts where stop strings are searched, alternatives.
        self._texts: list[str] = []
        self._alternatives: list[tuple[tuple[int, float], ...]] = []

    def keep_text(self) -> None:
        """The detokenizer has searched a token: its text waits for the next output."""
        self._texts.append(self._detokenizer.take_new_text())

    def keep_alternatives(self, top_ids_NK: np.ndarray, top_logprobs_NK: np.ndarray) -> None:
        """The most probable tokens in the place of each of N new ones."""
        num_top = self._options.num_top_logprobs
        rows = zip(top_ids_NK[:, :num_top].tolist(), top_logprobs_NK.tolist(), strict=True)
        self._alternatives += [tuple(zip(*row, strict=False)) for row in rows]

    def take_outputs(
        self, blank: StepOutput, ids: np.ndarray, logprobs: np.ndarray, sample: Sample | None
    ) -> list[StepOutput]:
        """All tokens not shown yet, as one output or as the options cut them.

        `blank` has what all outputs of the sequence share. `sample` is there at the end, where
        the last output shows all that is left of its text.
        """
        outputs, start = [], 0
        for stop in self._cuts(ids):
            is_last = stop == len(ids)
            outputs.append(
                replace(
                    blank,
                    new_token_ids=tuple(ids[start:stop].tolist()),
                    new_text=self._text(ids, start, stop, sample if is_last else None),
                    finished=sample if is_last else None,
                    raw_logprobs=tuple(logprobs[start:stop].tolist()),
                    top_logprobs=tuple(self._alternatives[start:stop]),
                )
            )
            start = stop
        self.num_shown += len(ids)
        self.has_begun = self.has_begun or any(output.new_text.strip() for output in outputs)
        self._texts.clear()
        self._alternatives.clear()
        return outputs

    def _cuts(self, ids: np.ndarray) -> list[int]:
        """Where outputs end: behind each token that ends one, and behind the last."""
        if self._options.ends_output is None:
            return [len(ids)]
        seen, num_before = np.concatenate((self._ids_before, ids)), len(self._ids_before)
        self._ids_before = seen[-NUM_TOKENS_BEFORE:]
        cuts = (np.flatnonzero(self._options.ends_output(seen)[num_before:]) + 1).tolist()
        return cuts if cuts and cuts[-1] == len(ids) else [*cuts, len(ids)]

    def _text(self, ids: np.ndarray, start: int, stop: int, sample: Sample | None) -> str:
        detokenizer, text = self._detokenizer, "".join(self._texts[start:stop])
        if sample is not None:
            return text + detokenizer.take_new_text(sample.text)
        if detokenizer.stop:
            return text
        detokenizer.read(ids[start:stop].tolist())
        return detokenizer.take_new_text()

"""Text while it is generated: stop strings, and what may be shown already."""

from __future__ import annotations

from collections.abc import Sequence

from r1.text.decode_stream import DecodeStream
from r1.text.tokenizer import Tokenizer


class IncrementalDetokenizer:
    """The text of one running sequence, searched for stop strings as it grows.

    A stop string is found wherever it is cut into tokens or bytes, as soon as its
    last character is complete; the one that starts first wins. Strings that are
    complete within the first `min_tokens` tokens do not count (as in vLLM).
    """

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...] = (), min_tokens: int = 0):
        self.stream = DecodeStream(tokenizer)
        self.stop = stop
        self.min_tokens = min_tokens
        self.text = ""
        self.is_stopped = False
        self._num_tokens = 0
        self._num_shown = 0

    def push(self, token_id: int) -> bool:
        """Add a token; True when a stop string is complete (`text` then ends before it)."""
        num_searched = len(self.text)
        self.read([token_id])
        self._num_tokens += 1
        if self._num_tokens <= self.min_tokens:
            return False
        # A match must end in the new text: it starts at most its own length before it.
        starts = (self.text.find(stop, max(0, num_searched - len(stop) + 1)) for stop in self.stop)
        first = min((start for start in starts if start >= 0), default=None)
        if first is not None:
            self.text = self.text[:first]
            self.is_stopped = True
        return self.is_stopped

    def read(self, token_ids: Sequence[int]) -> None:
        """Add tokens, any number at once, in which no stop string is searched."""
        self.text += self.stream.push(token_ids)

    def take_new_text(self, final_text: str | None = None) -> str:
        """Text not shown before; what may turn out to begin a stop string is held back.

        `final_text` is given once, at the end: all that is left of it comes out.
        """
        text = self.text if final_text is None else final_text
        end = len(text) if final_text is not None else len(text) - self._num_held_back()
        new_text = text[self._num_shown : end]
        self._num_shown = max(self._num_shown, end)
        return new_text

    def _num_held_back(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self.stop), default=0)
        for length in range(min(longest, len(self.text)), 0, -1):
            tail = self.text[-length:]
            if any(stop.startswith(tail) for stop in self.stop):
                return length
        return 0

"""Token ids to text as they come."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from r1.text.tokenizer import Tokenizer


class DecodeStream:
    """Text of a token stream, only in whole characters.

    The pieces of `push`, joined, with `close` at the end, equal `decode` of all ids.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.skipped_ids if skip_special else frozenset()
        self._pieces = tokenizer.byte_pieces
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._window: list[int] = []
        self._window_text = ""
        self._pending: list[int] = []

    def push(self, ids: Sequence[int]) -> str:
        """Take more token ids; return the characters that they complete."""
        ids = [token for token in ids if token not in self._skipped]
        if self._pieces is None:
            return self._push_window(ids, is_end=False)
        size = len(self._pieces)
        return self._utf8.decode(b"".join(self._pieces[t] for t in ids if t < size))

    def close(self) -> str:
        """End of the stream: what an unfinished character leaves, as U+FFFD."""
        if self._pieces is None:
            return self._push_window([], is_end=True)
        return self._utf8.decode(b"", final=True)

    def _push_window(self, ids: Sequence[int], *, is_end: bool) -> str:
        # Other decoders look at neighbours (a leading space, byte fallback), so new
        # tokens are decoded behind the last ones that gave text, as vLLM does.
        self._pending += ids
        text = self._tokenizer.decode(self._window + self._pending, skip_special=False)
        new = text[len(self._window_text) :]
        if not new or (new.endswith("\ufffd") and not is_end):
            return ""
        self._window, self._pending = self._pending, []
        self._window_text = self._tokenizer.decode(self._window, skip_special=False)
        return new

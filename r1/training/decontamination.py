"""Decontamination: training texts that share ten words in a row with a test text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NGRAM_WORDS = 10

# Chinese and Japanese write no spaces, so a character stands for a word.
_WORD = re.compile(r"[぀-ヿ㐀-䶿一-鿿豈-﫿]|[^\W_぀-ヿ㐀-䶿一-鿿豈-﫿]+")


def words_of(text: str) -> list[str]:
    """Words in order, case and punctuation aside; each Han or kana character is one."""
    return _WORD.findall(text.casefold())


class Decontaminator:
    """Finds texts that repeat a test question or a reference solution.

    A text is contaminated when it shares `num_words` consecutive words with a test
    text (R1, arXiv 2501.12948: 10-grams), or holds the same words as a test text
    that is too short to have any such run.
    """

    def __init__(self, test_texts: Iterable[str], num_words: int = NGRAM_WORDS) -> None:
        self.num_words = num_words
        self._ngrams: set[tuple[str, ...]] = set()
        self._short: set[tuple[str, ...]] = set()
        for text in test_texts:
            words = words_of(text)
            if len(words) >= num_words:
                self._ngrams.update(self._ngrams_of(words))
            elif words:
                self._short.add(tuple(words))

    def is_contaminated(self, text: str) -> bool:
        """Whether the text shares an n-gram with a test text, or is a short one itself."""
        words = words_of(text)
        if tuple(words) in self._short:
            return True
        return any(ngram in self._ngrams for ngram in self._ngrams_of(words))

    def _ngrams_of(self, words: Sequence[str]) -> Iterable[tuple[str, ...]]:
        return zip(*(words[start:] for start in range(self.num_words)), strict=False)

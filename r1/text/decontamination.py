"""Decontamination: training texts that share ten words in a row with a test text."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

NGRAM_WORDS = 10

# What so many questions of one benchmark say is how it asks, not what: the request for
# `Answer: LETTER`, the examples of a few-shot prompt. Passages that a few questions share
# stay below it.
FORM_MIN_QUESTIONS = 10
FORM_SHARE = 0.01

# Chinese and Japanese write no spaces, so a character stands for a word.
_WORD = re.compile(r"[぀-ヿ㐀-䶿一-鿿豈-﫿]|[^\W_぀-ヿ㐀-䶿一-鿿豈-﫿]+")
# The same for ASCII: letters in lower case, digits, and spaces for all else.
_ASCII_WORDS = bytes(
    ord(char.lower()) if char.isalnum() else ord(" ") for char in map(chr, range(128))
).ljust(256)
_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_FILTER_BITS_PER_NGRAM = 16

Hashes = NDArray[np.uint64]


def words_of(text: str) -> list[str]:
    """Words in order, case and punctuation aside; each Han or kana character is one."""
    if text.isascii():  # ten times faster, and most lines of most texts are
        return text.encode().translate(_ASCII_WORDS).decode().split()
    if "\n" in text:
        return [word for line in text.split("\n") for word in words_of(line)]
    return _WORD.findall(text.casefold())


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a text shares with one test text: `ngram` as words, and which test text."""

    text_index: int
    ngram: str


class Decontaminator:
    """Finds texts that repeat a test question or a reference solution.

    A text is contaminated when it shares `num_words` consecutive words with a test
    text (R1, arXiv 2501.12948: 10-grams), or holds the same words as a test text
    that is too short to have any such run. Runs of numbers alone, 1 to 10 for one, are in
    too many texts to tell anything.

    `groups[i]` names the benchmark of text i. N-grams that more than 1% of a group's
    texts have, and at least ten of them, are its prompt's form and are left out; without
    groups none are.
    """

    def __init__(
        self,
        test_texts: Iterable[str],
        num_words: int = NGRAM_WORDS,
        groups: Sequence[str] | None = None,
    ) -> None:
        self.num_words = num_words
        self._texts = list(test_texts)
        self._short: dict[tuple[str, ...], list[int]] = {}
        hashes: list[Hashes] = []
        for index, text in enumerate(self._texts):
            words = words_of(text)
            if words and len(words) < num_words:
                self._short.setdefault(tuple(words), []).append(index)
            hashes.append(np.unique(self._hashes_of(words)))
        if groups is not None:
            hashes = _without_form(hashes, groups)
        sources = np.repeat(np.arange(len(hashes)), [len(array) for array in hashes])
        together = np.concatenate([*hashes, np.empty(0, np.uint64)])
        order = np.argsort(together, kind="stable")
        self._hashes, self._sources = together[order], sources[order]
        # Most n-grams of a clean text fall at an empty place of this table at once.
        size = 1 << max(10, (len(together) * _FILTER_BITS_PER_NGRAM).bit_length())
        self._mask = np.uint64(size - 1)
        self._is_taken = np.zeros(size, np.bool_)
        self._is_taken[self._hashes & self._mask] = True
        self._joined = lru_cache(maxsize=4096)(self._joined_words)

    @property
    def num_ngrams(self) -> int:
        """Different n-grams of each test text, added up."""
        return len(self._hashes)

    def is_contaminated(self, text: str) -> bool:
        """Whether the text shares an n-gram with a test text, or is a short one itself."""
        return bool(self.overlaps(text))

    def overlaps(self, text: str) -> list[Overlap]:
        """The test texts that it repeats, each with the first n-gram in the text's order."""
        words = words_of(text)
        found = {i: " ".join(words) for i in self._short.get(tuple(words), ())}
        hashes = self._hashes_of(words)
        starts = np.flatnonzero(self._is_taken[hashes & self._mask])
        firsts = np.searchsorted(self._hashes, hashes[starts], "left")
        lasts = np.searchsorted(self._hashes, hashes[starts], "right")
        for place in np.flatnonzero(lasts > firsts).tolist():
            start = int(starts[place])
            run = words[start : start + self.num_words]
            if all(word.isdigit() for word in run):
                continue
            ngram = " ".join(run)
            for source in self._sources[firsts[place] : lasts[place]].tolist():
                # Two n-grams can have one hash; the words decide.
                if source not in found and f" {ngram} " in self._joined(source):
                    found[source] = ngram
        return [Overlap(index, ngram) for index, ngram in found.items()]

    def _joined_words(self, index: int) -> str:
        return f" {' '.join(words_of(self._texts[index]))} "

    def _hashes_of(self, words: Sequence[str]) -> Hashes:
        """One hash for each n-gram, in order; those of equal n-grams are equal."""
        num_ngrams = len(words) - self.num_words + 1
        if num_ngrams <= 0:
            return np.empty(0, np.uint64)
        of_words = np.fromiter(map(hash, words), np.int64, len(words)).view(np.uint64)
        combined = np.zeros(num_ngrams, np.uint64)
        for shift in range(self.num_words):
            combined = combined * _HASH_FACTOR + of_words[shift : shift + num_ngrams]
        # The low bits of a product depend on low bits only; the table is asked by those.
        return combined ^ (combined >> np.uint64(32))


def _without_form(hashes: Sequence[Hashes], groups: Sequence[str]) -> list[Hashes]:
    """The n-grams of each text without those of its group's prompt form."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    kept = list(hashes)
    for indices in members.values():
        ngrams, counts = np.unique(
            np.concatenate([hashes[index] for index in indices]), return_counts=True
        )
        limit = max(FORM_MIN_QUESTIONS, FORM_SHARE * len(indices))
        form = ngrams[counts >= limit]
        for index in indices:
            kept[index] = hashes[index][~np.isin(hashes[index], form)]
    return kept

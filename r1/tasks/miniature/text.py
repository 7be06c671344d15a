"""The text of the miniature world: bilingual sums, and replies that think in several ways.

The embedded base model is pretrained on what `pretraining_rows` yields, so that it
stands to R1-Zero as a pretrained base does: it has seen bare guesses, short steps and
long steps that check and correct themselves, in English, in Chinese and in both at once,
right and wrong. It can think in several ways and rarely does it well.

A sum is held out for tests by a hash of its text: no training text of any stage holds it,
in either language.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from r1.config import Config

Language = Literal["en", "zh"]
Mode = Literal["guess", "short", "long"]

LANGUAGES: tuple[Language, ...] = ("en", "zh")
_HELD_OUT_OF_256 = 26  # about one sum in ten


@dataclass(frozen=True, slots=True)
class Phrases:
    """How one language words a question and the steps of a thought."""

    questions: tuple[str, ...]
    guesses: tuple[str, ...]
    first: str
    next: tuple[str, ...]
    wait: str
    check: str
    stop: str
    summaries: tuple[str, ...]


PHRASES: dict[Language, Phrases] = {
    "en": Phrases(
        questions=("What is {}?", "Compute {}.", "How much is {}?"),
        guesses=("I guess it is {}.", "It must be {}.", "Maybe {}."),
        first="First ",
        next=("Then ", "Next "),
        wait="Wait, ",
        check="Check: ",
        stop=". ",
        summaries=("The answer is \\boxed{{{answer}}}.", "{sum} = \\boxed{{{answer}}}."),
    ),
    "zh": Phrases(
        questions=("{} 等于多少？", "请计算 {}。", "{} 是多少？"),
        guesses=("我猜是 {}。", "应该是 {}。", "也许是 {}。"),
        first="先算 ",
        next=("再算 ", "接着 "),
        wait="等等，",
        check="检查：",
        stop="。",
        summaries=("答案是 \\boxed{{{answer}}}。", "{sum} = \\boxed{{{answer}}}。"),
    ),
}


@dataclass(frozen=True, slots=True)
class Sum:
    """A chain of additions and subtractions of one-digit numbers; no partial sum is negative."""

    terms: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.terms)

    @property
    def text(self) -> str:
        return _chain(self.terms[0], self.terms[1:])

    @property
    def is_held_out(self) -> bool:
        return hashlib.sha256(self.text.encode()).digest()[0] < _HELD_OUT_OF_256


class TextMix(Config):
    """Shares of what the pretraining text holds; the defaults made the embedded base model.

    `modes` weighs guess, short and long thoughts. `guess_is_right` and the `slip` rates
    say how often each of them is correct: a `long_slip` is noticed and corrected, a
    `short_slip` or `long_error` is not. The rest of `same_language` and
    `other_language` mixes both languages clause by clause.
    """

    min_terms: int = 5
    max_terms: int = 8
    modes: tuple[float, float, float] = (0.62, 0.26, 0.12)
    guess_is_right: float = 0.25
    short_slip: float = 0.25
    long_slip: float = 0.06
    long_error: float = 0.005
    same_language: float = 0.5
    other_language: float = 0.2
    well_formed: float = 0.8
    talk: float = 0.1


def draw_sum(rng: random.Random, mix: TextMix, *, held_out: bool) -> Sum:
    """Draw a sum of the wanted side of the split."""
    while True:
        terms = [rng.randint(1, 9)]
        for _ in range(rng.randint(mix.min_terms, mix.max_terms) - 1):
            term = rng.choice((-1, 1)) * rng.randint(1, 9)
            terms.append(term if sum(terms) + term >= 0 else -term)
        drawn = Sum(tuple(terms))
        if drawn.is_held_out == held_out:
            return drawn


def word_question(rng: random.Random, drawn: Sum, language: Language) -> str:
    """The sum as a question in one of the language's wordings."""
    return rng.choice(PHRASES[language].questions).format(drawn.text)


def write_reply(rng: random.Random, drawn: Sum, language: Language, mix: TextMix) -> str:
    """A reply as a base model might have read it: tags mostly in place, answers often wrong."""
    (mode,) = rng.choices(("guess", "short", "long"), mix.modes)
    phrases_of_clause = _draw_languages(rng, language, mix)
    thought, answer = _THINKERS[mode](rng, drawn, phrases_of_clause, mix)
    form = rng.random()
    if form < mix.well_formed:
        return f" <think> {thought} </think> <answer> {answer} </answer>"
    if form < (1 + mix.well_formed) / 2:
        return f" <think> {thought} <answer> {answer} </answer>"
    return f" {thought} {answer}"


_PhraseSource = Callable[[], Phrases]


def _draw_languages(rng: random.Random, language: Language, mix: TextMix) -> _PhraseSource:
    """Where each clause takes its words from: one language throughout, or both in turn."""
    other: Language = "zh" if language == "en" else "en"
    share = rng.random()
    if share < mix.same_language:
        return lambda: PHRASES[language]
    if share < mix.same_language + mix.other_language:
        return lambda: PHRASES[other]
    return lambda: PHRASES[rng.choice(LANGUAGES)]


def _guess(rng: random.Random, drawn: Sum, phrases: _PhraseSource, mix: TextMix) -> tuple[str, int]:
    answer = drawn.total
    if rng.random() >= mix.guess_is_right:
        answer = _miss(rng, answer, spread=9)
    return rng.choice(phrases().guesses).format(answer), answer


def _think_short(
    rng: random.Random, drawn: Sum, phrases: _PhraseSource, mix: TextMix
) -> tuple[str, int]:
    """Two terms at a step, and slips that go unnoticed."""
    clauses = []
    partial = drawn.terms[0]
    for start in range(1, len(drawn.terms), 2):
        pair = drawn.terms[start : start + 2]
        result = partial + sum(pair)
        if result < 0 or rng.random() < mix.short_slip:
            result = _miss(rng, max(result, 0))
        words = phrases()
        opening = rng.choice(words.next) if clauses else words.first
        clauses.append(f"{opening}{_chain(partial, pair)} = {result}{words.stop}")
        partial = result
    return "".join(clauses).strip(), partial


def _think_long(
    rng: random.Random, drawn: Sum, phrases: _PhraseSource, mix: TextMix
) -> tuple[str, int]:
    """One term at a step; slips are noticed, and half of the thoughts check every step."""
    clauses = []
    partial = drawn.terms[0]
    is_checking = rng.random() < 0.5
    for term in drawn.terms[1:]:
        step = _chain(partial, (term,))
        result = partial + term
        words = phrases()
        clauses.append(rng.choice(words.next) if clauses else words.first)
        if rng.random() < mix.long_slip:
            clauses.append(f"{step} = {_miss(rng, result)}{words.stop}")
            words = phrases()
            clauses.append(words.wait)
        if rng.random() < mix.long_error:
            result = _miss(rng, result)
        clauses.append(f"{step} = {result}{words.stop}")
        if is_checking:
            words = phrases()
            clauses.append(f"{words.check}{_chain(result, (-term,))} = {partial}{words.stop}")
        partial = result
    return "".join(clauses).strip(), partial


_THINKERS: dict[Mode, Callable[[random.Random, Sum, _PhraseSource, TextMix], tuple[str, int]]] = {
    "guess": _guess,
    "short": _think_short,
    "long": _think_long,
}


def _chain(start: int, terms: tuple[int, ...]) -> str:
    return str(start) + "".join(f" {'+' if term > 0 else '-'} {abs(term)}" for term in terms)


def _miss(rng: random.Random, number: int, spread: int = 3) -> int:
    """A number near `number` and not it, never negative."""
    near = [n for n in range(max(0, number - spread), number + spread + 1) if n != number]
    return rng.choice(near)

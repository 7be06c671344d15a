from __future__ import annotations

import pytest

from r1.rewards.instructions.sentences import (
    count_words,
    detect_language,
    split_sentences,
    word_tokens,
)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two.", ["One.", "Two."]),
        ("Mr. Smith bought it for $1.5 million.", ["Mr. Smith bought it for $1.5 million."]),
        ("He lives in the U.S. It is large.", ["He lives in the U.S.", "It is large."]),
        ("He met Gen. Lee at 5 p.m. today.", ["He met Gen. Lee at 5 p.m. today."]),
        ("Two kinds, i.e. both.", ["Two kinds, i.e.", "both."]),
        ('She said "No." Then she left.', ['She said "No."', "Then she left."]),
        ("Wait... what?! Yes", ["Wait...", "what?!", "Yes"]),
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_sentences_by_the_english_model(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


def test_words_and_tokens() -> None:
    assert count_words("Don't stop_me: 3.14!") == 5
    assert word_tokens("Don't go. It CANNOT be $3.88 (yet).") == [
        "Do", "n't", "go", ".", "It", "CAN", "NOT", "be", "$", "3.88", "(", "yet", ")", ".",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The response is English", "en"),
        ("Desayunamos en McDonald's hoy", "es"),
        ("Today we visit the Louvre", "en"),
        ("今天天气很好，我们去公园散步。", "zh-cn"),
        ("Nous avons visité le musée hier après-midi.", "fr"),
        ("12 + 30 = 42", None),
        ("", None),
    ],
)
def test_languages(text: str, language: str | None) -> None:
    assert detect_language(text) == language


def test_the_detector_always_says_the_same() -> None:
    # Without a seed this short text is named in several languages.
    assert len({detect_language("ok no a la data") for _ in range(20)}) == 1

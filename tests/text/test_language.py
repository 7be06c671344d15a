"""Languages by script, and consistency by hand-counted words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from r1.text.language import detect_language, language_consistency, script_counts

FRENCH = "Nous commençons par additionner trois et quatre, ce qui donne sept. Ensuite, deux."
ENGLISH = "We first add three and four together, which gives seven apples in the basket."


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("先算 3+4=7", {"han": 2}),
        ("日本語です", {"han": 3, "kana": 2}),
        ("이 문제는 쉽습니다", {"hangul": 3}),
        ("x + 2y = ab1, ABC, 3km, sin x", {}),
        ("the sum isn't well-known", {"latin": 4}),
        (r"$the$ \(sum\) \[of\] \frac{1}{2} `code here` ```more``` <think> https://a.bc", {}),
        ("Это ответ, да", {"cyrillic": 3}),
        ("用Python写", {"han": 2, "latin": 1}),
        ("", {}),
    ],
)
def test_script_counts(text: str, counts: dict[str, int]) -> None:
    assert script_counts(text) == counts


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("3 + 4 = 7", "zh", 1.0),
        (r"\frac{1}{2}x = y", "en", 1.0),
        ("", "ko", 1.0),
        ("先算三加四，得七", "zh", 1.0),
        ("先算三加四，得七", "en", 0.0),
        ("先加 then add", "zh", 0.5),
        ("先加 then add", "en", 0.5),
        ("then add 3 and 4: 得 7", "en", 3 / 4),
        ("これは日本語の文章です。", "ja", 1.0),
        ("これは日本語の文章です。", "zh", 0.0),
        ("先算三加四", "ja", 0.0),
        ("이 문제는 쉽습니다", "ko", 1.0),
        ("Сначала сложим три и четыре", "ru", 1.0),
        ("สวัสดีครับ", "th", 1.0),
        (ENGLISH, "en", 1.0),
        (FRENCH, "fr", 1.0),
        (FRENCH, "en", 0.0),
        (ENGLISH, "zh-CN", 0.0),
        ("Start with 3, add 4 to get 7. Check: 7 - 4 = 3, right.", "en", 1.0),
    ],
)
def test_consistency(text: str, language: str, expected: float) -> None:
    assert language_consistency(text, language) == approx(expected)


def test_sentences_of_two_latin_languages_are_told_apart() -> None:
    share = language_consistency(f"{ENGLISH} {FRENCH}", "en")
    assert 0.4 < share < 0.65


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        (FRENCH, "fr"),
        ("先算三加四", "zh"),
        ("日本語です", "ja"),
        ("이 문제는", "ko"),
        ("Сначала сложим три и четыре, получим семь.", "ru"),
        ("مرحبا كيف حالك اليوم", "ar"),
        ("3 + 4", None),
        ("x = 7 ok", None),
    ],
)
def test_detect_language(text: str, language: str | None) -> None:
    assert detect_language(text) == language


@given(st.text(max_size=60), st.sampled_from(["en", "zh", "ja", "ko", "ru", "fr", "xx"]))
def test_consistency_is_a_share(text: str, language: str) -> None:
    assert 0.0 <= language_consistency(text, language) <= 1.0

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1.text.decontamination import Decontaminator, words_of

TEN = "one two three four five six seven eight nine ten"


@pytest.mark.parametrize(
    ("text", "is_contaminated"),
    [
        (f"Before. {TEN} after", True),
        ("ONE, two; three four five six seven eight nine (ten)!", True),
        ("one two three four five six seven eight nine eleven", False),
        ("ten nine eight seven six five four three two one", False),
        ("What is 2 + 3?", True),
        ("what is 2+3", True),
        ("So, what is 2 + 3? It is 5.", False),
        ("小明有三个苹果，他又买了两个，", True),
        ("小红有三个苹果，她又买了两个。", False),
        ("", False),
    ],
)
def test_contamination(text: str, is_contaminated: bool) -> None:
    tests = Decontaminator(
        [TEN, "What is 2 + 3?", "小明有三个苹果，他又买了两个。一共有几个？", "!"]
    )
    assert tests.is_contaminated(text) == is_contaminated


def test_counting_is_no_repetition() -> None:
    tests = Decontaminator(["Print 1 2 3 4 5 6 7 8 9 10, then stop"])
    assert not tests.is_contaminated("1, 2, 3, 4, 5, 6, 7, 8, 9, 10")
    assert tests.is_contaminated("2 3 4 5 6 7 8 9 10: then")


def test_each_han_character_is_a_word() -> None:
    assert words_of("答案是 42。OK") == ["答", "案", "是", "42", "ok"]


def test_overlaps_name_the_text_and_the_first_shared_words() -> None:
    tests = Decontaminator(["nothing in common here " * 3, f"{TEN} eleven", f"zero {TEN}"])
    overlaps = tests.overlaps(f"Zero {TEN} eleven twelve")
    assert [(overlap.text_index, overlap.ngram) for overlap in overlaps] == [
        (2, "zero one two three four five six seven eight nine"),
        (1, TEN),
    ]


def test_the_form_of_a_prompt_is_no_repetition() -> None:
    """Ten questions that ask for `Answer:` in one way do not remove each other's kind."""
    form = "The last line of your response should be of the form Answer: LETTER."
    questions = [f"{form} {' '.join(f'w{number}x{i}' for i in range(12))}" for number in range(12)]
    by_content = Decontaminator(questions, groups=["mmlu"] * 12)
    assert not by_content.is_contaminated(form)
    assert by_content.is_contaminated("See: " + " ".join(f"w3x{i}" for i in range(12)))
    assert Decontaminator(questions).is_contaminated(form)
    assert Decontaminator(questions[:9], groups=["mmlu"] * 9).is_contaminated(form)


@given(st.text(st.sampled_from("aB3_ -\n\t\\\x1c\x85é小，.İß'"), max_size=60))
def test_the_fast_way_through_ascii_finds_the_same_words(text: str) -> None:
    assert words_of(text) == words_of(text + " é")[:-1]


@given(st.lists(st.sampled_from("abc"), max_size=14), st.lists(st.sampled_from("abc"), max_size=14))
def test_hashes_find_what_comparing_words_finds(test: list[str], text: list[str]) -> None:
    runs = {tuple(test[i : i + 3]) for i in range(len(test) - 2)}
    is_short_and_equal = 0 < len(test) < 3 and test == text
    expected = is_short_and_equal or any(
        tuple(text[i : i + 3]) in runs for i in range(len(text) - 2)
    )
    assert Decontaminator([" ".join(test)], 3).is_contaminated(" ".join(text)) == expected

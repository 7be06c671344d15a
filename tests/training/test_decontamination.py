from __future__ import annotations

import pytest

from r1.training.decontamination import Decontaminator, words_of

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


def test_each_han_character_is_a_word() -> None:
    assert words_of("答案是 42。OK") == ["答", "案", "是", "42", "ok"]

from __future__ import annotations

import pytest

from r1.rewards.choice import read_choice, read_json_choice

CITIES = {"A": "London", "B": "Paris", "C": "Vitamin C", "D": "None of the above"}
ANIMALS = {"A": "dog", "B": "cat", "C": "A dog and a cat", "D": "B-cells"}
ROMAN = {"A": "I only", "B": "II only", "C": "I and II", "D": "A and B"}
NUMBERS = {"A": "12", "B": "$\\frac{1}{2}$", "C": "42", "D": "$x^2$", "E": "0.5"}


@pytest.mark.parametrize(
    ("text", "label"),
    [
        # The form that is asked for, and its everyday variants.
        ("Answer: B", "B"),
        ("answer: b", "B"),
        ("Answer:B", "B"),
        ("Answer : B.", "B"),
        ("**Answer: B**", "B"),
        ("**Answer:** B", "B"),
        ("**Answer**: B", "B"),
        ("Answer: **B**", "B"),
        ("Answer: $B$", "B"),
        ("Answer: (B)", "B"),
        ("Answer: [B]", "B"),
        ("Answer: B) Paris", "B"),
        ("Answer: B. Paris", "B"),
        ("Answer: B: Paris", "B"),
        ("Answer: B Paris", "B"),
        ("Answer: Option B", "B"),
        ("Answer: the correct answer is B", "B"),
        ("Answer: B because it lies on the Seine", "B"),
        ("Answer: \\boxed{B}", "B"),
        ("Answer: $\\boxed{\\text{B}}$", "B"),
        ("Answer: \\textbf{B}", "B"),
        ("Answer:\nB", "B"),
        ("### Answer:\n\n**B) Paris**", "B"),
        ("Answer: Paris", "B"),
        ("Answer: paris.", "B"),
        ("Answer: Ｂ", "B"),
        # Other languages.
        ("答案：B", "B"),
        ("答案: （B）", "B"),
        ("正确答案是B。", "B"),
        ("故选：B", "B"),
        ("答案：Ｂ", "B"),
        ("정답: B", "B"),
        ("Respuesta: B", "B"),
        ("Réponse : B", "B"),
        ("উত্তরঃ B", "B"),
        ("الإجابة: B", "B"),
        # The last statement counts.
        ("Answer: A\nNo, I was wrong.\nAnswer: B", "B"),
        ("'Answer: $LETTER' is asked for.\nAnswer: B", "B"),
        ("Answer: A\n\\boxed{B}", "B"),
        ("\\boxed{A}\nAnswer: B", "B"),
        ("Answer: B\nThe distance is \\boxed{42}.", "B"),
        ("Answer: B\nI hope this answer is clear.", "B"),
        ("Answer: B\n\nTo check the answer: it lies on the Seine.", "B"),
        ("**Therefore, the final answer: B**", "B"),
        ("Answer: A\n**Final Answer:** I cannot say.", None),
        ("最终答案：$字母B", "B"),
        # Without the line that is asked for.
        ("So it is Paris: \\boxed{B}", "B"),
        ("\\boxed{\\text{(B)}}", "B"),
        ("\\boxed{Paris}", "B"),
        ("\\fbox{B}", "B"),
        ("The answer is B.", "B"),
        ("The correct answer is (B) Paris.", "B"),
        ("The correct option is B", "B"),
        ("It lies on the Seine.\n\nB", "B"),
        ("It lies on the Seine.\n(B)", "B"),
        ("It lies on the Seine.\nB. Paris", "B"),
        ("It lies on the Seine.\nParis", "B"),
        ("Therefore (B) is correct.", "B"),
        # Several options are none.
        ("Answer: A or B", None),
        ("Answer: B, C", None),
        ("Answer: A and B", None),
        ("Answer: B (not C)", None),
        ("Answer: (A) or (B)", None),
        ("It is (A) or (B).", None),
        ("The answer is A or B.", None),
        # What is no option.
        ("Answer: E", None),
        ("Answer: unknown", None),
        ("Answer: A city on the Seine", None),
        ("Answer: a city on the Seine", None),
        ("Answer: Apple", None),
        ("Answer: D'accord", None),
        ("Answer: B\nAnswer: none of these is right", None),
        ("A city on the Seine.", None),
        ("A", "A"),
        ("I am not sure.", None),
        ("", None),
        ("\n\n", None),
        ("I like option A, yet option B is also fine.", None),
        ("\\boxed{42}", None),
        ("The answer is not B.", None),
        ("The answer is a mystery.", None),
    ],
)
def test_the_option_that_a_reply_chooses(text: str, label: str | None) -> None:
    choice = read_choice(text, CITIES)
    assert choice.label == label, choice
    assert choice.reason


@pytest.mark.parametrize(
    ("options", "text", "label"),
    [
        (ANIMALS, "Answer: A dog", "A"),
        (ANIMALS, "Answer: dog", "A"),
        (ANIMALS, "Answer: A cat", None),
        (ANIMALS, "Answer: A dog and a cat", "C"),
        (ANIMALS, "Answer: B-cells", "D"),
        (ANIMALS, "Answer: B-cells, of course", None),
        (ANIMALS, "Answer: C. A dog and a cat", "C"),
        (ROMAN, "Answer: I only", "A"),
        (ROMAN, "Answer: I and II", "C"),
        (ROMAN, "Answer: A and B", "D"),
        (ROMAN, "Answer: D", "D"),
        (ROMAN, "Answer: D. A and B", "D"),
        (NUMBERS, "\\boxed{42}", "C"),
        (NUMBERS, "\\boxed{\\frac{1}{2}}", "B"),
        (NUMBERS, "Answer: $x^2$", "D"),
        (NUMBERS, "Answer: 0.5", "E"),
        (NUMBERS, "Answer: 5", None),
        ({"A": "same", "B": "same"}, "Answer: same", None),
        ({"A": "bb bb", "B": "Bb BB", "C": "Bb Bb"}, "Answer: Bb Bb", "C"),
        ({"A": "bb bb", "B": "Bb BB", "C": "Bb Bb"}, "Answer: BB BB", None),
        ({"A": "是", "B": "否"}, "答案：是", "A"),
        ({"A": "是", "B": "否"}, "答案：B", "B"),
        ({"A": "是", "B": "否"}, "答案：B. 否", "B"),
        ({"A": "是", "B": "否"}, "答案：不是", None),
        ({letter: letter.lower() * 3 for letter in "ABCDEFGHIJ"}, "Answer: J", "J"),
        ({letter: letter.lower() * 3 for letter in "ABCDEFGHIJ"}, "Answer: I", "I"),
        ({letter: letter.lower() * 3 for letter in "ABCDEFGHIJ"}, "Answer: I think so", None),
    ],
)
def test_letters_and_the_texts_of_options(
    options: dict[str, str], text: str, label: str | None
) -> None:
    choice = read_choice(text, options)
    assert choice.label == label, choice


def test_several_options_are_named_in_the_reason() -> None:
    assert read_choice("Answer: B, C", CITIES).reason == "several options: B, C"
    assert read_choice("Answer: blue", CITIES).reason == "no option in 'blue'"
    assert read_choice("Hm.", CITIES).reason == "no answer found"


def test_an_answer_given_whole() -> None:
    assert read_choice("B", CITIES, is_whole=True).label == "B"
    assert read_choice("It is B) Paris", CITIES, is_whole=True).label == "B"
    assert read_choice("I think. Answer: B", CITIES, is_whole=True).label == "B"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('```json\n{"reasoning": "It is (A).", "answer": "B"}\n```', "B"),
        ('{"reasoning": "x \\"y\\"", "answer": "B"}', "B"),
        ('{"answer": "A"} No: {"answer": "B"}', "B"),
        ('{"reasoning": "so $\\frac{1}{2}$", "answer": "B"}', "B"),
        ('{"reasoning": "two\nlines", "answer": "(B) Paris"}', "B"),
        ('{"answer": B}', "B"),
        ('{"answer": "Paris"}', "B"),
        ('{"answer": "A, B"}', None),
        ('{"answer": ""}', None),
        ('{"reasoning": "none"}', None),
        ("Answer: B", "B"),
        ("The JSON was cut off: {", None),
    ],
)
def test_answers_in_json(text: str, label: str | None) -> None:
    assert read_json_choice(text, CITIES).label == label


@pytest.mark.parametrize(
    "text",
    ["\\boxed{" * 20_000, "Answer: " * 20_000, "(" * 100_000, "答" * 100_000, "\n" * 100_000],
)
def test_long_replies_are_read_in_linear_time(text: str) -> None:
    assert read_choice(text, CITIES).label is None

from __future__ import annotations

from typing import Any

import pytest

from r1.rewards.instructions.following import check_following, read_instructions

NO_COMMA, TITLE = ("punctuation:no_comma", {}), ("detectable_format:title", {})
BULLETS = ("detectable_format:number_bullet_lists", {"num_bullets": 2})
END = ("startend:end_checker", {"end_phrase": "The end."})
QUOTED = ("startend:quotation", {})


def verdicts(
    instructions: list[tuple[str, dict[str, Any]]], response: str
) -> tuple[list[bool], list[bool]]:
    kinds, arguments = zip(*instructions, strict=True)
    following = check_following(read_instructions(kinds, arguments), response)
    return list(following.strict), list(following.loose)


@pytest.mark.parametrize(
    ("instruction", "response", "strict", "loose"),
    [
        (NO_COMMA, "Fine", True, True),
        (NO_COMMA, "Sure, here it is:\nFine", False, True),  # without the first line
        (NO_COMMA, "Fine\nI hope, it helps", False, True),  # without the last line
        (NO_COMMA, "Sure, yes:\nFine\nI hope, it helps", False, True),  # without both
        (NO_COMMA, "Sure, yes:\nFine, too\nI hope, it helps", False, False),
        (NO_COMMA, "One line, only", False, False),  # nothing is left of it
        (END, "**The end.**", False, True),  # without asterisks
        (END, "*The end.*\nBye.", False, True),  # without the last line and asterisks
        (QUOTED, 'Sure:\n"All."', False, True),
        (QUOTED, 'Sure:\n*"All."*\nBye.', False, True),
        (BULLETS, "* a\n* b", True, True),
        (BULLETS, "* a\n* b\n* c", False, True),
        (TITLE, "", False, False),
    ],
)
def test_strict_and_loose(
    instruction: tuple[str, dict[str, Any]], response: str, strict: bool, loose: bool
) -> None:
    assert verdicts([instruction], response) == ([strict], [loose])


def test_each_instruction_may_be_followed_by_another_variant() -> None:
    assert verdicts([NO_COMMA, END], "Sure, yes:\nThe end.\nBye") == (
        [False, False],
        [True, True],
    )


def test_arguments_that_are_none_are_left_out() -> None:
    filled = {"num_bullets": 2, "keyword": None, "relation": None}
    (instruction,) = read_instructions([BULLETS[0]], [filled])
    assert instruction.arguments == {"num_bullets": 2}


@pytest.mark.parametrize(
    ("kinds", "arguments", "message"),
    [
        ([], [], r"0 instructions with 0 sets"),
        (["punctuation:no_comma"], [], r"1 instructions with 0 sets"),
        (["punctuation:no_coma"], [{}], r"'punctuation:no_coma'; did you mean 'punctuation:no_c"),
        (["x"], [{}], r"unknown instruction 'x'$"),
        (["punctuation:no_comma"], [{"n": 1}], r"'punctuation:no_comma': .*unexpected .*'n'"),
        (["startend:end_checker"], [{}], r"missing a required argument: 'end_phrase'"),
        (
            ["length_constraints:number_words"],
            [{"num_words": 5, "relation": "at most"}],
            r"relation is 'at most', not 'less than' or 'at least'",
        ),
    ],
)
def test_instructions_that_do_not_exist(
    kinds: list[str], arguments: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_instructions(kinds, arguments)

"""Which instructions of an IF-Eval prompt a reply follows, strictly and loosely."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from r1.rewards.instructions.checkers import CHECKERS, Relation


@dataclass(frozen=True, slots=True)
class Instruction:
    """One verifiable instruction: its kind, such as `punctuation:no_comma`, and arguments."""

    kind: str
    arguments: Mapping[str, Any]

    def is_followed(self, response: str) -> bool:
        """By the official rule, which no blank reply satisfies."""
        return bool(response.strip()) and CHECKERS[self.kind](response, **self.arguments)


@dataclass(frozen=True, slots=True)
class Following:
    """One verdict for each instruction of a prompt."""

    strict: tuple[bool, ...]
    loose: tuple[bool, ...]


def read_instructions(
    kinds: Sequence[str], arguments: Sequence[Mapping[str, Any]]
) -> tuple[Instruction, ...]:
    """The instructions of a record's `instruction_id_list` and `kwargs`.

    Arguments that are None, as the hub's form of the data set fills them in, are left out.
    Raises ValueError for an unknown kind and for arguments that are not the kind's.
    """
    if not kinds or len(kinds) != len(arguments):
        raise ValueError(f"{len(kinds)} instructions with {len(arguments)} sets of arguments")
    return tuple(map(_read_instruction, kinds, arguments))


def check_following(instructions: Sequence[Instruction], response: str) -> Following:
    """The verdicts on a reply, its thought removed.

    Loosely an instruction is followed when it is by the reply or by one of seven variants:
    without asterisks, without the first line, the last one or both, and these without
    asterisks.
    """
    variants = list(dict.fromkeys(_variants(response)))
    return Following(
        strict=tuple(each.is_followed(response) for each in instructions),
        loose=tuple(any(map(each.is_followed, variants)) for each in instructions),
    )


def _variants(response: str) -> Iterator[str]:
    lines = response.split("\n")
    cut = ("\n".join(kept).strip() for kept in (lines[1:], lines[:-1], lines[1:-1]))
    for text in (response, *cut):
        yield text
        yield text.replace("*", "")


def _read_instruction(kind: str, arguments: Mapping[str, Any]) -> Instruction:
    checker = CHECKERS.get(kind)
    if checker is None:
        close = difflib.get_close_matches(kind, CHECKERS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown instruction {kind!r}{hint}")
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        inspect.signature(checker).bind("", **given)
    except TypeError as error:
        raise ValueError(f"instruction {kind!r}: {error}") from None
    for name in given:
        if name.endswith("relation") and given[name] not in get_args(Relation):
            choices = " or ".join(map(repr, get_args(Relation)))
            raise ValueError(f"instruction {kind!r}: {name} is {given[name]!r}, not {choices}")
    return Instruction(kind, given)

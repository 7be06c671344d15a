"""Expressions as trees: literals, names and calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Number:
    """A literal. `decimals` counts the digits after the point as written, None for an integer."""

    value: Fraction
    decimals: int | None = None
    is_scientific: bool = False


@dataclass(frozen=True, slots=True)
class Name:
    """A variable or a constant (`pi`, `e`, `i`, `infty`)."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operator (`+ - * / ^ neg !`) or a function, and its operands."""

    function: str
    arguments: tuple[Node, ...]


Node = Number | Name | Call


def names_of(node: Node) -> frozenset[str]:
    """The variables of an expression."""
    constants = {"pi", "e", "i", "infty"}
    return frozenset(part.name for part in walk(node) if isinstance(part, Name)) - constants


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    if isinstance(node, Call):
        for argument in node.arguments:
            yield from walk(argument)


def substituted(node: Node, name: str, value: Node) -> Node:
    """The expression with `value` for a variable."""
    if node == Name(name):
        return value
    if isinstance(node, Call):
        return Call(node.function, tuple(substituted(part, name, value) for part in node.arguments))
    return node

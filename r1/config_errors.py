"""Mistakes in a config, told so that they teach: the key, what is wrong, the nearest valid name."""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError


def nearest_name(name: str, choices: Iterable[str]) -> str | None:
    """The choice that `name` was probably meant to be, or None."""
    by_folded = {choice.casefold(): choice for choice in choices}
    matches = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


@dataclass(frozen=True)
class ErrorExplainer:
    """Turns pydantic's errors into lines for a person."""

    config_class: type[BaseModel]
    data: Mapping[str, Any]
    source: str
    source_by_key: Mapping[str, str]

    def lines(self, error: ValidationError) -> list[str]:
        by_key: dict[str, list[str]] = {}
        for detail in error.errors(include_url=False):
            keys = self._keys(detail["loc"], detail["type"])
            problem = self._problem(keys, detail)
            problems = by_key.setdefault(".".join(keys), [])
            if problem not in problems:
                problems.append(problem)
        return [
            f"{self._source(key)}: {key or 'the whole config'}: {_join(problems)}"
            for key, problems in by_key.items()
        ]

    def _source(self, key: str) -> str:
        for override_key, source in reversed(list(self.source_by_key.items())):
            if f"{key}.".startswith(f"{override_key}.") or override_key.startswith(f"{key}."):
                return source
        return self.source

    def _keys(self, location: tuple[int | str, ...], kind: str) -> list[str]:
        """The dotted key; pydantic's location also names the members of unions."""
        node: Any = self.data
        keys = []
        for index, part in enumerate(location):
            children: Any = dict(enumerate(node)) if isinstance(node, list) else node
            if isinstance(children, dict) and part in children:
                node = children[part]
                keys.append(str(part))
            elif kind == "missing" and index == len(location) - 1:
                keys.append(str(part))
        return keys

    def _problem(self, keys: list[str], detail: Any) -> str:
        kind, given = detail["type"], detail["input"]
        if kind == "missing":
            return "is required"
        if kind == "extra_forbidden":
            return f"unknown key{self._suggestion(keys)}"
        context = detail.get("ctx", {})
        if kind in ("value_error", "assertion_error"):
            return f"{context.get('error', detail['msg'])}"
        expected = _EXPECTED.get(kind) or detail["msg"].removeprefix("Input should be ")
        if kind == "literal_error":
            choices = expected.replace("' or '", "', '").strip("'").split("', '")
            nearest = nearest_name(str(given), choices)
            hint = f"; did you mean '{nearest}'?" if nearest else ""
            return f"expected {expected}, got {describe(given)}{hint}"
        return f"expected {expected}, got {describe(given)}"

    def _suggestion(self, keys: list[str]) -> str:
        siblings = sorted(_names_in(_annotation_at(self.config_class, keys[:-1])))
        nearest = nearest_name(keys[-1], siblings)
        if nearest:
            return f"; did you mean {'.'.join([*keys[:-1], nearest])}?"
        elsewhere = [n for n in _dotted_names(self.config_class) if n.endswith(f".{keys[-1]}")]
        if elsewhere:
            return f"; did you mean {elsewhere[0]}?"
        return f"; valid keys: {', '.join(siblings)}"


def _join(problems: list[str]) -> str:
    """One sentence for the members of a union: `expected A or B, got C`."""
    parts = [problem.removeprefix("expected ").partition(", got ") for problem in problems]
    if len({got for _, _, got in parts}) == 1 and parts[0][2]:
        return f"expected {' or '.join(expected for expected, _, _ in parts)}, got {parts[0][2]}"
    return " or ".join(problems)


_EXPECTED: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text in quotes",
    "path_type": "a path in quotes",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "none_required": "nothing",
}


def describe(value: Any) -> str:
    """A value as an error quotes it: shortened, with its kind."""
    names: tuple[tuple[type, str], ...] = (
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number"),
        (str, "text"),
        (list, "a list"),
        (dict, "a table"),
    )
    kind = next((name for python_type, name in names if isinstance(value, python_type)), "a value")
    text = json.dumps(value, ensure_ascii=False, default=str)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({kind})"


def _members(annotation: Any) -> Iterator[Any]:
    """The alternatives of an annotation: members of unions, what Annotated wraps."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _members(typing.get_args(annotation)[0])
    elif origin is typing.Union or type(annotation).__name__ == "UnionType":
        for argument in typing.get_args(annotation):
            yield from _members(argument)
    else:
        yield annotation


def _annotation_at(annotation: Any, keys: Sequence[str]) -> list[Any]:
    """The alternatives of the annotation that `keys` lead to from `annotation`."""
    found = list(_members(annotation))
    for key in keys:
        children = []
        for member in found:
            if isinstance(member, type) and issubclass(member, BaseModel):
                field = member.model_fields.get(key)
                children += _members(field.annotation) if field else []
            elif typing.get_args(member):  # list[X], tuple[X, ...] and dict[str, X]
                arguments = [a for a in typing.get_args(member) if a is not Ellipsis]
                children += _members(arguments[-1])
        found = children
    return found


def _names_in(members: Iterable[Any]) -> set[str]:
    models = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
    return {name for model in models for name in model.model_fields}


def _dotted_names(model: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        names.append(prefix + name)
        for member in _members(field.annotation):
            if isinstance(member, type) and issubclass(member, BaseModel):
                names += _dotted_names(member, f"{prefix}{name}.")
    return names

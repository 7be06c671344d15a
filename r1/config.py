"""Configuration: TOML files into frozen models, with dotted overrides and errors that teach.

A config is resolved once, at the start, and saved with the run. Values are taken
strictly: TOML has types, so `steps = "3"` is a mistake to be told, not to be guessed.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from r1.atomic_files import write_text

ConfigType = TypeVar("ConfigType", bound="Config")


class ConfigError(ValueError):
    """A mistake in a config file or an override; one line for each mistake."""


class Config(BaseModel):
    """What every config class derives from: frozen, and unknown keys are errors.

    A `~` in a path that is set is expanded; a relative path is relative to the current directory.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        allow_inf_nan=False,
        ser_json_inf_nan="constants",  # for values of type Any
    )

    @field_validator("output", mode="before", check_fields=False)
    @classmethod
    def _refuse_empty_path(cls, value: Any) -> Any:
        # Path("") is the current directory, which nobody means by it.
        if value == "":
            raise ValueError("is empty; write a folder, or . for the current one")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _expand_user(cls, value: Any) -> Any:
        return value.expanduser() if isinstance(value, Path) else value


def load_config(
    config_class: type[ConfigType], path: Path | str | None, overrides: Sequence[str] = ()
) -> ConfigType:
    """Read `path` (TOML, or a saved config.json), apply `a.b=3` overrides, and validate.

    A file that says `extends = "other.toml"`, named from its own folder, changes that file,
    table by table. Raises ConfigError with one line for each mistake: the file or override,
    the dotted key, what is wrong, and the nearest valid name.
    """
    data = {} if path is None else _read_extended(Path(path))
    source_by_key = {}
    for override in overrides:
        key = _apply_override(data, override)
        source_by_key[key] = f"override {override}"
    return parse_config(config_class, data, "config" if path is None else str(path), source_by_key)


def parse_config(
    config_class: type[ConfigType],
    data: Mapping[str, Any],
    source: str,
    source_by_key: Mapping[str, str] | None = None,
) -> ConfigType:
    """Validate a table that comes from `source`, or for some keys from elsewhere.

    Raises ConfigError as `load_config` does.
    """
    try:
        # JSON mode, because strict Python mode refuses lists for tuples and text for paths.
        text = json.dumps(data, default=str)
        return config_class.model_validate_json(text, strict=True)
    except ValidationError as error:
        explain = _Explainer(config_class, data, source, source_by_key or {})
        raise ConfigError("\n".join(explain.lines(error))) from None


def dump_config(config: Config) -> str:
    """The config as TOML that `load_config` reads back; keys that are None become comments."""
    return "\n".join(_toml_lines(config.model_dump(mode="json"), prefix="")) + "\n"


def save_config(config: Config, path: Path) -> None:
    """Write the resolved config, as JSON when `path` ends in .json, else as TOML."""
    is_json = path.suffix == ".json"
    write_text(path, config.model_dump_json(indent=2) + "\n" if is_json else dump_config(config))


def config_fingerprint(config: Config, exclude: Collection[str] = ()) -> str:
    """A hash of the values, the same in every process; `exclude` names top-level keys to leave."""
    values = config.model_dump(mode="json", exclude=set(exclude))
    text = json.dumps(values, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def nearest_name(name: str, choices: Iterable[str]) -> str | None:
    """The choice that `name` was probably meant to be, or None."""
    by_folded = {choice.casefold(): choice for choice in choices}
    matches = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def merge_tables(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of both, those of `upper` first; a table in both is merged in turn."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            value = merge_tables(below, value)
        merged[key] = value
    return merged


# ---------------------------------------------------------------- reading


def _read_extended(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    data = _read_file(path)
    if "extends" not in data:
        return data
    name = data.pop("extends")
    if not isinstance(name, str):
        raise ConfigError(f"{path}: extends must name a file, not {_describe(name)}")
    other = path.parent / name
    if other.resolve() in (path.resolve(), *seen):
        raise ConfigError(f"{path}: extends {name!r}, which extends this file in turn")
    return merge_tables(_read_extended(other, (path.resolve(), *seen)), data)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{_similar_file(path)}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:  # both decoders name the line and the column
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ConfigError(f"{path}: not valid {kind}: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a table of keys, got {_describe(data)}")
    return data


def _similar_file(path: Path) -> str:
    folders = [folder for folder in (path.parent, Path("recipes")) if folder.is_dir()]
    files = {file.name: file for folder in folders for file in sorted(folder.glob("*.toml"))}
    nearest = nearest_name(path.name, files) or nearest_name(f"{path.name}.toml", files)
    if nearest:
        return f"; did you mean {files[nearest]}?"
    return f"; found: {', '.join(str(file) for file in files.values())}" if files else ""


def _apply_override(data: dict[str, Any], override: str) -> str:
    """Set one `dotted.key=value` in `data`, making the tables on the way; returns the key."""
    key, equals, text = override.partition("=")
    keys = [part.strip() for part in key.split(".")]
    if not equals or not all(keys):
        raise ConfigError(f"override {override}: expected key=value, such as grpo.group_size=8")
    node: Any = data
    for index, part in enumerate(keys):
        is_last = index == len(keys) - 1
        place: Any = part
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                where = ".".join(keys[:index])
                raise ConfigError(f"override {override}: {where} is a list of {len(node)} items")
            place = int(part)
        elif not isinstance(node, dict):
            where = ".".join(keys[:index])
            raise ConfigError(f"override {override}: {where} is {_describe(node)}, not a table")
        if is_last:
            node[place] = _parse_value(text)
        else:
            node = node[place] if isinstance(node, list) else node.setdefault(place, {})
    return ".".join(keys)


def _parse_value(text: str) -> Any:
    """A TOML value; what is none (a bare word, a path) is taken as text."""
    try:
        parsed = tomllib.loads(f"value = {text.strip()}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


# ---------------------------------------------------------------- explaining


@dataclass(frozen=True)
class _Explainer:
    """Turns pydantic's errors into lines for a person."""

    config_class: type[Config]
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
            return f"expected {expected}, got {_describe(given)}{hint}"
        return f"expected {expected}, got {_describe(given)}"

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


def _describe(value: Any) -> str:
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


# ---------------------------------------------------------------- writing


def _toml_lines(table: Mapping[str, Any], prefix: str) -> list[str]:
    lines = []
    tables = {key: value for key, value in table.items() if isinstance(value, dict)}
    for key, value in table.items():
        if value is None:
            lines.append(f"# {_toml_key(key)} is not set")
        elif key not in tables:
            lines.append(f"{_toml_key(key)} = {_toml_value(value)}")
    for key, value in tables.items():
        name = f"{prefix}{_toml_key(key)}"
        lines += ["", f"[{name}]", *_toml_lines(value, f"{name}.")]
    return lines


def _toml_key(key: str) -> str:
    is_bare = key.replace("-", "").replace("_", "").isalnum() and key.isascii()
    return key if is_bare else _toml_value(key)


def _toml_value(value: Any) -> str:
    writers: tuple[tuple[type, Callable[[Any], str]], ...] = (  # bool first: it is an int
        (bool, lambda v: "true" if v else "false"),
        (int, repr),
        (float, repr),  # inf and nan are TOML's words too
        # JSON's escapes are TOML's, except that TOML also wants DEL escaped.
        (str, lambda v: json.dumps(v, ensure_ascii=False).replace("\x7f", "\\u007f")),
        (list, lambda v: f"[{', '.join(_toml_value(item) for item in v)}]"),
        (dict, lambda v: _toml_inline_table(v)),
    )
    return next(write(value) for python_type, write in writers if isinstance(value, python_type))


def _toml_inline_table(table: Mapping[str, Any]) -> str:
    items = [f"{_toml_key(k)} = {_toml_value(v)}" for k, v in table.items() if v is not None]
    return "{" + ", ".join(items) + "}"

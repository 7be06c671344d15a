"""Configuration: TOML files into frozen models, with dotted overrides and errors that teach.

A config is resolved once, at the start, and saved with the run. Values are taken
strictly: TOML has types, so `steps = "3"` is a mistake to be told, not to be guessed.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from r1.atomic_files import write_text
from r1.config_errors import ErrorExplainer, describe, nearest_name

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
        explain = ErrorExplainer(config_class, data, source, source_by_key or {})
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
        raise ConfigError(f"{path}: extends must name a file, not {describe(name)}")
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
        raise ConfigError(f"{path}: expected a table of keys, got {describe(data)}")
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
            raise ConfigError(f"override {override}: {where} is {describe(node)}, not a table")
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

"""What every number of a config.json must be before anything is built from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

# Far above every model; what is built or counted from a larger number would not end.
_MAX_SIZE = 2**31 - 1
_MAX_OF = {"num_hidden_layers": 10_000, "n_routed_experts": 10_000, "num_nextn_predict_layers": 100}

_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
}
_KIND_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


def check_kinds(values: Mapping[str, Any], kinds: Mapping[str, str], source: str) -> None:
    """Raise ValueError for a value that is not of its kind ("int", "float", "bool", "str").

    Numbers must be finite, at least 0, and no larger than any model's.
    """
    for name, value in values.items():
        kind = kinds[name]
        if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "bool"):
            raise ValueError(f"{source}: {name} must be {_KIND_NAMES[kind]}, not {value!r:.60}")
        if kind == "float" and not 0 <= value < math.inf:
            raise ValueError(f"{source}: {name} must be finite and not below 0, not {value!r:.60}")
        if kind == "int" and not 0 <= value <= (most := _MAX_OF.get(name, _MAX_SIZE)):
            raise ValueError(f"{source}: {name} must be from 0 to {most:,}, not {value!r:.60}")


def check_sizes(
    values: Mapping[str, Any], required: Iterable[str], optional: Iterable[str], source: str
) -> None:
    """Raise ValueError for sizes that are missing though `required`, or below 1."""
    missing = [name for name in required if name not in values]
    if missing:
        raise ValueError(f"{source}: missing key {', '.join(missing)}")
    for name in (*required, *optional):
        size = values.get(name, 1)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{source}: {name} must be a whole number above 0, not {size!r:.60}")


def object_at(raw: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    """The JSON object under `name`, empty when there is none; ValueError for anything else."""
    value = raw.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{source}: {name} must be an object, not {value!r:.60}")
    return dict(value)

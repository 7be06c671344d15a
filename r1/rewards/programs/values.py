"""Plain Python values as JSON and back, for values that leave a process nobody trusts.

Pickles run code when they are read and JSON alone turns tuples into lists, so each value
carries its kind. Whatever is not plain arrives as an `Opaque`, which equals nothing: an
object whose `__eq__` says yes to everything is of no use outside.
Runs inside the sandbox as well, on Python's own library.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

_MAX_ITEMS = 1_000_000


class Opaque:
    """A value that could not be carried over: equal to nothing, not even to itself."""

    __slots__ = ("kind",)
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def encode(value: Any) -> Any:
    """The value as JSON data. Subclasses count as the plain type they extend."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return {"int": str(int(value))} if abs(value) >= 1 << 53 else int(value)
    if isinstance(value, float):
        return {"float": float(value).hex()}
    if isinstance(value, complex):
        return {"complex": [value.real.hex(), value.imag.hex()]}
    if isinstance(value, bytes | bytearray):
        return {type(value).__name__: value.decode("latin-1")}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [encode(item) for item in value]}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, Iterator):
        return {"iterator": [encode(item) for item in islice(value, _MAX_ITEMS)]}
    if type(value).__module__ == "numpy":
        return encode(value.tolist())
    return {"opaque": type(value).__name__}


def decode(data: Any) -> Any:
    """The value of JSON data from `encode`. Raises ValueError for other data."""
    if data is None or isinstance(data, bool | str | int):
        return data
    if not isinstance(data, dict) or len(data) != 1:
        raise ValueError("not an encoded value")
    [(kind, content)] = data.items()
    try:
        return _READERS[kind](content)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an encoded value: {error}") from None


_READERS = {
    "int": int,
    "float": float.fromhex,
    "complex": lambda parts: complex(*map(float.fromhex, parts)),
    "bytes": lambda text: text.encode("latin-1"),
    "bytearray": lambda text: bytearray(text.encode("latin-1")),
    "dict": lambda pairs: {decode(key): decode(item) for key, item in pairs},
    "list": lambda items: [decode(item) for item in items],
    "tuple": lambda items: tuple(decode(item) for item in items),
    "set": lambda items: {decode(item) for item in items},
    "frozenset": lambda items: frozenset(decode(item) for item in items),
    "range": lambda numbers: range(*numbers),
    "iterator": lambda items: iter([decode(item) for item in items]),
    "opaque": Opaque,
}

"""Which files a program may open, where it has no view of its own (landlock(7)).

For the level `dropped-user`: inside a container namespaces are mostly refused, and this is
not. Unlike a view it cannot cover a folder inside one that is shown.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# linux/landlock.h; the numbers of the calls are the same on every machine.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_FIRST_RIGHTS, _REFER, _TRUNCATE = (1 << 13) - 1, 1 << 13, 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE

_libc = ctypes.CDLL(None, use_errno=True)


def landlock_version() -> int:
    """The kernel's version of Landlock; 0 where there is none."""
    return max(0, _libc.syscall(_CREATE_RULESET, None, 0, _VERSION))


def build_ruleset(
    readable: Sequence[str], writable: Sequence[str], devices: Sequence[str]
) -> int | None:
    """A descriptor of rules that leave these paths and what is in them; None without Landlock.

    Paths that are not there are left out. Raises OSError when the kernel refuses a rule.
    """
    version = landlock_version()
    if version == 0:
        return None
    rights = _FIRST_RIGHTS
    rights |= _REFER if version >= 2 else 0
    rights |= _TRUNCATE if version >= 3 else 0
    ruleset = _libc.syscall(_CREATE_RULESET, struct.pack("Q", rights), 8, 0)
    _check(ruleset, "create rules")
    for paths, allowed in (
        (readable, _READ),
        (writable, rights),
        (devices, _READ_FILE | _WRITE_FILE),
    ):
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                _allow(ruleset, path, allowed & rights)
    return ruleset


def restrict_to(ruleset: int) -> None:
    """Bind this process and its children to the rules; it must have no new privileges."""
    _check(_libc.syscall(_RESTRICT_SELF, ruleset, 0), "restrict")


def _allow(ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH)
    if not os.path.isdir(path):
        rights &= _OF_FILES
    rule = struct.pack("=Qi", rights, descriptor)
    result = _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    os.close(descriptor)
    _check(result, path)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {what}: {os.strerror(number)}")

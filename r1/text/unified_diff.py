"""Unified diffs: read strictly, made from two texts, and compared up to white space."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@ ?(.*)")
_NO_NEWLINE = "\\ No newline at end of file"
_NOWHERE = "/dev/null"
# Lines that git puts above a file's hunks and that say nothing here.
_EXTENDED = re.compile(
    r"(index |(new|deleted) file mode |(old|new) mode |similarity index |dissimilarity index )"
)


class DiffError(ValueError):
    """A text that is no unified diff: the line, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """One run of changes. `lines` keep their first character; `section` is what follows `@@`."""

    old_start: int
    old_length: int
    new_start: int
    new_length: int
    section: str
    lines: tuple[str, ...]

    def changed_old_lines(self) -> tuple[int, int]:
        """First and last line of the old file that go; where none does, those around what comes."""
        number, removed, around = self.old_start, [], []
        for line in self.lines:
            if line.startswith("+"):
                around += [number - 1, number]
            elif line.startswith("-"):
                removed.append(number)
            number += not line.startswith("+")
        changed = removed or around or [self.old_start]
        return min(changed), max(changed)


@dataclass(frozen=True, slots=True)
class FileDiff:
    """The changes of one file; `old_path` is None for a new one, `new_path` for a deleted one."""

    old_path: str | None
    new_path: str | None
    hunks: tuple[Hunk, ...]

    @property
    def path(self) -> str:
        return self.old_path or self.new_path or ""


def parse_diff(text: str) -> list[FileDiff]:
    """The files of a unified diff, with or without git's headers.

    Raises:
        DiffError: where there is no file in it, a line belongs to no hunk, or a hunk does not
            have the number of lines that it says.
    """
    reader = _Reader(text.split("\n"))
    files = list(reader.files())
    if not files:
        raise DiffError("no file in it")
    return files


class _Reader:
    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._at = 0

    def files(self) -> Iterator[FileDiff]:
        git_paths: tuple[str, str] | None = None
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.startswith("diff --git "):
                git_paths = _git_paths(line)
                self._at += 1
            elif line.startswith("rename to ") and git_paths is not None:
                yield FileDiff(*git_paths, hunks=())
                self._at += 1
            elif line.startswith("--- "):
                yield self._file()
            elif not line.strip() or _EXTENDED.match(line) or line.startswith("rename from "):
                self._at += 1
            else:
                raise DiffError(f"line {self._at + 1}: {line[:60]!r} belongs to no file")

    def _file(self) -> FileDiff:
        old = _path(self._lines[self._at])
        self._at += 1
        if self._at == len(self._lines) or not self._lines[self._at].startswith("+++ "):
            raise DiffError(f"line {self._at + 1}: expected +++ after ---")
        new = _path(self._lines[self._at])
        self._at += 1
        hunks = []
        while self._at < len(self._lines) and self._lines[self._at].startswith("@@"):
            hunks.append(self._hunk())
        if not hunks:
            raise DiffError(f"line {self._at + 1}: no @@ hunk of {new or old}")
        return FileDiff(old, new, tuple(hunks))

    def _hunk(self) -> Hunk:
        header = _HUNK.match(self._lines[self._at])
        if header is None:
            raise DiffError(
                f"line {self._at + 1}: {self._lines[self._at][:60]!r} is no hunk header"
            )
        old_start, new_start = int(header[1]), int(header[3])
        old_left, new_left = int(header[2] or 1), int(header[4] or 1)
        lengths = old_left, new_left
        self._at += 1
        lines: list[str] = []
        while old_left > 0 or new_left > 0:
            # A blank line of context often loses its one space.
            line = (self._lines[self._at] or " ") if self._at < len(self._lines) else "@"
            if line[0] not in " +-\\":
                raise DiffError(f"line {self._at + 1}: the hunk is shorter than its header says")
            old_left -= line[0] in " -"
            new_left -= line[0] in " +"
            if line[0] != "\\":
                lines.append(line)
            self._at += 1
        if old_left < 0 or new_left < 0:
            raise DiffError(f"line {self._at}: the hunk is longer than its header says")
        if self._at < len(self._lines) and self._lines[self._at].startswith("\\"):
            self._at += 1
        return Hunk(old_start, lengths[0], new_start, lengths[1], header[5], tuple(lines))


def _git_paths(line: str) -> tuple[str, str]:
    old, _, new = line.removeprefix("diff --git ").partition(" b/")
    return old.removeprefix("a/"), new


def _path(line: str) -> str | None:
    path = line[4:].split("\t", 1)[0].strip()
    if path == _NOWHERE:
        return None
    return path[2:] if path.startswith(("a/", "b/")) else path


def make_diff(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """A diff that git applies, of the files that differ; a file that is not in `before` is new."""
    return "".join(
        _file_diff(path, before.get(path), after[path])
        for path in sorted(after)
        if before.get(path) != after[path]
    )


def _file_diff(path: str, old: str | None, new: str) -> str:
    head = f"diff --git a/{path} b/{path}\n" + ("new file mode 100644\n" if old is None else "")
    lines = difflib.unified_diff(
        (old or "").splitlines(keepends=True),
        new.splitlines(keepends=True),
        _NOWHERE if old is None else f"a/{path}",
        f"b/{path}",
    )
    whole = (line if line.endswith("\n") else f"{line}\n{_NO_NEWLINE}\n" for line in lines)
    return head + "".join(whole)


def apply_hunks(content: str, hunks: Sequence[Hunk]) -> str | None:
    """The text after the hunks, each at its place or the nearest that is equal; None if none is."""
    lines = content.split("\n")
    shift = 0
    for hunk in hunks:
        old = [line[1:] for line in hunk.lines if line[0] in " -"]
        new = [line[1:] for line in hunk.lines if line[0] in " +"]
        wanted = max(0, hunk.old_start - (1 if old else 0)) + shift
        starts = range(len(lines) - len(old) + 1)
        found = [start for start in starts if lines[start : start + len(old)] == old]
        if not found:
            return None
        start = min(found, key=lambda place: abs(place - wanted))
        lines[start : start + len(old)] = new
        shift += len(new) - len(old)
    return "\n".join(lines)


def normalized_changes(files: Sequence[FileDiff]) -> tuple[tuple[str, str], ...]:
    """What a diff changes, without places, context, white space and comment lines.

    Two patches that are the same up to these vote for one fix.
    """
    changes = [
        (file.path, line[0] + "".join(line[1:].split()))
        for file in files
        for hunk in file.hunks
        for line in hunk.lines
        if line[0] in "+-" and line[1:].strip() and not line[1:].strip().startswith("#")
    ]
    return tuple(changes)

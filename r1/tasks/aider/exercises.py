"""The exercises of Aider-Polyglot: read from the repository's folder or its archive.

The archive is read into memory and nothing is unpacked, so that no name in it reaches a
file of this machine. Data: github.com/Aider-AI/polyglot-benchmark, Exercism's exercises (MIT).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from r1.tasks.task import TaskError

LANGUAGES = ("cpp", "go", "java", "javascript", "python", "rust")

_PRACTICE = ("exercises", "practice")
_MAX_FILE_BYTES = 16 << 20
_MAX_TOTAL_BYTES = 512 << 20
# What aider shows to no model, and what no test needs.
_HIDDEN_FOLDERS = (".docs", ".meta", ".approaches")
_MAX_NAME_CHARS = 120
_NEVER_EDITED = ("CMakeLists.txt", "Cargo.toml")


@dataclass(frozen=True)
class Exercise:
    """One exercise: its files by path, and which are to be edited, and which test them."""

    language: str
    name: str
    files: Mapping[str, bytes]
    solution_paths: tuple[str, ...]
    test_paths: tuple[str, ...]
    example_paths: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.language}/{self.name}"

    @cached_property
    def shown_names(self) -> dict[str, str]:
        """Path by the name that the model sees: relative to the folder that holds them all."""
        parents = [PurePosixPath(path).parent.parts for path in self.solution_paths]
        shared = 0
        while all(len(parts) > shared and parts[shared] == parents[0][shared] for parts in parents):
            shared += 1
        return {
            str(PurePosixPath(*PurePosixPath(path).parts[shared:])): path
            for path in self.solution_paths
        }

    @cached_property
    def stubs(self) -> dict[str, str]:
        """The files to be edited as they are given, by shown name."""
        return {name: self.text(path) for name, path in self.shown_names.items()}

    @cached_property
    def instructions(self) -> str:
        """The introduction, the instructions and what is appended to them, as aider joins them."""
        names = ("introduction.md", "instructions.md", "instructions.append.md")
        paths = [f".docs/{name}" for name in names]
        return "".join(self.text(path) for path in paths if path in self.files)

    @property
    def example_needs_libraries(self) -> bool:
        """Whether the exercise's own solution uses what a model's must not: Rust's crates."""
        return ".meta/Cargo-example.toml" in self.files

    def text(self, path: str) -> str:
        return self.files[path].decode("utf-8")

    def box_files(self, edited: Mapping[str, str]) -> dict[str, bytes]:
        """The files that the tests run on: the given ones, and the edits that may touch them.

        An edit counts for a solution file, and for a new source file beside or below one. The
        tests and the build files are always the exercise's own.
        """
        files = {
            path: content
            for path, content in self.files.items()
            if PurePosixPath(path).parts[0] not in _HIDDEN_FOLDERS
        }
        for name, content in edited.items():
            path = self.shown_names.get(name) or self._new_path(name)
            if path is not None:
                files[path] = content.encode("utf-8", "replace")
        return files

    def _new_path(self, name: str) -> str | None:
        """Where a file that the model starts goes, if it may."""
        is_plain = name.isprintable() and len(name) <= _MAX_NAME_CHARS
        if not is_plain or not is_inside(name):
            return None
        shown, first = next(iter(self.shown_names.items()))
        root = first.removesuffix(shown)
        path = PurePosixPath(name if name.startswith(root) else root + name)
        is_of_tests = any(word in path.stem.lower() for word in ("test", "spec", "config"))
        suffixes = {PurePosixPath(known).suffix for known in self.solution_paths}
        is_in_a_file = any(parent.suffix for parent in path.parents)
        if str(path) in self.files or path.suffix not in suffixes or is_of_tests or is_in_a_file:
            return None
        # Of Python's files in a folder every one can be taken for a library's: `conftest.py`
        # and `unittest.py` would change what a test is.
        return None if self.language == "python" else str(path)

    def example(self) -> dict[str, str]:
        """The exercise's own solution, by shown name (a new name where it has more files)."""
        by_suffix = {PurePosixPath(path).suffix: name for name, path in self.shown_names.items()}
        found = {}
        for path in map(PurePosixPath, self.example_paths):
            is_unnamed = path.name.startswith(("example.", "proof."))
            found[by_suffix[path.suffix] if is_unnamed else path.name] = self.text(str(path))
        return found


def is_inside(name: str) -> bool:
    """Whether a path stays in its folder: relative, and never up."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and bool(path.parts)


def read_exercises(source: Path) -> list[Exercise]:
    """All exercises, in order of language and name.

    `source` is the repository's folder, or an archive of it (tar, with any compression).

    Raises:
        TaskError: for an archive that cannot be read, holds a link or a path that leads out
            of it, or is larger than 512 MB; and for an exercise without its configuration.
    """
    found: dict[tuple[str, str], dict[str, bytes]] = {}
    for path, content in _folder_files(source) if source.is_dir() else _archive_files(source):
        parts = PurePosixPath(path).parts
        for start in range(len(parts) - 4):
            if parts[start] in LANGUAGES and parts[start + 1 : start + 3] == _PRACTICE:
                files = found.setdefault((parts[start], parts[start + 3]), {})
                files["/".join(parts[start + 4 :])] = content
                break
    if not found:
        raise TaskError(f"{source}: holds no <language>/exercises/practice/<name> folders")
    return [_exercise(*key, files, source) for key, files in sorted(found.items())]


def _exercise(language: str, name: str, files: Mapping[str, bytes], source: Path) -> Exercise:
    try:
        listed = json.loads(files[".meta/config.json"])["files"]
        test, example = tuple(listed["test"]), tuple(listed["example"])
        never = {*_NEVER_EDITED, *test, *example}
        solution = tuple(path for path in listed["solution"] if path not in never)
        missing = [path for path in (*solution, *test) if path not in files]
    except (KeyError, TypeError, ValueError) as error:
        raise TaskError(
            f"{source}: {language}/{name}/.meta/config.json: names no solution, test and "
            f"example files ({type(error).__name__}: {error})"
        ) from None
    if missing or not solution:
        what = f"has no {missing[0]}" if missing else "has no file to edit"
        raise TaskError(f"{source}: {language}/{name}: {what}")
    return Exercise(language, name, files, solution, test, example)


def _folder_files(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(root.glob("*/exercises/practice/*/**/*")):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(root).as_posix(), path.read_bytes()


def _archive_files(path: Path) -> Iterator[tuple[str, bytes]]:
    total = 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isdir():
                    continue
                if not member.isfile() or not is_inside(member.name):
                    raise TaskError(f"{path}: {member.name!r} is a link or leads out of it")
                total += member.size
                if member.size > _MAX_FILE_BYTES or total > _MAX_TOTAL_BYTES:
                    raise TaskError(f"{path}: larger than any archive of these exercises")
                file = archive.extractfile(member)
                assert file is not None
                yield member.name, file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise TaskError(f"{path}: cannot be read as an archive: {error}") from None


def count_by_language(exercises: Sequence[Exercise]) -> dict[str, int]:
    """Number of exercises of each language, in the table's order."""
    counts = {language: 0 for language in LANGUAGES}
    for exercise in exercises:
        counts[exercise.language] += 1
    return {language: count for language, count in counts.items() if count}

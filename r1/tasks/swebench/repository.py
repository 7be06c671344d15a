"""The repositories of SWE-bench from a user's folder of checkouts, at an instance's commit."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from r1.tasks.task import TaskError

_GIT_TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Checkouts:
    """A folder with a checkout a repository, `<owner>__<name>`.

    With a `.git` the files are read at any commit that it has, whatever is checked out;
    without one the folder is taken as it is.
    """

    folder: Path

    def paths(self, repo: str, commit: str) -> Sequence[str]:
        """The Python files, tests aside, in order. Raises TaskError."""
        return _python_files(self._root(repo), commit)

    def text(self, repo: str, commit: str, path: str) -> str:
        """One file. Raises TaskError where it cannot be read."""
        root = self._root(repo)
        if (root / ".git").exists():
            return _git(root, "show", f"{commit}:{path}")
        return (root / path).read_text(encoding="utf-8", errors="replace")

    def _root(self, repo: str) -> Path:
        root = self.folder / repo.replace("/", "__")
        if not root.is_dir():
            raise TaskError(f"{root}: no checkout of {repo}; git clone https://github.com/{repo}")
        return root


@cache
def _python_files(root: Path, commit: str) -> tuple[str, ...]:
    if (root / ".git").exists():
        names = _git(root, "ls-tree", "-r", "--name-only", commit).splitlines()
    else:
        names = [path.relative_to(root).as_posix() for path in root.rglob("*.py")]
    return tuple(sorted(name for name in names if name.endswith(".py") and not _is_test(name)))


def _is_test(path: str) -> bool:
    parts = path.split("/")
    is_test_file = parts[-1].startswith("test_") or parts[-1].endswith("_test.py")
    return is_test_file or any(part in ("test", "tests", "testing") for part in parts[:-1])


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "safe.directory=*", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=_GIT_TIMEOUT_SECONDS)
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise TaskError(f"{root}: git {' '.join(arguments)}: {lines[-1] if lines else 'failed'}")
    return done.stdout.decode("utf-8", "replace")


def tree(paths: Sequence[str]) -> str:
    """Paths as an indented tree, folders ending in a slash."""
    lines: list[str] = []
    shown: list[str] = []
    for path in paths:
        *folders, name = path.split("/")
        shared = 0
        while shared < min(len(shown), len(folders)) and shown[shared] == folders[shared]:
            shared += 1
        lines += [f"{'    ' * depth}{folders[depth]}/" for depth in range(shared, len(folders))]
        lines.append(f"{'    ' * len(folders)}{name}")
        shown = folders
    return "\n".join(lines)

"""How a sandbox's supervisor is started behind each kind of walls."""

from __future__ import annotations

import glob
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Isolation = Literal["namespaces", "bubblewrap", "dropped-user"]

PACKAGE = Path(__file__).resolve().parents[2]
# The interpreter itself: a virtual environment's is a link, and its packages are not shown.
PYTHON = os.path.realpath(sys.executable)
PYTHON_PREFIX = os.path.realpath(sys.base_prefix)

_BOX = "/box"
_ENTRY = "import sys; sys.path.insert(0, {root!r}); from r1.rewards.sandbox.supervisor import main; main()"  # noqa: E501
_SUPERVISOR_FILES = (
    "__init__.py",
    "rewards/__init__.py",
    "rewards/sandbox/__init__.py",
    "rewards/sandbox/supervisor.py",
    "rewards/sandbox/jail.py",
    "rewards/sandbox/seccomp.py",
    "rewards/sandbox/landlock.py",
)
_NAMESPACES = ("--net", "--pid", "--fork", "--kill-child", "--mount", "--ipc", "--uts")
# Users that no system account and no container's range has, where the kernel knows so many.
_MANY_USERS = range(1_600_000_000, 2_000_000_000)
_FEW_USERS = range(20_000, 60_000)


@dataclass(frozen=True, slots=True)
class Launch:
    """A supervisor's command and what it is told first."""

    command: list[str]
    user_id: int | None
    """The user of the programs; None where it is the supervisor's own."""
    readable: list[str]
    hidden: list[str]
    environment: Mapping[str, str]
    python: str


def plan_launch(isolation: Isolation, folder_bytes: int, readable: Sequence[str]) -> Launch:
    """What to start for one box of this level."""
    # Java's settings are in /etc; without them it does not start.
    shown = [PYTHON_PREFIX, *sorted(glob.glob("/etc/java-*")), *readable]
    shown = [path for path in shown if not path.startswith("/usr/")]
    # A package that is installed beside the interpreter would show its data: the answers.
    hidden = [str(PACKAGE)]
    user_id = None
    if isolation == "bubblewrap":
        command = _bubblewrap(folder_bytes, shown, hidden)
    else:
        command = [PYTHON, "-I", "-S", "-c", _ENTRY.format(root=str(PACKAGE.parent))]
        user_id = new_user_id() if os.geteuid() == 0 else 0
    if isolation == "namespaces":
        as_root = () if os.geteuid() == 0 else ("--user", "--map-root-user")
        command = [_tool("unshare"), *as_root, *_NAMESPACES, *command]
    python = python_in(isolation)
    return Launch(command, user_id, shown, hidden, _environment(python), python)


def _bubblewrap(folder_bytes: int, shown: Sequence[str], hidden: Sequence[str]) -> list[str]:
    from r1.rewards.sandbox.jail import SYSTEM_PATHS

    command = [_tool("bwrap"), "--unshare-all", "--die-with-parent", "--new-session"]
    command += ["--as-pid-1", "--unshare-user", "--uid", "65534", "--gid", "65534"]
    for path in SYSTEM_PATHS:
        is_link = os.path.islink(path)
        command += ["--symlink", os.readlink(path)] if is_link else ["--ro-bind-try", path]
        command.append(path)
    for path in shown:
        command += ["--ro-bind", path, path]
    for path in hidden:
        if any(path.startswith((f"{top}/", "/usr/")) for top in shown):
            command += ["--tmpfs", path, "--remount-ro", path]
    for name in _SUPERVISOR_FILES:
        command += ["--ro-bind", str(PACKAGE / name), f"/supervisor/r1/{name}"]
    command += ["--proc", "/proc", "--dev", "/dev", "--size", str(folder_bytes), "--tmpfs", _BOX]
    command += ["--dir", f"{_BOX}/work", "--dir", f"{_BOX}/tmp", "--symlink", f"{_BOX}/tmp", "/tmp"]
    command += ["--remount-ro", "/"]
    entry = _ENTRY.format(root="/supervisor")
    return [*command, "--chdir", "/", "--", PYTHON, "-I", "-S", "-c", entry]


def _tool(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if path is None:
        raise OSError(f"{name} is not installed")
    return path


def _environment(python: str) -> dict[str, str]:
    """All that a program finds in its environment, HOME and TMPDIR aside."""
    folders = ["/usr/local/bin", "/usr/bin", "/bin", os.path.dirname(python)]
    return {
        "PATH": os.pathsep.join(dict.fromkeys(folders)),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        # The order of a set of strings would otherwise differ from run to run.
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
    }


def new_user_id() -> int:
    """A user id that nothing else uses, by chance among very many where the kernel has them."""
    first_line = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    is_whole_range = int(first_line[0]) == 0 and int(first_line[2]) > _MANY_USERS.stop
    return random.SystemRandom().choice(_MANY_USERS if is_whole_range else _FEW_USERS)


def python_in(isolation: Isolation) -> str:
    """The Python that programs are run with: this one, where their user may reach it.

    Without a view of its own a user cannot enter /root, say; then it is the system's.
    Raises OSError when there is none.
    """
    if isolation != "dropped-user" or _is_public(PYTHON):
        return PYTHON
    path = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    if path is None or not _is_public(os.path.realpath(path)):
        raise OSError(f"no Python that other users may run ({PYTHON} is private)")
    return os.path.realpath(path)


def _is_public(path: str) -> bool:
    return all(os.stat(part).st_mode & 0o001 for part in (Path(path), *Path(path).parents))


def kill_user(user_id: int) -> None:
    """End all processes of a sandbox's user, when its supervisor can no longer do it."""
    code = (
        "import os, sys; u = int(sys.argv[1]); os.setgroups([]); "
        "os.setresgid(u, u, u); os.setresuid(u, u, u); os.kill(-1, 9)"
    )
    command = [PYTHON, "-I", "-S", "-c", code, str(user_id)]
    subprocess.run(command, check=False, capture_output=True)

"""The self-test: whether a level of isolation holds on this machine, tried before it is used."""

from __future__ import annotations

import json
import os
import sys
import threading
from functools import cache
from typing import Any, get_args

from r1.rewards.sandbox.launch import PACKAGE, Isolation
from r1.rewards.sandbox.sandbox import Box, SandboxFailure, SandboxLimits

_LEVELS: tuple[Isolation, ...] = get_args(Isolation)
_lock = threading.Lock()

# Says what it finds as JSON, and leaves a child behind that has left its session.
_PROBE = """
import json, os, socket, subprocess, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
def can(action):
    try:
        action()
    except OSError:
        return False
    return True
child = subprocess.Popen(["sleep", "60"], start_new_session=True,
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
def connect():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 9))
print(json.dumps({
    "child": child.pid,
    "user_id": os.getuid(),
    "capabilities": any(int(status[s], 16) for s in ("CapPrm", "CapEff", "CapInh", "CapAmb")),
    "no_new_privileges": status["NoNewPrivs"].strip() == "1",
    "filter": status["Seccomp"].strip() == "2",
    "network": can(connect),
    "writes_outside": can(lambda: open("/r1-sandbox-probe", "w")),
    "sees_package": can(lambda: open(sys.argv[1])),
    "sees_processes": any(os.path.exists(f"/proc/{pid}") for pid in sys.argv[2:]),
    "environment": sorted(os.environ),
}))
"""
_IS_GONE = "import os, sys; sys.exit(os.path.exists('/proc/' + sys.argv[1]))"
_ENVIRONMENT = {"HOME", "LANG", "OMP_NUM_THREADS", "PATH", "PYTHONDONTWRITEBYTECODE"} | {
    "PYTHONHASHSEED",
    "TMPDIR",
}


def strongest_isolation() -> Isolation:
    """The first level that passes its self-test; tested once in a process.

    Raises SandboxFailure, with the reason of each level, where none does.
    """
    reasons: list[str] = []
    for level in _LEVELS:
        fault = isolation_fault(level)
        if not fault:
            return level
        reasons.append(f"{level}: {fault}")
    raise SandboxFailure(f"no sandbox works here, so no program is run ({'; '.join(reasons)})")


def verify_isolation(level: Isolation) -> None:
    """Raises SandboxFailure when this level does not hold here."""
    fault = isolation_fault(level)
    if fault:
        raise SandboxFailure(f"no sandbox of level {level} works here: {fault}")


def isolation_fault(level: Isolation) -> str:
    """Why a level cannot be used here; empty when it holds. Tested once in a process."""
    with _lock:
        return _test(level)


@cache
def _test(level: Isolation) -> str:
    if sys.platform != "linux":
        return f"it needs Linux, not {sys.platform}"
    if level == "dropped-user" and os.geteuid() != 0:
        return "only root can become another user"
    if level == "bubblewrap" and os.geteuid() == 0:
        # Its programs would be root's own, with root's access to the supervisor's files.
        return "it is for users other than root"
    limits = SandboxLimits(wall_seconds=30, cpu_seconds=10)
    try:
        with Box(level, limits, {"probe.py": _PROBE.encode()}) as box:
            # The package's own files, and two processes of the machine's.
            seen = [str(PACKAGE / "records.py"), str(os.getpid()), str(os.getppid())]
            result = box.run([box.python, "-S", "probe.py", *seen])
            if not result.is_success:
                lines = result.stderr.decode(errors="replace").strip().splitlines()
                return f"the probe ended with {result.status}: {lines[-1] if lines else 'silent'}"
            found = json.loads(result.stdout)
            after = box.run([box.python, "-S", "-c", _IS_GONE, str(found["child"])])
    except (OSError, SandboxFailure) as error:
        return str(error)
    return "; ".join(_faults(level, found) + ([] if after.is_success else ["a child escaped"]))


def _faults(level: Isolation, found: dict[str, Any]) -> list[str]:
    checks = {
        # Root of a user namespace is an ordinary user, here without capabilities.
        "the user is root": os.geteuid() != 0 or found["user_id"] != 0,
        "capabilities are left": not found["capabilities"],
        "new privileges can be had": found["no_new_privileges"],
        "there is no system call filter": found["filter"],
        "the network is open": not found["network"],
        "it can write outside its folder": not found["writes_outside"],
        "it has an environment": set(found["environment"]) <= _ENVIRONMENT,
    }
    if level != "dropped-user":
        checks["it reads the package's files"] = not found["sees_package"]
        checks["it sees the machine's processes"] = not found["sees_processes"]
    return [fault for fault, holds in checks.items() if not holds]

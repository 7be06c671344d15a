"""Inside the sandbox: one Python solution on several tests, a fresh process for each.

The processes are forks of one that has already imported the prelude, which saves most of
the time of a start. Nothing here is trusted: it knows no expected output, and what it
reports is compared outside. It reads one JSON object from its input and writes one JSON
line for each test, up to the first that does not end well.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import json
import os
import resource
import select
import signal
import sys
import tempfile
import traceback
from types import ModuleType
from typing import IO, Any, NoReturn

from r1.rewards.programs.values import encode

_MAX_ERROR_BYTES = 4000


def main() -> None:
    """Run the tests of the request on standard input."""
    request = json.loads(sys.stdin.buffer.read())
    sys.path[:] = [path for path in sys.path if path.startswith("/")] + request["packages"]
    # Programs call these two; Python's `site`, which is not loaded, would define them.
    builtins.__dict__.update(exit=sys.exit, quit=sys.exit)
    prelude: dict[str, Any] = {}
    exec(compile(request["prelude"], "prelude.py", "exec"), prelude)
    gc.freeze()  # what is here stays shared with the forks
    for test in request["tests"]:
        report = _run_one(request, test, prelude)
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()
        if report["status"] != "exited" or report["exit_code"] != 0:
            break


def _run_one(request: dict[str, Any], test: Any, prelude: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        with tempfile.TemporaryFile() as given:
            given.write(test.encode("latin-1") if request["function"] is None else b"")
            given.seek(0)
            pid = os.fork()
            if pid == 0:
                _become_solution(request, test, prelude, (given, output, errors))
        is_late = _is_late(pid, request["wall_seconds"])
        _, status, usage = os.wait4(pid, 0)
        is_late = is_late or usage.ru_utime + usage.ru_stime > request["cpu_seconds"]
        ending = "signalled" if os.WIFSIGNALED(status) else "exited"
        return {
            "status": "timed_out" if is_late else ending,
            "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            "stdout": _content(output).decode("latin-1"),
            "stderr": _content(errors)[-_MAX_ERROR_BYTES:].decode("latin-1"),
        }


def _is_late(pid: int, wall_seconds: float) -> bool:
    """Wait for a child to end; kill it when it takes too long."""
    descriptor = os.pidfd_open(pid)
    is_late = not select.select([descriptor], [], [], wall_seconds)[0]
    os.close(descriptor)
    if is_late:
        os.kill(pid, signal.SIGKILL)
    return is_late


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _become_solution(
    request: dict[str, Any], test: Any, prelude: dict[str, Any], files: tuple[IO[bytes], ...]
) -> NoReturn:
    """In the fork: be a Python process that has just started with this program."""
    given, output, errors = files
    results = os.dup(output.fileno())
    for target, file in enumerate((given, output, errors)):
        os.dup2(file.fileno(), target)
    if request["function"] is not None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    sys.argv = ["solution.py"]
    # The kernel counts whole seconds; the exact time is read afterwards.
    seconds = int(request["cpu_seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    module = ModuleType("__main__")
    module.__dict__.update(prelude)
    module.__dict__.update(__name__="__main__", __file__="solution.py")
    # `from sys import *` in the prelude took the parent's streams.
    module.__dict__.update(stdin=sys.stdin, stdout=sys.stdout, stderr=sys.stderr)
    sys.modules["__main__"] = module
    try:
        exec(compile(request["code"], "solution.py", "exec"), module.__dict__)
        if request["function"] is not None:
            value = _call(module, request["function"], test)
            os.write(results, json.dumps(encode(value)).encode())
        status = 0
    except SystemExit as error:
        status = _exit_status(error)
    except BaseException:
        traceback.print_exc()
        status = 1
    _leave(module, status)


def _exit_status(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _leave(module: ModuleType, status: int) -> NoReturn:
    """End as an interpreter does, without taking all of it apart, which takes most of the time.

    Threads are waited for, `atexit` is run, and files that were left open are flushed.
    """
    try:
        threading = sys.modules.get("threading")
        if threading is not None:
            own = threading.current_thread()
            for thread in threading.enumerate():
                if not thread.daemon and thread is not own:
                    thread.join()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        module.__dict__.clear()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        status = 1
    os._exit(status)


def _call(module: ModuleType, function: str, arguments: Any) -> Any:
    has_class = hasattr(module, "Solution")
    target = module.__dict__["Solution"]() if has_class else module
    return getattr(target, function)(*arguments)

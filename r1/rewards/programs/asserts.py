"""Inside the sandbox: tests that are Python code (`assert f(2) == 4`) on a Python solution.

The asserts and the solution run in two processes. The solution's only answers calls, with
plain values (`code_values`); it is forked before the tests and the nonce are read, holds
none of this process's pipes, and cannot look into it (PR_SET_DUMPABLE, and the sandbox's
filter against ptrace). So `sys.exit(0)`, patched builtins, an `__eq__` that agrees to
everything and a search through frames or /proc gain nothing. The nonce is printed when all
tests have passed.

What this cannot do: tests that need objects of the solution's own classes (the few MBPP
problems with `test_setup_code`) run in the solution's process, on its word; and as in any
set of tests, a solution that knows the tests' inputs may answer from a table.
"""

from __future__ import annotations

import builtins
import ctypes
import json
import os
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import IO, Any, NoReturn

from r1.rewards.programs.values import decode, encode

_SET_DUMPABLE = 4  # linux/prctl.h


class _Solution:
    """The other process, as functions to call."""

    def __init__(self, requests: IO[str], replies: IO[str]) -> None:
        self._requests = requests
        self._replies = replies

    def function(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            return decode(
                self.ask({"function": name, "values": encode([list(arguments), options])})
            )

        call.__name__ = name
        return call

    def ask(self, request: dict[str, Any]) -> Any:
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        line = self._replies.readline()
        if not line:
            raise RuntimeError("the solution ended early")
        reply = json.loads(line)
        if "raised" in reply:
            kind = getattr(builtins, str(reply["raised"]), RuntimeError)
            is_error = isinstance(kind, type) and issubclass(kind, Exception)
            raise (kind if is_error else RuntimeError)(str(reply["message"]))
        return reply["value"]


def main() -> None:
    """Fork the solution, then run the tests of the request on standard input."""
    # Modules that the solution could put into its folder must not be imported here.
    sys.path[:] = [path for path in sys.path if path.startswith("/")]
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_DUMPABLE) failed")
    request_read, request_write = os.pipe()
    reply_read, reply_write = os.pipe()
    if os.fork() == 0:
        os.close(request_write)
        os.close(reply_read)
        _serve_solution(os.fdopen(request_read), os.fdopen(reply_write, "w"))
    os.close(request_read)
    os.close(reply_write)
    request = json.loads(sys.stdin.buffer.read())
    solution = _Solution(os.fdopen(request_write, "w"), os.fdopen(reply_read))
    try:
        _run_tests(request, solution)
    # AssertionError has its own exit code; the traceback is for the log.
    except BaseException as error:
        traceback.print_exc()
        sys.exit(3 if isinstance(error, AssertionError) else 1)
    print(request["nonce"])


def _run_tests(request: dict[str, Any], solution: _Solution) -> None:
    solution.ask({"load": request["code"], "packages": request["packages"]})
    if request["is_trusting"]:
        solution.ask({"run": request["tests"]})
        return
    namespace: dict[str, Any] = {"__name__": "tests"}
    exec(compile(request["prelude"], "prelude.py", "exec"), namespace)
    for name in request["functions"]:
        namespace[name] = solution.function(name)
    exec(compile(request["tests"], "tests.py", "exec"), namespace)


def _serve_solution(requests: IO[str], replies: IO[str]) -> NoReturn:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    for line in requests:
        try:
            reply = {"value": _answer(module, json.loads(line))}
        # SystemExit too: a solution that leaves has not answered.
        except BaseException as error:
            reply = {"raised": type(error).__name__, "message": str(error)[:500]}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
    os._exit(0)


def _answer(module: ModuleType, request: dict[str, Any]) -> Any:
    if "load" in request:
        sys.path += request["packages"]
        exec(compile(request["load"], "solution.py", "exec"), module.__dict__)
        return None
    if "run" in request:
        exec(compile(request["run"], "tests.py", "exec"), module.__dict__)
        return None
    arguments, options = decode(request["values"])
    return encode(module.__dict__[request["function"]](*arguments, **options))

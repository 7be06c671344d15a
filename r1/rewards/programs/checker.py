"""Whether a program passes its tests: run in the sandbox, judged outside of it.

Expected outputs never enter the sandbox, and nothing that a program prints or reports is
taken for a verdict: outputs and returned values are compared here. Only tests that are code
themselves run inside, in another process than the solution (`asserts`).
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import json
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from r1.rewards.programs.blocks import CodeBlock
from r1.rewards.programs.verdict import (
    AssertTests,
    CallTests,
    CodeTests,
    CodeVerdict,
    StdinTests,
    ending,
    is_well,
    judge,
    last_line,
    numbered,
    report_of,
    reports,
)
from r1.rewards.sandbox.sandbox import Box, Sandbox, SandboxFailure, SandboxLimits, SandboxResult

# What LiveCodeBench puts before every solution (testing_util.py, `import_string`, MIT).
_STAR_MODULES = [
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random"),
    *("statistics", "itertools", "functools", "operator", "io", "sys", "json"),
    *("builtins", "typing"),
]
_PLAIN_MODULES = [name for name in _STAR_MODULES if name not in ("builtins", "typing")]
PRELUDE = "".join(
    [
        *(f"from {name} import *\n" for name in _STAR_MODULES),
        *(f"import {name}\n" for name in _PLAIN_MODULES),
        "sys.setrecursionlimit(50000)\n",
    ]
)
# What tests that are code may use without importing it, as in MBPP's.
_TEST_PRELUDE = "import collections, itertools, math, re, sys\n"

_CPP_COMMAND = ("g++", "-O2", "-std=c++17", "-o", "program", "main.cpp")
_CPP_SECONDS = 60.0
# A wrong solution mostly fails the first tests; a right one wants few starts.
_FIRST_BATCH, _BATCH = 4, 32
# On a machine that is busy a program gets less than the clock says; it is told by CPU time.
_WALL_CLOCK_FACTOR = 5.0
_TOO_LONG = CodeVerdict("timed_out", "the time limit of all tests")
_MIB = 1 << 20
_INSIDE = (
    *("__init__.py", "rewards/__init__.py", "rewards/programs/__init__.py"),
    *("rewards/programs/values.py", "rewards/programs/runner.py", "rewards/programs/asserts.py"),
)
_ENTRY = (
    "import os, sys; sys.path.insert(0, os.getcwd()); "
    "from r1.rewards.programs.{module} import main; main()"
)


@dataclass(frozen=True, slots=True)
class CodeLimits:
    """For one test: seconds of CPU time (five times as long on the clock) and memory.

    `total_seconds` bounds all tests of one solution on the clock.
    """

    test_seconds: float = 6.0
    memory_bytes: int = 2048 * _MIB
    total_seconds: float = 300.0
    output_bytes: int = 16 * _MIB


class CodeChecker:
    """Checks programs against tests. Thread-safe."""

    def __init__(self, limits: CodeLimits | None = None, sandbox: Sandbox | None = None) -> None:
        self.limits = limits or CodeLimits()
        self._packages, readable = _numpy()
        self._sandbox = sandbox or Sandbox(readable=readable)

    def fault(self) -> str:
        """Why nothing can be checked on this machine; empty when all is well."""
        try:
            return "" if self._sandbox.isolation else "no sandbox"
        except SandboxFailure as error:
            return str(error)

    def check(
        self, block: CodeBlock, tests: CodeTests, test_seconds: float | None = None
    ) -> CodeVerdict:
        """Run a program on its tests; all must pass, and the first that does not is told.

        `test_seconds` is the problem's own time limit.
        """
        if block.language is None:
            return CodeVerdict("wrong", f"{block.tag!r} programs are not run")
        if block.language == "cpp" and not isinstance(tests, StdinTests):
            return CodeVerdict("wrong", "a C++ program, where a Python function is tested")
        try:
            limits = replace(self.limits, test_seconds=test_seconds or self.limits.test_seconds)
            verdict = _Check(limits, self._sandbox, self._packages).run(block, tests)
            return replace(verdict, isolation=self._sandbox.isolation)
        except SandboxFailure as error:
            return CodeVerdict("failed", str(error))


@dataclass(frozen=True)
class _Check:
    """One solution being checked."""

    limits: CodeLimits
    sandbox: Sandbox
    packages: list[str]

    def run(self, block: CodeBlock, tests: CodeTests) -> CodeVerdict:
        if block.language == "cpp":
            assert isinstance(tests, StdinTests)
            return self._run_cpp(block.code, tests)
        with self.sandbox.open(_files_inside()) as box:
            if isinstance(tests, AssertTests):
                return self._run_asserts(box, block.code, tests)
            return self._run_python(box, block.code, tests)

    @cached_property
    def _deadline(self) -> float:
        return time.monotonic() + self.limits.total_seconds

    def _limits(self, num_tests: int = 1) -> SandboxLimits:
        seconds = self.limits.test_seconds * num_tests + 1
        left = max(1.0, self._deadline - time.monotonic())
        return SandboxLimits(
            wall_seconds=min(seconds * _WALL_CLOCK_FACTOR, left),
            cpu_seconds=seconds,
            memory_bytes=self.limits.memory_bytes,
            address_space_bytes=self.limits.memory_bytes * 2,
            stack_bytes=256 * _MIB,
            file_bytes=self.limits.output_bytes,
            output_bytes=8 * self.limits.output_bytes,
        )

    # ------------------------------------------------------------ Python programs

    def _run_python(self, box: Box, code: str, tests: StdinTests | CallTests) -> CodeVerdict:
        start, size = 0, _FIRST_BATCH
        while start < len(tests.pairs):
            if time.monotonic() > self._deadline:
                return numbered(_TOO_LONG, start, len(tests.pairs))
            batch = self._run_batch(box, code, tests, start, size)
            for number, report in enumerate(batch, start=start):
                verdict = judge(report, tests, number)
                if verdict.outcome != "passed":
                    return numbered(verdict, number, len(tests.pairs))
            start, size = start + size, _BATCH
        return CodeVerdict("passed", f"{len(tests.pairs)} tests passed")

    def _run_batch(
        self, box: Box, code: str, tests: StdinTests | CallTests, start: int, size: int
    ) -> list[dict[str, Any]]:
        """The reports of tests from `start`, up to one that did not end well."""
        pairs = tests.pairs[start : start + size]
        # Text goes as Latin-1, as all bytes do on the way into the sandbox.
        given = [_bytes(x).decode("latin-1") if isinstance(x, str) else x for x, _ in pairs]
        request = {
            "code": code,
            "prelude": PRELUDE,
            "packages": self.packages,
            "function": tests.function if isinstance(tests, CallTests) else None,
            "tests": given,
            "cpu_seconds": self.limits.test_seconds,
            "wall_seconds": self.limits.test_seconds * _WALL_CLOCK_FACTOR,
        }
        result = _run_module(box, "runner", request, self._limits(len(given)))
        batch = reports(result.stdout)
        if len(batch) < len(given) and all(is_well(report) for report in batch):
            # It ended before the tests did: what ended it is told of the test it was at.
            batch.append(report_of(result))
        return batch

    # ------------------------------------------------------------ tests that are code

    def _run_asserts(self, box: Box, code: str, tests: AssertTests) -> CodeVerdict:
        nonce = secrets.token_hex(16)
        request = {
            "code": f"{PRELUDE}\n{code}",
            "packages": self.packages,
            "prelude": f"{_TEST_PRELUDE}\n{tests.prelude}",
            "tests": tests.code,
            "functions": list(tests.functions) or _free_names(tests),
            "is_trusting": tests.needs_solution_classes,
            "nonce": nonce,
        }
        result = _run_module(box, "asserts", request, self._limits())
        if result.is_success and result.stdout.decode(errors="replace").strip() == nonce:
            return CodeVerdict("passed", "the tests passed")
        if result.status == "exited" and result.exit_code == 0:
            return CodeVerdict("wrong", "it ended before the tests did")
        if result.status == "exited" and result.exit_code == 3:
            return CodeVerdict("wrong", last_line(result.stderr) or "an assertion failed")
        return ending(report_of(result))

    # ------------------------------------------------------------ C++ programs

    def _run_cpp(self, code: str, tests: StdinTests) -> CodeVerdict:
        if shutil.which(_CPP_COMMAND[0]) is None:
            return CodeVerdict("failed", "no C++ compiler (g++) on this machine")
        with self.sandbox.open({"main.cpp": _bytes(code)}) as box:
            building = replace(box.limits, wall_seconds=_CPP_SECONDS, cpu_seconds=_CPP_SECONDS)
            built = box.run(_CPP_COMMAND, limits=building)
            if not built.is_success:
                return CodeVerdict("crashed", f"it does not compile: {_first_error(built)}")
            for number, (given, _) in enumerate(tests.pairs):
                if time.monotonic() > self._deadline:
                    return numbered(_TOO_LONG, number, len(tests.pairs))
                result = box.run(["./program"], stdin=_bytes(given), limits=self._limits())
                verdict = judge(report_of(result), tests, number)
                if verdict.outcome != "passed":
                    return numbered(verdict, number, len(tests.pairs))
        return CodeVerdict("passed", f"{len(tests.pairs)} tests passed")


def _run_module(
    box: Box, module: str, request: Mapping[str, Any], limits: SandboxLimits
) -> SandboxResult:
    command = [box.python, "-s", "-S", "-P", "-c", _ENTRY.format(module=module)]
    return box.run(command, stdin=json.dumps(request).encode(), limits=limits)


def _bytes(text: str) -> bytes:
    # Replies may hold half a character (a lone surrogate), which no encoding has.
    return text.encode(errors="replace")


def _files_inside() -> dict[str, bytes]:
    package = Path(__file__).resolve().parents[2]
    return {f"r1/{name}": (package / name).read_bytes() for name in _INSIDE}


def _free_names(tests: AssertTests) -> list[str]:
    """Names that the tests use and nobody defines: the solution's functions."""
    tree = ast.parse(tests.code)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    for node in ast.walk(ast.parse(f"{_TEST_PRELUDE}\n{tests.prelude}\n{tests.code}")):
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
    free = {node.id for node in names} - bound
    return sorted(name for name in free if not hasattr(builtins, name))


def _first_error(built: SandboxResult) -> str:
    lines = built.stderr.decode(errors="replace").splitlines()
    return next((line for line in lines if "error" in line), built.status)[:200]


def _numpy() -> tuple[list[str], Sequence[str]]:
    """Where NumPy lies, which LiveCodeBench's own harness has: (for sys.path, what to show)."""
    spec = importlib.util.find_spec("numpy")
    if spec is None or spec.origin is None:
        return [], ()
    folder = Path(spec.origin).resolve().parent
    libraries = folder.with_name("numpy.libs")
    shown = [str(folder), *([str(libraries)] if libraries.is_dir() else [])]
    return [str(folder.parent)], shown

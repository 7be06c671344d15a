"""What tests of programs are, and what becomes of a program on one of them.

This is the part of the code check that runs outside the sandbox and decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from r1.rewards.programs.outputs import output_difference, value_difference
from r1.rewards.programs.values import decode
from r1.rewards.sandbox.sandbox import SandboxResult

Outcome = Literal["passed", "wrong", "timed_out", "memory", "crashed", "failed"]


@dataclass(frozen=True, slots=True)
class StdinTests:
    """(input, expected output) of whole programs; `tolerance` as in `output_difference`."""

    pairs: tuple[tuple[str, str], ...]
    tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class CallTests:
    """(arguments, expected value) of one function, or method of a class `Solution`.

    `may_be_wrapped`: an expected value may stand in a list of its own, as in APPS and TACO.
    """

    function: str
    pairs: tuple[tuple[list[Any], Any], ...]
    may_be_wrapped: bool = False


@dataclass(frozen=True, slots=True)
class AssertTests:
    """Python code that fails with an exception where the solution is wrong.

    `prelude` is trusted code whose names the tests may use (HumanEval's prompt).
    `needs_solution_classes`: the tests build objects of the solution's own classes.
    """

    code: str
    prelude: str = ""
    functions: tuple[str, ...] = ()
    """What the tests call of the solution; empty: every name that is defined nowhere else."""
    needs_solution_classes: bool = False


CodeTests = StdinTests | CallTests | AssertTests


@dataclass(frozen=True, slots=True)
class CodeVerdict:
    """What became of a solution; `failed` is the checker's own failure and no verdict."""

    outcome: Outcome
    reason: str = ""
    isolation: str = ""

    @property
    def is_passed(self) -> bool | None:
        """None where there is no verdict."""
        return None if self.outcome == "failed" else self.outcome == "passed"


def judge(report: Mapping[str, Any], tests: StdinTests | CallTests, number: int) -> CodeVerdict:
    """The verdict on test `number` from how the program ended and what it wrote."""
    if not is_well(report):
        return ending(report)
    output = str(report["stdout"]).encode("latin-1").decode(errors="replace")
    if isinstance(tests, StdinTests):
        difference = output_difference(output, tests.pairs[number][1], tests.tolerance)
    else:
        try:
            value = decode(json.loads(output))
        except (ValueError, RecursionError):
            return CodeVerdict("crashed", "it returned nothing")
        expected = tests.pairs[number][1]
        difference = value_difference(value, expected)
        if tests.may_be_wrapped and isinstance(expected, list) and expected:
            difference = difference and value_difference(value, expected[0])
    return CodeVerdict("wrong", difference) if difference else CodeVerdict("passed")


def is_well(report: Mapping[str, Any]) -> bool:
    """It ended by itself with exit code 0."""
    return report.get("status") == "exited" and report.get("exit_code") == 0


def ending(report: Mapping[str, Any]) -> CodeVerdict:
    """The verdict on a program that did not end well."""
    status = report.get("status")
    error = last_line(str(report.get("stderr", "")).encode("latin-1", "replace"))
    if status == "timed_out":
        return CodeVerdict("timed_out", "the time limit")
    if status == "out_of_memory" or error.startswith("MemoryError") or "bad_alloc" in error:
        return CodeVerdict("memory", "the memory limit")
    if status == "signalled":
        return CodeVerdict("crashed", f"killed by signal {report.get('signal')}")
    if status != "exited":
        return CodeVerdict("crashed", str(status).replace("_", " "))
    return CodeVerdict("crashed", error or f"exit code {report.get('exit_code')}")


def numbered(verdict: CodeVerdict, number: int, num_tests: int) -> CodeVerdict:
    """The same verdict, saying at which test."""
    return replace(verdict, reason=f"test {number + 1} of {num_tests}: {verdict.reason}")


def report_of(result: SandboxResult) -> dict[str, Any]:
    """A run of the sandbox's own, in the form that `runner` reports in."""
    return {
        "status": result.status,
        "exit_code": result.exit_code,
        "signal": result.signal,
        "stdout": result.stdout.decode("latin-1"),
        "stderr": result.stderr.decode("latin-1"),
    }


def reports(stdout: bytes) -> list[dict[str, Any]]:
    """The lines that say something; the program may have written into them what it likes."""
    found: list[dict[str, Any]] = []
    for line in stdout.splitlines():
        try:
            report = json.loads(line)
            output = str(report["stdout"]).encode("latin-1")
        except (ValueError, TypeError, KeyError, RecursionError):
            return found
        found.append({**report, "stdout": output.decode("latin-1")})
    return found


def last_line(stderr: bytes) -> str:
    """What a traceback ends with, shortened."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else ""

"""The process in which math-verify runs: `python -m r1.rewards.verifier_worker`.

It answers JSON lines on its standard input with JSON lines on its standard output.
sympy can hang in C code or eat the memory on an expression of ten characters, so
this process is one that may die: it bounds its own memory, and the CPU time of a job.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from r1.rewards.verifier_pool import cpu_time_limit

_MEMORY_LIMIT_BYTES = 2 << 30


def main() -> None:
    """Serve until the standard input ends; the argument limits the CPU seconds of a job."""
    timeout_seconds = float(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    _limit_memory()
    # The protocol keeps the real standard output; a library's prints go to stderr.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    answer({"op": "verify", "gold": "x^2", "answer": "$x^2$"})  # import and warm the parser
    _send(replies, {"ready": True})
    for line in sys.stdin:
        with cpu_time_limit(timeout_seconds):
            reply = _answer_safely(json.loads(line))
        _send(replies, reply)


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """One request: op "verify" gives `is_correct`, op "read" gives `is_readable`.

    `is_correct` is None when the gold cannot be read; an answer that cannot be read
    is wrong.
    """
    gold = _parse(request["gold"])
    if request["op"] == "read":
        return {"is_readable": bool(gold), "reason": "read" if gold else "gold is not readable"}
    if not gold:
        return {"is_correct": None, "reason": "gold is not readable"}
    prediction = _parse(request["answer"])
    if not prediction:
        return {"is_correct": False, "reason": "answer is not readable"}
    from math_verify import verify

    is_correct = verify(gold, prediction, timeout_seconds=None, raise_on_error=True)
    return {"is_correct": is_correct, "reason": "equal" if is_correct else "not equal"}


def _answer_safely(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return answer(request)
    except Exception as error:  # whatever sympy raises is the verifier's failure, not a verdict
        return {"is_correct": None, "reason": f"verifier error: {type(error).__name__}: {error}"}


def _parse(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    if "$" not in text and r"\boxed" not in text:
        text = f"${text}$"
    # Its own timeouts are signals, which cannot interrupt C code: the parent's kill can.
    parsed = parse(
        text,
        [LatexExtractionConfig()],
        parsing_timeout=None,  # type: ignore[arg-type]
    )
    return [] if _is_fragment(parsed, text) else parsed


def _is_fragment(parsed: list[Any], text: str) -> bool:
    """Whether math-verify read a number out of a formula that it did not understand.

    It then takes all formulas that hold the number for equal (Math-Verify issue 14).
    """
    from sympy import Number

    is_number = bool(parsed) and isinstance(parsed[0], Number)
    return is_number and re.search(r"[A-Za-z]", text.replace(r"\frac", "")) is not None


def _send(file: TextIO, reply: Mapping[str, Any]) -> None:
    file.write(json.dumps(reply) + "\n")
    file.flush()


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))


if __name__ == "__main__":
    main()

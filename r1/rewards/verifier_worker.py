"""The process in which math-verify runs: `python -m r1.rewards.verifier_worker SECONDS`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from r1.rewards.worker_process import serve


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


if __name__ == "__main__":
    answer({"op": "verify", "gold": "x^2", "answer": "$x^2$"})  # import and warm the parser
    serve(_answer_safely)

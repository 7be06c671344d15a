"""How many maths answers a second are graded: ours beside plain math-verify.

    python benchmarks/grading.py [--answers 10000] [--peer-answers 1000]

The golds are those of GSM8K and MATH-500; for each of them ordinary replies are made: the
gold in a box, in other spellings, with a unit, in a sentence, and a wrong value. Both graders
see the same replies from the extraction on. math-verify grades a sample of them, one after
the other in this process; ours runs as tasks run it, with as many threads as workers.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from r1.rewards.math import MathVerifier, extract_answer, final_answer
from r1.tasks.benchmark_data import locate
from r1.tasks.row_files import read_rows

HOW_TO_GET = "get the file from its hub page and put it into a data folder, or set R1_DATA"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model might answer to a question with this gold."""

    gold: str
    text: str
    is_correct: bool


def golds() -> list[str]:
    """The answers of both benchmarks."""
    gsm8k = locate(None, "gsm8k", ["gsm8k_test.jsonl", "test.jsonl"], HOW_TO_GET)
    math500 = locate(None, "math500", ["math500_test.jsonl", "test.jsonl"], HOW_TO_GET)
    numbers = [str(row.data["answer"]).split("####")[-1].strip() for row in read_rows(gsm8k)]
    formulas = [str(row.data["answer"]) for row in read_rows(math500)]
    return numbers + formulas


def replies(num_replies: int, seed: int = 0) -> list[Reply]:
    """Replies whose forms are dealt out evenly."""
    source = random.Random(seed)
    accepted = golds()
    made = []
    for index in range(num_replies):
        gold = source.choice(accepted)
        text, is_correct = _FORMS[index % len(_FORMS)](gold, source)
        made.append(Reply(gold, f"We work it out.\n\n{text}", is_correct))
    return made


def _boxed(gold: str, _: random.Random) -> tuple[str, bool]:
    return f"The answer is $\\boxed{{{gold}}}$.", True


def _spelled_otherwise(gold: str, _: random.Random) -> tuple[str, bool]:
    text = gold.replace("\\frac", "\\dfrac").replace("(", "\\left(").replace(")", "\\right)")
    return f"So we get \\[\\boxed{{{text.replace(',', ', ')}}}.\\]", ", " in text or "," not in text


def _in_a_sentence(gold: str, _: random.Random) -> tuple[str, bool]:
    return f"**Answer:** ${gold}$", True


def _as_an_equation(gold: str, _: random.Random) -> tuple[str, bool]:
    is_value = "=" not in gold and "\\text" not in gold and "\\in" not in gold
    return f"Therefore $\\boxed{{{'x = ' if is_value else ''}{gold}}}$.", True


def _off_by_one(gold: str, source: random.Random) -> tuple[str, bool]:
    digits = [match.start() for match in re.finditer(r"\d", gold)]
    if not digits:
        return "The answer is $\\boxed{17}$.", False
    at = source.choice(digits)
    digit = str((int(gold[at]) + 1) % 10)
    return f"The answer is $\\boxed{{{gold[:at]}{digit}{gold[at + 1 :]}}}$.", False


_FORMS: Sequence[Callable[[str, random.Random], tuple[str, bool]]] = (
    _boxed, _off_by_one, _spelled_otherwise, _boxed, _in_a_sentence, _off_by_one,
    _as_an_equation, _boxed,
)  # fmt: skip


def grade_with_ours(made: Sequence[Reply], num_workers: int) -> tuple[float, list[bool | None]]:
    """(seconds, verdicts) of the verifier that tasks use, started cold."""
    with MathVerifier(num_workers) as verifier, ThreadPoolExecutor(num_workers) as threads:
        started = time.perf_counter()
        verdicts = list(
            threads.map(
                lambda reply: verifier.verify(reply.gold, final_answer(reply.text)).is_correct, made
            )
        )
        return time.perf_counter() - started, verdicts


def grade_with_math_verify(made: Sequence[Reply]) -> tuple[float, list[bool | None]]:
    """(seconds, verdicts) of math-verify, warm, without its timers."""
    from math_verify import parse, verify

    def grade(reply: Reply) -> bool:
        gold = parse(f"${reply.gold}$", parsing_timeout=None)  # type: ignore[arg-type]
        answer = parse(f"${extract_answer(reply.text)}$", parsing_timeout=None)  # type: ignore[arg-type]
        return verify(gold, answer, timeout_seconds=None)

    grade(made[0])
    started = time.perf_counter()
    verdicts: list[bool | None] = [grade(reply) for reply in made]
    return time.perf_counter() - started, verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--peer-answers", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, help="also write the numbers as JSON")
    options = parser.parse_args()
    made = replies(options.answers)
    numbers = {}
    for name, (seconds, verdicts), graded in (
        ("ours", grade_with_ours(made, options.workers), made),
        ("math-verify", grade_with_math_verify(made[: options.peer_answers]),
         made[: options.peer_answers]),
    ):  # fmt: skip
        pairs = list(zip(graded, verdicts, strict=True))
        agreeing = sum(reply.is_correct == verdict for reply, verdict in pairs)
        numbers[name] = {
            "answers": len(graded), "seconds": round(seconds, 2),
            "a_second": round(len(graded) / seconds), "as_made": agreeing,
            "ungraded": sum(verdict is None for verdict in verdicts),
        }  # fmt: skip
        print(f"{name:12} {json.dumps(numbers[name])}")
    ratio = numbers["ours"]["a_second"] / max(numbers["math-verify"]["a_second"], 1)
    print(f"ratio        {ratio:.1f}")
    if options.output is not None:
        options.output.write_text(
            json.dumps({**numbers, "ratio": round(ratio, 1)}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()

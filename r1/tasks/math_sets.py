"""The mathematics sets beside GSM8K and MATH-500: a table of forms over `question_answer`.

AIME, AMC, MATH, CNMO's stand-in, Gaokao, Minerva, OlympiadBench and CMATH. Golds that
are accepted beside the first one stand in the metadata as `accepted_answers`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from r1.rewards.math import extract_boxed
from r1.tasks.benchmark_data import find_file
from r1.tasks.benchmark_rows import BenchmarkFiles
from r1.tasks.grading import MathTask, OpenTask
from r1.tasks.question_answer import RowFormat, answer_text, build_rows
from r1.tasks.task import TaskConfig, TaskError

_ANNOTATION = ("math_testset_annotation.json",)
_OPTION_MARK = re.compile(r"[A-D]\s*[.．、]\s*")


def boxed_or_plain(value: Any) -> str:
    r"""A gold: what the last `\boxed{}` of a solution holds, or the field as it is."""
    text = answer_text(value)
    if "\\boxed" not in text and "\\fbox" not in text:
        return text
    boxed = extract_boxed(text)
    if not boxed:
        raise ValueError("has no complete \\boxed{...}")
    return boxed


def is_of_2024(row: Mapping[str, Any]) -> bool:
    """Whether a row is of 2024, where it has a year: the file of all AIMEs is from 1983 on."""
    return str(row.get("Year", "2024")) == "2024"


def gaokao_answers(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Multiple-choice questions are right by their letter too, with the option or without."""
    letter = str(row.get("choice_answer") or "").strip()
    if not letter:
        return {}
    value = _OPTION_MARK.sub("", str(row["answer"]), count=1)
    return {"accepted_answers": [letter, value]}


def has_checkable_gold(row: Mapping[str, Any]) -> bool:
    """Whether a rule can check OlympiadBench's gold: of one question it is a sentence.

    "$f(x)=a x+b$, where $b$ is an arbitrary integer, and ..." (id 1965).
    """
    return ", where " not in str(row["final_answer"])


def olympiad_answers(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The gold with its unit, and within the tolerance that the record names.

    `error` is the largest difference that is accepted; it is one unit of the last decimal of the
    only answer that has one, so the two neighbours of the gold are what it adds.
    """
    gold, unit, error = answer_text(row["final_answer"]), row.get("unit"), row.get("error")
    is_single = not row.get("is_multiple_answer")
    accepted = [f"{gold} {unit}".replace("$", "")] if unit and is_single else []
    if error:
        num_digits = len(gold.partition(".")[2])
        values = (float(gold) - float(error), float(gold) + float(error))
        accepted += [f"{value:.{num_digits}f}" for value in values]
    return {"accepted_answers": accepted} if accepted else {}


MATH_SETS: dict[str, RowFormat] = {
    "math": RowFormat(
        question_field="problem",
        answer_field="answer|solution",
        read_answer=boxed_or_plain,
        files=BenchmarkFiles(
            "math500",
            ("math_test_5000.jsonl.gz", "math_test_5000.jsonl"),
            "DigitalLearningGmbH/MATH-lighteval",
        ),
    ),
    "aime2024": RowFormat(
        question_field="problem|Question|question",
        answer_field="answer|Answer",
        is_wanted=is_of_2024,
        files=BenchmarkFiles(
            "aime2024",
            ("aime24_test.jsonl", "AIME_1983_2024.csv"),
            "HuggingFaceH4/aime_2024",
            hub_split="train",
        ),
    ),
    "aime2025": RowFormat(
        question_field="problem|question",
        files=BenchmarkFiles("aime2024", ("aime_2025.jsonl",), "math-ai/aime25"),
    ),
    "amc23": RowFormat(
        question_field="question|problem",
        files=BenchmarkFiles("extra_math", ("amc23_test.jsonl",), "math-ai/amc23"),
    ),
    "cnmo2024": RowFormat(
        question_field="problem",
        files=BenchmarkFiles(
            "cnmo2024",
            ("cn_math_2024_test.jsonl",),
            how_to_get="the set of CNMO 2024 is undisclosed; as a stand-in download "
            "eval/data/cn_math_2024/test.jsonl of github.com/GAIR-NLP/LIMO (30 problems of the "
            "Chinese High School Mathematics League 2024) and set path to it",
        ),
    ),
    "gaokao2024": RowFormat(
        read_metadata=gaokao_answers,
        language="zh",
        files=BenchmarkFiles(
            "cnmo2024",
            ("gaokao_2024_mix.jsonl",),
            how_to_get="download evaluation/data/gaokao2024_mix/test.jsonl of "
            "github.com/QwenLM/Qwen2.5-Math and set path to it",
        ),
    ),
    "minerva_math": RowFormat(
        question_field="problem|question",
        answer_field="solution|answer",
        read_answer=boxed_or_plain,
        files=BenchmarkFiles("extra_math", ("minerva_math_test.jsonl",), "math-ai/minervamath"),
    ),
    "olympiadbench": RowFormat(
        answer_field="final_answer",
        id_field="id",
        read_metadata=olympiad_answers,
        is_wanted=has_checkable_gold,
        files=BenchmarkFiles(
            "extra_math",
            ("olympiadbench_test.jsonl",),
            "Hothan/OlympiadBench",
            "OE_TO_maths_en_COMP",
            "train",
        ),
    ),
    "cmath": RowFormat(
        answer_field="answer|golden",
        language="zh",
        files=BenchmarkFiles("extra_math", ("cmath_test.jsonl",), "weitianwen/cmath"),
    ),
}


def build_math_set(config: TaskConfig) -> MathTask | OpenTask:
    """Read the set that the config names; TaskError for rows that cannot be read."""
    row_format = MATH_SETS[config.name]
    if config.name == "math":
        accepted = _annotated_answers(config.test_path or config.path)
        row_format = replace(
            row_format,
            read_metadata=lambda row: (
                {"accepted_answers": accepted[row["problem"]]}
                if row.get("problem") in accepted
                else {}
            ),
        )
    return build_rows(config, row_format)


def _annotated_answers(path: str | None) -> dict[str, list[str]]:
    """Every answer of the questions of MATH that have several ("one of the foci"), by question.

    From MARIO_EVAL's annotation of the test set, where it lies beside it.
    """
    folder = str(Path(path).parent) if path is not None and Path(path).is_file() else path
    found = find_file(folder, "math500", _ANNOTATION)
    if found is None:
        return {}
    try:
        rows = json.loads(found.read_text(encoding="utf-8"))
        # A \t that lost its escape was \tfrac.
        return {
            row["question"]: [answer.replace("\t", "\\t") for answer in row["answer"]]
            for row in rows
            if isinstance(row["answer"], list)
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TaskError(f"{found}: not MARIO_EVAL's annotation of MATH: {error!r}") from None

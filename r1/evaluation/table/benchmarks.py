"""The table of benchmarks: the 21 rows of the DeepSeek-R1 README, and further sets.

Samples of a question: the paper takes 4 to 64 by the size of the set, 64 for AIME and GPQA,
16 for MATH-500 and Codeforces, 8 for LiveCodeBench (the README's 64 is for all of them). For the
others the rule here is: the power of two, from 4 to 64, that makes at least 2,000
replies; 1 where the benchmark's own protocol takes one reply (pairwise games, patches).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from r1.tasks.task import TaskConfig, TaskError, nearest_names

Votes = Literal["math", "exact"]

_PUBLISHED = Path(__file__).resolve().parents[2] / "assets" / "published_results.json"
_MAA = "problems (c) MAA; not shipped"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: a number of an evaluation, in percent unless it is a rating.

    `title` and `metric` are the README's, and the key of its published scores;
    `distilled` is the key in its table of distilled models. `number` names what is shown
    of the evaluation's numbers.
    """

    title: str
    metric: str
    number: str = "pass_at_1"
    distilled: str = ""

    @property
    def is_percent(self) -> bool:
        return self.number not in ("rating",)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One evaluation: its task, how often it samples, and the lines of the table it fills.

    `name` is the row's and the task's name, `num_problems` the size of the published
    set. Grading a reply takes `num_judge_calls` of a judge, or a sandbox; `stand_in` says what
    is measured where the published set cannot be had. `votes` says how equal answers are
    found for the majority vote, None where replies have no short answer. A conversation
    takes `max_turns` replies.
    """

    name: str
    category: str
    lines: tuple[Line, ...]
    num_problems: int
    num_samples: int
    licence: str
    num_judge_calls: int = 0
    needs_sandbox: bool = False
    max_turns: int = 1
    votes: Votes | None = None
    stand_in: str = ""
    is_published: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.lines[0].title

    def task_config(self) -> TaskConfig:
        """The task as the table asks for it."""
        return TaskConfig(name=self.name, options=dict(self.options))


def default_num_samples(num_problems: int) -> int:
    """The power of two from 4 to 64 that makes at least 2,000 replies, or 64."""
    num_samples = 4
    while num_samples < 64 and num_samples * num_problems < 2000:
        num_samples *= 2
    return num_samples


def _row(
    name: str, category: str, title: str, metric: str, num_problems: int, **rest: Any
) -> Benchmark:
    line = Line(title, metric, rest.pop("number", "pass_at_1"), rest.pop("distilled", ""))
    rest.setdefault("lines", (line, *rest.pop("more_lines", ())))
    rest.setdefault("num_samples", default_num_samples(num_problems))
    return Benchmark(name, category, num_problems=num_problems, **rest)


def _maths(name: str, title: str, num_problems: int, licence: str, **rest: Any) -> Benchmark:
    rest = {"votes": "math", "is_published": False, **rest}
    category = rest.pop("category", "Math")
    return _row(name, category, title, "Pass@1", num_problems, licence=licence, **rest)


def _letters(name: str, title: str, metric: str, num_problems: int, **rest: Any) -> Benchmark:
    rest = {"votes": "exact", **rest}
    category = rest.pop("category", "English")
    return _row(name, category, title, metric, num_problems, **rest)


_ROWS = (
    _letters("mmlu", "MMLU", "Pass@1", 14042, licence="MIT"),
    _letters("mmlu_redux", "MMLU-Redux", "EM", 5700, licence="CC BY 4.0"),
    _letters("mmlu_pro", "MMLU-Pro", "EM", 12032, licence="MIT"),
    _row("drop", "English", "DROP", "3-shot F1", 9535, licence="CC BY-SA 4.0", votes="exact"),
    _row("ifeval", "English", "IF-Eval", "Prompt Strict", 541, licence="Apache-2.0"),
    _letters(
        "gpqa_diamond",
        "GPQA-Diamond",
        "Pass@1",
        198,
        num_samples=64,
        distilled="GPQA Diamond pass@1",
        licence="CC BY 4.0; its terms forbid publishing examples",
    ),
    _row("simpleqa", "English", "SimpleQA", "Correct", 4326, licence="MIT", num_judge_calls=1),
    _row("frames", "English", "FRAMES", "Acc.", 824, licence="Apache-2.0", num_judge_calls=1),
    _row(
        "alpaca_eval",
        "English",
        "AlpacaEval2.0",
        "LC-winrate",
        805,
        num_samples=1,
        number="length_controlled_win_rate",
        num_judge_calls=1,
        licence="CC BY-NC 4.0",
    ),
    _row(
        "arena_hard",
        "English",
        "ArenaHard",
        "GPT-4-1106",
        500,
        num_samples=1,
        number="win_rate",
        num_judge_calls=2,
        licence="Apache-2.0",
    ),
    _row(
        "livecodebench",
        "Code",
        "LiveCodeBench",
        "Pass@1-COT",
        279,
        num_samples=8,
        needs_sandbox=True,
        distilled="LiveCodeBench pass@1",
        licence="MIT; problems of their sites",
    ),
    Benchmark(
        "codeforces",
        "Code",
        (
            Line("Codeforces", "Percentile", "percentile"),
            Line("Codeforces", "Rating", "rating", "CodeForces rating"),
        ),
        num_problems=0,
        num_samples=16,
        needs_sandbox=True,
        licence="problems (c) Codeforces",
    ),
    _row(
        "swebench_verified",
        "Code",
        "SWE Verified",
        "Resolved",
        500,
        num_samples=1,
        max_turns=2,
        licence="MIT",
    ),
    _row(
        "aider_polyglot",
        "Code",
        "Aider-Polyglot",
        "Acc.",
        225,
        num_samples=1,
        max_turns=2,
        needs_sandbox=True,
        licence="MIT",
    ),
    _maths(
        "aime2024",
        "AIME 2024",
        30,
        _MAA,
        num_samples=64,
        is_published=True,
        distilled="AIME 2024 pass@1",
        more_lines=(Line("AIME 2024", "Cons@64", "cons_at_k", "AIME 2024 cons@64"),),
    ),
    _maths(
        "math500",
        "MATH-500",
        500,
        "MIT",
        num_samples=16,
        is_published=True,
        distilled="MATH-500 pass@1",
    ),
    _maths(
        "cnmo2024",
        "CNMO 2024",
        30,
        "no clear licence; not shipped",
        num_samples=64,
        is_published=True,
        stand_in="Chinese High School Mathematics League 2024: the set of CNMO 2024 is undisclosed",
    ),
    _row(
        "cluewsc",
        "Chinese",
        "CLUEWSC",
        "EM",
        976,
        votes="exact",
        stand_in="the public test split of FewCLUE's CLUEWSC",
        licence="no licence stated; not shipped",
    ),
    _letters(
        "ceval",
        "C-Eval",
        "EM",
        1346,
        category="Chinese",
        stand_in="the val split: the labels of the test split are hidden",
        licence="CC BY-NC-SA 4.0",
    ),
    _row(
        "chinese_simpleqa",
        "Chinese",
        "C-SimpleQA",
        "Correct",
        3000,
        num_judge_calls=1,
        licence="CC BY-NC-SA 4.0",
    ),
    _maths("gsm8k", "GSM8K", 1319, "MIT"),
    _maths("math", "MATH", 5000, "MIT"),
    _maths("aime2025", "AIME 2025", 30, _MAA, num_samples=64),
    _maths("amc23", "AMC 2023", 40, _MAA),
    _maths("minerva_math", "Minerva Math", 272, "MIT"),
    _maths("olympiadbench", "OlympiadBench", 675, "Apache-2.0"),
    _maths("cmath", "CMATH", 600, "CC BY 4.0", category="Chinese"),
    _maths("gaokao2024", "Gaokao 2024", 91, "MIT", category="Chinese"),
    _row(
        "swebench_localisation",
        "Code",
        "SWE Verified, files",
        "Localised",
        500,
        num_samples=1,
        max_turns=2,
        is_published=False,
        licence="MIT",
    ),
    _row(
        "humaneval",
        "Code",
        "HumanEval",
        "Pass@1",
        164,
        needs_sandbox=True,
        is_published=False,
        licence="MIT",
    ),
    _row(
        "mbpp",
        "Code",
        "MBPP",
        "Pass@1",
        500,
        needs_sandbox=True,
        is_published=False,
        licence="CC BY 4.0",
    ),
)
BENCHMARKS: dict[str, Benchmark] = {row.name: row for row in _ROWS}

# Two lines of one evaluation can be asked for by either name.
ALIASES = {"codeforces_percentile": "codeforces", "codeforces_rating": "codeforces"}


def find_benchmark(name: str) -> Benchmark:
    """A row by name; `reasoning_gym/<family>` and `miniature` are rows of their own.

    Raises TaskError that names the nearest row and lists all.
    """
    name = ALIASES.get(name, name)
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    if is_generated(name):
        return _maths(name, name, 300, "MIT", votes="exact", num_samples=8, category="Generated")
    raise TaskError(f"unknown row {name!r}; {nearest_names(name, BENCHMARKS)}")


def is_generated(name: str) -> bool:
    """Whether a row's problems are made by a program: reasoning-gym and the miniature."""
    return name.partition("/")[0] in ("reasoning_gym", "miniature")


@cache
def published_table() -> Mapping[str, Any]:
    """The README's published scores (DeepSeek-R1 README, section 4, MIT License)."""
    return json.loads(_PUBLISHED.read_text(encoding="utf-8"))


def published_models() -> list[str]:
    """The models of the README's main table, in its order."""
    return list(published_table()["main_table"][0]["scores"])


def published_scores(line: Line) -> dict[str, float | None]:
    """The published scores of a line by model, the distilled models after the main ones."""
    scores: dict[str, float | None] = {}
    for row in published_table()["main_table"]:
        if (row["benchmark"], row["metric"]) == (line.title, line.metric):
            scores.update(row["scores"])
    if line.distilled:
        for row in published_table()["distilled_table"]:
            if row["model"] in published_table()["distilled_models"]:
                scores[row["model"]] = row["scores"].get(line.distilled)
    return scores

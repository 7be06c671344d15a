"""Rows where a judge compares an answer with a baseline's: AlpacaEval 2 and Arena-Hard v0.1.

Grades carry the outcomes of the games in their parts, so that the rows' own metrics
(`alpaca_eval.py` and `arena_hard.py` in `evaluation/row_metrics/`) are computed from
records alone.
Data: AlpacaEval (CC BY-NC 4.0), Arena-Hard v0.1 (Apache-2.0).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1.records import Problem
from r1.tasks.benchmark_data import locate
from r1.tasks.benchmark_rows import (
    BenchmarkFiles,
    draw_test,
    read_benchmark,
    refuse_unknown_options,
)
from r1.tasks.judged.judged import (
    Judge,
    JudgedTask,
    JudgePrompt,
    JudgeTemplate,
    JudgeVerdict,
    ask_for,
    load_template,
    shortened,
)
from r1.tasks.row_files import Row, read_rows
from r1.tasks.task import TaskConfig, TaskError

ALPACA_EVAL = BenchmarkFiles(
    "alpaca_eval",
    ("baseline_gpt4_1106_preview.json", "model_outputs.json"),
    how_to_get="take results/gpt4_1106_preview/model_outputs.json of github.com/tatsu-lab/"
    "alpaca_eval: the 805 instructions with the baseline's outputs",
)
ARENA_HARD = BenchmarkFiles(
    "arena_hard",
    ("arena_hard_v0.1_question.jsonl", "question.jsonl"),
    how_to_get="take data/arena-hard-v0.1/question.jsonl of github.com/lmarena/arena-hard-auto",
)
ARENA_BASELINES = (
    "baseline_gpt-4-0314.jsonl",
    "gpt-4-0314.jsonl",
    "model_answer/gpt-4-0314.jsonl",
)

# What a label says of A: 2 much better, 1 better, 0 equal. Judges also write them reversed.
_OUTCOMES = {
    "A>>B": 2,
    "A>B": 1,
    "A=B": 0,
    "B=A": 0,
    "B>A": -1,
    "B>>A": -2,
    "A<B": -1,
    "A<<B": -2,
    "B<A": 1,
    "B<<A": 2,
}
_LABEL = re.compile(r"\[\[([AB<>=]+)\]\]")
_STRONG_WEIGHT = 3
# AlpacaEval's annotator draws the order with this seed (PairwiseAnnotator's default).
_ALPACA_ORDER_SEED = 0


def read_outcome(reply: str) -> int | None:
    """From 2 (A much better) to -2; None for no label, several ones, or an unknown one."""
    labels = set(_LABEL.findall(reply))
    return _OUTCOMES.get(labels.pop()) if len(labels) == 1 else None


def battle_scores(outcomes: list[int]) -> list[float]:
    """One score a battle, 1 won, 0.5 tied, 0 lost; a strong verdict is three battles."""
    return [
        (outcome > 0) + 0.5 * (outcome == 0)
        for outcome in outcomes
        for _ in range(_STRONG_WEIGHT if abs(outcome) == 2 else 1)
    ]


@dataclass(frozen=True, slots=True)
class TwoGames:
    """Two answers compared twice, in both orders, by one of five labels.

    Game 1 shows the baseline first, as Arena-Hard's gen_judgment.py does. Parts `game_1`
    and `game_2` are the outcomes for the answer, -2 to 2; a game without a verdict has no
    part, and as in the official script the other one counts. The reward is the mean score
    of the battles.
    """

    template: JudgeTemplate
    num_reply_tokens: int = 700

    def no_answer_parts(self, problem: Problem) -> Mapping[str, float]:
        return {"game_1": -2.0, "game_2": -2.0}

    def prompts(self, problem: Problem, answer: str) -> list[JudgePrompt]:
        baseline = problem.metadata["baseline"]
        return [
            self.template.fill(question=problem.question, answer_1=first, answer_2=second)
            for first, second in ((baseline, answer), (answer, baseline))
        ]

    def decide(self, judge: Judge, problem: Problem, answer: str) -> JudgeVerdict:
        parts: dict[str, float] = {}
        said: list[str] = []
        for number, prompt in enumerate(self.prompts(problem, answer), start=1):
            outcome, reply = ask_for(judge, prompt, read_outcome)
            if outcome is not None:
                parts[f"game_{number}"] = float(outcome if number == 2 else -outcome)
            said.append("no verdict" if outcome is None else f"{parts[f'game_{number}']:+.0f}")
            if outcome is None:
                said[-1] += f" in {shortened(reply)}"
        reason = f"game 1: {said[0]}; game 2: {said[1]}"
        if not parts:
            return JudgeVerdict(None, reason=reason)
        scores = battle_scores([int(outcome) for outcome in parts.values()])
        return JudgeVerdict(sum(scores) / len(scores), parts, reason)


@dataclass(frozen=True, slots=True)
class WeightedChoice:
    """AlpacaEval 2: one game in a drawn order, the preference as a probability.

    The judge names the better model, `m` or `M`, and the preference is the probability of
    the answer's name among those two as first token (`logprob_parser` of alpaca_eval).
    Parts: `preference` (also the reward), and the lengths in characters that the
    length-controlled win rate needs.
    """

    template: JudgeTemplate
    num_reply_tokens: int = 1

    def no_answer_parts(self, problem: Problem) -> Mapping[str, float]:
        return self._parts(problem, "", 0.0)

    def prompts(self, problem: Problem, answer: str) -> list[JudgePrompt]:
        outputs = [problem.metadata["baseline"], answer]
        if is_switched(problem.question):
            outputs.reverse()
        return [
            self.template.fill(
                instruction=problem.question, output_1=outputs[0], output_2=outputs[1]
            )
        ]

    def decide(self, judge: Judge, problem: Problem, answer: str) -> JudgeVerdict:
        prompt = self.prompts(problem, answer)[0]
        tokens: Mapping[str, float] = {}
        for attempt in range(2):
            tokens = judge.first_token(prompt.user, prompt.system, attempt)
            total = tokens.get("m", 0.0) + tokens.get("M", 0.0)
            if total > 0:
                share_of_first = tokens.get("m", 0.0) / total
                preference = share_of_first if is_switched(problem.question) else 1 - share_of_first
                parts = self._parts(problem, answer, preference)
                return JudgeVerdict(preference, parts, f"preferred with {preference:.3f}")
        return JudgeVerdict(None, reason=f"neither m nor M in {sorted(tokens)}")

    def _parts(self, problem: Problem, answer: str, preference: float) -> dict[str, float]:
        return {
            "preference": preference,
            "length": float(len(answer)),
            "baseline_length": float(len(problem.metadata["baseline"])),
        }


def is_switched(instruction: str) -> bool:
    """Whether the baseline comes second, as alpaca_eval draws it from the instruction.

    `RandomSwitchTwoColumnsProcessor` with `_switch_column="is_switched_outputs"`.
    """
    draws = random.Random(f"is_switched_outputs{instruction}{_ALPACA_ORDER_SEED}")
    return draws.choices([False, True], k=1)[0]


def build_alpaca_eval(config: TaskConfig, judge: Judge | None = None) -> JudgedTask:
    """AlpacaEval 2: 805 instructions against the outputs of gpt4_1106_preview.

    A problem's id is its place in the file, which the length-controlled win rate needs.
    """
    refuse_unknown_options(config, ("subset", "test_split"))
    problems = []
    for number, row in enumerate(read_benchmark(config, ALPACA_EVAL)):
        instruction, output = row.text("instruction"), row.text("output")
        metadata = {"baseline": output, "dataset": str(row.data.get("dataset", ""))}
        problem = Problem(str(number), instruction, None, task=config.name, metadata=metadata)
        problems.append(problem)
    chosen = draw_test(problems, config)
    return PairTask(config.name, chosen, WeightedChoice(load_template("alpaca_eval-1")), judge)


def build_arena_hard(config: TaskConfig, judge: Judge | None = None) -> JudgedTask:
    """Arena-Hard v0.1: 500 prompts against the answers of gpt-4-0314.

    `options.baseline` is the file of these answers, in the official form; without it, it
    is looked for beside the questions.
    """
    refuse_unknown_options(config, ("baseline", "subset", "test_split"))
    rows = read_benchmark(config, ARENA_HARD)
    baseline = _arena_baseline(config)
    problems = []
    for row in rows:
        uid, prompt = _arena_question(row)
        if uid not in baseline:
            raise TaskError(f"{row.location}: the baseline has no answer to {uid}")
        metadata = {"baseline": baseline[uid], "cluster": str(row.data.get("cluster", ""))}
        problems.append(Problem(uid, prompt, None, task=config.name, metadata=metadata))
    chosen = draw_test(problems, config)
    return PairTask(config.name, chosen, TwoGames(load_template("arena_hard-1")), judge)


@dataclass(frozen=True)
class PairTask(JudgedTask):
    """A judged task whose problems have a baseline's answer instead of a gold one."""

    def gold_error(self, problem: Problem) -> str:
        return "" if problem.metadata.get("baseline") else "the baseline has no answer"


def _arena_baseline(config: TaskConfig) -> dict[str, str]:
    path = config.options.get("baseline")
    source = config.test_path or config.path
    if path is None and source is not None and Path(source).expanduser().is_file():
        path = str(Path(source).expanduser().parent)
    how = "take data/arena-hard-v0.1/model_answer/gpt-4-0314.jsonl, or set options.baseline"
    found = locate(path or source, ARENA_HARD.folder, ARENA_BASELINES, how)
    return dict(_arena_answer(row) for row in read_rows(found))


def _arena_question(row: Row) -> tuple[str, str]:
    """(uid, prompt), from today's form or that of before 2025 (`question_id`, `turns`)."""

    def read(data: Mapping[str, Any]) -> tuple[Any, Any]:
        if "turns" in data:
            return data["question_id"], data["turns"][0]["content"]
        return data["uid"], data["prompt"]

    return _two_texts(row, read, "uid and prompt")


def _arena_answer(row: Row) -> tuple[str, str]:
    """(uid, answer), from today's form or that of before 2025 (`choices`)."""

    def read(data: Mapping[str, Any]) -> tuple[Any, Any]:
        if "choices" in data:
            return data["question_id"], data["choices"][0]["turns"][0]["content"]
        content = data["messages"][-1]["content"]
        return data["uid"], content["answer"] if isinstance(content, dict) else content

    return _two_texts(row, read, "uid and messages")


def _two_texts(row: Row, read: Any, wanted: str) -> tuple[str, str]:
    try:
        first, second = read(row.data)
    except (KeyError, IndexError, TypeError):
        raise TaskError(f"{row.location}: expected {wanted} as in Arena-Hard's files") from None
    if not isinstance(first, str) or not isinstance(second, str):
        raise TaskError(f"{row.location}: {wanted} are not texts")
    return first, second

"""reasoning-gym's families: problems without end from a seed, scored by the family's own code.

Its scorers are run on whatever a model writes, so this file knows which of them cannot
be trusted, and how. The facts were measured on reasoning-gym 0.1.25.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from reasoning_gym.composite import DatasetSpec
from reasoning_gym.dataset import ProceduralDataset
from reasoning_gym.factory import DATASETS

from r1.records import Completion, Grade, Problem
from r1.rewards.math import extract_answer, extract_boxed, is_formula
from r1.rewards.verifier_pool import WorkerFailure
from r1.tasks.grading import Score, grade_reply
from r1.tasks.reasoning_gym.answer_screen import is_plain_data, is_plain_expression
from r1.tasks.reasoning_gym.problem_stream import Entry, ProblemStream
from r1.tasks.reasoning_gym.scorer_worker import scorer_request, shared_scorer_pool
from r1.tasks.task import Split, TaskConfig, TaskError, nearest_names, question_key
from r1.text.reasoning import Reasoning

INSTRUCTION = (
    "Think step by step, then give the final answer, and nothing else, "
    "between <answer> and </answer>."
)
DEFAULT_NUM_TRAIN = 1000
DEFAULT_NUM_TEST = 300

# No answer is known that these score 1: their own `answer` is empty.
WITHOUT_GOLD = frozenset(
    {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
)
RAISES_ON_SOME = frozenset({"prime_factorization", "game_of_life"})
REWARDS_A_CONSTANT = frozenset(
    {
        "circuit_logic",
        "coin_flip",
        "game_of_life_halting",
        "largest_island",
        "polynomial_equations",
    }
)
# These call eval on the answer; the second kind sympy's parse_expr, which calls it too, and
# which may not end, so they run in processes that can be killed.
EVALUATES_DATA = frozenset({"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"})
EVALUATES_EXPRESSION = frozenset(
    {
        "countdown",
        "intermediate_integration",
        "polynomial_multiplication",
        "puzzle24",
        "simple_integration",
    }
)

_NUMBER = re.compile(r"[-+]?\d+([.,/]\d+)*")
# float(Fraction("1e999999999")) would fill the memory.
_HUGE_EXPONENT = re.compile(r"\d[eE][-+]?\d{4}")
_ANSWER_MARK = re.compile(r"(?i)(?:^|\n)[ \t*]*(?:final )?(?:answer|答案)[ \t*]*[:：][ \t*]*")
_MAX_ANSWER_LENGTH = 20_000

_log = logging.getLogger(__name__)


class ReasoningGymTask:
    """One family. Problems are generated when a split is first asked for.

    The test split comes from a random stream of its own and depends on nothing but the
    seed, the options and its size; training takes no question that is in it.
    """

    grader_version = "reasoning-gym-1"

    def __init__(self, config: TaskConfig, family: str, options: Mapping[str, Any]) -> None:
        self.name = config.name
        self.instruction = INSTRUCTION if config.instruction is None else config.instruction
        self._config = config
        self._family = family
        self._options = options
        specs = options.get("datasets", ())
        self._options_by_family = {spec.name: spec.config for spec in specs} or {family: options}
        self._scorer = make_dataset(family, options, seed=config.seed, size=1)

    @cached_property
    def _test(self) -> list[Problem]:
        wanted = self._config.num_test
        return self._draw("test", DEFAULT_NUM_TEST if wanted is None else wanted, set())

    @cached_property
    def _train(self) -> list[Problem]:
        wanted = self._config.num_train
        taken = {question_key(problem.question) for problem in self._test}
        return self._draw("train", DEFAULT_NUM_TRAIN if wanted is None else wanted, taken)

    def problems(self, split: Split) -> Sequence[Problem]:
        return self._train if split == "train" else self._test

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        """Reward by the family's scorer and the threshold; None where the scorer raised.

        The part `score` is the scorer's own figure, before the threshold.
        """
        scores: dict[str, float] = {}

        def score(reasoning: Reasoning) -> Score:
            answer = _find_answer(reasoning, problem.answer or "")
            raw, reason = self._score(problem, answer)
            if raw is not None:
                scores["score"] = raw
            return self._thresholded(raw), answer or None, reason

        grade = grade_reply(problem, completion, score, self._config.format_style)
        return dataclasses.replace(grade, parts={**grade.parts, **scores})

    def gold_error(self, problem: Problem) -> str:
        if not problem.answer:
            return "no answer"
        if self._family in EVALUATES_EXPRESSION:
            return ""  # checked when drawn; scoring them takes up to a second each
        raw, reason = self._score(problem, problem.answer)
        return "" if self._thresholded(raw) == 1 else f"scores {raw} itself {reason}".rstrip()

    def _score(self, problem: Problem, answer: str) -> tuple[float | None, str]:
        if not answer:
            return 0.0, "no answer found"
        source = str(problem.metadata.get("source_dataset", self._family))
        if reason := _unsafe(source, answer):
            return 0.0, reason
        try:
            raw = self._raw_score(source, problem, answer)
        # Other people's code on any text: whatever it raises is its failure, not a score.
        except Exception as error:
            fault = str(error) if isinstance(error, WorkerFailure) else f"raised {error!r}"
            return None, f"the scorer of {source} failed: {fault}"
        if not math.isfinite(raw):
            return None, f"the scorer of {source} gave {raw}"
        return raw, f"scored {raw:g}"

    def _raw_score(self, source: str, problem: Problem, answer: str) -> float:
        entry = {
            "question": problem.question,
            "answer": problem.answer,
            "metadata": problem.metadata,
        }
        if source not in EVALUATES_EXPRESSION:
            return float(self._scorer.score_answer(answer, entry))
        config = self._config
        pool = shared_scorer_pool(config.verifier_workers, config.verifier_timeout_seconds)
        options = self._options_by_family.get(source, {})
        reply = pool.ask(scorer_request(source, options, answer, entry))
        if reply["score"] is None:
            raise WorkerFailure(reply["reason"])
        return float(reply["score"])

    def _thresholded(self, raw: float | None) -> float | None:
        threshold = self._config.score_threshold
        if raw is None or threshold is None:
            return raw
        return float(raw >= threshold - 1e-9)

    def _draw(self, split: Split, wanted: int, taken: set[str]) -> list[Problem]:
        """The first `wanted` questions of the split's stream that are not in `taken`."""
        problems: list[Problem] = []
        seen = set(taken)
        # Small families repeat themselves: far beyond what was asked for means no more.
        limit = 10 * wanted + 1000
        for index, entry in self._entries(split, limit if wanted else 0):
            key = question_key(entry["question"])
            # intermediate_integration gives up on some of its own: `Integral(...) + C`.
            is_sound = not _unsafe(self._family, str(entry["answer"]))
            if is_sound and key not in seen:
                seen.add(key)
                problems.append(self._problem(f"{self._family}-{split}-{index}", entry))
            if len(problems) == wanted:
                return problems
        if wanted:
            raise TaskError(
                f"task {self.name!r}: only {len(problems)} different {split} questions among "
                f"{limit}, {wanted} asked for; lower num_{split} or widen options"
            )
        return []

    def _entries(self, split: Split, limit: int) -> Iterator[tuple[int, Entry]]:
        stream = ProblemStream(
            label=f"{self._family}-{split}",
            key={"options": repr(sorted(self._options.items())), "seed": self._config.seed},
            make_dataset=lambda seed, size: make_dataset(
                self._family, self._options, seed=seed, size=size
            ),
            cache_folder=self._config.cache_folder,
        )
        return stream.entries(limit)

    def _problem(self, problem_id: str, entry: Entry) -> Problem:
        answer = entry["answer"]
        return Problem(
            id=problem_id,
            question=entry["question"].strip(),
            answer=None if answer is None else str(answer),
            language="en",
            task=self.name,
            metadata=entry["metadata"],
        )


def build_reasoning_gym(config: TaskConfig) -> ReasoningGymTask:
    """The family that `config.name` names after the slash.

    Raises:
        TaskError: for an unknown family or option, an option out of range, and families
            that no answer can satisfy. Families with a doubtful scorer are warned of in
            one logged line.
    """
    _, _, family = config.name.partition("/")
    if family not in DATASETS:
        raise TaskError(f"unknown reasoning-gym family {family!r}; {_families_near(family)}")
    options = dict(config.options)
    if family == "composite":
        options["datasets"] = [_dataset_spec(spec) for spec in options.get("datasets", ())]
    members = [spec.name for spec in options.get("datasets", ())] or [family]
    for member in members:
        _check_family(member)
    return ReasoningGymTask(config, family, options)


def _families_near(family: str) -> str:
    return nearest_names(family, set(DATASETS) - WITHOUT_GOLD)


def _dataset_spec(spec: Any) -> DatasetSpec:
    if not isinstance(spec, Mapping) or spec.get("name") not in DATASETS:
        wanted = "{name = 'chain_sum', weight = 1.0, config = {}}"
        raise TaskError(f"composite: each of options.datasets is like {wanted}, not {spec!r}")
    return DatasetSpec(spec["name"], spec.get("weight", 1.0), dict(spec.get("config", {})))


def _check_family(family: str) -> None:
    if family in WITHOUT_GOLD:
        raise TaskError(
            f"reasoning-gym family {family!r} has no gold answers (its own answer scores 0); "
            "choose another"
        )
    if family in RAISES_ON_SOME:
        _log.warning(
            "reasoning-gym family %s: its scorer raises on some replies; these get no reward "
            "and are counted as ungraded",
            family,
        )
    if family in REWARDS_A_CONSTANT:
        _log.warning(
            "reasoning-gym family %s: one constant answer is right for many questions, so its "
            "reward can be had without solving them",
            family,
        )


def make_dataset(
    family: str, options: Mapping[str, Any], *, seed: int, size: int
) -> ProceduralDataset:
    """reasoning-gym's data set of a family; raises TaskError for options that it has not."""
    dataset_class, config_class = DATASETS[family]
    known = {field.name for field in dataclasses.fields(config_class)} - {"seed", "size"}
    for option in options:
        if option in ("seed", "size"):
            raise TaskError(f"option {option!r}: set seed, num_train and num_test of the task")
        if option not in known:
            raise TaskError(f"{family} has no option {option!r}; {nearest_names(option, known)}")
    try:
        return dataset_class(config_class(**options, seed=seed, size=size))
    except (AssertionError, TypeError, ValueError) as error:
        shown = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise TaskError(f"{family} with {shown or 'no options'}: {error}") from None


def _find_answer(reasoning: Reasoning, gold: str) -> str:
    """The final answer in a reply; families of words and grids have more than numbers.

    A number is looked for as in mathematics. Else: what is tagged, or boxed, or follows
    the last "Answer:", or all that comes after the thought.
    """
    text = reasoning.answer.strip()
    if _NUMBER.fullmatch(gold):
        is_whole = reasoning.answer_tagged and is_formula(text)
        number = extract_answer(text, is_whole=is_whole) or ""
        return number if "," in gold else number.replace(",", "")
    boxed = extract_boxed(text)
    if boxed is not None:
        return re.sub(r"^\\text\{(.*)\}$", r"\1", boxed.strip(), flags=re.DOTALL)
    if reasoning.answer_tagged:
        return text
    return _ANSWER_MARK.split(text)[-1].strip()


def _unsafe(family: str, answer: str) -> str:
    """Why an answer must not reach the scorer; empty when it may."""
    if len(answer) > _MAX_ANSWER_LENGTH:
        return f"an answer of {len(answer)} characters"
    if _HUGE_EXPONENT.search(answer):
        return "an exponent too large to compute with"
    if family in EVALUATES_DATA and not is_plain_data(answer):
        return "not plain data, and the scorer would evaluate it"
    if family in EVALUATES_EXPRESSION and not is_plain_expression(answer):
        return "not a small plain expression, and the scorer would evaluate it"
    return ""

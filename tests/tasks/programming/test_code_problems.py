from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1.records import Completion, Grade
from r1.rewards.sandbox.sandbox import Sandbox, SandboxFailure
from r1.tasks.programming.code_problems import CodeTask, humaneval_program, livecodebench_prompt
from r1.tasks.programming.code_tests import livecodebench_tests
from r1.tasks.task import TaskConfig, TaskError, build_task, preflight
from r1.training.grpo import GrpoConfig, run_grpo
from tests.tasks.programming.test_code_tests import packed
from tests.tasks.rows import write_rows

STDIN_RECORD = {
    "question_title": "Sum",
    "question_content": "Print the sum of two integers.",
    "platform": "atcoder",
    "question_id": "abc999_a",
    "contest_id": "abc999",
    "contest_date": "2024-09-14T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]),
    "private_test_cases": packed(
        json.dumps([{"input": "5 -7\n", "output": "-2\n", "testtype": "stdin"}])
    ),
    "metadata": "{}",
}
FUNCTION_RECORD = {
    **STDIN_RECORD,
    "question_id": "3999",
    "platform": "leetcode",
    "contest_date": "2025-01-31T00:00:00",
    "starter_code": "class Solution:\n    def total(self, nums: List[int]) -> int:\n        ",
    "public_test_cases": json.dumps([{"input": "[1, 2]", "output": "3", "testtype": "functional"}]),
    "private_test_cases": packed("[]"),
    "metadata": json.dumps({"func_name": "total"}),
}
HUMANEVAL_RECORD = {
    "task_id": "HumanEval/999",
    "prompt": "import math\n\ndef helper(x):\n    return x + 1\n\n\n"
    'def successor(x: int) -> int:\n    """The next integer."""\n',
    "entry_point": "successor",
    "canonical_solution": "    return x + 1\n",
    "test": "METADATA = {}\n\ndef check(candidate):\n    assert candidate(1) == helper(1)\n"
    "    assert candidate(-1) == 0\n",
}
MBPP_RECORD = {
    "task_id": 11,
    "text": "Write a function to double a number.",
    "code": "def double(x): return 2 * x",
    "test_list": ["assert double(2) == 4", "assert math.isclose(double(0.5), 1.0)"],
    "test_setup_code": "",
    "challenge_test_list": [],
}


def task_of(name: str, path: Path, **settings: Any) -> CodeTask:
    task = build_task(TaskConfig(name=name, path=str(path), **settings))
    assert isinstance(task, CodeTask)
    return task


def grade(task: CodeTask, code: str, split: str = "test", index: int = 0) -> Grade:
    if task.checker.fault():
        pytest.skip(task.checker.fault())
    problem = task.problems("train" if split == "train" else "test")[index]
    text = f"<think>\n```python\nprint('a draft')\n```\n</think>\nHere:\n```python\n{code}\n```"
    return task.grade(problem, Completion(text))


# ---------------------------------------------------------------- LiveCodeBench


def test_livecodebench_rows_and_window(tmp_path: Path) -> None:
    old = {**STDIN_RECORD, "question_id": "old", "contest_date": "2024-07-31T00:00:00"}
    new = {**STDIN_RECORD, "question_id": "new", "contest_date": "2025-02-01T00:00:00"}
    path = write_rows(tmp_path / "lcb.jsonl", old, STDIN_RECORD, FUNCTION_RECORD, new)
    names = [p.id for p in task_of("livecodebench", path).problems("test")]
    assert names == ["abc999_a", "3999"]
    window = {"window_start": "2024-07-31", "window_end": "2024-12"}
    names = [p.id for p in task_of("livecodebench", path, options=window).problems("test")]
    assert names == ["old", "abc999_a"]
    with pytest.raises(TaskError, match="no problem of a contest from 2026"):
        task_of("livecodebench", path, options={"window_start": "2026"})


def test_all_files_of_the_release_are_read(tmp_path: Path) -> None:
    write_rows(tmp_path / "test.jsonl", STDIN_RECORD)
    write_rows(tmp_path / "test5.jsonl", FUNCTION_RECORD)
    assert len(task_of("livecodebench", tmp_path).problems("test")) == 2


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="livecodebench/code_generation_lite"):
        task_of("livecodebench", tmp_path / "absent")


def test_livecodebench_prompts_word_for_word() -> None:
    assert livecodebench_prompt(STDIN_RECORD) == (
        "You will be given a question (problem specification) and will generate a correct Python "
        "program that matches the specification and passes all tests.\n\n"
        "Question: Print the sum of two integers.\n\n"
        "Read the inputs from stdin solve the problem and write the answer to stdout (do not "
        "directly test on the sample inputs). Enclose your code within delimiters as follows. "
        "Ensure that when the python program runs, it reads the inputs, runs the algorithm and "
        "writes output to STDOUT.\n```python\n# YOUR CODE HERE\n```\n\n"
    )
    generic = livecodebench_prompt(FUNCTION_RECORD, is_generic=True)
    assert generic == (
        "### Question:\nPrint the sum of two integers.\n\n### Format: You will use the following "
        "starter code to write the solution to the problem and enclose your code within "
        f"delimiters.\n```python\n{FUNCTION_RECORD['starter_code']}\n```\n\n"
        "### Answer: (use the provided format with backticks)\n\n"
    )


def test_livecodebench_grades(tmp_path: Path) -> None:
    task = task_of("livecodebench", write_rows(tmp_path / "l.jsonl", STDIN_RECORD, FUNCTION_RECORD))
    right = grade(task, "a, b = map(int, input().split())\nprint(a + b)")
    assert (right.reward, right.reason) == (1.0, "passed: 2 tests passed")
    # The private test is the second one; the draft in the thought was not run.
    wrong = grade(task, "print(3)")
    assert wrong.reward == 0.0
    assert wrong.reason == "wrong: test 2 of 2: line 1 is '3', expected '-2'"
    assert wrong.answer == "print(3)"
    method = (
        "class Solution:\n    def total(self, nums: List[int]) -> int:\n        return sum(nums)"
    )
    assert grade(task, method, index=1).reward == 1.0
    assert task.grader_version == "code-2"
    assert task.instruction == ""


def test_replies_without_a_program(tmp_path: Path) -> None:
    task = task_of("livecodebench", write_rows(tmp_path / "l.jsonl", STDIN_RECORD))
    [problem] = task.problems("test")
    for text in ("<think>\n```python\nprint(3)\n```", "It is 3.", "```cpp\nint main() {}\n```", ""):
        assert task.grade(problem, Completion(text)).reward == 0.0


def test_a_broken_sandbox_gives_no_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Sandbox, files: object = None) -> object:
        raise SandboxFailure("the supervisor died")

    task = task_of("livecodebench", write_rows(tmp_path / "l.jsonl", STDIN_RECORD))
    monkeypatch.setattr(Sandbox, "open", fail)
    result = task.grade(task.problems("test")[0], Completion("```python\nprint(3)\n```"))
    assert (result.reward, result.reason) == (None, "failed: the supervisor died")


# ---------------------------------------------------------------- HumanEval, MBPP


def test_humaneval(tmp_path: Path) -> None:
    task = task_of("humaneval", write_rows(tmp_path / "h.jsonl", HUMANEVAL_RECORD))
    [problem] = task.problems("test")
    assert problem.question.startswith("Read the following function signature and docstring")
    assert problem.question.endswith(HUMANEVAL_RECORD["prompt"])
    assert grade(task, "def successor(x: int) -> int:\n    return helper(x)").reward == 1.0
    assert grade(task, HUMANEVAL_RECORD["canonical_solution"]).reward == 1.0
    assert grade(task, "def successor(x: int) -> int:\n    return 2").reward == 0.0
    assert grade(task, "import sys\nsys.exit(0)").reward == 0.0


def test_code_without_a_block(tmp_path: Path) -> None:
    """HumanEval asks for code alone; R1-Zero's `<answer>` may hold nothing else."""
    task = task_of("humaneval", write_rows(tmp_path / "h.jsonl", HUMANEVAL_RECORD))
    if task.checker.fault():
        pytest.skip(task.checker.fault())
    [problem] = task.problems("test")
    bare = "<think>x</think>\ndef successor(x):\n    return x + 1"
    assert task.grade(problem, Completion(bare)).reward == 1.0
    assert task.grade(problem, Completion("<think>x</think>I cannot.")).reward == 0.0
    task = task_of("livecodebench", write_rows(tmp_path / "l.jsonl", STDIN_RECORD))
    [problem] = task.problems("test")
    code = "a, b = map(int, input().split())\nprint(a + b)"
    tagged = Completion(f"<think>x</think> <answer>\n{code}\n</answer>")
    assert task.grade(problem, tagged).reward == 1.0
    assert task.grade(problem, Completion(f"<think>x</think>{code}")).reward == 0.0


def test_humaneval_programs_are_whole() -> None:
    body = humaneval_program("    return x + 1", HUMANEVAL_RECORD)
    assert body.endswith('"""The next integer."""\n    return x + 1\n')
    whole = humaneval_program("def successor(x):\n    return x", HUMANEVAL_RECORD)
    assert '"""\n    pass\n\n\ndef successor(x):\n    return x\n' in whole


def test_mbpp(tmp_path: Path) -> None:
    records = [{**MBPP_RECORD, "task_id": number} for number in (10, 11, 510, 511)]
    task = task_of("mbpp", write_rows(tmp_path / "m.jsonl", *records))
    problems = task.problems("test")
    assert [problem.id for problem in problems] == ["11", "510"]
    assert "Your code should pass these tests:\n\nassert double(2) == 4\n" in problems[0].question
    assert grade(task, MBPP_RECORD["code"]).reward == 1.0
    assert grade(task, "def double(x): return x").reward == 0.0


# ---------------------------------------------------------------- own problems


def test_own_problems_for_training(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "question": f"Add {n}.", "tests": [{"input": "1", "output": str(1 + n)}]}
        for n in range(6)
    ]
    rows[5] = {"prompt": "f", "tests": ["assert f(1) == 2"], "starter_code": "def f(x):"}
    task = task_of("code", write_rows(tmp_path / "own.jsonl", *rows), num_test=2)
    train, test = task.problems("train"), task.problems("test")
    assert (len(train), len(test)) == (4, 2)
    assert not {p.id for p in train} & {p.id for p in test}
    assert "```python" in task.instruction
    everything = task_of("code", tmp_path / "own.jsonl")
    assert [p.id for p in everything.problems("train")] == ["0", "1", "2", "3", "4", "row-5"]
    assert everything.problems("train")[5].question.endswith("```python\ndef f(x):\n```")
    assert grade(everything, "print(int(input()) + 3)", "train", 3).reward == 1.0
    assert grade(everything, "def f(x): return x + 1", "train", 5).reward == 1.0
    assert grade(everything, "def f(x): return x", "train", 5).reward == 0.0


def test_one_step_of_training_on_code(tmp_path: Path) -> None:
    """The reward of a training step is what its programs did in the sandbox."""
    path = write_rows(
        tmp_path / "own.jsonl", {"question": "3?", "tests": [{"input": "", "output": "3"}]}
    )
    task = task_of("code", path)
    if task.checker.fault():
        pytest.skip(task.checker.fault())
    own = TaskConfig(name="code", path=str(path))
    run_grpo(GrpoConfig(
        model="tiny", task=own, output=tmp_path / "run", steps=1, samples_every=1,
        group_size=2, questions_per_step=1, updates_per_rollout=1, max_tokens=48,
    ))  # fmt: skip
    lines = (tmp_path / "run" / "samples.jsonl").read_text().splitlines()
    samples = [json.loads(line) for line in lines]
    [problem] = task.problems("train")
    regraded = [task.grade(problem, Completion(sample["text"])) for sample in samples]
    assert len(samples) == 2
    assert [sample["reason"] for sample in samples] == [grade.reason for grade in regraded]
    assert [sample["accuracy"] for sample in samples] == [grade.reward for grade in regraded]


def test_a_problems_own_time_limit(tmp_path: Path) -> None:
    row = {"question": "Wait.", "tests": [{"input": "", "output": "1"}], "time_limit": 0.2}
    task = task_of("code", write_rows(tmp_path / "own.jsonl", row), options={"test_seconds": 20})
    slow = "for _ in range(3 * 10**7): pass\nprint(1)"
    assert grade(task, slow, "train").reason == "timed_out: test 1 of 1: the time limit"


def test_preflight_names_problems_without_tests(tmp_path: Path) -> None:
    task = task_of("code", write_rows(tmp_path / "a.jsonl", {"question": "None.", "tests": []}))
    if task.checker.fault():
        pytest.skip(task.checker.fault())
    with pytest.raises(TaskError, match=r"1 of 1 answers cannot be verified.*no tests"):
        preflight(task, ("train",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "code"}, "set path"),
        ({"name": "code", "path": "x.jsonl", "options": {"window": 1}}, "unknown option 'window'"),
        ({"name": "code", "path": "x.jsonl"}, "no such file"),
        ({"name": "livecodebench", "options": {"prompt": "x"}}, "known: generic, r1"),
        ({"name": "mbpp", "num_train": 5}, "no problems to train on"),
    ],
)
def test_mistakes_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        build_task(TaskConfig(**settings))


def test_limits_are_checked(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "own.jsonl", {"question": "q", "tests": ["assert f()"]})
    with pytest.raises(TaskError, match="test_seconds must be above 0, not -1"):
        task_of("code", path, options={"test_seconds": -1})


def test_loading_keeps_large_tests_packed(tmp_path: Path) -> None:
    large = packed(json.dumps([{"input": "x" * 10**6, "output": "y", "testtype": "stdin"}] * 20))
    assert len(large) < 10**6
    record = {**STDIN_RECORD, "private_test_cases": large}
    task = task_of("livecodebench", write_rows(tmp_path / "l.jsonl", record))
    [problem] = task.problems("test")
    assert problem.metadata["private_test_cases"] == large
    assert len(getattr(livecodebench_tests(problem.metadata), "pairs")) == 21  # noqa: B009

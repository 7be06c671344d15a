from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from r1.records import Completion, Problem, Turn
from r1.rewards.sandbox.sandbox import SandboxFailure
from r1.tasks.aider.edits import (
    apply_edits,
    as_lines,
    parse_search_replace,
    parse_whole_files,
)
from r1.tasks.aider.exercises import Exercise, read_exercises
from r1.tasks.aider.languages import TestRun, TestRunner, Toolchains
from r1.tasks.aider.polyglot import AiderPolyglotTask, build_aider_polyglot
from r1.tasks.task import ConversationTask, TaskConfig, TaskError, build_task

FILES = {
    ".meta/config.json": json.dumps(
        {
            "files": {
                "solution": ["add.py"],
                "test": ["add_test.py"],
                "example": [".meta/example.py"],
            }
        }
    ),
    ".meta/example.py": "def add(a, b):\n    return a + b\n",
    ".docs/introduction.md": "# Adding\n",
    ".docs/instructions.md": "Add two numbers.\n",
    "add.py": "def add(a, b):\n    pass\n",
    "add_test.py": (
        "import unittest\nfrom add import add\n\n\nclass AddTest(unittest.TestCase):\n"
        "    def test_small(self):\n        self.assertEqual(add(2, 3), 5)\n"
    ),
}
ADD = "python/exercises/practice/add"
RIGHT = "add.py\n```\n<<<<<<< SEARCH\n    pass\n=======\n    return a + b\n>>>>>>> REPLACE\n```\n"
WRONG = RIGHT.replace("a + b", "a - b")
REPAIR = RIGHT.replace("    pass", "    return a - b")
MALFORMED = "add.py\n```\n<<<<<<< SEARCH\n    pass\n```\n"


def write_archive(path: Path, files: Mapping[str, str], link: str | None = None) -> Path:
    with tarfile.open(path, "w:xz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
        if link is not None:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    return path


class FakeRunner(TestRunner):
    """Says what the first line of the edited file's `return` decides; no sandbox."""

    def __init__(self, num_failures: int = 0) -> None:
        super().__init__(Toolchains())
        self.num_failures = num_failures
        self.num_runs = 0

    def run(self, exercise: Exercise, files: Mapping[str, bytes]) -> TestRun:
        self.num_runs += 1
        if self.num_failures:
            self.num_failures -= 1
            raise SandboxFailure("no walls")
        has_passed = b"return a + b" in files["add.py"]
        return TestRun(has_passed, "OK" if has_passed else "AssertionError: -1 != 5")


@pytest.fixture
def exercise(tmp_path: Path) -> Exercise:
    files = {f"repo/{ADD}/{name}": text for name, text in FILES.items()}
    return read_exercises(write_archive(tmp_path / "repo.tar.xz", files))[0]


def conversation(task: AiderPolyglotTask, problem: Problem, replies: list[str]) -> Completion:
    """Replies with the messages that the task really answers them with."""
    completion = Completion(replies[0])
    for reply in replies[1:]:
        message = task.next_message(problem, completion)
        assert message is not None
        turns = (*completion.earlier, Turn(completion.text, message))
        completion = Completion(reply, earlier=turns)
    return completion


@pytest.mark.parametrize(
    ("replies", "reward", "pass_1", "well_formed"),
    [
        ([RIGHT], 1.0, 1.0, 1.0),
        ([f"<think>{WRONG}</think>{RIGHT}"], 1.0, 1.0, 1.0),
        ([WRONG, REPAIR], 1.0, 0.0, 1.0),
        ([WRONG, WRONG, REPAIR], 1.0, 0.0, 0.0),
        ([MALFORMED, RIGHT], 1.0, 1.0, 0.0),
        ([MALFORMED, WRONG, MALFORMED, REPAIR], 1.0, 0.0, 0.0),
        ([WRONG, "I cannot."], 0.0, 0.0, 1.0),
        (["I cannot.", "I cannot."], 0.0, 0.0, 1.0),
        (["<think>" + RIGHT, "no"], 0.0, 0.0, 1.0),
        ([MALFORMED] * 8, 0.0, 0.0, 0.0),
        ([*[MALFORMED] * 4, RIGHT], 1.0, 0.0, 0.0),
    ],
)
def test_two_tries(
    exercise: Exercise, replies: list[str], reward: float, pass_1: float, well_formed: float
) -> None:
    task = AiderPolyglotTask([exercise], FakeRunner(), "diff")
    assert isinstance(task, ConversationTask)
    (problem,) = task.problems("test")
    completion = conversation(task, problem, replies)
    assert task.next_message(problem, completion) is None
    grade = task.grade(problem, completion)
    assert grade.reward == reward
    assert (grade.parts["pass_1"], grade.parts["well_formed"]) == (pass_1, well_formed)


def test_what_the_model_is_told(exercise: Exercise) -> None:
    task = AiderPolyglotTask([exercise], FakeRunner(), "diff")
    (problem,) = task.problems("test")
    assert problem.id == "python/add"
    listing = "\nadd.py\n```\ndef add(a, b):\n    pass\n```\n"
    assert listing in problem.question
    assert problem.question.endswith(
        "# Adding\nAdd two numbers.\n\n####\n\n"
        "Use the above instructions to modify the supplied files: add.py\n"
        "Don't change the names of existing functions or classes, as they may be referenced from "
        "other code like unit tests, etc.\n"
        "Only use standard libraries, don't suggest installing any packages.\n"
    )
    message = task.next_message(problem, Completion(WRONG))
    assert message is not None
    assert "\nadd.py\n```\ndef add(a, b):\n    return a - b\n```\n" in message
    assert message.endswith(
        "AssertionError: -1 != 5\n####\n\nSee the testing errors above.\n"
        "The tests are correct, don't try and change them.\n"
        "Fix the code in add.py to resolve the errors.\n"
    )


def test_a_try_is_tested_once_for_the_message_and_the_grade(exercise: Exercise) -> None:
    runner = FakeRunner()
    task = AiderPolyglotTask([exercise], runner, "diff")
    (problem,) = task.problems("test")
    task.grade(problem, conversation(task, problem, [WRONG, REPAIR]))
    task.grade(problem, conversation(task, problem, [WRONG, REPAIR]))
    assert runner.num_runs == 2


def test_a_sandbox_that_fails_is_no_score(exercise: Exercise) -> None:
    """Nor is the try after it: the model was never told that the first failed."""
    task = AiderPolyglotTask([exercise], FakeRunner(num_failures=2), "diff")
    (problem,) = task.problems("test")
    completion = Completion(WRONG)
    assert task.next_message(problem, completion) is None
    assert task.grade(problem, completion).reward is None
    again = AiderPolyglotTask([exercise], FakeRunner(num_failures=1), "diff")
    assert again.next_message(problem, completion) is not None


def test_a_language_whose_tests_do_not_work_is_told_before_anything_is_asked(
    exercise: Exercise,
) -> None:
    """Its own solution passes and its stub fails, or the runner is not to be believed."""

    class Always(FakeRunner):
        def __init__(self, has_passed: bool) -> None:
            super().__init__()
            self.has_passed = has_passed

        def run(self, exercise: Exercise, files: Mapping[str, bytes]) -> TestRun:
            return TestRun(self.has_passed, "cargo: not found")

    def fault(runner: TestRunner) -> str:
        task = AiderPolyglotTask([exercise], runner, "diff")
        return task.gold_error(task.problems("test")[0])

    assert fault(FakeRunner()) == ""
    assert fault(Always(False)).startswith("python does not work here (cargo: not found)")
    assert fault(Always(True)).startswith("python does not work here (it passes nothing, or every")
    assert fault(FakeRunner(num_failures=1)).startswith("python does not work here (no walls)")


def test_edits_of_tests_and_build_files_do_not_count(exercise: Exercise) -> None:
    edited = {
        "add.py": "x = 1\n",
        "add_test.py": "",
        "conftest.py": "",
        "unittest.py": "",
        "../up.py": "",
        "/etc/passwd": "",
    }
    files = exercise.box_files(edited)
    assert files["add.py"] == b"x = 1\n"
    assert files["add_test.py"] == FILES["add_test.py"].encode()
    assert sorted(files) == ["add.py", "add_test.py"]


def test_new_source_files_go_beside_the_solution() -> None:
    config = {
        "solution": ["src/main/java/Cup.java"],
        "test": ["src/test/java/CupTest.java"],
        "example": [".meta/src/reference/java/Cup.java", ".meta/src/reference/java/Ball.java"],
    }
    names = [*config["solution"], *config["test"], *config["example"], "build.gradle"]
    files = {name: name.encode() for name in names}
    exercise = Exercise("java", "cup", files, *(tuple(config[key]) for key in config))
    assert exercise.shown_names == {"Cup.java": "src/main/java/Cup.java"}
    edited = {"Ball.java": "b", "CupTest.java": "t", "build.gradle": "g", "x.txt": "x"}
    edited |= {"Cup.java/Ball.java": "", "B\0.java": "", "b" * 200 + ".java": "", "../B.java": ""}
    new = set(exercise.box_files(edited)) - set(exercise.files)
    assert new == {"src/main/java/Ball.java"}
    assert sorted(exercise.example()) == ["Ball.java", "Cup.java"]


def test_a_language_that_is_not_here_is_not_asked(exercise: Exercise) -> None:
    files = {**exercise.files, "package.json": b"{}"}
    absent = Exercise("javascript", "add", files, ("add.py",), ("add_test.py",), ())
    task = AiderPolyglotTask([exercise, absent], FakeRunner(), "diff")
    assert [problem.id for problem in task.problems("test")] == ["python/add"]
    assert task.label.startswith("python 1: 1 of 2; not run: javascript without jest")
    unknown = Problem("javascript/add", "", None)
    assert task.grade(unknown, Completion(RIGHT)).reward is None


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/passwd"])
def test_an_archive_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    path = write_archive(tmp_path / "evil.tar.xz", {name: "x"})
    with pytest.raises(TaskError, match="leads out of it"):
        read_exercises(path)


def test_links_and_other_files_are_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "evil.tar.xz", {}, link=f"{ADD}/add.py")
    with pytest.raises(TaskError, match="is a link"):
        read_exercises(path)
    path.write_bytes(b"no archive")
    with pytest.raises(TaskError, match="cannot be read as an archive"):
        read_exercises(path)
    with pytest.raises(TaskError, match="holds no <language>/exercises/practice"):
        read_exercises(write_archive(path, {"a/b": ""}))


def test_mistakes_in_the_config_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="git clone https://github"):
        build_aider_polyglot(TaskConfig(name="aider_polyglot", path=str(tmp_path)))
    for options in ({"language": "python"}, {"languages": ["cobol"]}, {"edit_format": "udiff"}):
        config = TaskConfig(name="aider_polyglot", path=str(tmp_path), options=options)
        with pytest.raises(TaskError, match=r"task\.options\.\w+: |unknown option 'language'"):
            build_aider_polyglot(config)


# ---------------------------------------------------------------- the real exercises


def test_some_of_the_exercises(shared_dir: Path) -> None:
    path = str(shared_dir / "data")
    config = TaskConfig(
        name="aider_polyglot", path=path, num_test=3, options={"languages": "python"}
    )
    assert len(build_task(config).problems("test")) == 3


def real_task(shared_dir: Path, **options: object) -> AiderPolyglotTask:
    path = shared_dir / "data" / "aider_polyglot" / "polyglot_benchmark.tar.xz"
    task = build_task(TaskConfig(name="aider_polyglot", path=str(path), options=options))
    assert isinstance(task, AiderPolyglotTask)
    return task


def test_all_exercises_are_read(shared_dir: Path) -> None:
    archive = shared_dir / "data" / "aider_polyglot" / "polyglot_benchmark.tar.xz"
    exercises = read_exercises(archive)
    counts = [sum(e.language == name for e in exercises) for name in ("cpp", "go", "java")]
    assert counts == [26, 39, 47]
    assert len({exercise.id for exercise in exercises}) == 225
    by_id = {exercise.id: exercise for exercise in exercises}
    assert list(by_id["cpp/all-your-base"].stubs) == ["all_your_base.cpp", "all_your_base.h"]
    assert list(by_id["rust/bowling"].stubs) == ["lib.rs"]
    assert all(exercise.instructions and exercise.example() for exercise in exercises)


def test_every_example_is_a_reply_in_both_formats(shared_dir: Path) -> None:
    by_blocks = real_task(shared_dir)
    by_files = real_task(shared_dir, edit_format="whole")
    for problem in by_blocks.problems("test"):
        exercise = by_blocks.exercise(problem)
        example = {name: as_lines(text) for name, text in exercise.example().items()}
        edits = parse_search_replace(by_blocks.example_reply(problem), list(exercise.stubs))
        assert apply_edits(exercise.stubs, edits).items() >= example.items(), problem.id
        assert parse_whole_files(by_files.example_reply(problem), list(exercise.stubs)) == example


@pytest.mark.parametrize("name", ["python/bowling", "python/paasio"])
@pytest.mark.parametrize("edit_format", ["diff", "whole"])
def test_an_example_passes_and_the_stub_fails(
    shared_dir: Path, name: str, edit_format: str
) -> None:
    task = real_task(shared_dir, languages="python", edit_format=edit_format)
    problem = next(problem for problem in task.problems("test") if problem.id == name)
    assert task.grade(problem, Completion(task.example_reply(problem))).reward == 1.0
    message = task.next_message(problem, Completion("I leave it as it is."))
    assert message is not None
    assert "FAILED (" in message


def test_leaving_before_the_tests_ran_is_no_pass(shared_dir: Path) -> None:
    task = real_task(shared_dir, languages="python")
    problem = next(problem for problem in task.problems("test") if problem.id == "python/bowling")
    reply = (
        "bowling.py\n```\n<<<<<<< SEARCH\n=======\nimport os\nos._exit(0)\n>>>>>>> REPLACE\n```\n"
    )
    assert task.grade(problem, Completion(reply)).reward == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("language", ["python", "cpp", "rust"])
def test_all_examples_pass(shared_dir: Path, language: str) -> None:
    task = real_task(shared_dir, languages=language)
    problems = task.problems("test")
    failed = [
        problem.id
        for problem in problems
        if not task.exercise(problem).example_needs_libraries
        and task.grade(problem, Completion(task.example_reply(problem))).reward != 1.0
    ]
    assert failed == []

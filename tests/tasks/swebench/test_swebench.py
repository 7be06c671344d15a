from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from r1.records import Completion, Problem, Turn
from r1.tasks.swebench.container import (
    ContainerFailure,
    ContainerTests,
    Instance,
    evaluation_script,
    find_engine,
    targets_of_tests,
    verdict_of,
)
from r1.tasks.swebench.patch import patch_of_reply
from r1.tasks.swebench.swebench import SweBenchTask, build_swebench
from r1.tasks.task import TaskConfig, TaskError, build_task
from tests.tasks.rows import write_rows

LOCALISATION = "swebench_localisation"
GOLD = """diff --git a/src/calc.py b/src/calc.py
--- a/src/calc.py
+++ b/src/calc.py
@@ -1,3 +1,3 @@ import math
 def add(a, b):
     # the sum
-    return a - b
+    return a + b
"""
TEST_PATCH = """diff --git a/tests/test_calc.py b/tests/test_calc.py
--- a/tests/test_calc.py
+++ b/tests/test_calc.py
@@ -1 +1,2 @@
 import calc
+assert calc.add(1, 2) == 3
diff --git a/tests/data.txt b/tests/data.txt
new file mode 100644
--- /dev/null
+++ b/tests/data.txt
@@ -0,0 +1 @@
+1
"""
RECORD = {
    "instance_id": "me__calc-1",
    "repo": "me/calc",
    "base_commit": "HEAD",
    "problem_statement": "add subtracts",
    "patch": GOLD,
}
TESTED = {
    **RECORD,
    "test_patch": TEST_PATCH,
    "version": "1.0",
    "FAIL_TO_PASS": json.dumps(["tests/test_calc.py::test_add"]),
    "PASS_TO_PASS": json.dumps(["tests/test_calc.py::test_sub"]),
}
SOURCE = "def add(a, b):\n    # the sum\n    return a - b\n"
REPAIR = (
    "```python\n### src/calc.py\n<<<<<<< SEARCH\n    return a - b\n=======\n"
    "    return a + b\n>>>>>>> REPLACE\n```\n"
)


def write_records(tmp_path: Path, *records: dict[str, Any]) -> str:
    return str(write_rows(tmp_path / "swe.jsonl", *records))


def localisation_task(tmp_path: Path, **options: Any) -> SweBenchTask:
    path = write_records(tmp_path, RECORD)
    task = build_task(TaskConfig(name=LOCALISATION, path=path, options=options))
    assert isinstance(task, SweBenchTask)
    return task


@pytest.fixture
def checkouts(tmp_path: Path) -> Path:
    root = tmp_path / "repos" / "me__calc"
    (root / "src").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "src" / "calc.py").write_text(SOURCE)
    (root / "src" / "other.py").write_text("x = 1\n")
    (root / "tests" / "test_calc.py").write_text("import calc\n")
    return root.parent


# ---------------------------------------------------------------- localisation


@pytest.mark.parametrize(
    ("reply", "reward", "valid", "recall"),
    [
        (f"<think>hm</think>In `src/calc.py`:\n```diff\n{GOLD}```\nDone.", 1.0, 1.0, 1.0),
        (GOLD, 1.0, 1.0, 1.0),
        (f"```diff\n{GOLD.replace('calc.py', 'wrong.py')}```", 0.0, 1.0, 0.0),
        (f"```diff\n{GOLD.replace('-1,3', '-1,9')}```", 0.0, 0.0, 0.0),
        ("Change the minus in src/calc.py.", 0.0, 0.0, 0.0),
        (f"<think>{GOLD}", 0.0, 0.0, 0.0),
        (REPAIR, 0.0, 0.0, 0.0),
    ],
)
def test_a_patch_from_memory_is_measured_by_its_places(
    tmp_path: Path, reply: str, reward: float, valid: float, recall: float
) -> None:
    task = localisation_task(tmp_path)
    (problem,) = task.problems("test")
    assert "issue within our repository me/calc" in problem.question
    assert task.next_message(problem, Completion(reply)) is None
    grade = task.grade(problem, Completion(reply))
    assert grade.reward == reward
    if "valid_patch" in grade.parts:  # an unclosed thought is measured no further
        found = (grade.parts["valid_patch"], grade.parts["file_recall"], grade.parts["hunk_recall"])
        assert found == (valid, recall, recall)
    assert (grade.answer is None) == (valid == 0.0)


def test_the_number_is_never_called_resolved(tmp_path: Path) -> None:
    task = localisation_task(tmp_path)
    assert task.label.startswith("localisation: the tests were not run, nothing is resolved")
    assert task.grader_version == "swebench-localisation-1"
    (problem,) = task.problems("test")
    assert task.grade(problem, Completion(GOLD)).reason.startswith("localisation: ")


def test_files_are_asked_for_and_then_the_repair(tmp_path: Path, checkouts: Path) -> None:
    task = localisation_task(tmp_path, repos=str(checkouts))
    (problem,) = task.problems("test")
    assert (
        "### Repository Structure ###\nsrc/\n    calc.py\n    other.py\n\n###" in problem.question
    )
    first = "<think>src/other.py?</think>```\nsrc/calc.py\nsrc/missing.py\n```"
    message = task.next_message(problem, Completion(first))
    assert message is not None
    assert f"--- BEGIN FILE ---\n```\n### src/calc.py\n{SOURCE}\n```" in message
    assert "other.py" not in message
    completion = Completion(REPAIR, earlier=(Turn(first, message),))
    assert task.next_message(problem, completion) is None
    grade = task.grade(problem, completion)
    assert grade.reward == 1.0
    assert grade.parts["applies"] == 1.0
    assert grade.answer is not None
    assert "-    return a - b\n+    return a + b\n" in grade.answer
    wrong = Completion(REPAIR.replace("a - b", "a * b"), earlier=completion.earlier)
    assert task.grade(problem, wrong).reason == (
        "the edits do not fit: The SEARCH section must exactly match an existing block of lines "
        "including all white space, comments, indentation, docstrings, etc"
    )


def test_files_are_read_at_the_commit_whatever_is_checked_out(
    tmp_path: Path, checkouts: Path
) -> None:
    root = checkouts / "me__calc"
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    (root / "src" / "calc.py").write_text("changed\n")
    task = localisation_task(tmp_path, repos=str(checkouts))
    (problem,) = task.problems("test")
    message = task.next_message(problem, Completion("```\nsrc/calc.py\n```"))
    assert message is not None
    assert SOURCE in message


def test_a_repository_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    task = localisation_task(tmp_path, repos=str(tmp_path))
    with pytest.raises(TaskError, match="git clone https://github"):
        task.problems("test")


def test_the_published_fixes_locate_themselves(shared_dir: Path) -> None:
    path = shared_dir / "data" / "swebench_verified" / "swebench_verified_500.jsonl"
    assert (
        len(build_swebench(TaskConfig(name=LOCALISATION, path=str(path))).problems("test")) == 500
    )
    task = build_swebench(TaskConfig(name=LOCALISATION, path=str(path), num_test=100))
    problems = task.problems("test")
    assert len(problems) == 100
    for problem in problems:
        grade = task.grade(problem, Completion(f"```diff\n{problem.answer}```"))
        parts = {
            name: grade.parts[name] for name in ("valid_patch", "file_precision", "hunk_recall")
        }
        assert (grade.reward, set(parts.values())) == (1.0, {1.0})


def test_a_reply_with_both_forms_or_several_blocks() -> None:
    contents = {"src/calc.py": SOURCE}
    patch, fault = patch_of_reply(f"First:\n```diff\n-x\n```\n{REPAIR}", contents)
    assert (fault, patch.count("@@")) == ("", 2)
    other = GOLD.replace("a + b", "b + a")
    patch, _ = patch_of_reply(f"```diff\n{other}```\nBetter:\n```diff\n{GOLD}```\n", {})
    assert patch == GOLD


# ---------------------------------------------------------------- resolved

ADD, SUB = "tests/test_calc.py::test_add", "tests/test_calc.py::test_sub"
PASSING = f"PASSED {ADD}\nPASSED {SUB}"


def fake_engine(tmp_path: Path, body: str, timeout_seconds: float = 60) -> ContainerTests:
    """An engine that keeps what it was asked, and answers with the body's output."""
    script = tmp_path / "engine"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = run ] || exit 0\n'
        f'echo "$@" > {tmp_path}/arguments\ncat > {tmp_path}/stdin\n{body}\n'
    )
    script.chmod(0o755)
    return ContainerTests(find_engine(str(script)), timeout_seconds=timeout_seconds)


def printed(log: str) -> str:
    return (
        f"cat <<'END'\n+ git apply\n\n>>>>> Start Test Output\n{log}\n\n>>>>> End Test Output\nEND"
    )


def instance() -> Instance:
    return Instance(
        **RECORD,
        version="1.0",
        test_patch=TEST_PATCH,
        fail_to_pass=("tests/test_calc.py::test_add",),
        pass_to_pass=("tests/test_calc.py::test_sub",),
    )


@pytest.mark.parametrize(
    ("log", "is_resolved", "reason"),
    [
        (PASSING, True, "1 of 1 failing tests pass, 1 of 1 others still do"),
        (f"PASSED {ADD}\nSKIPPED {SUB}", True, "1 of 1"),
        (f"FAILED {ADD} - assert\nPASSED {SUB}", False, "0 of 1"),
        ("PASSED tests/test_calc.py::test_add", False, "1 of 1 failing tests pass, 0 of 1"),
        ("", False, "0 of 1"),
    ],
)
def test_resolved_is_both_lists(tmp_path: Path, log: str, is_resolved: bool, reason: str) -> None:
    verdict = fake_engine(tmp_path, printed(log)).judge(instance(), GOLD)
    assert verdict.is_resolved == is_resolved
    assert verdict.reason.startswith(reason)


def test_what_the_container_is_asked(tmp_path: Path) -> None:
    fake_engine(tmp_path, printed(PASSING)).judge(instance(), GOLD)
    arguments = (tmp_path / "arguments").read_text()
    assert "swebench/sweb.eval.x86_64.me_1776_calc-1:latest /bin/bash -c" in arguments
    script = (tmp_path / "stdin").read_text()
    assert GOLD in script
    assert "git checkout HEAD tests/test_calc.py\nrm -f tests/data.txt\n" in script
    assert "\npytest -rA tests/test_calc.py\n" in script
    assert subprocess.run(["bash", "-n"], input=script.encode(), check=False).returncode == 0


def test_a_patch_that_does_not_apply_does_not_resolve(tmp_path: Path) -> None:
    verdict = fake_engine(tmp_path, "echo '>>>>> Patch Apply Failed'").judge(instance(), GOLD)
    assert (verdict.is_resolved, verdict.reason) == (False, "the patch does not apply")


def test_tests_that_never_end_do_not_resolve(tmp_path: Path) -> None:
    verdict = fake_engine(tmp_path, "sleep 600", timeout_seconds=1).judge(instance(), GOLD)
    assert (verdict.is_resolved, verdict.reason) == (False, "the tests took more than 1 s")


@pytest.mark.parametrize("body", ["echo 'no such image' >&2; exit 125", "echo killed", "exit 1"])
def test_an_engine_that_fails_is_no_score(tmp_path: Path, body: str) -> None:
    container = fake_engine(tmp_path, body)
    with pytest.raises(ContainerFailure):
        container.judge(instance(), GOLD)
    task = SweBenchTask("swebench_verified", {"me__calc-1": instance()}, None, container)
    grade = task.grade(task.problems("test")[0], Completion(GOLD))
    assert grade.reward is None
    assert grade.reason.startswith("the container failed: ")


def test_resolved_end_to_end_by_a_fake_engine(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, printed(PASSING)).engine[0]
    options = {"container": engine, "container_network": False}
    path = write_records(tmp_path, TESTED)
    task = build_swebench(TaskConfig(name="swebench_verified", path=path, options=options))
    (problem,) = task.problems("test")
    grade = task.grade(problem, Completion(GOLD))
    assert (grade.reward, task.grader_version) == (1.0, "swebench-resolved-1")
    assert "--network none" in (tmp_path / "arguments").read_text()
    assert task.grade(Problem("x", "", None), Completion(GOLD)).reward is None


def test_resolved_is_refused_where_it_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TaskConfig(name="swebench_verified", path=write_records(tmp_path, RECORD))
    with pytest.raises(TaskError, match="have no FAIL_TO_PASS tests, first me__calc-1"):
        build_swebench(config)
    config = TaskConfig(name="swebench_verified", path=write_records(tmp_path, TESTED))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        TaskError, match="docker is not installed; podman is not installed"
    ) as error:
        build_swebench(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("repo", "log", "passed"),
    [
        ("django/django", "test_a (x.T) ... ok", "test_a (x.T)"),
        ("django/django", "test_a (x.T) ... Testing against Django\nok", "test_a (x.T)"),
        ("sympy/sympy", "test_solve ok", "test_solve"),
        ("astropy/astropy", "\x1b[32mPASSED\x1b[0m a.py::test_x", "a.py::test_x"),
        ("psf/requests", "PASSED t.py::test[/tmp/a/b]", "t.py::test[/b]"),
        ("matplotlib/matplotlib", "PASSED t.py::t[MouseButton.LEFT]", "t.py::t[1]"),
        ("mwaskom/seaborn", "t.py::test_x PASSED [ 1%]", "t.py::test_x"),
        ("pytest-dev/pytest", "XFAIL t.py::test_x", "t.py::test_x"),
    ],
)
def test_each_repository_prints_its_own_way(repo: str, log: str, passed: str) -> None:
    case = Instance("i", repo, "c", "", "", fail_to_pass=(passed,))
    assert verdict_of(case, log).is_resolved
    failed = log.replace("ok", "FAIL").replace("PASSED", "FAILED").replace("XFAIL", "FAILED")
    assert not verdict_of(case, failed).is_resolved


def test_commands_of_repositories_that_differ() -> None:
    patch = TEST_PATCH.replace("tests/test_calc.py", "tests/forms/tests.py")
    django = Instance("i", "django/django", "c", "", "", "2.2", patch)
    assert targets_of_tests(django) == ["forms.tests"]
    script = evaluation_script(django, GOLD)
    assert "\npython setup.py install\n" in script
    assert (
        "\n./tests/runtests.py --verbosity 2 --settings=test_sqlite --parallel 1 forms.tests\n"
        in (script)
    )

"""Whether a patch resolves a SWE-bench instance: its tests, in the instance's own image.

The procedure is the official harness's (github.com/SWE-bench/SWE-bench, MIT:
swebench/harness/run_evaluation.py, test_spec/python.py, constants/python.py, grading.py), in
one run of the container engine: apply the patch, put the published tests in place, run the
repository's test command on the test files, and read each test's status from its output.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import uuid
from dataclasses import dataclass

from r1.tasks.swebench.logs import passed_tests
from r1.tasks.task import TaskError
from r1.text.unified_diff import parse_diff

TIMEOUT_SECONDS = 1800.0

_ENGINES = ("docker", "podman")
_IMAGE = "swebench/sweb.eval.x86_64.{name}:latest"
_APPLY_FAILED, _STARTED, _ENDED = (
    ">>>>> Patch Apply Failed",
    ">>>>> Start Test Output",
    ">>>>> End Test Output",
)
# What the engines say when they, not the program in the container, failed.
_ENGINE_FAILED = range(125, 128)
_PROBE_TIMEOUT_SECONDS = 30.0
_NOT_TESTS = (".json", ".png", "csv", ".txt", ".md", ".jpg", ".jpeg", ".pkl", ".yml", ".yaml")

_PYTEST = "pytest -rA"
_DJANGO = "./tests/runtests.py --verbosity 2"
_TEST_COMMANDS = {
    "django/django": f"{_DJANGO} --settings=test_sqlite --parallel 1",
    "sympy/sympy": (
        "PYTHONWARNINGS='ignore::UserWarning,ignore::SyntaxWarning' bin/test -C --verbose"
    ),
    "sphinx-doc/sphinx": "tox --current-env -epy39 -v --",
    "astropy/astropy": "pytest -rA -vv -o console_output_style=classic --tb=no",
    "mwaskom/seaborn": "pytest --no-header -rA",
}
_INSTALL_COMMANDS = {
    "psf/requests": "python -m pip install .",
    "scikit-learn/scikit-learn": (
        "python -m pip install -v --no-use-pep517 --no-build-isolation -e ."
    ),
    "sphinx-doc/sphinx": "python -m pip install -e .[test]",
    "astropy/astropy": "python -m pip install -e .[test] --verbose",
    "mwaskom/seaborn": "python -m pip install -e .[dev]",
}
_LOCALE = "export LANG=en_US.UTF-8 LC_ALL=en_US.UTF-8 PYTHONIOENCODING=utf8 LANGUAGE=en_US:en"


class ContainerFailure(Exception):
    """The engine or the container failed: no verdict on the patch."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One record of SWE-bench; the last four fields are empty where the data has no tests."""

    instance_id: str
    repo: str
    base_commit: str
    problem_statement: str
    patch: str
    version: str = ""
    test_patch: str = ""
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()

    @property
    def image(self) -> str:
        """The name of the published image; `__` cannot stand in one."""
        return _IMAGE.format(name=self.instance_id.lower().replace("__", "_1776_"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether all tests that must pass do, and in words what came of them."""

    is_resolved: bool
    reason: str


def find_engine(command: str | None) -> tuple[str, ...]:
    """The container engine's command: the one given, or docker or podman if it answers.

    Raises:
        TaskError: when there is none that works, with what each said.
    """
    faults = []
    for name in [command] if command else _ENGINES:
        words = tuple(name.split())
        if shutil.which(words[0]) is None:
            faults.append(f"{name} is not installed")
            continue
        probe = [*words, "info"]
        try:
            done = subprocess.run(
                probe, capture_output=True, timeout=_PROBE_TIMEOUT_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            faults.append(f"{name}: {type(error).__name__}")
            continue
        if done.returncode == 0:
            return words
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        faults.append(f"{name}: {lines[-1] if lines else 'does not answer'}")
    raise TaskError(
        f"swebench_verified needs a container engine ({'; '.join(faults)}): start one, set "
        "task.options.container to its command, or ask swebench_localisation, which needs none"
    )


@dataclass(frozen=True, slots=True)
class ContainerTests:
    """Judges patches in containers of `engine`.

    The official harness gives the containers a network, which tests of `requests` need.
    """

    engine: tuple[str, ...]
    has_network: bool = True
    timeout_seconds: float = TIMEOUT_SECONDS

    def judge(self, instance: Instance, patch: str) -> Verdict:
        """Run the instance's tests on the patch.

        A patch that does not apply, or whose tests take too long, does not resolve. Raises
        ContainerFailure when the engine fails, or the container ends before the tests.
        """
        output = self._run(instance, evaluation_script(instance, patch))
        if output is None:
            return Verdict(False, f"the tests took more than {self.timeout_seconds:.0f} s")
        if _APPLY_FAILED in output:
            return Verdict(False, "the patch does not apply")
        _, started, rest = output.partition(f"\n{_STARTED}\n")
        log, ended, _ = rest.partition(f"\n{_ENDED}\n")
        if not started or not ended:
            last = (output.strip().splitlines() or ["no output"])[-1]
            raise ContainerFailure(f"it ended before its tests did: {last[:200]}")
        return verdict_of(instance, log)

    def _run(self, instance: Instance, script: str) -> str | None:
        """All that the script printed; None when it had to be stopped."""
        name = f"r1-swebench-{uuid.uuid4().hex[:12]}"
        options = ["--rm", "-i", "--name", name]
        options += [] if self.has_network else ["--network", "none"]
        # Its standard input is the script's alone: a test that reads would read the rest of it.
        shell = ["/bin/bash", "-c", "cat > /eval.sh && exec /bin/bash /eval.sh < /dev/null 2>&1"]
        command = [*self.engine, "run", *options, instance.image, *shell]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ContainerFailure(f"{self.engine[0]}: {error.strerror or error}") from None
        with process:
            try:
                output, errors = process.communicate(script.encode(), self.timeout_seconds)
            except subprocess.TimeoutExpired:
                self._stop(name)
                os.killpg(process.pid, signal.SIGKILL)
                return None
        if process.returncode in _ENGINE_FAILED:
            lines = errors.decode("utf-8", "replace").strip().splitlines() or [""]
            raise ContainerFailure(f"{instance.image}: {lines[-1]}")
        return output.decode("utf-8", "replace")

    def _stop(self, name: str) -> None:
        """End a container; where the engine does not answer either, only its client is ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [*self.engine, "kill", name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_TIMEOUT_SECONDS,
                check=False,
            )


def verdict_of(instance: Instance, log: str) -> Verdict:
    """Resolved is: every FAIL_TO_PASS test passes, and every PASS_TO_PASS one still does."""
    passed, skipped = passed_tests(instance.repo, log)
    fixed = sum(test in passed for test in instance.fail_to_pass)
    kept = sum(test in passed or test in skipped for test in instance.pass_to_pass)
    num_fix, num_keep = len(instance.fail_to_pass), len(instance.pass_to_pass)
    reason = f"{fixed} of {num_fix} failing tests pass, {kept} of {num_keep} others still do"
    return Verdict(fixed == num_fix and kept == num_keep, reason)


def evaluation_script(instance: Instance, patch: str) -> str:
    """What runs in the container, from the patch to the tests' output between two marks."""
    reset = _reset_tests(instance)
    apply_patch = " || ".join(
        f"{command} /tmp/patch.diff"
        for command in (
            "git apply --verbose",
            "git apply --verbose --reject",
            "patch --batch --fuzz=5 -p1 -i",
        )
    )
    lines = [
        "cd /testbed",
        "git config --global --add safe.directory /testbed",
        _write_file("/tmp/patch.diff", patch),
        _write_file("/tmp/test.diff", instance.test_patch),
        f"{apply_patch} || {{ echo '{_APPLY_FAILED}'; exit 0; }}",
        "source /opt/miniconda3/bin/activate",
        "conda activate testbed",
        *([_LOCALE] if instance.repo == "django/django" else []),
        _install_command(instance),
        *reset,
        "git apply -v /tmp/test.diff",
        f"echo; echo '{_STARTED}'",
        f"{_test_command(instance)} {' '.join(targets_of_tests(instance))}",
        f"echo; echo '{_ENDED}'",
    ]
    return "\n".join(lines) + "\n"


def _write_file(path: str, content: str) -> str:
    end = f"R1_END_OF_{uuid.uuid4().hex}"
    whole = content if content.endswith("\n") else f"{content}\n"
    return f"cat > {path} <<'{end}'\n{whole}{end}"


def _reset_tests(instance: Instance) -> list[str]:
    """The test files as they were, so that the published tests apply whatever the patch did."""
    files = parse_diff(instance.test_patch)
    old = [file.old_path for file in files if file.old_path]
    new = [file.new_path for file in files if file.old_path is None and file.new_path]
    checkout = [f"git checkout {instance.base_commit} {' '.join(old)}"] if old else []
    return [*checkout, *([f"rm -f {' '.join(new)}"] if new else [])]


def targets_of_tests(instance: Instance) -> list[str]:
    """The test files of the published tests, as the repository's test command takes them."""
    paths = re.findall(r"^diff --git a/.* b/(.*)$", instance.test_patch, re.MULTILINE)
    paths = [path for path in paths if not path.endswith(_NOT_TESTS)]
    if instance.repo != "django/django":
        return paths
    return [
        path.removesuffix(".py").removeprefix("tests/").replace("/", ".")
        for path in paths
        if re.search(r"(^|/)(tests\.py$|test_)|/tests/", path)
    ]


def _test_command(instance: Instance) -> str:
    if (instance.repo, instance.version) == ("django/django", "1.9"):
        return _DJANGO
    return _TEST_COMMANDS.get(instance.repo, _PYTEST)


def _install_command(instance: Instance) -> str:
    is_old_django = instance.repo == "django/django" and _major(instance.version) < 3
    if is_old_django:
        return "python setup.py install"
    return _INSTALL_COMMANDS.get(instance.repo, "python -m pip install -e .")


def _major(version: str) -> int:
    first = version.split(".")[0]
    return int(first) if first.isdigit() else 99

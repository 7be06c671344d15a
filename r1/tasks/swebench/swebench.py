"""SWE-bench Verified: fix an issue of a Python repository by a patch.

`swebench_verified` counts what the benchmark counts: resolved, by the instance's own tests in
its container image. `swebench_localisation` needs no container: it measures whether the patch
is valid and where it edits. The two are never one number.

The way to a patch is Agentless's (github.com/OpenAutoCoder/Agentless, MIT; arXiv 2407.01489),
cut to two questions: which files, then the repair, with those files' contents. Its third step,
the choice among several patches, is `r1 predictions`. Without the repository's files there is
one question, and the reply is a diff from memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from r1.records import Completion, Grade, Problem
from r1.tasks.benchmark_rows import (
    HUB_OPTIONS,
    BenchmarkFiles,
    draw_test,
    read_benchmark,
    refuse_unknown_options,
)
from r1.tasks.grading import Score, grade_reply
from r1.tasks.row_files import Row
from r1.tasks.swebench.container import ContainerFailure, ContainerTests, Instance, find_engine
from r1.tasks.swebench.patch import applies, localisation, patch_of_reply
from r1.tasks.swebench.repository import Checkouts, tree
from r1.tasks.task import Split, TaskConfig, TaskError
from r1.text.reasoning import Reasoning, split_reasoning
from r1.text.unified_diff import FileDiff, parse_diff

_FILES = BenchmarkFiles(
    "swebench_verified",
    ("swebench_verified.jsonl", "swebench_verified_500.jsonl", "test-00000-of-00001.parquet"),
    hub_id="princeton-nlp/SWE-bench_Verified",
)
_OPTIONS = ("repos", "container", "container_network", "num_files", *HUB_OPTIONS)
_NUM_FILES = 3
_MAX_CONTENT_CHARS = 200_000
_PROMPTS = Path(__file__).resolve().parents[2] / "assets" / "prompts"


@dataclass(frozen=True)
class SweBenchTask:
    """Issues and their repositories; with `container` the grade is resolved or not."""

    name: str
    instances: Mapping[str, Instance]
    checkouts: Checkouts | None = None
    container: ContainerTests | None = None
    num_files: int = _NUM_FILES
    instruction: str = ""

    @property
    def grader_version(self) -> str:
        return "swebench-resolved-1" if self.container else "swebench-localisation-1"

    @property
    def label(self) -> str:
        """What the number is, where it is not the benchmark's own."""
        label = (
            "" if self.container else "localisation: the tests were not run, nothing is resolved"
        )
        source = "" if self.checkouts else "single turn, the repository's files are not shown"
        return "; ".join(part for part in (label, source) if part)

    @cached_property
    def _problems(self) -> Sequence[Problem]:
        return [self._problem(instance) for instance in self.instances.values()]

    def problems(self, split: Split) -> Sequence[Problem]:
        """The issues as test problems; there are none to train on. Raises TaskError."""
        return [] if split == "train" else self._problems

    def _problem(self, instance: Instance) -> Problem:
        metadata = {"repo": instance.repo, "base_commit": instance.base_commit}
        metadata["patch"] = instance.patch
        question = self._question(instance)
        return Problem(
            instance.instance_id, question, instance.patch, task=self.name, metadata=metadata
        )

    def _question(self, instance: Instance) -> str:
        if self.checkouts is None:
            return _prompt("from_memory").format(
                repo=instance.repo,
                problem_statement=instance.problem_statement,
                base_commit=instance.base_commit,
            )
        paths = self.checkouts.paths(instance.repo, instance.base_commit)
        return _prompt("files").format(
            problem_statement=instance.problem_statement, structure=tree(paths)
        )

    def gold_error(self, problem: Problem) -> str:
        return "" if problem.id in self.instances else f"no instance {problem.id} here"

    def next_message(self, problem: Problem, completion: Completion) -> str | None:
        """After the files are named, the repair with their contents."""
        if self.checkouts is None or completion.earlier:
            return None
        instance = self.instances[problem.id]
        contents = self._contents(instance, completion.text)
        if not contents:
            return None
        listed = "\n\n\n".join(f"### {path}\n{text}" for path, text in contents.items())
        return _prompt("repair").format(
            problem_statement=instance.problem_statement, content=listed
        )

    def _contents(self, instance: Instance, reply: str) -> dict[str, str]:
        """The files that a reply names, as long as they fit."""
        assert self.checkouts is not None
        known = set(self.checkouts.paths(instance.repo, instance.base_commit))
        answer = split_reasoning(reply).answer
        named = [path for path in re.findall(r"[\w./-]+\.py\b", answer) if path in known]
        contents: dict[str, str] = {}
        for path in list(dict.fromkeys(named))[: self.num_files]:
            text = self.checkouts.text(instance.repo, instance.base_commit, path)
            if sum(map(len, contents.values())) + len(text) <= _MAX_CONTENT_CHARS:
                contents[path] = text
        return contents

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        """Resolved or not, or without a container whether every file of the fix is edited.

        `answer` is the patch. Reward None when the container fails, or the instance lacks
        what its tests need.
        """
        instance = self.instances.get(problem.id)
        if instance is None:
            return Grade(None, reason=f"no instance {problem.id} here")
        parts: dict[str, float] = {}

        def score(reasoning: Reasoning) -> Score:
            contents = {}
            if self.checkouts is not None and completion.earlier:
                contents = self._contents(instance, completion.earlier[0].reply)
            patch, fault = patch_of_reply(reasoning.answer, contents)
            files = parse_diff(patch) if patch else []
            parts.update(self._parts(instance, files, contents))
            if not files:
                return 0.0, None, fault or "the edits change nothing"
            return self._score(instance, patch, parts)

        grade = grade_reply(problem, completion, score)
        return replace(grade, parts={**grade.parts, **parts})

    def _parts(
        self, instance: Instance, files: Sequence[FileDiff], contents: Mapping[str, str]
    ) -> dict[str, float]:
        parts = {"valid_patch": float(bool(files))}
        if contents:
            parts["applies"] = float(bool(files) and applies(files, contents))
        return {**parts, **localisation(parse_diff(instance.patch), files)}

    def _score(self, instance: Instance, patch: str, parts: Mapping[str, float]) -> Score:
        if self.container is None:
            is_located = parts["files_located"]
            edited = "every file" if is_located else "not every file"
            return is_located, patch, f"localisation: the patch edits {edited} of the fix"
        try:
            verdict = self.container.judge(instance, patch)
        except ContainerFailure as failure:
            return None, patch, f"the container failed: {failure}"
        return float(verdict.is_resolved), patch, verdict.reason


@cache
def _prompt(name: str) -> str:
    return (_PROMPTS / f"swebench_{name}.txt").read_text(encoding="utf-8")


def build_swebench(config: TaskConfig) -> SweBenchTask:
    """The task `swebench_verified` (resolved) or `swebench_localisation`.

    Options: `repos`, a folder of checkouts `<owner>__<name>`, `num_files` to show of them,
    `container`, the engine's command, and `container_network`.

    Raises:
        TaskError: for missing data, an unknown option, and, where resolved is asked for, data
            without tests or a machine without a container engine.
    """
    refuse_unknown_options(config, _OPTIONS)
    instances = draw_test([_instance(row) for row in read_benchmark(config, _FILES)], config)
    folder = config.options.get("repos")
    checkouts = None if folder is None else Checkouts(Path(str(folder)).expanduser())
    container = None
    if config.name == "swebench_verified":
        untested = [instance.instance_id for instance in instances if not instance.fail_to_pass]
        if untested:
            raise TaskError(
                f"swebench_verified: {len(untested)} records have no FAIL_TO_PASS tests, first "
                f"{untested[0]}: take the data from {_FILES.hub_id}, or ask "
                "swebench_localisation, which needs none"
            )
        engine = find_engine(config.options.get("container"))
        container = ContainerTests(engine, bool(config.options.get("container_network", True)))
    by_id = {instance.instance_id: instance for instance in instances}
    num_files = int(config.options.get("num_files", _NUM_FILES))
    return SweBenchTask(config.name, by_id, checkouts, container, num_files)


def _instance(row: Row) -> Instance:
    data = row.data
    wanted = ("instance_id", "repo", "base_commit", "problem_statement", "patch")
    missing = [name for name in wanted if not isinstance(data.get(name), str)]
    if missing:
        raise TaskError(f"{row.location}: no text in the field {missing[0]!r}")
    try:
        parse_diff(data["patch"])
        tests = {name: _test_names(data.get(name)) for name in ("FAIL_TO_PASS", "PASS_TO_PASS")}
    except ValueError as error:
        raise TaskError(f"{row.location}: {error}") from None
    return Instance(
        **{name: data[name] for name in wanted},
        version=str(data.get("version") or ""),
        test_patch=str(data.get("test_patch") or ""),
        fail_to_pass=tests["FAIL_TO_PASS"],
        pass_to_pass=tests["PASS_TO_PASS"],
    )


def _test_names(value: Any) -> tuple[str, ...]:
    """A list of tests, which the official data holds as a string of JSON."""
    names = json.loads(value) if isinstance(value, str) and value else value or []
    return tuple(str(name) for name in names)

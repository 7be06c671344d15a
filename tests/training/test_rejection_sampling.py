from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from r1.engine.engine import Engine
from r1.records import GenerationRequest, Sample
from r1.run_log import JsonlLog
from r1.tasks.task import TaskConfig, TaskError
from r1.training.rejection_sampling import SampleConfig, run_sample
from r1.training.sample_filters import GradedReply

EASY = {"correct_only": False, "finished": False, "closed_thought": False}


def make_config(output: Path, policy: Path, task: TaskConfig, /, **settings: Any) -> SampleConfig:
    values: dict[str, Any] = {
        "output": output,
        "model": str(policy),
        "task": task,
        "samples_per_prompt": 3,
        "max_tokens": 5,
        "prompts_per_batch": 2,
        "filters": EASY,
        "decontaminate_task": False,
        "device": "cpu",
        "engine": {"num_blocks": 256},
    }
    return SampleConfig.model_validate(values | settings)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def closing(replies: Sequence[GradedReply]) -> list[str | None]:
    """A rewrite that makes any reply whole."""
    return [f"<think>\na {r.problem.id} {r.sample_index}\n</think>\n\nok" for r in replies]


def test_rows_are_data_for_sft(tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig) -> None:
    config = make_config(
        tmp_path, tiny_policy, letter_task.model_copy(update={"instruction": "Think."})
    )
    rows = rows_of(run_sample(config, rewrite=closing))
    assert len(rows) == 18
    assert {row["prompt"] for row in rows} == {f"Q{i}?\nThink." for i in range(6)}
    assert all(row["style"] == "chat" for row in rows)
    assert all(row["completion"].startswith("<think>\na train/") for row in rows)
    assert {"reward", "parts", "problem_id", "language", "num_tokens"} <= rows[0].keys()
    assert summary_of(tmp_path)["num_prompts"] == 6


def test_what_each_filter_removed_is_counted(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    filters = EASY | {"max_per_prompt": 2, "min_language": 0.3}
    run_sample(make_config(tmp_path, tiny_policy, letter_task, filters=filters))
    summary = summary_of(tmp_path)
    assert summary["removed"].keys() <= {"max_per_prompt", "min_language", "deduplicate"}
    assert summary["num_samples"] == 18 == summary["num_kept"] + sum(summary["removed"].values())
    records = JsonlLog(tmp_path / "records.jsonl").rows()
    languages = [s["parts"]["language"] for record in records for s in record["samples"]]
    assert summary["removed"]["min_language"] == sum(share < 0.3 for share in languages)


class Unplugged(Engine):
    """Our engine, which fails at its third batch and remembers what it was asked."""

    asked: list[str]

    def generate(self, requests: Sequence[GenerationRequest], on_sample: Any = None) -> Any:
        type(self).asked += [request.id for request in requests]
        if len(type(self).asked) > 4:
            raise RuntimeError("the power went out")
        samples: list[list[Sample]] = super().generate(requests, on_sample)
        return samples


def test_a_stopped_run_does_not_sample_again(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    whole = run_sample(make_config(tmp_path / "whole", tiny_policy, letter_task))
    stopped = make_config(tmp_path / "stopped", tiny_policy, letter_task)
    first = type("First", (Unplugged,), {"asked": []})
    with pytest.raises(RuntimeError, match="power"):
        run_sample(stopped, make_generator=first)
    second = type("Second", (Unplugged,), {"asked": []})
    assert run_sample(stopped, make_generator=second).read_bytes() == whole.read_bytes()
    assert second.asked == ["train/4", "train/5"]
    third = type("Third", (Unplugged,), {"asked": ["x"] * 5})
    assert run_sample(stopped, make_generator=third).read_bytes() == whole.read_bytes()


def test_general_data_is_mixed_in_by_ratio(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    general = tmp_path / "general.jsonl"
    lines = [json.dumps({"prompt": f"hi {i}", "completion": "hello"}) for i in range(20)]
    general.write_text("\n".join(lines) + "\n")
    config = make_config(
        tmp_path / "run", tiny_policy, letter_task, general_data=[str(general)], general_ratio=0.5
    )
    rows = rows_of(run_sample(config))
    summary = summary_of(tmp_path / "run")
    assert summary["num_general"] == sum(row["completion"] == "hello" for row in rows)
    assert summary["num_general"] == round(0.5 * summary["num_kept"])
    assert [row["completion"] == "hello" for row in rows] != sorted(
        row["completion"] == "hello" for row in rows
    )


def test_test_questions_are_removed(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    tests = tmp_path / "tests.jsonl"
    tests.write_text(json.dumps({"question": "q2?", "level": 3}) + "\n")
    config = make_config(
        tmp_path / "run", tiny_policy, letter_task, test_data=[str(tests)], decontaminate_task=True
    )
    rows = rows_of(run_sample(config))
    assert {row["problem_id"] for row in rows} == {f"train/{i}" for i in (0, 1, 3, 4, 5)}
    assert summary_of(tmp_path / "run")["removed"]["contaminated"] == 3


def test_rewrites_are_graded_again(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    def half_shouting(replies: Sequence[GradedReply]) -> list[str | None]:
        texts = ["<think>\nab\n</think>\n\nc", "<think>\nAB\n</think>\n\nCC", None]
        return [texts[reply.sample_index] for reply in replies]

    # `c` of `ab</think>c`, with its tag's letters, is 8 of 13 characters; of AB, 5 of 14.
    filters = EASY | {"min_language": 0.0}
    config = make_config(tmp_path, tiny_policy, letter_task, filters=filters)
    rows = rows_of(run_sample(config, rewrite=half_shouting))
    assert {round(row["parts"]["language"], 2) for row in rows} == {
        round(share, 2) for share in (8 / 14, 5 / 15)
    }
    removed = summary_of(tmp_path)["removed"]
    assert removed["rewrite_failed"] == 6


def test_rewrites_that_lose_quality_are_dropped(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    def blank(replies: Sequence[GradedReply]) -> list[str | None]:
        return ["<think>\nA"] * len(replies)

    filters = EASY | {"closed_thought": False, "max_thought_paragraphs": 1}
    config = make_config(
        tmp_path, tiny_policy, letter_task, filters=filters | {"max_repetition": 1.0}
    )
    rows = rows_of(run_sample(config, rewrite=blank))
    # The six problems keep one copy each; the other two of each are the same text.
    assert len(rows) == 6
    assert summary_of(tmp_path)["removed"]["after_rewrite_deduplicate"] >= 6


def test_nothing_kept_is_an_error(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    config = make_config(tmp_path, tiny_policy, letter_task, filters={})
    with pytest.raises(ValueError, match="no reply of 18 was kept"):
        run_sample(config)


def test_max_prompts_draws_by_the_seed(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    chosen = []
    for seed in (0, 0, 1, 2, 3):
        folder = tmp_path / f"{len(chosen)}"
        run_sample(make_config(folder, tiny_policy, letter_task, max_prompts=3, seed=seed))
        chosen.append([r["problem_id"] for r in JsonlLog(folder / "records.jsonl").rows()])
    assert chosen[0] == chosen[1] and all(len(ids) == 3 for ids in chosen)
    assert len({tuple(ids) for ids in chosen}) > 1


def test_mistakes_are_found_before_the_model_is_opened(
    tmp_path: Path, letter_task: TaskConfig
) -> None:
    nowhere = Path("no/such/model")
    with pytest.raises(TaskError, match="did you mean 'letters'"):
        run_sample(make_config(tmp_path / "a", nowhere, TaskConfig(name="leters")))
    with pytest.raises(ValueError, match="no such file"):
        missing = {"general_data": ["missing.jsonl"]}
        run_sample(make_config(tmp_path / "b", nowhere, letter_task, **missing))
    with pytest.raises(ValueError, match="no such file"):
        run_sample(make_config(tmp_path / "c", nowhere, letter_task, test_data=["missing.txt"]))

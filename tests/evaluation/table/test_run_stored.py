from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1.config import save_config
from r1.evaluation.judges.judges import JudgeConfig, ServerJudge
from r1.evaluation.run_evaluate import RUN_RECORDS, EvaluateConfig
from r1.evaluation.table.row_plan import plan_rows
from r1.evaluation.table.run_benchmarks import Opened, measure_row
from r1.evaluation.table.run_stored import merge_folders, regrade_folder, score_responses
from r1.records import GenerationRequest
from r1.run_log import RunError
from r1.tasks.task import build_task
from tests.backends.conftest import Script, answers, script
from tests.evaluation.scripted import Scripted, sample_and_grade

__all__ = ["script"]  # the fixture


def always_seven(request: GenerationRequest, index: int) -> str:
    return "\\boxed{7}"


def measured(output: Path, *overrides: str, reply: Any = always_seven) -> Path:
    """A folder with one row, measured on a generator that always says 7."""
    small = ["task.num_test=4", "num_samples=2", *overrides]
    for plan in plan_rows(["miniature"], "tiny", output, small):
        measure_row(plan, Opened(Scripted(reply), None, "weights"))
    return output


def row_of(folder: Path) -> dict[str, Any]:
    (path,) = folder.rglob("result.json")
    return json.loads(path.read_text())


def records_of(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "miniature/records.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_disjoint_samples_are_merged(tmp_path: Path) -> None:
    a = measured(tmp_path / "a")
    b = measured(tmp_path / "b", "first_sample_index=2", "num_samples=3")
    whole = measured(tmp_path / "whole", "num_samples=5")
    merge_folders([a, b], tmp_path / "c")
    key = "evaluation"
    merged, expected = row_of(tmp_path / "c")[key], row_of(whole)[key]
    assert (merged["num_samples"], merged["num_missing"]) == (5, 0)
    for name in ("pass_at_1", "pass_at_4", "cons_at_5", "rerun_error", "error_by_question"):
        assert merged[name] == expected[name]


def test_a_gap_between_merged_samples_is_missing(tmp_path: Path) -> None:
    a = measured(tmp_path / "a")
    b = measured(tmp_path / "b", "first_sample_index=3")
    merge_folders([a, b], tmp_path / "c")
    row = row_of(tmp_path / "c")
    assert (row["num_present"], row["num_asked"]) == (16, 20)


def test_the_same_samples_merge_into_themselves(tmp_path: Path) -> None:
    a, b = measured(tmp_path / "a"), measured(tmp_path / "b")
    merge_folders([a, b], tmp_path / "c")
    assert records_of(tmp_path / "c") == records_of(a)


def test_conflicting_samples_are_refused_by_key(tmp_path: Path) -> None:
    a = measured(tmp_path / "a")
    b = measured(tmp_path / "b", reply=lambda request, index: "\\boxed{8}")
    with pytest.raises(RunError, match=r"sample 0 is in .*a.* and in .*b.* with another text"):
        merge_folders([a, b], tmp_path / "c")
    assert not (tmp_path / "c").exists()
    c = measured(tmp_path / "hot", "first_sample_index=2", "sampling.temperature=1.0")
    with pytest.raises(RunError, match="settings_hash differs"):
        merge_folders([a, c], tmp_path / "c")
    with pytest.raises(RunError, match="is not empty"):
        merge_folders([a, b], a)


def test_regrading_uses_the_stored_replies_and_nothing_else(tmp_path: Path) -> None:
    folder = measured(tmp_path / "a")
    path = folder / "miniature/records.jsonl"
    honest = records_of(folder)
    spoiled = [{**r, "reward": 0.0, "extracted": "?", "reason": "spoiled"} for r in honest]
    path.write_text("".join(json.dumps(row) + "\n" for row in spoiled))
    num_right = sum(record["reward"] == 1 for record in honest)
    assert regrade_folder(folder) == [f"miniature: 8 replies graded again, {num_right} changed"]
    assert [r["reward"] for r in records_of(folder)] == [r["reward"] for r in honest]
    assert [r["text"] for r in records_of(folder)] == [r["text"] for r in honest]
    path.write_text(json.dumps({**honest[0], "problem_id": "gone"}) + "\n")
    with pytest.raises(RunError, match="question 'gone' is not in the task's data"):
        regrade_folder(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="no evaluation there"):
        regrade_folder(tmp_path / "empty")


@pytest.mark.parametrize("is_plain", [False, True])
def test_real_replies_to_math_questions(shared_dir: Path, tmp_path: Path, is_plain: bool) -> None:
    """800 replies of a real model, with the scores that their publisher gave.

    By those scores pass@1 is .910, pass@2 .9329, pass@4 .951, pass@8 .960, and the
    majority of 8 .93 when a tie goes to the answer that came first (.925 by expectation).
    Our grader differs on one reply, 10000 for 10{,}000, and, where the gold is MATH's own
    and not the file's mangled `4:30p..`, on the eight to that question.
    """
    path = shared_dir / "data/math500/qwen_math_cot_100x8.jsonl"
    if is_plain:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [{"prompt": row["question"], "response": row["response"]} for row in rows]
        path = tmp_path / "plain.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    overrides = [f"task.path={shared_dir}/data"]
    score_responses("math500", path, tmp_path / "out", overrides)
    row = row_of(tmp_path / "out")
    ours, theirs = row["evaluation"], row["file_scores"]
    assert (ours["num_problems"], ours["num_samples"], ours["num_ungraded"]) == (100, 8, 0)
    # Eight replies more are right where MATH's own gold stands for the mangled one.
    assert ours["pass_at_1"] == pytest.approx(0.91125 + 0.01 * is_plain, abs=1e-9)
    if is_plain:
        assert theirs is None
        return
    assert theirs["pass_at_1"] == pytest.approx(0.910)
    assert theirs["pass_at_2"] == pytest.approx(0.9329, abs=5e-5)
    assert theirs["pass_at_4"] == pytest.approx(0.951)
    assert theirs["pass_at_8"] == pytest.approx(0.960)
    assert theirs["cons_at_8"] == pytest.approx(0.925)
    assert theirs["cons_at_8_ties_to_first"] == pytest.approx(0.93)
    assert theirs["error_by_question"] == pytest.approx(0.0250, abs=5e-5)


def test_a_judged_row_needs_its_judge_to_be_graded_again_but_not_to_be_merged(
    script: Script, tmp_path: Path
) -> None:
    data = tmp_path / "qa.csv"
    data.write_text("metadata,problem,answer\nx,Who?,Ann\nx,When?,1999\n")
    replies = tmp_path / "replies.jsonl"
    rows = [{"prompt": "Who?", "response": "Ann"}, {"prompt": "When?", "response": "1998"}]
    replies.write_text("".join(json.dumps(row) + "\n" for row in rows))
    script.default = answers("A")
    override = [f"task.path={data}"]
    judge = ServerJudge(JudgeConfig(server=script.config(model="j")))
    with pytest.raises(RunError, match="simpleqa: a judge grades its replies"):
        score_responses("simpleqa", replies, tmp_path / "a", override)
    assert not (tmp_path / "a").exists()
    score_responses("simpleqa", replies, tmp_path / "a", override, judge)
    before = (tmp_path / "a/simpleqa/records.jsonl").read_bytes()
    with pytest.raises(RunError, match="name it with --judge MODEL --judge-url URL"):
        regrade_folder(tmp_path / "a")
    assert (tmp_path / "a/simpleqa/records.jsonl").read_bytes() == before
    assert regrade_folder(tmp_path / "a", judge) == ["simpleqa: 2 replies graded again, 0 changed"]
    merge_folders([tmp_path / "a", tmp_path / "a"], tmp_path / "b")
    assert row_of(tmp_path / "b")["grader_version"] == "simpleqa-1 by j"
    assert row_of(tmp_path / "b")["lines"][0]["value"] == 100.0


def test_a_run_of_a_config_is_graded_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    task = {"name": "miniature", "num_test": 3}
    config = EvaluateConfig.model_validate(
        {"output": folder, "model": "tiny", "task": task, "num_samples": 2}
    )
    save_config(config, folder / "config.json")
    sample_and_grade(Scripted(always_seven), build_task(config.task), config, folder / RUN_RECORDS)
    with pytest.raises(RunError, match="no finished evaluation; the command that began it goes on"):
        regrade_folder(folder)
    (folder / "stage.json").write_text('{"kind": "evaluate", "seconds": 3}')
    assert regrade_folder(folder) == ["run: 6 replies graded again, 0 changed"]
    stage = json.loads((folder / "stage.json").read_text())
    assert (stage["seconds"], stage["evaluation"]["num_problems"]) == (3, 3)
    assert stage["evaluation"]["num_missing"] == 0


def test_only_what_was_asked_last_is_in_the_numbers_of_a_regraded_row(tmp_path: Path) -> None:
    measured(tmp_path / "a", "num_samples=3")
    folder = measured(tmp_path / "a", "num_samples=2")
    before = row_of(folder)
    regrade_folder(folder)
    assert (before["num_present"], before["num_asked"]) == (8, 8)
    assert row_of(folder)["evaluation"] == before["evaluation"]


def test_a_refused_run_leaves_the_config_of_the_records(tmp_path: Path) -> None:
    folder = measured(tmp_path / "a")
    before = (folder / "miniature/config.json").read_bytes()
    with pytest.raises(RunError, match="other weights, prompts or sampling"):
        measured(tmp_path / "a", "sampling.temperature=1.0")
    assert (folder / "miniature/config.json").read_bytes() == before

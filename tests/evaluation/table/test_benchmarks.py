from __future__ import annotations

from pathlib import Path

import pytest

from r1.config import ConfigError
from r1.evaluation.table.benchmarks import (
    BENCHMARKS,
    default_num_samples,
    find_benchmark,
    published_models,
    published_scores,
    published_table,
)
from r1.evaluation.table.row_plan import aligned, cost_table, plan_rows, row_config
from r1.tasks.task import TaskError


def test_the_table_holds_every_row_of_the_readme() -> None:
    ours = {
        (line.title, line.metric)
        for row in BENCHMARKS.values()
        if row.is_published
        for line in row.lines
    }
    readme = {(row["benchmark"], row["metric"]) for row in published_table()["main_table"]}
    assert len(readme) == 21
    assert readme <= ours
    assert ours - readme == {("AIME 2024", "Cons@64")}


def test_published_scores_stand_beside_their_line() -> None:
    aime = BENCHMARKS["aime2024"].lines[0]
    assert published_scores(aime)["DeepSeek R1"] == 79.8
    assert published_scores(aime)["DeepSeek-R1-Distill-Qwen-7B"] == 55.5
    cons = BENCHMARKS["aime2024"].lines[1]
    assert published_scores(cons)["DeepSeek-R1-Distill-Qwen-32B"] == 83.3
    rating = BENCHMARKS["codeforces"].lines[1]
    assert published_scores(rating)["DeepSeek R1"] == 2029.0
    assert not rating.is_percent
    assert published_scores(BENCHMARKS["gsm8k"].lines[0]) == {}
    assert len(published_models()) == 6


def test_samples_of_a_question_follow_the_rule() -> None:
    counts = {name: row.num_samples for name, row in BENCHMARKS.items()}
    assert [counts[name] for name in ("aime2024", "gpqa_diamond", "math500")] == [64, 64, 16]
    assert [default_num_samples(n) for n in (30, 91, 272, 500, 14042)] == [64, 32, 8, 4, 4]
    assert {counts[name] for name in ("arena_hard", "alpaca_eval", "aider_polyglot")} == {1}


def test_rows_by_other_names() -> None:
    assert find_benchmark("codeforces_rating") is find_benchmark("codeforces_percentile")
    assert find_benchmark("reasoning_gym/chain_sum").task_config().name == "reasoning_gym/chain_sum"
    with pytest.raises(TaskError, match="unknown row 'math50'; did you mean 'math500'"):
        find_benchmark("math50")


def test_a_row_is_the_protocol_until_it_is_overridden(tmp_path: Path) -> None:
    config = row_config(find_benchmark("aime2024"), "some/model", tmp_path, ["seed=3"])
    sampling = config.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (32768, 0.6, 0.95)
    assert (config.num_samples, config.prompt_style, config.seed) == (64, "chat", 3)
    assert (config.output, config.task.name) == (tmp_path / "aime2024", "aime2024")
    changed = row_config(find_benchmark("aime2024"), "m", tmp_path, ["num_samples=4"])
    assert changed.num_samples == 4
    with pytest.raises(ConfigError, match="did you mean num_samples"):
        row_config(find_benchmark("aime2024"), "m", tmp_path, ["num_sample=4"])


def test_what_a_plan_costs_is_said(tmp_path: Path) -> None:
    overrides = ["task.num_test=5", "num_samples=2", "sampling.max_tokens=10"]
    plans = plan_rows(["miniature"], "tiny", tmp_path, overrides)
    assert (plans[0].num_requests, plans[0].num_tokens_at_most) == (10, 100)
    assert cost_table(plans).splitlines()[1].split() == ["miniature", "5", "2", "10", "100", "0"]


def test_a_named_row_that_cannot_be_measured_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="row 'simpleqa' cannot be measured: it needs a judge"):
        plan_rows(["simpleqa"], "tiny", tmp_path, [])
    with pytest.raises(TaskError, match="row 'gsm8k' cannot be measured: nowhere: no such file"):
        plan_rows(["gsm8k"], "tiny", tmp_path, ["task.path=./nowhere"])


def test_columns_are_aligned() -> None:
    assert aligned([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc   d"

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from r1.cli.app import app
from r1.cli.evaluation_request import split_words
from r1.evaluation.record_file import content_of


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["evaluate", *arguments])


def records_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "records.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_rows_model_and_settings_are_told_apart() -> None:
    words = split_words(["tiny", "gsm8k", "seed=1", "reasoning_gym/chain_sum", "output=x"], None)
    assert (words.model, words.rows) == ("tiny", ["gsm8k", "reasoning_gym/chain_sum"])
    assert (words.overrides, words.output) == (["seed=1"], Path("x"))
    theirs = split_words(["server.num_concurrent=2", "judge.has_logprobs=false"], None)
    assert (theirs.server, theirs.judge) == (["num_concurrent=2"], ["has_logprobs=false"])
    assert theirs.overrides == []
    assert split_words(["model=tiny", "codeforces_rating"], Path("y")).model == "tiny"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "r1 evaluate needs a model"),
        (["gsm8k"], "r1 evaluate needs a model"),
        (["tiny", "gms8k"], "unknown row 'gms8k'; did you mean gsm8k?"),
        (["math50"], "unknown row 'math50'; did you mean math500?"),
        (["nonesuch", "gsm8k"], "model 'nonesuch' is not known; `r1 models` lists the names"),
        (["tiny", "smollm2"], "one model, not 2: tiny, smollm2"),
        (["tiny", "miniature", "num_sample=3"], "did you mean num_samples?"),
        (["tiny", "reasoning_gym/chain_sun"], "chain_sum"),
        (["tiny", "simpleqa"], "row 'simpleqa' cannot be measured: it needs a judge: --judge"),
        (["tiny", "--data", "nowhere"], "--data nowhere: no such folder"),
        (["gsm8k", "--base-url", "http://localhost:1/v1"], "--base-url needs a model"),
        (
            ["m", "gsm8k", "--base-url", "http://localhost:1/v1", "server.num_concurent=2"],
            "did you mean num_concurrent?",
        ),
        (["m", "gsm8k", "--base-url", "localhost:1"], "is not a server's address"),
        (["m", "simpleqa", "--judge", "j"], "--judge needs its server: --judge-url URL"),
        (["tiny", "gsm8k", "--responses", "r.jsonl"], "--responses needs one row and no model"),
        (["gsm8k", "--responses", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--regrade"], "--regrade needs one folder"),
        (["nowhere", "--regrade"], "nowhere: no such folder"),
        (["--merge", "a", "b"], "--merge needs folders and --output"),
        (["--compare", "a"], "--compare needs two folders"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("r1: error: ") == 1
    assert "Traceback" not in result.output + result.stderr


def test_a_config_is_one_task_as_before(tmp_path: Path) -> None:
    config = tmp_path / "e.toml"
    config.write_text('model = "tiny"\noutput = "out"\n[task]\nname = "miniature"\n')
    for arguments in (
        [str(config), "num_samples=3"],
        ["model=tiny", "task.name=miniature", "output=out", "num_samples=3"],
    ):
        result = invoke(*arguments, "--dry-run")
        assert result.exit_code == 0, result.stderr
        assert "num_samples = 3" in result.output


def test_a_dry_run_says_what_it_costs_and_starts_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = invoke("tiny", "miniature", "task.num_test=5", "-o", str(output), "--dry-run")
    assert result.exit_code == 0, result.stderr
    row = result.output.splitlines()[1].split()
    assert row == ["miniature", "5", "8", "40", f"{40 * 32768:,}", "0"]
    assert not output.exists()


def test_the_tiny_model_is_measured_end_to_end(tmp_path: Path) -> None:
    """Two reasoning-gym rows and GSM8K; what a stop left missing is made up, and no more."""
    rows = ["gsm8k", "reasoning_gym/chain_sum", "reasoning_gym/basic_arithmetic"]
    settings = ["num_problems=3", "num_samples=2", "sampling.max_tokens=24", "prompt_style=plain"]
    output = tmp_path / "out"
    arguments = ["tiny", *rows, *settings, "-o", str(output)]
    result = invoke(*arguments)
    assert result.exit_code == 0, result.stderr
    assert "GSM8K (Pass@1)" in result.output
    for name in rows:
        row = json.loads((output / name / "result.json").read_text())
        assert (row["num_present"], row["num_asked"], row["num_ungraded"]) == (6, 6, 0)
    before = records_of(output / "gsm8k")
    path = output / "gsm8k" / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in before[:2]) + '{"torn')
    (output / "gsm8k" / "result.json").unlink()
    assert invoke(*arguments).exit_code == 0
    key = ("problem_id", "sample_index")
    again = sorted(map(content_of, records_of(output / "gsm8k")), key=lambda r: [r[k] for k in key])
    assert again == sorted(map(content_of, before), key=lambda r: [r[k] for k in key])
    regraded = invoke(str(output), "--regrade")
    assert regraded.exit_code == 0, regraded.stderr
    assert "gsm8k: 6 replies graded again, 0 changed" in regraded.output


def test_scored_replies_show_every_number(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    rows = [
        {"prompt": f"How much is {i} + 1?", "gold": str(i + 1), "response": ["2", "3"]}
        for i in range(2)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = invoke("gsm8k", "--responses", str(path), "-o", str(tmp_path / "out"))
    assert result.exit_code == 0, result.stderr
    numbers = dict(line.split(maxsplit=1) for line in result.output.splitlines()[:12])
    assert (numbers["pass_at_1"], numbers["pass_at_2"]) == ("0.2500", "0.5000")
    assert "ties by expectation" in result.output

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from r1.cli.app import app
from r1.evaluation.table.scores import row_numbers
from tests.backends.conftest import Handler, Script, answers, fails, script
from tests.evaluation.evaluation_folders import make_record

__all__ = ["script"]  # the fixture


def test_a_server_is_measured_on_rows(script: Script, tmp_path: Path) -> None:
    """The protocol reaches the server; what it refuses is missing, and said."""

    def behave(handler: Handler, body: dict[str, Any]) -> None:
        question = body["messages"][0]["content"]
        if "broken" in question:
            fails(400, "context too long")(handler, body)
        else:
            answers("So \\boxed{2}.", reasoning="1 + 1")(handler, body)

    script.default = behave
    data = tmp_path / "rows.jsonl"
    rows = [("What is 1 + 1?", "2"), ("What is 1 + 2?", "3"), ("A broken question?", "4")]
    data.write_text(
        "".join(json.dumps({"question": q, "answer": f"#### {a}"}) + "\n" for q, a in rows)
    )
    output = tmp_path / "out"
    arguments = ["evaluate", "m", "gsm8k", "--base-url", script.url, "-o", str(output)]
    arguments += [f"task.test_path={data}", "num_samples=2", "server.num_concurrent=2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    row = json.loads((output / "gsm8k" / "result.json").read_text())
    assert row["lines"][0]["value"] == 50.0
    assert (row["num_present"], row["num_asked"], row["num_ungraded"]) == (4, 6, 0)
    assert any("2 replies failed; first: " in note for note in row["notes"])
    assert script.requests[0][1]["max_tokens"] == 16  # whether the server answers at all
    body = script.requests[1][1]
    assert (body["model"], body["temperature"], body["top_p"]) == ("m", 0.6, 0.95)
    assert body["max_tokens"] == 32768
    assert [message["role"] for message in body["messages"]] == ["user"]
    assert "\\boxed{}" in body["messages"][0]["content"]
    record = json.loads((output / "gsm8k" / "records.jsonl").read_text().splitlines()[0])
    assert (record["thought"], record["answer"], record["num_tokens"]) == (
        "1 + 1",
        "So \\boxed{2}.",
        7,
    )


def test_rows_have_numbers_of_their_own() -> None:
    games = {"game_1": 2.0, "game_2": 1.0}
    arena = row_numbers("arena_hard", [make_record("a", 0, parts=games)], [])
    assert arena.numbers["win_rate"].value == 100.0
    unjudged = row_numbers("arena_hard", [make_record("a", 0, None, parts={})], [])
    assert (unjudged.numbers, len(unjudged.notes)) == ({}, 1)
    parts = {"correct": 1.0, "attempted": 1.0}
    simpleqa = row_numbers("simpleqa", [make_record("a", 0, parts=parts)], [])
    assert simpleqa.notes == ["attempted 100.0, correct of those 100.0, F-score 100.0"]
    assert row_numbers("gsm8k", [], []).numbers == {}

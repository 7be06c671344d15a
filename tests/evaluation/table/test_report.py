from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1.cli.app import app
from r1.evaluation.table import report as benchmark_report
from r1.evaluation.table.benchmarks import published_models
from r1.evaluation.table.report import is_evaluation_folder, read_table, write_outputs
from r1.run_log import RunError
from r1.tasks.task import TaskError
from tests.evaluation.evaluation_folders import PageChecker, make_record, write_row


@pytest.fixture(autouse=True)
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if matplotlib were not installed: drawing takes seconds."""
    monkeypatch.setattr(benchmark_report, "has_matplotlib", lambda: False)


def make_folder(folder: Path) -> Path:
    """SimpleQA: 3 questions, 2 samples, one missing and one ungraded; AIME; a generated row."""
    rewards = {("q1", 0): 1.0, ("q1", 1): 0.0, ("q2", 0): 1.0, ("q2", 1): None, ("q3", 0): 1.0}
    records = [make_record(*key, reward=reward) for key, reward in rewards.items()]
    write_row(folder, "simpleqa", records, num_problems=3, grader="simpleqa-1 by judge/9")
    aime = [make_record(f"{q}", s, reward=float(q < 2)) for q in range(4) for s in range(2)]
    write_row(folder, "aime2024", aime, num_problems=4)
    write_row(folder, "reasoning_gym/basic_arithmetic", aime, num_problems=4)
    return folder


def table_of(folder: Path) -> dict[tuple[str, str], Any]:
    values = json.loads((folder / "table.json").read_text())
    return {(line["row"], line["metric"]): line for line in values["lines"]}


def test_table_json_has_every_line_of_the_readme(tmp_path: Path) -> None:
    paths = write_outputs(make_folder(tmp_path))
    assert [path.name for path in paths] == ["table.json", "table.md", "table.html"]
    values = json.loads(paths[0].read_text())
    assert values["model"] == "my-model" and values["models"] == published_models()
    lines = table_of(tmp_path)
    assert len([line for line in values["lines"] if line["is_published"]]) == 21 + 1  # and cons@k
    judged = lines["simpleqa", "Correct"]
    # Means of q1, q2, q3: 1/2, 1, 1. What is missing or ungraded is in no mean.
    assert judged["value"] == pytest.approx(100 * 2.5 / 3)
    assert judged["error_by_question"] == pytest.approx(100 * (1 / 12) ** 0.5 / 3**0.5)
    assert judged["rerun_error"] is None  # q3 has one sample
    assert (judged["num_present"], judged["num_asked"], judged["num_ungraded"]) == (5, 6, 1)
    assert (judged["num_tokens"], judged["mean_tokens"], judged["judge"]) == (50, 10.0, "judge/9")
    assert judged["published"]["DeepSeek R1"] == 30.1 and judged["distilled"] == {}
    cons = lines["aime2024", "Cons@2"]
    assert (cons["value"], cons["majority"], cons["pass_at_k"]) == (50.0, 50.0, {"2": 50.0})
    assert "ties by expectation" in values["vote_rule"]
    assert cons["published"] == {} and cons["distilled"]["QwQ-32B-Preview"] == 60.0
    assert lines["aime2024", "Pass@1"]["distilled"]["Claude-3.5-Sonnet-1022"] == 16.0
    assert lines["reasoning_gym/basic_arithmetic", "Pass@1"]["is_published"] is False
    assert [row["row"] for row in values["rows"]] == [
        "aime2024",
        "reasoning_gym/basic_arithmetic",
        "simpleqa",
    ]


def test_rows_that_were_not_run_say_why(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    unfinished = tmp_path / "math500"
    unfinished.mkdir()
    (unfinished / "records.jsonl").write_text(json.dumps(make_record("q", 0)) + "\n")
    write_outputs(folder, {"gpqa_diamond": "its file must be supplied"})
    write_outputs(folder)  # a rebuilt report still knows
    lines = table_of(folder)
    assert lines["gpqa_diamond", "Pass@1"]["not_run"] == "its file must be supplied"
    assert lines["math500", "Pass@1"]["not_run"] == "not finished: 1 records so far"
    assert lines["codeforces", "Rating"]["not_run"] == "not asked for"
    assert lines["simpleqa", "Correct"]["not_run"] == ""
    assert not any(row == "gsm8k" for row, _ in lines)  # a further set that nobody asked for
    text = (folder / "table.md").read_text()
    assert "| GPQA-Diamond (Pass@1) | its file must be supplied |" in text
    assert ", AlpacaEval2.0 (LC-winrate), " in text.partition("Not asked for: ")[2]
    assert "its file must be supplied" in PageChecker((folder / "table.html").read_text()).text


def test_the_markdown_table(tmp_path: Path) -> None:
    write_outputs(make_folder(tmp_path))
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0].startswith("|  | Benchmark (Metric) | my-model | ± by question | ± rerun |")
    assert lines[0].endswith("| OpenAI o1-mini | OpenAI o1-1217 | DeepSeek R1 |")
    row = next(line for line in lines if "SimpleQA*" in line)
    assert row == (
        "| English | SimpleQA* (Correct) | 83.3 | 16.67 | – | 5 / 6 | 28.4 | 38.2 | 24.9 | 7.0 "
        "| 47.0 | 30.1 |"
    )
    assert "- SimpleQA: missing, and not scored: 1 of 6 samples" in lines
    assert "- SimpleQA: ungraded, and not scored: 1 samples" in lines
    assert any(line.startswith("| SimpleQA | judge/9 | MIT | 1 | 10 | 50 |") for line in lines)
    assert "| AIME 2024 | 50.0 | 50.0 | 50.0 |" in lines  # pass@2, both votes
    widths = {line.count("|") for line in lines[:6]}
    assert widths == {13}


def test_the_page_is_self_contained_and_leads_to_the_questions(tmp_path: Path) -> None:
    page = write_outputs(make_folder(tmp_path))[2].read_text()
    checker = PageChecker(page)
    assert not {"script", "link", "iframe", "img"} & set(checker.tags)
    assert "default-src 'none'" in page and "matplotlib is not installed" in checker.text
    urls = [value for name, value in checker.attributes if name in ("href", "src") and value]
    files = [url for url in urls if not url.startswith("#")]
    assert "reasoning_gym/basic_arithmetic/questions/index.html" in files
    assert all((tmp_path / url).is_file() for url in files)
    for words in ("83.3", "16.67", "5 / 6", "Further sets", "judge/9", "(c) MAA", "Cons@2"):
        assert words in checker.text
    assert "None" not in checker.text


def test_a_stand_in_is_labelled_everywhere(tmp_path: Path) -> None:
    write_row(tmp_path, "cnmo2024", [make_record("1", 0, reward=1.0)], num_problems=1)
    write_outputs(tmp_path)
    words = "stand-in: Chinese High School Mathematics League 2024"
    assert words in (tmp_path / "table.md").read_text()
    assert words in PageChecker((tmp_path / "table.html").read_text()).text
    assert "CNMO 2024* (Pass@1)" in (tmp_path / "table.md").read_text()
    assert "undisclosed" in table_of(tmp_path)["cnmo2024", "Pass@1"]["stand_in"]


def test_replies_from_elsewhere_have_no_tokens_and_no_time(tmp_path: Path) -> None:
    record = {**make_record("1", 0, seconds=0.0), "num_tokens": None}
    write_row(tmp_path, "gsm8k", [record], num_problems=1)
    write_outputs(tmp_path)
    line = table_of(tmp_path)["gsm8k", "Pass@1"]
    header = (tmp_path / "table.md").read_text().splitlines()[0]
    assert header.endswith("| n / asked |")  # no published column: nothing of it was published
    assert (line["mean_tokens"], line["num_tokens"], line["seconds"]) == (None, None, None)
    assert "| GSM8K | – | MIT | 0 | – | – | – |" in (tmp_path / "table.md").read_text()
    assert " tokens" not in (tmp_path / "gsm8k/questions/page_001.html").read_text()


def test_a_hostile_name_stays_text(tmp_path: Path, hostile_text: str) -> None:
    write_row(tmp_path, "gsm8k", [make_record("1", 0, reward=1.0)], 1, model=f"a|b\n{hostile_text}")
    write_outputs(tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "a\\|b &lt;script&gt;" in text and "<script" not in text and "\u202e" not in text
    assert not {"script", "img"} & set(PageChecker((tmp_path / "table.html").read_text()).tags)


def test_folders_without_one_evaluation_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no row has a result\.json yet"):
        write_outputs(tmp_path)
    record = [make_record("1", 0, reward=1.0)]
    write_row(tmp_path / "a", "gsm8k", record, 1)
    write_row(tmp_path / "b", "math500", record, 1, model="other")
    with pytest.raises(RunError, match=r"several evaluations \(my-model, other\)"):
        read_table(tmp_path)


def test_a_result_of_another_version_is_refused(tmp_path: Path) -> None:
    row = write_row(tmp_path, "aime2024", [make_record("1", 0)], num_problems=1)
    result = json.loads((row / "result.json").read_text())
    (row / "result.json").write_text(json.dumps({**result, "lines": result["lines"][:1]}))
    with pytest.raises(RunError, match=r"row aime2024: .* 1 lines instead of 2; .* --regrade"):
        read_table(tmp_path)
    (row / "result.json").write_text(json.dumps({**result, "row": "aime1924"}))
    with pytest.raises(TaskError, match="unknown row 'aime1924'"):
        read_table(tmp_path)


def test_r1_report_tells_an_evaluation_from_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path)
    assert is_evaluation_folder(folder)
    app(["report", str(folder)], standalone_mode=False)
    assert capsys.readouterr().out.split() == [
        str(folder / name) for name in ("table.json", "table.md", "table.html")
    ]
    (folder / "stages").mkdir()
    assert not is_evaluation_folder(folder)


def test_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(benchmark_report, "has_matplotlib", lambda: True)
    write_row(tmp_path, "aime2024", [make_record("1", 0)], 1, model="a $x_{ b")
    result = tmp_path / "aime2024" / "result.json"
    result.write_text(result.read_text().replace('"unit": "percent"', '"unit": "rating"', 1))
    path = write_outputs(tmp_path)[-1]
    assert path.name == "table.png" and path.read_bytes().startswith(b"\x89PNG")

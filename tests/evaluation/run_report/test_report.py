from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from r1.evaluation.html_pages import format_duration, format_memory, format_number
from r1.evaluation.run_report import report as report_module
from r1.evaluation.run_report.claims import CLAIMS
from r1.evaluation.run_report.report import build_report
from r1.run_log import RunError
from tests.evaluation.evaluation_folders import PageChecker

MakeRun = Callable[..., Path]
STAGE_FIELDS = {
    "pass_at_1",
    "pass_at_1_ci95",
    "cons_at_8",
    "mean_response_tokens",
    "format_rate",
    "language_consistency",
    "num_problems",
    "seconds",
}


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if matplotlib were not installed."""
    monkeypatch.setattr(report_module, "has_matplotlib", lambda: False)


def rewrite(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        change(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_report_json_has_the_promised_fields(make_run: MakeRun, without_plots: None) -> None:
    folder = make_run(claims=[claim.name for claim in CLAIMS])
    values = json.loads(build_report(folder).json_path.read_text())
    assert list(values["stages"]) == [
        "base",
        "r1_zero",
        "cold_start",
        "r1",
        "student_rl",
        "student_distilled",
    ]
    for stage in values["stages"].values():
        assert stage.keys() >= STAGE_FIELDS
        low, high = stage["pass_at_1_ci95"]
        assert 0 <= low <= stage["pass_at_1"] <= high <= 1
    assert list(values["claims"]) == [claim.name for claim in CLAIMS]
    for claim in values["claims"].values():
        assert claim.keys() >= {"holds", "value", "bound"}
        assert claim["holds"] in (True, False)
    assert (values["seconds"], values["peak_rss_bytes"]) == (431.2, 1_650_000_000)
    assert values["logprob_gap"]["mean_abs"] == pytest.approx(3.2e-7, rel=0.02)
    assert values["logprob_gap"]["max_abs"] == 5e-6
    assert values["command"] == "r1 run recipes/quickstart.toml"
    assert values["versions"] == {"r1": "0.1.0", "torch": "2.11.0"}


def test_seconds_are_the_stages_own_and_total_seconds_add_the_measuring(
    make_run: MakeRun, without_plots: None
) -> None:
    stages = build_report(make_run()).values["stages"]
    assert (stages["base"]["seconds"], stages["base"]["total_seconds"]) == (40.0, 40.0)
    measuring = 0.01 * (12 * 8 - 1)
    assert stages["r1_zero"]["seconds"] == 49.0
    assert stages["r1_zero"]["total_seconds"] == pytest.approx(49.0 + measuring)


def test_the_page_is_well_formed_and_self_contained(make_run: MakeRun, without_plots: None) -> None:
    report = build_report(make_run())
    page = report.html_path.read_text(encoding="utf-8")
    checker = PageChecker(page)
    assert not {"script", "link", "iframe", "object", "img", "input"} & set(checker.tags)
    urls = [value for name, value in checker.attributes if name in ("href", "src")]
    assert urls and all(url and url.startswith("#") for url in urls)
    assert not [name for name, _ in checker.attributes if name.startswith("on")]
    assert "default-src 'none'" in page
    assert checker.tags.count("svg") >= 3 * 11
    for words in ("student_distilled", "Log-prob gap", "cons@8", "计算", "7 min 11 s", "1.65 GB"):
        assert words in checker.text
    assert "None" not in checker.text and "nan" not in checker.text.lower().split()


def test_what_a_model_wrote_cannot_run(
    make_run: MakeRun, without_plots: None, hostile_text: str
) -> None:
    folder = make_run(name="<b>run</b>", command=hostile_text, recipe=hostile_text)

    def spoil(row: dict[str, object]) -> None:
        row |= dict.fromkeys(("question", "gold", "thought", "answer", "extracted"), hostile_text)

    for records in folder.glob("stages/*/evaluation/records.jsonl"):
        rewrite(records, spoil)
    for samples in folder.glob("stages/*/samples.jsonl"):
        rewrite(samples, lambda row: row.update(text=hostile_text, question=hostile_text))
    page = build_report(folder).html_path.read_text(encoding="utf-8")
    checker = PageChecker(page)
    assert not {"script", "img", "input", "b>run"} & set(checker.tags)
    assert "<script>document.title" in checker.text  # shown as text
    assert not re.search(r"[\x00-\x08\x1b]", page)


def test_plots_are_written_beside_the_page(make_run: MakeRun) -> None:
    pytest.importorskip("matplotlib")
    folder = make_run(num_steps=3)
    for stage in ("r1_zero", "r1", "student_rl", "student_distilled"):
        shutil.rmtree(folder / "stages" / stage)
    report = build_report(folder)
    names = [path.relative_to(folder).as_posix() for path in report.plot_paths]
    assert names == ["plots/stages.png", "plots/cold_start.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in report.plot_paths)
    assert report.notes == ()


def test_without_matplotlib_the_page_is_complete(make_run: MakeRun, without_plots: None) -> None:
    report = build_report(make_run())
    assert report.plot_paths == ()
    assert "pip install 'r1[report]'" in report.notes[0]
    page = report.html_path.read_text()
    assert "matplotlib is not installed" in page and "<svg" in page


def test_an_unfinished_run_has_a_report(make_run: MakeRun, without_plots: None) -> None:
    folder = make_run(claims=["r1_keeps_accuracy", "base_rarely_right"])
    (folder / "stages" / "r1" / "stage.json").unlink()
    with (folder / "stages" / "r1" / "metrics.jsonl").open("a") as torn:
        torn.write('{"step": 25, "rew')
    report = build_report(folder)
    assert report.values["is_finished"] is False
    assert report.values["stages"]["r1"]["status"] == "running"
    assert report.values["claims"]["r1_keeps_accuracy"]["holds"] is None
    text = PageChecker(report.html_path.read_text()).text
    assert "run not finished" in text and "not measured" in text


def test_a_single_verb_has_a_report(make_run: MakeRun, without_plots: None) -> None:
    folder = make_run() / "stages" / "r1_zero"
    values = build_report(folder).values
    assert list(values["stages"]) == ["r1_zero"] and values["claims"] == {}
    assert values["logprob_gap"]["mean_abs"] < 1e-6


def test_a_verb_that_has_only_begun_has_a_report(tmp_path: Path, without_plots: None) -> None:
    (tmp_path / "config.json").write_text('{"steps": 3}')
    values = build_report(tmp_path).values
    (stage,) = values["stages"].values()
    assert (stage["status"], stage["seconds"], values["logprob_gap"]) == ("running", None, None)


def test_stages_without_a_listed_order_come_as_they_started(
    make_run: MakeRun, without_plots: None
) -> None:
    folder = make_run(stages=["r1_zero"])
    assert next(iter(build_report(folder).values["stages"])) == "r1_zero"


def test_folders_that_are_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run folder"):
        build_report(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run.json: not valid JSON"):
        build_report(tmp_path)


def test_ungraded_samples_are_shown(make_run: MakeRun, without_plots: None) -> None:
    folder = make_run()
    stage_path = folder / "stages" / "base" / "stage.json"
    stage = json.loads(stage_path.read_text())
    stage["evaluation"] |= {"num_ungraded": 3, "pass_at_1": None, "cons_at_8": None}
    stage_path.write_text(json.dumps(stage))
    assert "3 ungraded, 0 missing" in PageChecker(build_report(folder).html_path.read_text()).text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (8.24, "8.2 s"), (59.99, "60.0 s"), (552, "9 min 12 s"), (11_100, "3 h 05 min")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


def test_numbers_and_memory() -> None:
    assert format_number(1234.56) == "1,234.6"
    assert format_number(3.17e-7) == "3.2e-07"
    assert format_memory(2.41e9) == "2.41 GB"
    assert format_memory(8.12e8) == "812 MB"


def test_a_phase_has_one_colour_in_all_stages(make_run: MakeRun, without_plots: None) -> None:
    page = build_report(make_run()).html_path.read_text()
    colors = set(re.findall(r'<i class="(c\d)"></i>(\w+) \d', page))
    assert {name for _, name in colors} >= {"generate", "update", "grade", "evaluation", "other"}
    assert len({name for _, name in colors}) == len(colors)

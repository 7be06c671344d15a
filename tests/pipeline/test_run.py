from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1.pipeline import run as run_module
from r1.pipeline.run import run_recipe
from r1.run_log import RunError, RunFolder

WriteRecipe = Callable[[str], Path]

CHAIN = """
[stages.a]
verb = "note"
text = "A"
[stages.b]
verb = "note"
text = "B"
data = "@a"
[stages.c]
verb = "note"
text = "C"
data = "@b"
[stages.alone]
verb = "note"
text = "D"
"""


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Reports are tested on their own; here only that one is asked for."""
    reports: list[Path] = []
    monkeypatch.setattr(run_module, "build_report", reports.append)
    return reports


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def result(run: Path, name: str) -> str:
    return (run / "stages" / name / "note.txt").read_text()


def test_stages_run_in_order_and_leave_a_record(
    write_recipe: WriteRecipe,
    notes: Any,
    no_report: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["r1", "run", "a recipe.toml"])
    run = run_recipe(write_recipe(f'seed = 3\nfinal = "c"\n{CHAIN}'))
    assert notes.ran == ["a", "b", "c", "alone"]
    assert result(run, "c") == "C+B+A"
    assert no_report == [run]
    record = read(run / "stages" / "b" / "stage.json")
    assert (record["name"], record["kind"], record["evaluation"]) == ("b", "note", None)
    assert record["seconds"] >= 0
    assert record["peak_rss_bytes"] > 10**7
    assert "torch" in record["versions"]
    described = read(run / "run.json")
    assert described["stages"] == ["a", "b", "c", "alone"]
    assert (described["name"], described["seed"], described["final"]) == ("test", 3, "c")
    assert described["recipe"]["stages"]["a"] == {"verb": "note", "text": "A"}
    assert described["command"] == "r1 run 'a recipe.toml'"
    assert read(run / "stages" / "a" / "config.json")["seed"] == 3


def test_nothing_that_is_unchanged_runs_again(write_recipe: WriteRecipe, notes: Any) -> None:
    path = write_recipe(CHAIN)
    run = run_recipe(path)
    before = (run / "stages" / "a" / "stage.json").read_bytes()
    notes.ran.clear()
    run_recipe(path)
    assert notes.ran == []
    assert (run / "stages" / "a" / "stage.json").read_bytes() == before


def test_a_changed_stage_runs_again_and_all_that_stands_on_it(
    write_recipe: WriteRecipe, notes: Any
) -> None:
    path = write_recipe(CHAIN)
    run = run_recipe(path)
    (run / "stages" / "b" / "left_over.txt").write_text("old")
    notes.ran.clear()
    run_recipe(path, ["stages.b.text=new"])
    assert notes.ran == ["b", "c"]
    assert result(run, "c") == "C+new+A"
    assert not (run / "stages" / "b" / "left_over.txt").exists()
    notes.ran.clear()
    run_recipe(path)
    assert notes.ran == ["b", "c"]


@pytest.mark.parametrize("key", ["data", "general_data"])
def test_a_changed_file_runs_its_stage_again(
    write_recipe: WriteRecipe, notes: Any, tmp_path: Path, key: str
) -> None:
    rows = tmp_path / "rows.txt"
    rows.write_text("one")
    value = f'["{rows}"]' if key == "general_data" else f'"{rows}"'
    path = write_recipe(f'{CHAIN}[stages.reads]\nverb = "note"\n{key} = {value}\n')
    run = run_recipe(path)
    assert result(run, "reads") == "+one"
    notes.ran.clear()
    rows.write_text("two")
    os.utime(rows, ns=(1, 1))
    run_recipe(path)
    assert notes.ran == ["reads"]
    assert result(run, "reads") == "+two"


def test_a_killed_stage_goes_on_and_those_before_it_stay(
    write_recipe: WriteRecipe, notes: Any
) -> None:
    path = write_recipe(CHAIN)

    def die(config: Any) -> None:
        if config.output.name == "b":
            (config.output / "half.txt").write_text("half")
            raise RuntimeError("killed")

    notes.before_writing = die
    with pytest.raises(RuntimeError, match="killed"):
        run_recipe(path)
    run = path.parent / "run"
    assert not (run / "stages" / "b" / "stage.json").exists()
    notes.before_writing = None
    notes.ran.clear()
    run_recipe(path)
    assert notes.ran == ["b", "c", "alone"]
    # The stage resumes in its own folder: what it had is still there.
    assert (run / "stages" / "b" / "half.txt").exists()
    assert result(run, "c") == "C+B+A"


def test_a_kill_while_a_stale_folder_is_emptied_leaves_it_stale(
    write_recipe: WriteRecipe, notes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recipe(CHAIN)
    run = run_recipe(path)
    mark = run / "stages" / "a" / "fingerprint.json"
    before = mark.read_bytes()

    def die(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(run_module.Path, "unlink", die)
    with pytest.raises(RuntimeError, match="killed"):
        run_recipe(path, ["stages.a.text=new"])
    assert mark.read_bytes() == before
    monkeypatch.undo()


def test_ctrl_c_says_how_to_go_on(write_recipe: WriteRecipe, notes: Any) -> None:
    def interrupt(config: Any) -> None:
        raise KeyboardInterrupt

    notes.before_writing = interrupt
    with pytest.raises(KeyboardInterrupt, match="stopped; go on with the same command: r1"):
        run_recipe(write_recipe(CHAIN))


def test_a_second_run_in_the_folder_is_refused(write_recipe: WriteRecipe, notes: Any) -> None:
    path = write_recipe(CHAIN)
    with (
        RunFolder.open(path.parent / "run"),
        pytest.raises(RunError, match="another run is using this folder"),
    ):
        run_recipe(path)
    assert notes.ran == []


def test_what_is_missing_is_told_before_anything_runs(
    write_recipe: WriteRecipe, notes: Any, tmp_path: Path
) -> None:
    cases = [
        ('data = "nowhere.jsonl"', r"stages\.last: data: no such file: nowhere\.jsonl"),
        (f'data = "{tmp_path}"', r"stages\.last: data: no such file"),
        ('model = "./nowhere"', r"stages\.last: nowhere: no such model folder or file"),
        ('model = "tyni"', r"stages\.last: .*'tyni'.*tiny"),
        ('general_data = ["x.jsonl"]', r"stages\.last: general_data: no such file: x\.jsonl"),
    ]
    for line, message in cases:
        path = write_recipe(f'{CHAIN}[stages.last]\nverb = "note"\n{line}\n')
        with pytest.raises(ValueError, match=message) as caught:
            run_recipe(path)
        assert "\n" not in str(caught.value)
    assert notes.ran == []
    assert not (tmp_path / "run").exists()


MEASURED = """
[evaluate]
task = { name = "miniature", num_train = 4, num_test = 4 }
num_samples = 2
[stages.model]
verb = "note"
[stages.reader]
verb = "note"
data = "@model/note.txt"
"""


def test_another_way_of_measuring_trains_nothing_again(
    write_recipe: WriteRecipe, notes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = run_module.STAGE_KINDS
    kind = run_module.STAGE_KINDS["note"]
    model_kind = type(kind)(kind.config_class, kind.run, "", makes_language_model=True)
    monkeypatch.setitem(kinds, "note", model_kind)  # type: ignore[arg-type]
    measured: list[int] = []

    def evaluate_model(config: Any, records_path: Path) -> Any:
        assert not records_path.exists()
        measured.append(config.num_samples)
        records_path.parent.mkdir(parents=True, exist_ok=True)
        records_path.write_text("{}\n")
        numbers = {"seconds": 1.0, "pass_at_1": 0.5, "format_rate": 1.0}
        numbers |= {"language_consistency": 1.0, "mean_response_tokens": 3.0}
        return SimpleNamespace(to_json=lambda: numbers)

    monkeypatch.setattr(run_module, "evaluate_model", evaluate_model)
    path = write_recipe(MEASURED)
    run = run_recipe(path)
    assert (notes.ran, measured) == (["model", "reader"], [2, 2])
    record = read(run / "stages" / "model" / "stage.json")
    assert record["evaluation"]["pass_at_1"] == 0.5
    run_recipe(path, ["stages.model.evaluate.num_samples=3"])
    assert (notes.ran, measured) == (["model", "reader"], [2, 2, 3])
    again = read(run / "stages" / "model" / "stage.json")
    assert (again["fingerprint"], again["seconds"]) == (record["fingerprint"], record["seconds"])
    run_recipe(path, ["stages.model.evaluate=false"])
    assert (notes.ran, measured) == (["model", "reader"], [2, 2, 3])
    assert read(run / "stages" / "model" / "stage.json")["evaluation"] is None

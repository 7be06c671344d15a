from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1.tasks.benchmark_data import data_folders, find_file, locate
from r1.tasks.benchmark_rows import BenchmarkFiles, draw, is_hub_id, read_benchmark
from r1.tasks.task import TaskConfig, TaskError

FILES = BenchmarkFiles("set", ("set_test.jsonl",), "owner/set", "main", "validation")


def read(**settings: Any) -> list[Any]:
    rows = read_benchmark(TaskConfig(name="set", **settings), FILES)
    return [row.data["n"] for row in rows]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("R1_DATA", raising=False)
    for number, folder in enumerate(("given/set", "flat", "data/set", "own/set")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "set_test.jsonl").write_text(json.dumps({"n": number}))
    return tmp_path


def test_where_rows_are_looked_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(path="given") == [0]
    assert read(path=str(place / "flat")) == [1]
    assert read(path="flat/set_test.jsonl") == [1]
    assert read() == [2]
    assert read(test_path="flat", path="given") == [1]
    monkeypatch.setenv("R1_DATA", str(place / "own"))
    assert read() == [3]
    assert data_folders()[0] == place / "own"


def test_a_data_set_of_the_hub(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(source: str, subset: str | None, split: str) -> list[dict[str, int]]:
        asked.append((source, subset, split))
        return [{"n": 8}, {"n": 9}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert read(path="owner/set") == [8, 9]
    read(path="other/set")
    read(path="owner/set", options={"subset": "sub", "test_split": "dev"})
    assert asked == [
        ("owner/set", "main", "validation"),
        ("other/set", None, "validation"),
        ("owner/set", "sub", "dev"),
    ]


def test_rows_that_are_nowhere(place: Path) -> None:
    (place / "empty").mkdir()
    message = (
        r"no set_test\.jsonl in empty \(nor in set/ there\): it is owner/set on the Hugging Face "
        r"hub; set path=owner/set$"
    )
    with pytest.raises(TaskError, match=message):
        read(path="empty")
    with pytest.raises(TaskError, match="no problems to train on"):
        read(train_path="x")
    assert find_file("empty", "set", FILES.names) is None
    with pytest.raises(TaskError, match=r"no a or b in empty .*: ask for it$"):
        locate("empty", "set", ("a", "b"), "ask for it")


def test_what_is_an_id_of_the_hub(place: Path) -> None:
    assert is_hub_id("owner/set") and is_hub_id("gsm8k")
    for source in ("given", "flat", "./x", "/x/y", "~/x", "a/b.jsonl", "a/b/c", "who/what?", ""):
        assert not is_hub_id(source), source


def test_some_of_the_items_in_their_order() -> None:
    items = list(range(100))
    chosen = draw(items, 10, "0:test", "set")
    assert len(chosen) == 10 and chosen == sorted(chosen)
    assert chosen == draw(items, 10, "0:test", "set") != draw(items, 10, "1:test", "set")
    assert draw(items, None, "0:test", "set") == items
    with pytest.raises(TaskError, match="task 'set': 101 test problems asked for, 100 there"):
        draw(items, 101, "0:test", "set")

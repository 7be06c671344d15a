"""A folder of the user's own: what is found, in which languages, and what changes."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from r1.serving.files.documents import DocumentLimits
from r1.serving.search.folder_index import FolderIndex, match_expression, split_passages
from r1.serving.search.folder_search import FolderSearch, snippet
from r1.serving.search.results import SearchError, SearchResult
from tests.serving.files import made_files as made

FILES = {
    "france.txt": "The capital of France is Paris.\n\nIt has two million inhabitants.",
    "sub/peking.md": "# 北京大学\n\n北京大学创建于1898年，是中国第一所国立综合性大学。校园里有白猫",
    "tokyo.md": "日本の首都は東京です。人工知能の研究もさかんです。",
    "seoul.txt": "서울은 대한민국의 수도이다. 인구는 천만 명이다.",
    "code.py": "def compute_advantages(rewards):\n    return rewards - rewards.mean()\n",
    "ＦＵＬＬ.txt": "Ｆｕｌｌｗｉｄｔｈ letters and the naïve café",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "notes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "notes" / "paper.pdf").write_bytes(made.pdf_of(["Photosynthesis in algae"]))
    (tmp_path / "notes" / "old.txt").write_bytes(
        "历史悠久的城市是西安，这座城市有城墙。".encode("gb18030")
    )
    (tmp_path / "notes" / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path / "notes"


@pytest.fixture
def index(folder: Path, tmp_path: Path) -> FolderIndex:
    index = FolderIndex(folder, tmp_path / "cache" / "index.sqlite3", DocumentLimits())
    index.refresh(threading.Event())
    return index


def test_questions_in_every_language_find_their_file(index: FolderIndex) -> None:
    for question, expected in (
        ("What is the capital of France?", "france.txt"),
        ("inhabitant of paris", "france.txt"),  # stemmed
        ("北京大学是什么时候创建的？", "sub/peking.md"),
        ("猫", "sub/peking.md"),  # the second character of a word
        ("首都はどこですか", "tokyo.md"),
        ("知能", "tokyo.md"),
        ("대한민국 수도", "seoul.txt"),
        ("compute_advantages", "code.py"),
        ("fullwidth naive cafe", "ＦＵＬＬ.txt"),
        ("photosynthesis", "paper.pdf"),
        ("西安城墙", "old.txt"),
        ("peking", "sub/peking.md"),  # by its name
    ):
        found = index.find(question, 5)
        assert found and found[0].path == expected, question


def test_what_cannot_match_finds_nothing(index: FolderIndex) -> None:
    for query in ("", "the of and", "的", "?!", "zebra", '"', "a* OR (b", "NEAR(x y)", "x AND"):
        assert index.find(query, 5) == [], query
    assert match_expression('title: "x" OR y^2') == '"title" OR "x" OR "y" OR "2"'
    assert match_expression("北京 大 tea?") == '"北京" OR "大" * OR "tea"'
    assert match_expression("word " * 9 + " ".join(map(str, range(90)))).count(" OR ") == 47


def test_only_what_changed_is_read_again(index: FolderIndex, folder: Path) -> None:
    go_on = threading.Event()
    assert index.refresh(go_on) == 0
    (folder / "tokyo.md").write_text("大阪について", encoding="utf-8")
    (folder / "new.txt").write_text("A walrus.", encoding="utf-8")
    (folder / "france.txt").unlink()
    assert index.refresh(go_on) == 2
    assert [p.path for p in index.find("walrus", 5)] == ["new.txt"]
    assert [p.path for p in index.find("大阪", 5)] == ["tokyo.md"]
    assert index.find("東京", 5) == index.find("Paris", 5) == []
    os.utime(folder / "new.txt", ns=(1, 1))
    assert index.refresh(go_on) == 1


def test_hidden_files_and_links_stay_out(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("a walrus")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "linked").symlink_to(tmp_path)
    for name in (".git/config", ".env", "node_modules/x.js"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("a walrus")
    os.mkfifo(folder / "pipe")
    index = FolderIndex(folder, tmp_path / "i.sqlite3", DocumentLimits())
    index.refresh(threading.Event())
    assert index.find("walrus", 5) == []


def test_a_broken_or_older_database_is_made_anew(index: FolderIndex, tmp_path: Path) -> None:
    (tmp_path / "cache" / "index.sqlite3").write_bytes(b"no database at all" * 1000)
    for suffix in ("-wal", "-shm"):
        (tmp_path / "cache" / f"index.sqlite3{suffix}").unlink(missing_ok=True)
    assert index.find("paris", 5) == []
    assert index.refresh(threading.Event()) == len(FILES) + 3
    assert index.find("paris", 5)[0].path == "france.txt"


def test_it_can_be_stopped_and_goes_on_later(folder: Path, tmp_path: Path) -> None:
    index = FolderIndex(folder, tmp_path / "i.sqlite3", DocumentLimits())
    stop = threading.Event()
    stop.set()
    assert index.refresh(stop) == 0
    stop.clear()
    assert index.refresh(stop) == len(FILES) + 3


def test_search_gives_files_with_their_best_passages(folder: Path, tmp_path: Path) -> None:
    long = "\n\n".join(f"Paragraph {n} is about tea. " + "word " * 200 for n in range(12))
    (folder / "long.txt").write_text(f"{long}\n\nThe walrus drinks tea. {'x ' * 500}")
    provider = FolderSearch(folder, tmp_path / "i.sqlite3")
    found = asyncio.run(provider.search("Does the walrus drink tea?", 5))
    assert [result.title for result in found] == ["long.txt"]
    assert found[0].url == "" and found[0].site == "notes" and len(found[0].date) == 10
    assert found[0].snippet.startswith("The walrus drinks tea.")
    assert "The walrus drinks tea." in found[0].text and len(found[0].text) < len(long) / 2
    # The next search sees what has changed meanwhile.
    (folder / "later.txt").write_text("A sudden okapi.")
    assert asyncio.run(provider.search("okapi", 5))[0].title == "later.txt"
    provider.close()


def test_one_file_is_a_folder_too(folder: Path, tmp_path: Path) -> None:
    provider = FolderSearch(folder / "france.txt", tmp_path / "i.sqlite3")
    found: list[SearchResult] = asyncio.run(provider.search("capital", 5))
    assert [result.title for result in found] == ["france.txt"]
    with pytest.raises(ValueError, match="no such folder or file"):
        FolderSearch(folder / "none")


def test_an_index_that_cannot_be_kept_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "full").write_text("a file where a folder is wanted")
    provider = FolderSearch(folder, tmp_path / "full" / "i.sqlite3")
    with pytest.raises(SearchError, match="the folder's index cannot be read"):
        asyncio.run(provider.search("capital", 5))


def test_names_that_are_not_utf8_are_found_and_shown(folder: Path, tmp_path: Path) -> None:
    for name in (b"b\xff.txt", b"b\xfe.txt"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("A walrus.")
    (folder / "z.txt").write_text("A sudden okapi.")
    provider = FolderSearch(folder, tmp_path / "i.sqlite3")
    found = asyncio.run(provider.search("walrus", 5))
    assert [result.title for result in found] == ["b\ufffd.txt"] * 2
    assert asyncio.run(provider.search("okapi", 5))[0].title == "z.txt"
    index = FolderIndex(folder, tmp_path / "i.sqlite3", DocumentLimits())
    assert index.refresh(threading.Event()) == 0


def test_a_refresh_that_fails_in_any_way_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(FolderIndex, "refresh", fail)
    provider = FolderSearch(folder, tmp_path / "i.sqlite3")
    with pytest.raises(SearchError, match=r"cannot be indexed \(out of luck\)"):
        asyncio.run(provider.search("capital", 5))


def test_passages_hold_the_whole_text() -> None:
    text = "\n\n".join(["short"] * 300 + ["x" * 5000, "line of code\n" * 300])
    passages = split_passages(text)
    assert max(map(len, passages)) <= 1202
    assert "".join("".join(passages).split()) == "".join(text.split())
    assert split_passages(" \n\n ") == []


def test_snippet_is_cut_around_the_first_word() -> None:
    text = "a " * 300 + "walrus " + "b " * 300
    assert "walrus" in snippet(text, "a walrus?") and len(snippet(text, "walrus")) < 250
    assert snippet("short", "other") == "short"

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1.evaluation.table import pages as benchmark_pages
from r1.evaluation.table.pages import (
    QUESTIONS_PER_PAGE,
    cut_into_pages,
    questions_of,
    shortened,
    write_question_pages,
)
from tests.evaluation.evaluation_folders import PageChecker, make_record, write_row


def write_pages(folder: Path, records: list[dict[str, Any]], num_problems: int) -> Path:
    row = write_row(folder, "gsm8k", records, num_problems)
    result = json.loads((row / "result.json").read_text())
    return write_question_pages(row, result, folder / "table.html")


def test_a_page_shows_what_a_person_needs_to_judge_a_reply(tmp_path: Path) -> None:
    records = [
        make_record("q1", 0),
        make_record("q1", 1, reward=0.0, finish_reason="length", num_tokens=32768),
        make_record("q2", 0, reward=None, reason="the judge failed"),
        make_record("q2", 1, reward=0.25, earlier=[{"reply": "first", "message": "tests failed"}]),
    ]
    index = write_pages(tmp_path, records, 2)
    checker = PageChecker((index.parent / "page_001.html").read_text())
    shown = ("What is q1?", "Gold: 7", "8 is not 7", "32,768 tokens · length", "tests failed")
    for words in (*shown, "the judge failed", "(0.250)", "50.0% of 2 samples", "5 characters"):
        assert words in " ".join(checker.text.split()), words
    # The thought is there, and closed.
    assert ("class", "thought") in checker.attributes and "2 + 5" in checker.text
    assert not {"script", "link", "img"} & set(checker.tags)


def test_the_filters_know_wrong_ungraded_missing_and_cut(tmp_path: Path) -> None:
    records = [
        make_record("q10", 0),
        make_record("q10", 1),
        make_record("q2", 0, reward=0.0),
        make_record("q2", 1, finish_reason="length"),
        make_record("q3", 0, reward=None),
    ]
    questions = questions_of(records, num_samples=2)
    kinds = {question.id: question.kinds for question in questions}
    assert kinds == {"q2": ["wrong", "cut"], "q3": ["ungraded", "missing"], "q10": []}
    assert [question.shade for question in questions] == ["s2", "none", "s4"]
    assert [question.num_missing for question in questions] == [0, 1, 0]
    page = (write_pages(tmp_path, records, 5).parent / "page_001.html").read_text()
    checker = PageChecker(page)
    assert "with a wrong sample 1" in " ".join(checker.text.split())
    assert "#show-wrong:checked ~ .list > :not(.wrong) { display: none; }" in page
    assert checker.tags.count("input") == 5
    index = (tmp_path / "gsm8k/questions/index.html").read_text()
    assert "2 questions have no sample yet" in PageChecker(index).text


@pytest.mark.parametrize("field", ["question", "gold", "thought", "answer", "extracted", "reason"])
def test_what_a_model_wrote_cannot_run_or_deceive(
    tmp_path: Path, hostile_text: str, field: str
) -> None:
    record = {**make_record(f"q\u2066{hostile_text}", 0), field: hostile_text}
    index = write_pages(tmp_path, [record], 1)
    for path in (index, index.parent / "page_001.html"):
        page = path.read_text(encoding="utf-8")
        checker = PageChecker(page)
        assert not {"script", "img"} & set(checker.tags)
        assert not [name for name, _ in checker.attributes if name.startswith("on")]
        assert not {"\x00", "\x1b", "\u202e", "\u2066"} & set(page)
        assert "[U+202E]" in page and "default-src 'none'" in page
    assert "<script>document.title" in checker.text  # shown as text


def test_pages_hold_fifty_questions_or_fewer_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [make_record(f"q{number}", 0) for number in range(QUESTIONS_PER_PAGE + 1)]
    pages = cut_into_pages(questions_of(records, 1))
    assert [len(page.questions) for page in pages] == [50, 1]
    assert [page.file for page in pages] == ["page_001.html", "page_002.html"]
    monkeypatch.setattr(benchmark_pages, "CHARACTERS_PER_PAGE", 1000)
    long = [make_record(f"q{number}", 0, thought="x" * 600) for number in range(3)]
    assert len(cut_into_pages(questions_of(long, 1))) == 3


def test_long_texts_keep_both_ends() -> None:
    text = "a" * 30_000 + "b" * 30_000
    short = shortened(text)
    assert short.startswith("a" * 12_000 + "\n") and short.endswith("\n" + "b" * 8_000)
    assert "40,000 characters left out" in short
    assert shortened("x" * 20_000) == "x" * 20_000


def test_links_of_every_page_lead_to_files(tmp_path: Path) -> None:
    (tmp_path / "table.html").touch()
    records = [make_record(f"q{number}", 0) for number in range(101)]
    folder = write_pages(tmp_path, records, 101).parent
    (folder / "page_004.html").touch()
    (folder / "index.html").write_text("of an earlier report")
    write_question_pages(
        tmp_path / "gsm8k",
        json.loads((tmp_path / "gsm8k/result.json").read_text()),
        tmp_path / "table.html",
    )
    names = ["index.html", "page_001.html", "page_002.html", "page_003.html"]
    assert sorted(path.name for path in folder.iterdir()) == names
    for name in names:
        checker = PageChecker((folder / name).read_text())
        links = [value for key, value in checker.attributes if key == "href" and value]
        assert links and all((folder / link.partition("#")[0]).is_file() for link in links)
    anchors = {value for key, value in PageChecker((folder / names[3]).read_text()).attributes}
    assert "q101" in anchors


def test_pages_are_made_again_only_when_their_row_changed(tmp_path: Path) -> None:
    index = write_pages(tmp_path, [make_record("q1", 0)], 1)
    row = json.loads((tmp_path / "gsm8k/result.json").read_text())
    page = index.parent / "page_001.html"
    page.write_text("as it was")
    assert write_question_pages(tmp_path / "gsm8k", row, tmp_path / "table.html") == index
    assert page.read_text() == "as it was"
    with (tmp_path / "gsm8k/records.jsonl").open("a") as records:
        records.write(json.dumps(make_record("q2", 0)) + "\n")
    write_question_pages(tmp_path / "gsm8k", row, tmp_path / "table.html")
    assert "What is q2?" in page.read_text()

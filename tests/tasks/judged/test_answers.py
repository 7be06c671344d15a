from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1.records import Completion
from r1.tasks.judged.answers import read_decision, read_simpleqa_label
from r1.tasks.judged.frames_articles import article_key
from r1.tasks.judged.judged import JudgedTask
from r1.tasks.task import TaskConfig, TaskError, build_task
from tests.tasks.judged.judge_script import ScriptedJudge

SIMPLEQA_REPLIES = [
    ("A", "CORRECT"),
    ("B", "INCORRECT"),
    (" C\n", "NOT_ATTEMPTED"),
    ("**A**", "CORRECT"),
    ('"B".', "INCORRECT"),
    ("A: CORRECT", "CORRECT"),
    ("B：【错误】", "INCORRECT"),
    ("C. NOT_ATTEMPTED", "NOT_ATTEMPTED"),
    # The official code reads the C of these words as NOT_ATTEMPTED.
    ("CORRECT", "CORRECT"),
    ("INCORRECT", "INCORRECT"),
    ("NOT ATTEMPTED", "NOT_ATTEMPTED"),
    ("The answer is INCORRECT.", "INCORRECT"),
    ("【正确】", "CORRECT"),
    ("评定为【未尝试】", "NOT_ATTEMPTED"),
    ("", None),
    ("A good answer", None),
    ("Both A and B", None),
    ("CORRECT or INCORRECT", None),
    ("A: INCORRECT", None),
    ("D", None),
    ("ABC", None),
]


@pytest.mark.parametrize(("reply", "label"), SIMPLEQA_REPLIES)
def test_simpleqa_labels(reply: str, label: str | None) -> None:
    assert read_simpleqa_label(reply) == label


DECISIONS = [
    ('"Explanation:" it is there\n"Decision:" "TRUE"', "TRUE"),
    ("Explanation: no.\nDecision: FALSE", "FALSE"),
    ("**Decision:** TRUE", "TRUE"),
    ("Decision: TRUE at first sight. No: Decision: FALSE", "FALSE"),
    ("true", "TRUE"),
    ("It is TRUE that Paris is a city.", None),
    ("Decision: TRUEISH", None),
    ("", None),
]


@pytest.mark.parametrize(("reply", "decision"), DECISIONS)
def test_frames_decisions(reply: str, decision: str | None) -> None:
    assert read_decision(reply) == decision


def simpleqa_file(folder: Path) -> Path:
    path = folder / "mine.csv"
    metadata = "\"{'topic': 'Art', 'urls': ['x']}\""
    path.write_text(f"metadata,problem,answer\n{metadata},Who?,Ann\nbroken,When?,1999\n")
    return path


def test_simpleqa_from_a_file(tmp_path: Path) -> None:
    config = TaskConfig(name="simpleqa", path=str(simpleqa_file(tmp_path)))
    built = build_task(config, ScriptedJudge(["A"]))
    problems = built.problems("test")
    assert [(p.id, p.question, p.answer, p.metadata) for p in problems] == [
        ("0", "Who?", "Ann", {"topic": "Art"}),
        ("1", "When?", "1999", {}),
    ]
    assert built.problems("train") == ()
    assert built.instruction == ""
    assert [built.gold_error(p) for p in problems] == ["", ""]
    assert built.grade(problems[0], Completion("Ann")).reward == 1.0


def test_a_drawn_part_keeps_its_ids(tmp_path: Path) -> None:
    path = str(simpleqa_file(tmp_path))
    whole = {p.id: p for p in build_task(TaskConfig(name="simpleqa", path=path)).problems("test")}
    part = build_task(TaskConfig(name="simpleqa", path=path, num_test=1)).problems("test")
    assert len(part) == 1 and part[0] == whole[part[0].id]


def test_a_drawn_part_of_frames_keeps_its_ids(tmp_path: Path) -> None:
    row = {"Answer": "Ann", "wiki_links": LINKS}
    rows = [{**row, "Prompt": f"Question {i}?"} for i in range(9)]
    (tmp_path / "frames.json").write_text(json.dumps(rows))
    config = TaskConfig(name="frames", path=str(tmp_path), num_test=4)
    for problem in build_task(config).problems("test"):
        assert problem.metadata["query"] == f"Question {problem.id}?"


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("metadata,problem,answer\nx,Who?,\n")
    with pytest.raises(TaskError, match=r"mine.csv:2: answer is '', not text"):
        build_task(TaskConfig(name="simpleqa", path=str(path)))
    with pytest.raises(TaskError, match=r"no simple_qa_test_set.csv .*download"):
        build_task(TaskConfig(name="simpleqa", path=str(tmp_path)))
    with pytest.raises(TaskError, match="unknown option 'articles'"):
        build_task(TaskConfig(name="simpleqa", path=str(path), options={"articles": "x"}))


def frames_file(folder: Path, links: str) -> str:
    row = {"Prompt": "Who?", "Answer": "Ann", "wiki_links": links, "reasoning_types": "Temporal"}
    path = folder / "frames.json"
    path.write_text(json.dumps([row]))
    return str(path)


LINKS = "['https://en.wikipedia.org/wiki/Ann_Lee', 'https://en.wikipedia.org/wiki/Caf%C3%A9#Old']"


def test_frames_with_its_articles(tmp_path: Path) -> None:
    path = frames_file(tmp_path, LINKS)
    articles = tmp_path / "articles.jsonl"
    texts = [
        {"url": "https://en.wikipedia.org/wiki/Ann_Lee", "text": "Ann was born.\n"},
        {"url": "https://en.wikipedia.org/wiki/Café", "title": "The café", "text": "It {sells}."},
    ]
    articles.write_text("".join(json.dumps(row) + "\n" for row in texts))
    judge = ScriptedJudge(["Explanation: yes\nDecision: TRUE"])
    config = TaskConfig(name="frames", path=path, options={"articles": str(articles)})
    built = build_task(config, judge)
    assert isinstance(built, JudgedTask)
    problem = built.problems("test")[0]
    assert problem.question == (
        "Here are the relevant Wikipedia articles:\n"
        "Ann Lee\nAnn was born.\n\nThe café\nIt {sells}.\n\n"
        "Based on all the information, answer the query. \n\nQuery: Who?\n\n"
    )
    assert built.label == ""
    assert built.grade(problem, Completion("Ann")).reward == 1.0
    # The judge sees the query, not the articles.
    assert (
        "- Question: Who?\n- Predicted Answer: Ann\n- Ground Truth Answer: Ann\n"
        in judge.asked[0][0]
    )
    assert "born" not in judge.asked[0][0]


def test_frames_articles_in_a_folder(tmp_path: Path) -> None:
    path = frames_file(tmp_path, LINKS)
    folder = tmp_path / "articles"
    folder.mkdir()
    (folder / "Ann_Lee.txt").write_text("About Ann")
    config = TaskConfig(name="frames", path=path, options={"articles": str(folder)})
    with pytest.raises(TaskError, match=r"1 of 2 articles are missing, first .*Caf%C3%A9#Old;"):
        build_task(config)
    (folder / "Café.md").write_text("About cafés")
    question = build_task(config).problems("test")[0].question
    assert "About Ann\n\nAbout cafés" in question


def test_frames_without_articles_is_labelled(tmp_path: Path) -> None:
    built = build_task(TaskConfig(name="frames", path=frames_file(tmp_path, LINKS)))
    assert isinstance(built, JudgedTask)
    assert built.label.startswith("no articles")
    assert LINKS in built.problems("test")[0].question
    with pytest.raises(TaskError, match="wiki_links is None, not a list"):
        build_task(TaskConfig(name="frames", path=frames_file(tmp_path, "__import__('os')")))


def test_article_keys() -> None:
    assert article_key("https://en.wikipedia.org/wiki/A_B#C") == "A_B"
    assert article_key("https://en.wikipedia.org/wiki/A%20B/") == "A_B"


@pytest.mark.parametrize(
    ("name", "count", "language"),
    [("simpleqa", 4326, "en"), ("chinese_simpleqa", 3000, "zh"), ("frames", 824, "en")],
)
def test_the_published_files(shared_dir: Path, name: str, count: int, language: str) -> None:
    built = build_task(TaskConfig(name=name, path=str(shared_dir / "data")))
    problems = built.problems("test")
    assert len({p.id for p in problems}) == len(problems) == count
    assert {p.language for p in problems} == {language}
    assert all(built.gold_error(p) == "" for p in problems)
    assert built.grade(problems[0], Completion("x")).reason == "no judge"

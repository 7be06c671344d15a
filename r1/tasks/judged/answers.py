"""Rows where a judge compares an answer with the gold: SimpleQA, Chinese SimpleQA, FRAMES.

Data: SimpleQA (Wei et al. 2024, MIT), Chinese SimpleQA (He et al. 2024, CC BY-NC-SA),
FRAMES (Krishna et al. 2024, Apache-2.0).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from r1.records import Problem
from r1.tasks.benchmark_rows import (
    HUB_OPTIONS,
    BenchmarkFiles,
    draw_test,
    read_benchmark,
    refuse_unknown_options,
)
from r1.tasks.judged.frames_articles import NO_ARTICLES, frames_context
from r1.tasks.judged.judged import (
    Judge,
    JudgedTask,
    JudgePrompt,
    JudgeTemplate,
    JudgeVerdict,
    ask_for,
    load_template,
    shortened,
)
from r1.tasks.row_files import Row
from r1.tasks.task import TaskConfig, TaskError

SIMPLEQA = BenchmarkFiles(
    "simpleqa",
    ("simple_qa_test_set.csv", "simple_qa_test_set.csv.gz"),
    hub_id="basicv8vc/SimpleQA",
    how_to_get="download openaipublic.blob.core.windows.net/simple-evals/simple_qa_test_set.csv",
)
CHINESE_SIMPLEQA = BenchmarkFiles(
    "chinese_simpleqa",
    ("chinese_simpleqa.jsonl", "chinese_simpleqa.csv"),
    hub_id="OpenStellarTeam/Chinese-SimpleQA",
    hub_split="train",
    how_to_get="take data/chinese_simpleqa.jsonl of github.com/OpenStellarTeam/ChineseSimpleQA",
)
FRAMES = BenchmarkFiles(
    "frames", ("frames.json", "frames.jsonl", "test.jsonl"), hub_id="google/frames-benchmark"
)

_LABELS = {"A": "CORRECT", "B": "INCORRECT", "C": "NOT_ATTEMPTED"}
_WORDS = {
    "CORRECT": "A",
    "INCORRECT": "B",
    "NOT_ATTEMPTED": "C",
    "正确": "A",
    "错误": "B",
    "未尝试": "C",
}
_LETTER = re.compile(r"[\W_]*([ABC])(?:[\W_]*|\s*[:：.)].*)", re.DOTALL)
_WORD = re.compile(r"(?<![A-Z])(?:NOT[_ ]ATTEMPTED|INCORRECT|CORRECT)(?![A-Z])|正确|错误|未尝试")
_DECISION = re.compile(r"decision\W{0,6}(true|false)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class GoldRubric:
    """One question to the judge about an answer and its gold; `read` finds the label.

    `parts_of` turns the label into parts, of which `correct` is the reward.
    """

    template: JudgeTemplate
    read: Callable[[str], str | None]
    parts_of: Callable[[str], Mapping[str, float]]
    no_answer_label: str
    num_reply_tokens: int

    def no_answer_parts(self, problem: Problem) -> Mapping[str, float]:
        return self.parts_of(self.no_answer_label)

    def prompts(self, problem: Problem, answer: str) -> list[JudgePrompt]:
        question = problem.metadata.get("query", problem.question)
        gold = problem.answer or ""
        return [self.template.fill(question=question, target=gold, predicted_answer=answer)]

    def decide(self, judge: Judge, problem: Problem, answer: str) -> JudgeVerdict:
        label, reply = ask_for(judge, self.prompts(problem, answer)[0], self.read)
        if label is None:
            return JudgeVerdict(None, reason=f"no verdict in the judge's reply {shortened(reply)}")
        parts = self.parts_of(label)
        return JudgeVerdict(parts["correct"], parts, label)


def read_simpleqa_label(reply: str) -> str | None:
    """CORRECT, INCORRECT or NOT_ATTEMPTED, where the letter and the words name one of them.

    The official code takes the first A, B or C anywhere, so that the word CORRECT counts as
    C, and what it cannot read as C too; here such a reply is no verdict.
    """
    named = {_WORDS[word.replace(" ", "_")] for word in _WORD.findall(reply)}
    if letter := _LETTER.fullmatch(reply.strip()):
        named.add(letter.group(1))
    return _LABELS[named.pop()] if len(named) == 1 else None


def read_decision(reply: str) -> str | None:
    """TRUE or FALSE after the last `Decision:`, or the whole of a bare reply."""
    bare = reply.strip().strip("\"'*.").upper()
    if bare in ("TRUE", "FALSE"):
        return bare
    decisions = _DECISION.findall(reply)
    return decisions[-1].upper() if decisions else None


def simpleqa_parts(label: str) -> dict[str, float]:
    """`correct` and `attempted`, of which the official F-score is made."""
    return {"correct": float(label == "CORRECT"), "attempted": float(label != "NOT_ATTEMPTED")}


def build_simpleqa(config: TaskConfig, judge: Judge | None = None) -> JudgedTask:
    """SimpleQA: 4,326 questions as they are; the row reports the share that is correct."""
    return _build_simpleqa(config, judge, SIMPLEQA, "simpleqa-1", "problem")


def build_chinese_simpleqa(config: TaskConfig, judge: Judge | None = None) -> JudgedTask:
    """Chinese SimpleQA: 3,000 questions as they are, with the official Chinese judge prompt."""
    return _build_simpleqa(config, judge, CHINESE_SIMPLEQA, "chinese_simpleqa-1", "question")


def build_frames(config: TaskConfig, judge: Judge | None = None) -> JudgedTask:
    """FRAMES: 824 questions, each with all its gold articles in the prompt.

    `options.articles` is a folder or a JSON Lines file of the articles (see
    `frames_articles`). Without it the prompt has their addresses alone, as in optillm's
    script, and the task's `label` says so: that is not the published protocol.
    """
    refuse_unknown_options(config, (*HUB_OPTIONS, "articles"))
    numbered = list(enumerate(read_benchmark(config, FRAMES)))
    numbered = draw_test(numbered, config)
    articles = config.options.get("articles")
    links = [_wiki_links(row) for _, row in numbered]
    contexts = frames_context(links, articles)
    problems = []
    for (number, row), group, context in zip(numbered, links, contexts, strict=True):
        query = row.text("Prompt" if "Prompt" in row.data else "Question")
        # The form of the paper's oracle prompt, as in optillm's eval_frames_benchmark.py.
        question = (
            f"Here are the relevant Wikipedia articles:\n{context}\n\n"
            f"Based on all the information, answer the query. \n\nQuery: {query}\n\n"
        )
        metadata = {
            "query": query,
            "reasoning_types": str(row.data.get("reasoning_types", "")),
            "wiki_links": group,
        }
        name = str(row.data.get("id", number))
        problem = Problem(name, question, row.text("Answer"), task=config.name, metadata=metadata)
        problems.append(problem)
    rubric = GoldRubric(
        template=load_template("frames-1"),
        read=read_decision,
        parts_of=lambda label: {"correct": float(label == "TRUE")},
        no_answer_label="FALSE",
        num_reply_tokens=120,
    )
    return JudgedTask(config.name, problems, rubric, judge, "" if articles else NO_ARTICLES)


def _build_simpleqa(
    config: TaskConfig, judge: Judge | None, files: BenchmarkFiles, template: str, field: str
) -> JudgedTask:
    refuse_unknown_options(config, HUB_OPTIONS)
    rows = list(enumerate(read_benchmark(config, files)))
    language = "zh" if files is CHINESE_SIMPLEQA else "en"
    problems = [
        Problem(
            id=str(row.data.get("id", number)),
            question=row.text(field),
            answer=row.text("answer"),
            language=language,
            task=config.name,
            metadata=_topic(row.data),
        )
        for number, row in draw_test(rows, config)
    ]
    rubric = GoldRubric(
        template=load_template(template),
        read=read_simpleqa_label,
        parts_of=simpleqa_parts,
        no_answer_label="NOT_ATTEMPTED",
        num_reply_tokens=1,
    )
    return JudgedTask(config.name, problems, rubric, judge)


def _topic(data: Mapping[str, Any]) -> dict[str, str]:
    """SimpleQA's metadata is a Python literal; Chinese SimpleQA's categories are fields."""
    if "primary_category" in data:
        return {"topic": str(data["primary_category"])}
    metadata = _literal(data.get("metadata"))
    return {"topic": str(metadata.get("topic", ""))} if isinstance(metadata, dict) else {}


def _wiki_links(row: Row) -> list[str]:
    links = _literal(row.data.get("wiki_links"))
    if not isinstance(links, list) or not links:
        raise TaskError(f"{row.location}: wiki_links is {links!r}, not a list of addresses")
    return [str(link) for link in links]


def _literal(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None

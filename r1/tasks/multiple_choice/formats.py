"""The multiple-choice benchmarks: what a record looks like, and how it is asked.

Each is a reader of one record and a prompt; `multiple_choice` has the rest. Prompts are
zero-shot, as DeepSeek-R1 was asked: openai/simple-evals for MMLU, MMLU-Pro and
GPQA, ZeroEval for MMLU-Redux, and the same in Chinese for C-Eval and CLUEWSC.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from r1.tasks.benchmark_rows import BenchmarkFiles

LETTERS = "ABCDEFGHIJ"
_ASSETS = Path(__file__).resolve().parents[2] / "assets" / "benchmarks"

# openai/simple-evals (MIT), common.py, QUERY_TEMPLATE_MULTICHOICE.
SIMPLE_EVALS_PROMPT = (
    "Answer the following multiple choice question. The last line of your response should be of "
    "the following format: 'Answer: $LETTER' (without quotes) where LETTER is one of {letters}. "
    "Think step by step before answering.\n\n{question}\n\n{options}"
)
# WildEval/ZeroEval (Apache-2.0), src/templates/MCQA.py, its trailing spaces included.
ZERO_EVAL_PROMPT = (
    "\n## Question: \n\n{question}\n\n## Choices:\n\n{options}\n\n## Instruction \n\n"
    "Please answer this question by first reasoning and then selecting the correct choice. \n"
    "Present your reasoning and solution in the following json format. \n"
    "Please show your choice in the `answer` field with only the choice letter, "
    'e.g.,`"answer": "C"`.\n\n'
    '```json\n{{\n    "reasoning": "___",\n    "answer": "___"\n}}\n```\n'
)
# The first sentence is C-Eval's own; the second is that of simple-evals.
CEVAL_PROMPT = (
    "以下是中国关于{subject}考试的单项选择题，请选出其中的正确答案。请一步一步思考，并在回答的最后一行使用以下格式："
    "“答案：$字母”（不含引号），其中字母是{letters}之一。\n\n{question}\n\n{options}"
)
CLUEWSC_PROMPT = (
    "请阅读下面的句子，判断其中用【】标出的“{pronoun}”是否指代“{noun}”。请一步一步思考，并在回答的最后一行使用以下格式："
    "“答案：$字母”（不含引号），其中字母是{letters}之一。\n\n{text}\n\n{options}"
)

ReplyForm = Literal["line", "json"]
RedoneGold = Literal["original", "corrected", "ok_only"]


@dataclass(frozen=True, slots=True)
class Question:
    """One question: its prompt, its options in order, and the letters that count as right."""

    prompt: str
    options: tuple[str, ...]
    accepted: tuple[str, ...]
    id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


Reader = Callable[[Mapping[str, Any], int, Mapping[str, Any]], Question | None]


@dataclass(frozen=True, slots=True)
class ChoiceFormat:
    """One benchmark. `read` takes a record, its number and the options of the config.

    It gives None for a record that the options leave out, and raises ValueError or
    KeyError for one that is not of the benchmark's form.
    """

    files: BenchmarkFiles
    read: Reader
    reply_form: ReplyForm = "line"
    language: str = "en"
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Options of the benchmark that change its golds, with their values, the default first."""
    free_options: tuple[str, ...] = ()


def read_mmlu(record: Mapping[str, Any], number: int, config: Mapping[str, Any]) -> Question:
    """`question, choices, answer, subject`, or simple-evals' `Question, A, B, C, D, Answer`."""
    record = {key.lower(): value for key, value in record.items()}
    choices = record.get("choices") or [record[letter] for letter in "abcd"]
    subject = record.get("subject") or config.get("subset") or ""
    return _ask(
        SIMPLE_EVALS_PROMPT,
        record["question"],
        choices,
        _letter(record["answer"], choices),
        metadata={"subject": subject, "category": _category("mmlu", subject)},
    )


def read_mmlu_pro(record: Mapping[str, Any], number: int, config: Mapping[str, Any]) -> Question:
    """`question_id, question, options, answer, category, src`; 3 to 10 options."""
    source = str(record.get("src", ""))
    return _ask(
        SIMPLE_EVALS_PROMPT,
        record["question"],
        record["options"],
        _letter(record["answer"], record["options"]),
        id=str(record["question_id"]),
        metadata={"category": record["category"], "src": source},
    )


def read_mmlu_redux(
    record: Mapping[str, Any], number: int, config: Mapping[str, Any]
) -> Question | None:
    """`question, choices, answer, error_type, correct_answer`.

    The gold by the option `gold`: "corrected" takes the annotators' answer where they
    name options ("wrong_groundtruth", "multiple_correct_answers"), "original" MMLU's
    own, "ok_only" leaves out all questions with an error type.
    """
    choices, error_type = record["choices"], record["error_type"]
    gold: RedoneGold = config.get("gold", "corrected")
    if gold == "ok_only" and error_type != "ok":
        return None
    accepted: tuple[str, ...] = ()
    if gold == "corrected" and error_type in ("wrong_groundtruth", "multiple_correct_answers"):
        accepted = corrected_letters(record.get("correct_answer"))
    subject = record.get("subject") or record.get("type") or config.get("subset") or ""
    options = "".join(
        f"- ({letter}) {text}\n" for letter, text in zip(LETTERS, choices, strict=False)
    )
    return Question(
        prompt=ZERO_EVAL_PROMPT.format(question=record["question"], options=options),
        options=tuple(choices),
        accepted=accepted or (_letter(record["answer"], choices),),
        metadata={
            "subject": subject,
            "category": _category("mmlu", subject),
            "error_type": error_type,
            "gold": "corrected" if accepted else "original",
        },
    )


def corrected_letters(correction: Any) -> tuple[str, ...]:
    """The options that MMLU-Redux's `correct_answer` names: "2", "C", "1, 3", "A,D", "0 or 1".

    Empty for words, such as "depends on interpretation".
    """
    text = re.sub(r"\band\b|\bor\b|[,()]", " ", str(correction))
    names = text.split()
    if not all(re.fullmatch("[0-3A-D]", name) for name in names):
        return ()
    letters = {LETTERS[int(name)] if name.isdecimal() else name for name in names}
    return tuple(sorted(letters))


def read_gpqa(record: Mapping[str, Any], number: int, config: Mapping[str, Any]) -> Question:
    """`Question, Correct Answer, Incorrect Answer 1` to `3`.

    The options are permuted as simple-evals does in its first round, with the option `seed`
    for its 0, and the permutation is kept: place i shows the option `permutation[i]` of
    [correct, incorrect 1, 2, 3].
    """
    names = ("Correct Answer", *(f"Incorrect Answer {i}" for i in (1, 2, 3)))
    rng = random.Random(config.get("seed", 0))
    permutation = [rng.sample(range(4), 4) for _ in range(number + 1)][-1]
    choices = [str(record[names[index]]).strip() for index in permutation]
    return _ask(
        SIMPLE_EVALS_PROMPT,
        str(record["Question"]).strip(),
        choices,
        LETTERS[permutation.index(0)],
        id=record.get("Record ID"),
        metadata={
            "permutation": permutation,
            "category": record.get("High-level domain") or "",
            "subject": record.get("Subdomain") or "",
        },
    )


def read_ceval(record: Mapping[str, Any], number: int, config: Mapping[str, Any]) -> Question:
    """`question, A, B, C, D, answer`, with the subject in the record or the option `subset`."""
    subject = record.get("subject") or config.get("subset") or ""
    known = _subjects("ceval").get(subject, {})
    choices = [str(record[letter]) for letter in "ABCD"]
    return _ask(
        CEVAL_PROMPT.replace("{subject}", known.get("name", subject)),
        record["question"],
        choices,
        _letter(record["answer"], choices),
        id=f"{subject}-{record['id']}" if "id" in record else None,
        metadata={"subject": subject, "category": known.get("category", "")},
    )


def read_cluewsc(record: Mapping[str, Any], number: int, config: Mapping[str, Any]) -> Question:
    """FewCLUE: `target{span1_text, span2_text, span1_index, span2_index}, text, label`.

    Whether span 2, the pronoun, means span 1; A is yes. The pronoun is marked in the text,
    where it may occur more than once.
    """
    target, text, label = record["target"], record["text"], str(record["label"]).lower()
    if label not in ("true", "false"):
        raise ValueError(f"label is {record['label']!r}, not 'true' or 'false'")
    pronoun, start = target["span2_text"], target["span2_index"]
    if not text.startswith(pronoun, start):
        raise ValueError(f"{pronoun!r} does not stand at {start} in the text")
    end = start + len(pronoun)
    options = ("是", "否")
    return Question(
        prompt=CLUEWSC_PROMPT.format(
            pronoun=pronoun,
            noun=target["span1_text"],
            letters="AB",
            text=f"{text[:start]}【{pronoun}】{text[end:]}",
            options="A) 是\nB) 否",
        ),
        options=options,
        accepted=("A" if label == "true" else "B",),
        id=str(record["idx"]) if "idx" in record else None,
        metadata={"label": label},
    )


def _ask(template: str, question: str, choices: Sequence[str], gold: str, **rest: Any) -> Question:
    letters = LETTERS[: len(choices)]
    options = "\n".join(f"{letter}) {text}" for letter, text in zip(letters, choices, strict=True))
    prompt = template.format(letters=letters, question=question, options=options)
    return Question(prompt, tuple(choices), (gold,), **rest)


def _letter(answer: Any, choices: Sequence[str]) -> str:
    """A gold as a letter: records have letters, or numbers from 0."""
    letters = LETTERS[: len(choices)]
    if not 2 <= len(choices) <= len(LETTERS):
        raise ValueError(f"{len(choices)} options, expected 2 to {len(LETTERS)}")
    if isinstance(answer, int) and 0 <= answer < len(letters):
        return letters[answer]
    if isinstance(answer, str) and len(answer) == 1 and answer in letters:
        return answer
    raise ValueError(f"answer is {answer!r}, not one of {letters}")


@cache
def _subjects(benchmark: str) -> Mapping[str, Mapping[str, str]]:
    """Name and category of each subject, from hiyouga/LLaMA-Factory (Apache-2.0)."""
    path = _ASSETS / benchmark / "subject_mapping.json"
    return json.loads(path.read_text(encoding="utf-8"))


def _category(benchmark: str, subject: str) -> str:
    return _subjects(benchmark).get(subject, {}).get("category", "")


FORMATS: dict[str, ChoiceFormat] = {
    "mmlu": ChoiceFormat(
        BenchmarkFiles(
            "mmlu",
            ("mmlu_test.jsonl.gz", "mmlu_test.jsonl", "mmlu.csv"),
            hub_id="cais/mmlu",
            hub_subset="all",
        ),
        read_mmlu,
    ),
    "mmlu_redux": ChoiceFormat(
        BenchmarkFiles(
            "mmlu_redux",
            ("mmlu_redux2_test.jsonl.gz", "mmlu_redux2_test.jsonl"),
            hub_id="edinburgh-dawg/mmlu-redux-2.0",
            hub_subjects=lambda: _subjects("mmlu"),
        ),
        read_mmlu_redux,
        reply_form="json",
        options={"gold": ("corrected", "original", "ok_only")},
    ),
    "mmlu_pro": ChoiceFormat(
        BenchmarkFiles(
            "mmlu_pro",
            ("mmlu_pro_test.parquet", "test-00000-of-00001.parquet", "mmlu_pro_test.jsonl"),
            hub_id="TIGER-Lab/MMLU-Pro",
        ),
        read_mmlu_pro,
    ),
    "gpqa_diamond": ChoiceFormat(
        BenchmarkFiles(
            "gpqa_diamond",
            ("gpqa_diamond.csv",),
            hub_id="Idavidrein/gpqa",
            hub_subset="gpqa_diamond",
            hub_split="train",
            how_to_get="accept its terms there (its examples must not be published), download "
            "gpqa_diamond.csv and set path to it",
        ),
        read_gpqa,
        free_options=("seed",),
    ),
    "ceval": ChoiceFormat(
        BenchmarkFiles(
            "ceval",
            ("ceval_val.jsonl", "ceval_val.jsonl.gz"),
            hub_id="ceval/ceval-exam",
            hub_split="val",
            how_to_get="download ceval-exam.zip from there and set path to its folder val (the "
            "labels of the test split are hidden)",
            subject_files="_val.csv",
            hub_subjects=lambda: _subjects("ceval"),
        ),
        read_ceval,
        language="zh",
    ),
    "cluewsc": ChoiceFormat(
        BenchmarkFiles(
            "cluewsc",
            ("fewclue_cluewsc_test_public.jsonl", "test_public.json"),
            how_to_get="download datasets/cluewsc/test_public.json of "
            "github.com/CLUEbenchmark/FewCLUE",
        ),
        read_cluewsc,
        language="zh",
    ),
}

"""Rejection sampling: several samples a prompt, graded, filtered, written as SFT data.

Cold-start data from R1-Zero and the data of R1's second SFT are both this: correct,
readable replies of a checkpoint, put into think + summary form, mixed with general
data, without anything that a test holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from r1.config import Config
from r1.engine.engine import Engine, EngineConfig
from r1.engine.open_model import DtypeName, GeneratorFactory, open_model
from r1.generator import Generator
from r1.records import GenerationRequest, Problem, SamplingParams
from r1.run_log import JsonlLog, Progress, RunFolder, write_json, write_jsonl
from r1.tasks.row_files import file_kind, read_rows
from r1.tasks.task import Task, TaskConfig, build_task, grade_all, preflight
from r1.text.decontamination import NGRAM_WORDS, Decontaminator
from r1.text.prompts import PromptStyle, build_prompt, completion_of
from r1.text.tokenizer import Tokenizer
from r1.training.prompt_limit import check_prompts_fit, max_prompt_tokens
from r1.training.rewriting import SUMMARIES, Rewrite, rewrite_by_model, rewrite_by_rule
from r1.training.sample_filters import FilterConfig, GradedReply, filter_replies

Row = dict[str, Any]


class SampleConfig(Config):
    """What to sample, what to keep, and what to mix in."""

    output: Path
    model: str
    task: TaskConfig
    split: Literal["train", "test"] = "train"
    max_prompts: int | None = Field(default=None, ge=1)
    """Only so many problems, drawn by `seed`; None is all."""
    prompt_style: PromptStyle = "chat"
    """How the model is asked."""
    output_style: Literal["r1_zero", "chat"] = "chat"
    """How the SFT that reads the rows will ask."""
    dtype: DtypeName | None = None
    device: str = "auto"
    seed: int = Field(default=0, ge=0)

    samples_per_prompt: int = Field(default=4, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0, le=1)
    max_tokens: int = Field(default=32_768, ge=1)
    prompts_per_batch: int = Field(default=64, ge=1)
    """Prompts sampled at once, and saved together."""

    filters: FilterConfig = FilterConfig()
    rewrite: Literal["none", "rule", "model"] = "none"
    """Put kept replies into think + summary form: as they are, or rewritten by a model."""
    rewrite_model: str | None = None
    """The model that rewrites; None is the sampled model."""
    rewrite_temperature: float = Field(default=0.6, ge=0)
    summaries: dict[str, str] = Field(default=SUMMARIES)
    """By language, the sentence that gives the answer in place of ANSWER."""

    general_data: tuple[Path, ...] = ()
    """JSONL rows of SFT data to mix in."""
    general_ratio: float = Field(default=1 / 3, ge=0)
    """General rows for each kept reply (R1: 200K to 600K)."""
    test_data: tuple[Path, ...] = ()
    """JSONL or text files that no row may share `decontaminate_words` words with."""
    decontaminate_words: int = Field(default=NGRAM_WORDS, ge=1)
    decontaminate_task: bool = True
    """Also against the questions of the task's own test split."""

    num_grading_threads: int = Field(default=4, ge=1)
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _check_sampling(self) -> Self:
        _ = self.sampling  # raises ValueError for values out of range
        return self

    @property
    def sampling(self) -> SamplingParams:
        return SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            max_tokens=self.max_tokens,
        )


def run_sample(
    config: SampleConfig,
    *,
    make_generator: GeneratorFactory = Engine,
    rewrite: Rewrite | None = None,
) -> Path:
    """Sample, grade, filter, rewrite and mix; returns the JSONL file of SFT rows.

    The run folder keeps every sample with its grade (`records.jsonl`) and what each
    filter removed (`summary.json`). A stopped run goes on where it was: prompts that
    have a record are not sampled again. `rewrite` takes the place of the built-in ones.

    Raises ValueError for a mistake in the data or the config, and when nothing is kept.
    """
    with RunFolder.open(config.output, config=config) as run:
        data_path = run.path / "data.jsonl"
        if data_path.exists():
            return data_path
        task = build_task(config.task)
        preflight(task, splits=(config.split,))
        general = [dict(row.data) for path in config.general_data for row in read_rows(path)]
        tests = read_test_texts(task, config)
        problems = choose_problems(task.problems(config.split), config)

        records = JsonlLog(run.path / "records.jsonl")
        opened = sample_missing(task, problems, config, records, make_generator)
        replies = read_replies(records, problems)
        kept, removed = filter_replies(replies, config.filters)
        rewrite = rewrite or _built_in_rewrite(config, make_generator, opened)
        if rewrite is not None:
            kept = rewrite_replies(kept, rewrite, task, config, removed)
        kept = drop_contaminated(kept, tests, removed)
        if not kept:
            raise ValueError(f"{run.path}: no reply of {len(replies)} was kept; {dict(removed)}")

        rows = mix_with_general([reply_row(r, task, config) for r in kept], general, config)
        write_json(run.path / "summary.json", _summary(problems, replies, kept, removed, rows))
        write_jsonl(data_path, rows)
        return data_path


# ---------------------------------------------------------------- sampling


def choose_problems(problems: Sequence[Problem], config: SampleConfig) -> list[Problem]:
    """All problems, or `max_prompts` of them drawn by the seed, in the task's order."""
    if config.max_prompts is None or config.max_prompts >= len(problems):
        return list(problems)
    order = np.random.default_rng(config.seed).permutation(len(problems))
    return [problems[i] for i in sorted(order[: config.max_prompts])]


Opened = tuple[Tokenizer, Generator]


def sample_missing(
    task: Task,
    problems: Sequence[Problem],
    config: SampleConfig,
    records: JsonlLog,
    make_generator: GeneratorFactory,
) -> Opened | None:
    """Sample the problems that have no record; the model is opened only if there are any."""
    done = {row["problem_id"] for row in records.rows()}
    missing = [problem for problem in problems if problem.id not in done]
    if not missing:
        return None
    model, tokenizer = open_model(
        config.model, dtype=config.dtype, device=config.device, is_trained=False
    )
    generator = make_generator(model, tokenizer, config.engine)
    max_tokens = max_prompt_tokens(generator, model)
    check_prompts_fit(tokenizer, task, missing, style=config.prompt_style, max_tokens=max_tokens)
    sample_problems(generator, tokenizer, task, missing, config, records)
    return tokenizer, generator


def sample_problems(
    generator: Generator,
    tokenizer: Tokenizer,
    task: Task,
    problems: Sequence[Problem],
    config: SampleConfig,
    records: JsonlLog,
) -> None:
    """Append one record a problem: all its samples, graded."""
    with Progress(len(problems), "sample") as progress:
        for start in range(0, len(problems), config.prompts_per_batch):
            batch = problems[start : start + config.prompts_per_batch]
            prompts = [
                build_prompt(tokenizer, p.question, config.prompt_style, task.instruction)
                for p in batch
            ]
            requests = [
                GenerationRequest(
                    id=problem.id,
                    prompt_ids=prompt.ids,
                    sampling=config.sampling,
                    num_samples=config.samples_per_prompt,
                    seed=config.seed,
                )
                for problem, prompt in zip(batch, prompts, strict=True)
            ]
            groups = generator.generate(requests)
            pairs = [
                (problem, completion_of(prompt, sample))
                for problem, prompt, samples in zip(batch, prompts, groups, strict=True)
                for sample in samples
            ]
            grades = iter(grade_all(task, pairs, config.num_grading_threads))
            completions = iter(completion for _, completion in pairs)
            for problem, samples in zip(batch, groups, strict=True):
                replies = [
                    GradedReply(problem, sample.sample_index, next(completions), next(grades))
                    for sample in samples
                ]
                records.append(
                    {"problem_id": problem.id, "samples": [r.as_json() for r in replies]}
                )
            progress.update(start + len(batch))


def read_replies(records: JsonlLog, problems: Sequence[Problem]) -> list[GradedReply]:
    """Every sampled reply, in the order of the problems."""
    by_id = {row["problem_id"]: row["samples"] for row in records.rows()}
    return [GradedReply.from_json(p, sample) for p in problems for sample in by_id.get(p.id, ())]


def _open_generator(
    model_name: str, config: SampleConfig, make_generator: GeneratorFactory
) -> Opened:
    model, tokenizer = open_model(
        model_name, dtype=config.dtype, device=config.device, is_trained=False
    )
    return tokenizer, make_generator(model, tokenizer, config.engine)


# ---------------------------------------------------------------- rewriting


def _built_in_rewrite(
    config: SampleConfig, make_generator: GeneratorFactory, opened: Opened | None
) -> Rewrite | None:
    if config.rewrite == "none":
        return None
    if config.rewrite == "rule":
        return lambda replies: rewrite_by_rule(replies, config.summaries)
    if opened is None or config.rewrite_model is not None:
        writer_name = config.rewrite_model or config.model
        opened = _open_generator(writer_name, config, make_generator)
    tokenizer, writer = opened
    sampling = SamplingParams(temperature=config.rewrite_temperature, max_tokens=config.max_tokens)
    return lambda replies: rewrite_by_model(
        replies,
        writer,
        tokenizer,
        sampling=sampling,
        seed=config.seed,
        summaries=config.summaries,
    )


def rewrite_replies(
    replies: Sequence[GradedReply],
    rewrite: Rewrite,
    task: Task,
    config: SampleConfig,
    removed: Counter[str],
) -> list[GradedReply]:
    """Replies in their new text, graded again: those that no longer pass are dropped.

    `num_tokens` stays that of the sampled reply.
    """
    written = [
        reply.with_text(text)
        for reply, text in zip(replies, rewrite(replies), strict=True)
        if text is not None
    ]
    removed["rewrite_failed"] += len(replies) - len(written)
    pairs = [(reply.problem, reply.completion) for reply in written]
    grades = grade_all(task, pairs, config.num_grading_threads)
    graded = [replace(reply, grade=g) for reply, g in zip(written, grades, strict=True)]
    kept, again = filter_replies(graded, config.filters)
    removed.update({f"after_rewrite_{name}": count for name, count in again.items()})
    return kept


# ---------------------------------------------------------------- rows


def read_test_texts(task: Task, config: SampleConfig) -> Decontaminator:
    """The texts that no row may repeat. Raises ValueError for a file that is not there."""
    texts = [text for path in config.test_data for text in _read_texts(path)]
    if config.decontaminate_task and config.split != "test":
        texts += [problem.question for problem in task.problems("test")]
    return Decontaminator(texts, config.decontaminate_words)


def drop_contaminated(
    replies: Sequence[GradedReply], tests: Decontaminator, removed: Counter[str]
) -> list[GradedReply]:
    """Without replies whose question or text repeats a test's."""
    bad_ids = {
        problem.id
        for problem in {reply.problem.id: reply.problem for reply in replies}.values()
        if tests.is_contaminated(problem.question)
    }
    kept = [
        reply
        for reply in replies
        if reply.problem.id not in bad_ids and not tests.is_contaminated(reply.completion.text)
    ]
    removed["contaminated"] += len(replies) - len(kept)
    return kept


def reply_row(reply: GradedReply, task: Task, config: SampleConfig) -> Row:
    """One row of SFT data; the prompt holds the task's instruction where a chat would."""
    problem = reply.problem
    has_instruction = config.output_style == "chat" and task.instruction
    return {
        "prompt": f"{problem.question}\n{task.instruction}"
        if has_instruction
        else problem.question,
        "completion": reply.completion.text,
        "style": config.output_style,
        "task": task.name,
        "problem_id": problem.id,
        "language": problem.language,
        "reward": reply.grade.reward,
        "parts": dict(reply.grade.parts),
        "num_tokens": reply.completion.num_tokens,
    }


def mix_with_general(
    rows: Sequence[Row], general: Sequence[Row], config: SampleConfig
) -> list[Row]:
    """Kept replies and `general_ratio` as many general rows, shuffled by the seed."""
    rng = np.random.default_rng([config.seed, len(rows)])
    num_general = min(round(config.general_ratio * len(rows)), len(general))
    chosen = rng.permutation(len(general))[:num_general]
    mixed = [*rows, *(general[i] for i in chosen)]
    return [mixed[i] for i in rng.permutation(len(mixed))]


def _summary(
    problems: Sequence[Problem],
    replies: Sequence[GradedReply],
    kept: Sequence[GradedReply],
    removed: Mapping[str, int],
    rows: Sequence[Row],
) -> Row:
    return {
        "num_prompts": len(problems),
        "num_samples": len(replies),
        "num_correct": sum(reply.grade.reward == 1.0 for reply in replies),
        "removed": {name: count for name, count in removed.items() if count},
        "num_kept": len(kept),
        "num_prompts_kept": len({reply.problem.id for reply in kept}),
        "num_general": len(rows) - len(kept),
        "num_rows": len(rows),
    }


def _read_texts(path: Path) -> list[str]:
    """The strings of rows (questions, solutions), or the lines of a plain text file."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file of test texts")
    if file_kind(path) is None:
        return path.read_text(encoding="utf-8").splitlines()
    return [text for row in read_rows(path) for text in row.data.values() if isinstance(text, str)]

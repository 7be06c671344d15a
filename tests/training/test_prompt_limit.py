"""Prompts that cannot fit are named before anything is sampled."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1.records import Problem
from r1.tasks.task import TaskConfig, TaskError
from r1.text.prompts import Prompt, build_prompt
from r1.text.tokenizer import Tokenizer
from r1.training import prompt_limit
from r1.training.grpo import GrpoConfig, run_grpo
from r1.training.prompt_limit import check_prompts_fit, longest_prompt
from r1.training.rejection_sampling import SampleConfig, run_sample
from tests.training.conftest import LetterTask


def test_long_prompts_are_counted_and_named(tiny_tokenizer: Tokenizer) -> None:
    problems = [Problem(f"p{i}", "q" * length, "a") for i, length in enumerate((3, 40, 41, 80))]
    fitting = len(build_prompt(tiny_tokenizer, "q" * 40, "plain").ids)
    longest = len(build_prompt(tiny_tokenizer, "q" * 80, "plain").ids)
    assert fitting < longest
    check_prompts_fit(tiny_tokenizer, LetterTask(), problems, style="plain", max_tokens=longest)
    message = (
        rf"1 of 2 prompts do not fit .* holds {longest - 1} tokens .*'p3' \({longest} tokens\)"
    )
    with pytest.raises(TaskError, match=message):
        check_prompts_fit(
            tiny_tokenizer, LetterTask(), problems[::3], style="plain", max_tokens=longest - 1
        )


def test_short_questions_are_not_encoded(
    tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def build(tokenizer: Tokenizer, question: str, *rest: str) -> Prompt:
        asked.append(question)
        return Prompt((1,))

    monkeypatch.setattr(prompt_limit, "build_prompt", build)
    problems = [Problem(f"p{i}", f"{i}?", "a") for i in range(100)]
    check_prompts_fit(tiny_tokenizer, LetterTask(), problems, style="chat", max_tokens=100)
    assert asked == [""]


def test_the_longest_prompt_is_found_among_the_longest_questions(
    tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def build(tokenizer: Tokenizer, question: str, *rest: str) -> Prompt:
        asked.append(question)
        # Ten tokens around a question, and one for every two x.
        return Prompt((1,) * (10 + len(question) - question.count("x") // 2))

    monkeypatch.setattr(prompt_limit, "build_prompt", build)
    questions = ["q" * 30, "x" * 100, "q" * 80, "q" * 200, "q" * 60, "x" * 300]
    problems = [Problem(f"p{i}", question, "a") for i, question in enumerate(questions)]
    assert longest_prompt(tiny_tokenizer, LetterTask(), problems, "plain") == 210
    assert asked == ["", "x" * 300, "q" * 200]


def test_training_and_sampling_refuse_at_the_start(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    values = {"model": str(tiny_policy), "task": letter_task, "device": "cpu", "max_tokens": 6}
    engine = {"num_blocks": 16, "max_model_len": 4}
    message = "6 of 6 prompts do not fit the context, which holds 3 tokens and a reply; first"
    with pytest.raises(TaskError, match=message):
        run_grpo(
            GrpoConfig.model_validate(
                values
                | {
                    "output": tmp_path / "grpo",
                    "prompt_style": "chat",
                    "reward_weights": {"accuracy": 1.0},
                    "engine": engine,
                }
            )
        )
    with pytest.raises(TaskError, match=message):
        run_sample(
            SampleConfig.model_validate(
                values
                | {"output": tmp_path / "sample", "engine": engine, "decontaminate_task": False}
            )
        )

"""Prompts that cannot fit the context, found before the first one is asked."""

from __future__ import annotations

from collections.abc import Sequence

from r1.generator import Generator
from r1.models.language_model import LanguageModel
from r1.records import Problem
from r1.tasks.task import Task, TaskError
from r1.text.prompts import PromptStyle, build_prompt
from r1.text.tokenizer import Tokenizer

_MAX_EXAMPLES = 3
# Where the question meets the text around it, other pieces may merge.
_SPARE_TOKENS = 16


def max_prompt_tokens(generator: Generator, model: LanguageModel) -> int:
    """The longest prompt that leaves room for one token: by the engine, else by the model."""
    return getattr(generator, "max_model_len", model.config.max_position_embeddings) - 1


def check_prompts_fit(
    tokenizer: Tokenizer,
    task: Task,
    problems: Sequence[Problem],
    *,
    style: PromptStyle,
    max_tokens: int,
) -> None:
    """Raises TaskError for questions whose prompt is longer than `max_tokens`.

    A token stands for at least one byte, so only questions with enough bytes are encoded.
    """

    def num_tokens(question: str) -> int:
        return len(build_prompt(tokenizer, question, style, task.instruction).ids)

    spare_bytes = max_tokens - num_tokens("") - _SPARE_TOKENS
    lengths = {
        problem.id: num_tokens(problem.question)
        for problem in problems
        if len(problem.question.encode("utf-8", "replace")) > spare_bytes
    }
    too_long = [
        f"{name!r} ({count} tokens)" for name, count in lengths.items() if count > max_tokens
    ]
    if too_long:
        more = ", ..." if len(too_long) > _MAX_EXAMPLES else ""
        raise TaskError(
            f"task {task.name!r}: {len(too_long)} of {len(problems)} prompts do not fit the"
            f" context, which holds {max_tokens} tokens and a reply; first"
            f" {', '.join(too_long[:_MAX_EXAMPLES])}{more}"
        )

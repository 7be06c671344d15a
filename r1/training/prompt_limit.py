"""The longest prompt, and prompts that cannot fit the context, before the first is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def longest_prompt(
    tokenizer: Tokenizer, task: Task, problems: Sequence[Problem], style: PromptStyle
) -> int:
    """Tokens of the longest prompt; questions too short to have it are not encoded."""
    num_tokens = _prompt_counter(tokenizer, task, style)
    around = num_tokens("") + _SPARE_TOKENS
    longest = 0
    for problem in sorted(problems, key=_num_bytes, reverse=True):
        if _num_bytes(problem) + around <= longest:
            break
        longest = max(longest, num_tokens(problem.question))
    return longest


def check_prompts_fit(
    tokenizer: Tokenizer,
    task: Task,
    problems: Sequence[Problem],
    *,
    style: PromptStyle,
    max_tokens: int,
) -> None:
    """Raises TaskError for questions whose prompt is longer than `max_tokens`.

    Only questions with enough bytes for it are encoded.
    """
    num_tokens = _prompt_counter(tokenizer, task, style)
    spare_bytes = max_tokens - num_tokens("") - _SPARE_TOKENS
    lengths = {
        problem.id: num_tokens(problem.question)
        for problem in problems
        if _num_bytes(problem) > spare_bytes
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


def _prompt_counter(tokenizer: Tokenizer, task: Task, style: PromptStyle) -> Callable[[str], int]:
    """Tokens of a question's prompt."""

    def num_tokens(question: str) -> int:
        return len(build_prompt(tokenizer, question, style, task.instruction).ids)

    return num_tokens


def _num_bytes(problem: Problem) -> int:
    """Of its question: as many tokens at most, for one stands for at least a byte."""
    return len(problem.question.encode("utf-8", "replace"))

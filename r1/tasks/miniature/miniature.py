"""The embedded default's tasks: `miniature/sums` with gold answers, `miniature/talk` without.

Sums come in English and Chinese. The test split holds sums whose hash keeps them out of
every training text, so that the two cannot overlap.
"""

from __future__ import annotations

import random

from pydantic import Field, ValidationError

from r1.config import Config
from r1.records import Problem
from r1.tasks.grading import MathTask, OpenTask, shared_verifier
from r1.tasks.miniature.general import exchanges
from r1.tasks.miniature.text import LANGUAGES, TextMix, draw_sum, word_question
from r1.tasks.task import Split, Task, TaskConfig, TaskError, nearest_names

_DEFAULT_NUM_PROBLEMS = {"train": 20_000, "test": 300}


class SumOptions(Config):
    """How long the sums are, in terms."""

    min_terms: int = Field(default=TextMix().min_terms, ge=2)
    max_terms: int = Field(default=TextMix().max_terms, ge=2)


def build_miniature(config: TaskConfig) -> Task:
    """`miniature` or `miniature/sums`, and `miniature/talk`; raises TaskError for other names."""
    kind = config.name.partition("/")[2] or "sums"
    builders = {"sums": _build_sums, "talk": _build_talk}
    if kind not in builders:
        names = [f"miniature/{known}" for known in builders]
        raise TaskError(f"unknown task {config.name!r}; {nearest_names(config.name, names)}")
    return builders[kind](config)


def _build_sums(config: TaskConfig) -> Task:
    try:
        options = SumOptions.model_validate(config.options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(SumOptions.model_fields)
        raise TaskError(f"options.{key} of {config.name}: {first['msg']}; known: {known}") from None
    if options.min_terms > options.max_terms:
        raise TaskError(f"options.min_terms of {config.name} is above options.max_terms")
    mix = TextMix(min_terms=options.min_terms, max_terms=options.max_terms)
    return MathTask(
        name=config.name,
        instruction=config.instruction or "",
        train=_sum_problems(config, mix, "train"),
        test=_sum_problems(config, mix, "test"),
        verifier=shared_verifier(config.verifier_workers, config.verifier_timeout_seconds),
        format_style=config.format_style,
    )


def _sum_problems(config: TaskConfig, mix: TextMix, split: Split) -> list[Problem]:
    wanted = config.num_train if split == "train" else config.num_test
    num_problems = _DEFAULT_NUM_PROBLEMS[split] if wanted is None else wanted
    rng = random.Random(f"{config.seed} {split}")
    problems: dict[str, Problem] = {}
    num_draws = 0
    while len(problems) < num_problems:
        num_draws += 1
        if num_draws > 100 * num_problems + 1000:
            raise TaskError(
                f"{config.name} has fewer than {num_problems} different sums of "
                f"{mix.min_terms} to {mix.max_terms} terms; ask for fewer or for longer ones"
            )
        drawn = draw_sum(rng, mix, held_out=split == "test")
        language = LANGUAGES[len(problems) % len(LANGUAGES)]
        question = word_question(rng, drawn, language)
        name = f"{split}/{language}/{drawn.text.replace(' ', '')}"
        if name not in problems:
            problems[name] = Problem(name, question, str(drawn.total), language, config.name)
    return list(problems.values())


def _build_talk(config: TaskConfig) -> Task:
    problems = [
        Problem(exchange.id, exchange.prompt, None, exchange.language, config.name)
        for exchange in exchanges()
    ]
    random.Random(config.seed).shuffle(problems)
    num_test = 0 if config.num_test is None else config.num_test
    train = problems[num_test:][: config.num_train]
    test = problems[:num_test]
    return OpenTask(config.name, train, test, config.instruction or "", config.format_style)

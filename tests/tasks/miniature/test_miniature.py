from __future__ import annotations

import itertools
import random
import re

import pytest

from r1.records import Completion
from r1.tasks.miniature.base_model import pretraining_rows, train_tokenizer
from r1.tasks.miniature.general import exchanges, preference_rows, safety_rows, sft_rows
from r1.tasks.miniature.text import Sum, TextMix, draw_sum, write_reply
from r1.tasks.task import TaskConfig, TaskError, build_task, preflight
from r1.text.language import language_consistency
from r1.text.reasoning import split_reasoning

SUM = re.compile(r"\d(?: [+-] \d)+")


def test_a_sum_by_hand():
    drawn = Sum((3, 5, -2))
    assert drawn.text == "3 + 5 - 2"
    assert drawn.total == 6


@pytest.mark.parametrize("held_out", [True, False])
def test_drawn_sums_stay_on_their_side_and_never_go_negative(held_out: bool):
    rng = random.Random(0)
    for _ in range(100):
        drawn = draw_sum(rng, TextMix(), held_out=held_out)
        assert drawn.is_held_out == held_out
        assert 5 <= len(drawn.terms) <= 8
        assert min(itertools.accumulate(drawn.terms)) >= 0


def test_pretraining_text_holds_no_test_sum():
    num_sums = 0
    for row in itertools.islice(pretraining_rows(0, TextMix()), 3000):
        match = SUM.search(row["prompt"])
        if match:
            num_sums += 1
            terms = match[0].replace("- ", "-").replace("+ ", "").split()
            assert not Sum(tuple(map(int, terms))).is_held_out
    assert num_sums > 2500


def test_pretraining_text_is_the_same_for_the_same_seed():
    def first(seed: int):
        return list(itertools.islice(pretraining_rows(seed, TextMix()), 20))

    assert first(1) == first(1)
    assert first(1) != first(2)


@pytest.mark.parametrize(("modes", "min_steps"), [((0.0, 1.0, 0.0), 3), ((0.0, 0.0, 1.0), 5)])
def test_thoughts_without_slips_are_right(modes: tuple[float, float, float], min_steps: int):
    mix = TextMix(modes=modes, short_slip=0, long_slip=0, long_error=0, well_formed=1, min_terms=6)
    rng = random.Random(1)
    for _ in range(50):
        drawn = draw_sum(rng, mix, held_out=False)
        reply = write_reply(rng, drawn, "en", mix)
        assert f"<answer> {drawn.total} </answer>" in reply
        assert reply.count(" = ") >= min_steps


def test_a_noticed_slip_does_not_change_the_answer():
    mix = TextMix(modes=(0, 0, 1), long_slip=0.5, long_error=0, well_formed=1)
    rng = random.Random(2)
    drawn = draw_sum(rng, mix, held_out=False)
    replies = [write_reply(rng, drawn, "en", mix) for _ in range(20)]
    assert all(f"<answer> {drawn.total} </answer>" in reply for reply in replies)
    assert any("Wait, " in reply or "等等，" in reply for reply in replies)


def test_guesses_are_right_as_often_as_asked():
    mix = TextMix(modes=(1, 0, 0), guess_is_right=0.25, well_formed=1)
    rng = random.Random(3)
    num_right = 0
    for _ in range(1000):
        drawn = draw_sum(rng, mix, held_out=False)
        num_right += f"<answer> {drawn.total} </answer>" in write_reply(rng, drawn, "en", mix)
    assert 200 < num_right < 300


def test_tasks_pass_their_own_checks():
    task = build_task(TaskConfig(name="miniature/sums", num_train=300, num_test=100))
    preflight(task)
    assert {p.language for p in task.problems("test")} == {"en", "zh"}
    talk = build_task(TaskConfig(name="miniature/talk"))
    preflight(talk, splits=("train",))
    assert len(talk.problems("train")) == len(exchanges())


def test_grades_of_a_sum():
    task = build_task(TaskConfig(name="miniature", num_train=1, num_test=1))
    problem = task.problems("test")[0]
    right = f"<think>\nFirst.\n</think>\n\nThe answer is \\boxed{{{problem.answer}}}."
    assert task.grade(problem, Completion(right)).reward == 1.0
    wrong = right.replace(f"{{{problem.answer}}}", "{9999}")
    assert task.grade(problem, Completion(wrong)).reward == 0.0
    assert task.grade(problem, Completion("<think>\nFirst")).reward == 0.0


def test_talk_has_no_score_of_its_own():
    task = build_task(TaskConfig(name="miniature/talk"))
    problem = task.problems("train")[0]
    for text in ("<think>\nHm.\n</think>\n\nHello!", "<think>\nnever closed"):
        grade = task.grade(problem, Completion(text))
        assert grade.reward is None
        assert set(grade.parts) == {"format", "language", "repetition"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TaskConfig(name="miniature/sumz"), "did you mean 'miniature/sums'"),
        (TaskConfig(name="miniature/sums", options={"min_term": 3}), "options.min_term"),
        (
            TaskConfig(name="miniature/sums", options={"min_terms": 5, "max_terms": 4}),
            "above options.max_terms",
        ),
        (
            TaskConfig(
                name="miniature/sums", options={"min_terms": 2, "max_terms": 2}, num_train=500
            ),
            "fewer than 500 different sums",
        ),
    ],
)
def test_mistakes_are_told(config: TaskConfig, message: str):
    with pytest.raises(TaskError, match=re.escape(message)):
        build_task(config)


def test_every_exchange_is_in_one_language_and_well_formed():
    assert len({exchange.id for exchange in exchanges()}) == len(exchanges())
    for exchange, row in zip(exchanges(), sft_rows(), strict=True):
        reasoning = split_reasoning(row["completion"])
        assert reasoning.thought == exchange.thought
        assert reasoning.answer == exchange.reply
        if "ranslate" not in exchange.prompt and "翻译" not in exchange.prompt:
            assert language_consistency(exchange.thought, exchange.language) > 0.5


def test_preferences_and_labels():
    pairs = list(preference_rows(random.Random(0), 40))
    assert all(pair["chosen"] != pair["rejected"] for pair in pairs)
    labelled = list(safety_rows(random.Random(0), 40))
    assert sum(row["label"] for row in labelled) == 20


def test_the_tokenizer_keeps_digits_and_tags_single():
    tokenizer = train_tokenizer(seed=0, vocabulary_size=400)
    text = " <think> First 12 + 7 = 19. 再算 </think> <answer> 19 </answer>"
    ids = tokenizer.encode(text, allow_special=True)
    assert tokenizer.decode(ids) == text
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        assert [tokenizer.decode([i]) for i in ids].count(tag) == 1
    assert len(tokenizer.encode("123", allow_special=False)) == 3
    assert tokenizer.vocab_size <= 400

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest
import torch

from r1.records import Completion, GenerationRequest, Grade, Problem, Sample, SamplingParams
from r1.rewards.format import format_reward
from r1.text.tokenizer import Tokenizer
from r1.training.rewriting import rewrite_by_model, rewrite_by_rule, summarize
from r1.training.sample_filters import GradedReply

ZERO = "<think> 2+3 is 5.  \n\n\n\nSo 5. </think> <answer> 5 </answer>"


def reply(text: str = ZERO, language: str = "en", answer: str | None = "5") -> GradedReply:
    problem = Problem("p", "2+3?", answer, language)
    return GradedReply(problem, 1, Completion(text), Grade(1.0, {}, answer))


@pytest.mark.parametrize(
    ("language", "summary"),
    [
        ("en", "The answer is \\boxed{5}."),
        ("zh", "答案是 \\boxed{5}。"),
        ("eo", "The answer is \\boxed{5}."),
    ],
)
def test_rule_puts_a_reply_into_think_and_summary_form(language: str, summary: str) -> None:
    (text,) = rewrite_by_rule([reply(language=language)])
    assert text == f"<think>\n2+3 is 5.\n\nSo 5.\n</think>\n\n{summary}"
    assert format_reward(text or "", "chat") == 1.0


def test_summaries_can_be_set() -> None:
    assert summarize(reply(), {"en": "= ANSWER"}) == "= 5"
    assert summarize(reply(language="zh"), {"en": "= ANSWER"}) == "= 5"


def test_an_open_reply_keeps_its_own_answer() -> None:
    (text,) = rewrite_by_rule([reply("<think>hm</think><answer>Hello!</answer>", answer=None)])
    assert text == "<think>\nhm\n</think>\n\nHello!"


def test_a_reply_without_a_thought_cannot_be_rewritten() -> None:
    assert rewrite_by_rule([reply("5"), reply("<think></think>5")]) == [None, None]


class Writer:
    """A generator that knows what it will say."""

    def __init__(self, texts: Sequence[str], finish: str = "stop") -> None:
        self.texts = iter(texts)
        self.finish = finish
        self.requests: list[GenerationRequest] = []

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        on_sample: Callable[[Sample], None] | None = None,
    ) -> list[list[Sample]]:
        self.requests += requests
        return [
            [Sample(r.id, 0, r.prompt_ids, (1,), next(self.texts), (0.0,), (0.0,), self.finish)]  # type: ignore[arg-type]
            for r in requests
        ]

    def load_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        raise AssertionError("nothing is trained here")


def test_a_model_rewrites_the_thought_and_not_the_answer(tiny_tokenizer: Tokenizer) -> None:
    writer = Writer(["I plan.\n</think>\n\nFirst I add 2 and 3, which is 5."])
    sampling = SamplingParams(max_tokens=9)
    (text,) = rewrite_by_model([reply()], writer, tiny_tokenizer, sampling=sampling)
    assert text == (
        "<think>\nFirst I add 2 and 3, which is 5.\n</think>\n\nThe answer is \\boxed{5}."
    )
    prompt = tiny_tokenizer.decode(writer.requests[0].prompt_ids)
    assert "Question: 2+3?" in prompt and "2+3 is 5." in prompt


def test_a_rewrite_that_was_cut_is_none(tiny_tokenizer: Tokenizer) -> None:
    writer = Writer(["x</think>y"], finish="length")
    sampling = SamplingParams(max_tokens=9)
    assert rewrite_by_model([reply()], writer, tiny_tokenizer, sampling=sampling) == [None]

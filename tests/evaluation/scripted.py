"""A task and a generator whose every reply is written down, for tests of the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from r1.evaluation.evaluate import Evaluation, EvaluationSettings
from r1.evaluation.record_file import Record
from r1.generator import Generator
from r1.records import Completion, GenerationRequest, Grade, Problem, Sample
from r1.tasks.task import Split, Task

Reply = Callable[[GenerationRequest, int], str]


@dataclass
class NumberTask:
    """q<i>: the answer is i. `grade` may be given; by default the whole reply is the answer."""

    num_problems: int = 3
    name: str = "numbers"
    instruction: str = "Be brief."
    grader_version: str = "numbers-1"
    verdict: Callable[[Problem, Completion], Grade] | None = None

    def problems(self, split: Split) -> Sequence[Problem]:
        return [Problem(f"p{i}", f"q{i}", str(i)) for i in range(self.num_problems)]

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        if self.verdict is not None:
            return self.verdict(problem, completion)
        return Grade(float(completion.text == problem.answer), answer=completion.text)

    def gold_error(self, problem: Problem) -> str:
        return ""


@dataclass
class TwoTryTask(NumberTask):
    """A wrong first reply is answered; right at the second try counts a half."""

    def next_message(self, problem: Problem, completion: Completion) -> str | None:
        is_over = completion.earlier or completion.text == problem.answer
        return None if is_over else f"{completion.text} is wrong"

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        is_right = completion.text == problem.answer
        return Grade(is_right / (1 + len(completion.earlier)), answer=completion.text)


@dataclass
class Scripted:
    """Answers by a function of the request; keeps what it was asked, and can stop."""

    reply: Reply
    stop_after: int | None = None
    asked: list[GenerationRequest] = field(default_factory=list)
    num_made: int = 0

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        on_sample: Callable[[Sample], None] | None = None,
    ) -> list[list[Sample]]:
        assert len({request.id for request in requests}) == len(requests)
        self.asked += requests
        for request in requests:
            for index in range(request.num_samples):
                if self.num_made == self.stop_after:
                    raise KeyboardInterrupt
                self.num_made += 1
                assert on_sample is not None
                on_sample(self._sample(request, request.first_sample_index + index))
        return []

    def load_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        raise AssertionError("evaluation does not change weights")

    def _sample(self, request: GenerationRequest, index: int) -> Sample:
        text = self.reply(request, index)
        return Sample(
            request_id=request.id,
            sample_index=index,
            prompt_ids=request.prompt_ids,
            token_ids=(),
            text=text,
            sampler_logprobs=(),
            raw_logprobs=(),
            finish_reason="stop",
            reported_tokens=len(text),
        )


def sample_and_grade(
    generator: Generator, task: Task, settings: EvaluationSettings, records_path: Path
) -> list[Record]:
    """The records of an evaluation without a tokenizer."""
    evaluation = Evaluation(None, task, settings, records_path, "")
    evaluation.run(generator)
    return evaluation.records()

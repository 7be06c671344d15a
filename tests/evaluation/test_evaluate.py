from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers

from r1.evaluation.evaluate import EvaluationSettings, SamplingConfig, evaluate
from r1.records import Completion, GenerationRequest, Grade, Problem, Sample
from r1.run_log import RunError
from r1.tasks.task import Split
from r1.text.tokenizer import SpecialTokens, Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """One token for each printable ASCII character."""
    pieces = [*string.digits, *string.ascii_letters, *string.punctuation, "Ġ", "Ċ"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<s>", "</s>"])
    return Tokenizer(backend, SpecialTokens(bos="<s>", eos="</s>"))


@dataclass(frozen=True)
class AdditionTask:
    """q<i>: the answer is i. A reply of "?" breaks the grader, an empty one abstains."""

    name: str = "addition"
    instruction: str = ""
    grader_version: str = "1"
    num_problems: int = 3

    def problems(self, split: Split) -> Sequence[Problem]:
        return [Problem(f"p{i}", f"q{i}", str(i)) for i in range(self.num_problems)]

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        parts = {"format": 1.0, "language": 0.5, "repetition": 0.25}
        if completion.text == "?":
            return Grade(None, parts, reason="grader failed")
        is_correct = completion.text.removesuffix(".0") == problem.answer
        return Grade(float(is_correct), parts, answer=completion.text)

    def gold_error(self, problem: Problem) -> str:
        return ""


@dataclass
class ScriptedGenerator:
    """Answers from a table; keeps what it was asked, and can stop after some samples."""

    reply: Callable[[str, int], str]
    interrupt_after: int | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)
    reversed_order: bool = False

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        on_sample: Callable[[Sample], None] | None = None,
    ) -> list[list[Sample]]:
        samples = [
            [self._sample(r, r.first_sample_index + i) for i in range(r.num_samples)]
            for r in requests
        ]
        finished = [sample for group in samples for sample in group]
        for sample in reversed(finished) if self.reversed_order else finished:
            if self.interrupt_after is not None and len(self.asked) == self.interrupt_after:
                raise KeyboardInterrupt
            self.asked.append((sample.request_id, sample.sample_index))
            assert on_sample is not None
            on_sample(sample)
        return samples

    def load_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        raise AssertionError("evaluation does not change weights")

    def _sample(self, request: GenerationRequest, index: int) -> Sample:
        text = self.reply(request.id, index)
        return Sample(
            request_id=request.id,
            sample_index=index,
            prompt_ids=request.prompt_ids,
            token_ids=tuple(range(len(text) + 1)),
            text=text,
            sampler_logprobs=(),
            raw_logprobs=(),
            finish_reason="length" if text == "long" else "stop",
            weights_version=7,
        )


def settings(**changes: object) -> EvaluationSettings:
    values = {"prompt_style": "plain", "num_samples": 4, "sampling": {"max_tokens": 9}, **changes}
    return EvaluationSettings.model_validate(values)


def mostly_right(problem_id: str, index: int) -> str:
    # p0: 4 of 4; p1: 3 of 4, in two spellings that vote together; p2: 1 of 4.
    table = {"p0": ["0"] * 4, "p1": ["1", "1.0", "9", "1"], "p2": ["2", "8", "8", "long"]}
    return table[problem_id][index]


def test_metrics_of_scripted_replies(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    generator = ScriptedGenerator(mostly_right)
    result = evaluate(generator, tokenizer, AdditionTask(), settings(), path, "tiny")
    assert result.pass_at_1 == pytest.approx((1 + 0.75 + 0.25) / 3)
    assert result.pass_at_k == pytest.approx({2: (1 + 1 + 0.5) / 3, 4: 1.0})
    assert result.cons_at_k == pytest.approx(2 / 3)
    assert result.truncated_rate == pytest.approx(1 / 12)
    assert result.mean_response_tokens == pytest.approx((11 * 2 + 2 + 5) / 12)
    assert (result.format_rate, result.language_consistency) == (1.0, 0.5)
    assert result.other_parts == {"repetition": 0.25}
    assert (result.num_problems, result.num_samples, result.num_ungraded) == (3, 4, 0)
    values = result.to_json()
    assert list(values)[:4] == ["pass_at_1", "pass_at_2", "pass_at_4", "cons_at_4"]
    assert json.loads(json.dumps(values))["pass_at_1_ci95"] == list(result.pass_at_1_ci95)


def test_a_record_tells_everything_of_a_sample(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    reply = "<think>one and one</think>2"
    task = AdditionTask(num_problems=1)
    one = settings(num_samples=1, seed=5)
    evaluate(ScriptedGenerator(lambda *_: reply), tokenizer, task, one, path, "tiny")
    record = json.loads(path.read_text())
    assert record["thought"] == "one and one" and record["answer"] == "2"
    assert record["text"] == record["extracted"] == reply
    assert (record["problem_id"], record["sample_index"], record["gold"]) == ("p0", 0, "0")
    assert (record["seed"], record["weights"], record["weights_version"]) == (5, "tiny", 7)
    assert record["num_tokens"] == len(reply) + 1
    assert len(record["prompt_hash"]) == 16 and record["finish_reason"] == "stop"


@pytest.mark.parametrize("reversed_order", [False, True])
@pytest.mark.parametrize("interrupt_after", [0, 1, 5, 11])
def test_an_interrupted_run_goes_on_and_repeats_nothing(
    tokenizer: Tokenizer, tmp_path: Path, interrupt_after: int, reversed_order: bool
) -> None:
    path = tmp_path / "records.jsonl"
    first = ScriptedGenerator(mostly_right, interrupt_after, reversed_order=reversed_order)
    with pytest.raises(KeyboardInterrupt):
        evaluate(first, tokenizer, AdditionTask(), settings(), path)
    num_written = len(path.read_text().splitlines()) if path.exists() else 0
    # The last samples may still have been in grading.
    assert num_written <= interrupt_after

    second = ScriptedGenerator(mostly_right)
    result = evaluate(second, tokenizer, AdditionTask(), settings(), path)
    assert len(second.asked) == 12 - num_written
    keys = [
        (r["problem_id"], r["sample_index"]) for r in map(json.loads, path.read_text().splitlines())
    ]
    assert len(keys) == len(set(keys)) == 12
    assert result.pass_at_1 == pytest.approx(2 / 3)

    third = ScriptedGenerator(mostly_right)
    assert evaluate(third, tokenizer, AdditionTask(), settings(), path) == result
    assert third.asked == []


def test_gaps_are_filled_sample_by_sample(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    evaluate(ScriptedGenerator(mostly_right), tokenizer, AdditionTask(), settings(), path)
    kept = [line for line in path.read_text().splitlines() if '"sample_index": 1' not in line]
    kept = [line for line in kept if '"sample_index": 3' not in line]
    path.write_text("\n".join(kept) + '\n{"torn": ')
    generator = ScriptedGenerator(mostly_right)
    evaluate(generator, tokenizer, AdditionTask(), settings(), path)
    assert sorted(generator.asked) == [(f"p{i}", j) for i in range(3) for j in (1, 3)]


def test_more_samples_and_problems_extend_the_records(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    small = settings(num_samples=2, num_problems=1)
    evaluate(ScriptedGenerator(mostly_right), tokenizer, AdditionTask(), small, path)
    generator = ScriptedGenerator(mostly_right)
    result = evaluate(generator, tokenizer, AdditionTask(), settings(), path)
    assert len(generator.asked) == 10 and result.num_missing == 0
    again = evaluate(ScriptedGenerator(mostly_right), tokenizer, AdditionTask(), small, path)
    assert (again.num_problems, again.pass_at_1) == (1, 1.0)


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"sampling": {"max_tokens": 9, "temperature": 1.0}}]
)
def test_records_of_other_settings_are_refused(
    tokenizer: Tokenizer, tmp_path: Path, changes: dict[str, object]
) -> None:
    path = tmp_path / "records.jsonl"
    evaluate(ScriptedGenerator(mostly_right), tokenizer, AdditionTask(), settings(), path)
    with pytest.raises(RunError, match=r"records.jsonl: holds records of other weights"):
        evaluate(
            ScriptedGenerator(mostly_right), tokenizer, AdditionTask(), settings(**changes), path
        )


def test_records_of_other_weights_and_prompts_are_refused(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "records.jsonl"
    generator = ScriptedGenerator(mostly_right)
    evaluate(generator, tokenizer, AdditionTask(), settings(), path, "step 1")
    with pytest.raises(RunError, match="other weights"):
        evaluate(generator, tokenizer, AdditionTask(), settings(), path, "step 2")
    r1_zero = settings(prompt_style="r1_zero")
    with pytest.raises(RunError, match="prompts"):
        evaluate(generator, tokenizer, AdditionTask(), r1_zero, path, "step 1")


def test_grader_failures_are_counted_and_not_scored(tokenizer: Tokenizer, tmp_path: Path) -> None:
    def reply(problem_id: str, index: int) -> str:
        return "?" if (problem_id, index) == ("p0", 0) else problem_id[1:]

    path = tmp_path / "records.jsonl"
    result = evaluate(ScriptedGenerator(reply), tokenizer, AdditionTask(), settings(), path)
    assert (result.pass_at_1, result.num_ungraded) == (1.0, 1)
    assert result.pass_at_k == {}  # pass@k is refused where samples have no score
    assert result.cons_at_k == 1.0


def test_nothing_gradable_is_no_score(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    generator = ScriptedGenerator(lambda *_: "?")
    result = evaluate(generator, tokenizer, AdditionTask(), settings(), path)
    assert result.pass_at_1 is None and result.cons_at_k is None
    assert result.num_ungraded == 12
    assert result.mean_response_tokens == 2.0


def test_an_empty_split_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'addition' has no problems in split 'test'"):
        evaluate(
            ScriptedGenerator(mostly_right),
            tokenizer,
            AdditionTask(num_problems=0),
            settings(),
            tmp_path / "records.jsonl",
        )


def test_defaults_are_those_of_the_paper() -> None:
    sampling = SamplingConfig().params()
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.6, 0.95, 32768)

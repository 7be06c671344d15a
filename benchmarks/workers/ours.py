"""r1 itself: the engine's generate, update steps, whole GRPO steps, and the machine's limits."""

from __future__ import annotations

import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from worker import SteppedRun, serve, synchronize

from r1 import __version__
from r1.engine.engine import Engine, EngineConfig
from r1.engine.open_model import open_model
from r1.models.architectures import build_model
from r1.models.hf_checkpoint import save_model
from r1.models.language_model import LanguageModel
from r1.models.model_config import ModelConfig
from r1.records import (
    Completion,
    GenerationRequest,
    Grade,
    Problem,
    Rollout,
    Sample,
    SamplingParams,
)
from r1.run_log import JsonlLog
from r1.tasks import task as task_module
from r1.tasks.task import TaskConfig
from r1.text.tokenizer import Tokenizer, load_tokenizer
from r1.training.expert_balance import ExpertBalance, ExpertConfig
from r1.training.grpo import run_grpo
from r1.training.grpo_config import GrpoConfig
from r1.training.loop import EncodedRow
from r1.training.optimizer import Optimizer
from r1.training.packing import TokenSequence
from r1.training.policy_update import PolicyBatch, update_policy
from r1.training.sft import SftConfig, sft_losses

NOWHERE = Path("unused")


class Contestant:
    """One model and what is asked of it."""

    def open(
        self, model: str, dtype: str, device: str, shape: Any = None, engine: Any = None
    ) -> dict[str, Any]:
        """`shape` is a config for random weights; the tokenizer is then `model`'s."""
        self.model, self.tokenizer = open_model(model, dtype=dtype, device=device)
        if shape is not None:
            built = build_model(ModelConfig.from_dict(shape), getattr(torch, dtype), device)
            assert isinstance(built, LanguageModel)
            self.model = built
        self.engine = TimedEngine(self.model, self.tokenizer, EngineConfig(**(engine or {})))
        self.optimizer: Optimizer | None = None
        self.num_calls = 0
        return {"version": f"r1 {__version__}, torch {torch.__version__}"}

    def generate(
        self, prompts: Sequence[Sequence[int]], num_tokens: Sequence[int], num_samples: int = 1
    ) -> dict[str, Any]:
        """`first_seconds` is when no prompt was left to compute, after `num_first` tokens."""
        self.num_calls += 1
        requests = [
            GenerationRequest(
                id=str(index),
                prompt_ids=tuple(prompt),
                sampling=SamplingParams(max_tokens=wanted, ignore_eos=True),
                num_samples=num_samples,
                seed=self.num_calls,
            )
            for index, (prompt, wanted) in enumerate(zip(prompts, num_tokens, strict=True))
        ]
        self.engine.start_clock()
        groups = self.engine.generate(requests)
        synchronize()
        seconds = time.perf_counter() - self.engine.started
        for group, wanted in zip(groups, num_tokens, strict=True):
            assert [len(sample.token_ids) for sample in group] == [wanted] * num_samples
        assert self.engine.num_first is not None, "generate() asks has_unfinished() at every step"
        first_seconds, num_first = self.engine.first_seconds, self.engine.num_first
        return {"seconds": seconds, "first_seconds": first_seconds, "num_first": num_first}

    # ------------------------------------------------------------ updates

    def train(self, samples: Sequence[Sequence[int]], micro_batch_tokens: int) -> dict[str, Any]:
        """One step of supervised training, a target at every token."""
        config = SftConfig(output=NOWHERE, model="", learning_rate=1e-6)
        optimizer = self._optimizer(config)
        rows = [EncodedRow((TokenSequence.of(ids[:1], ids[1:]),)) for ids in samples]
        balance = ExpertBalance(self.model, ExpertConfig())
        for micro in sft_losses(balance, rows, micro_batch_tokens, range(len(rows))):
            optimizer.backward(micro.loss)
        optimizer.step()
        return {}

    def update(
        self, groups: Sequence[Sequence[Sequence[int]]], num_prompt: int, micro_batch_tokens: int
    ) -> dict[str, Any]:
        """One policy update; a group's samples begin with the same `num_prompt` tokens."""
        config = GrpoConfig(
            output=NOWHERE, model="", task=TaskConfig(name="unused"), updates_per_rollout=1,
            learning_rate=1e-6, kl_coefficient=0.0, micro_batch_tokens=micro_batch_tokens,
        )  # fmt: skip
        problem, grade = Problem("unused", "", ""), Grade(0.0)
        rollouts = []
        for number, group in enumerate(groups):
            for place, ids in enumerate(group):
                prompt, reply = tuple(ids[:num_prompt]), tuple(ids[num_prompt:])
                zeros = (0.0,) * len(reply)
                sample = Sample(
                    str(number), place, prompt, reply, "", zeros, zeros, finish_reason="length"
                )
                advantage = 1.0 if place % 2 else -1.0
                rollouts.append(Rollout(problem, sample, grade, reward=0.0, advantage=advantage))
        batch = PolicyBatch.from_rollouts(rollouts, mask_overlong=False)
        longest = max(len(rollout.sample.token_ids) for rollout in rollouts)
        update_policy(self.model, self._optimizer(config), batch, config, max_tokens=longest)
        return {}

    def _optimizer(self, config: SftConfig | GrpoConfig) -> Optimizer:
        if self.optimizer is None:
            self.optimizer = Optimizer(self.model, config, 10_000)
        return self.optimizer

    # ------------------------------------------------------------ a whole step

    def open_run(self, model: str, dtype: str, device: str, **settings: Any) -> dict[str, Any]:
        """`settings`: prompts, group_size, num_tokens, and any of GrpoConfig's."""
        self.output = Path(tempfile.mkdtemp()) / "run"
        settings |= {"output": self.output, "dtype": dtype, "device": device}
        self.run = SteppedRun(lambda begin: train(begin, model, **settings))
        return {"version": f"r1 {__version__}, torch {torch.__version__}"}

    def step(self) -> dict[str, Any]:
        """Generation, grading and the update; `phases` are the run's own seconds of each.

        The run's own time of generation holds the wait for its turn, so that it is the rest here.
        """
        started = time.perf_counter()
        self.run.step()
        phases = {"step": time.perf_counter() - started}
        logged = JsonlLog(self.output / "metrics.jsonl").rows()[-1]
        phases |= {k[5:]: v for k, v in logged.items() if k.startswith("time_") and k[5:] != "step"}
        others = sum(v for k, v in phases.items() if k not in ("step", "generate"))
        return {"phases": phases | {"generate": phases["step"] - others}}


class TimedEngine(Engine):
    """Notes when it had computed all prompts, and how many tokens it had made by then."""

    num_first: int | None = 0

    def start_clock(self) -> None:
        self.started = time.perf_counter()
        self.num_before = self.stats().num_generated_tokens
        self.num_first = None

    def has_unfinished(self) -> bool:
        if self.num_first is None:
            stats = self.stats()
            num_made = stats.num_generated_tokens - self.num_before
            if num_made and not stats.num_waiting and not stats.num_prefilling:
                synchronize()
                self.first_seconds = time.perf_counter() - self.started
                self.num_first = num_made
        return super().has_unfinished()


class SteppedEngine(Engine):
    """Waits where a rollout begins, and lets replies run to their limit."""

    begin_step: Callable[[], None]

    def generate(self, requests: Sequence[GenerationRequest], on_sample: Any = None) -> Any:
        self.begin_step()
        whole = [
            replace(each, sampling=replace(each.sampling, ignore_eos=True)) for each in requests
        ]
        return super().generate(whole, on_sample)


@dataclass(frozen=True)
class ChecksumTask:
    """Rewards half of all replies, by a checksum of their text."""

    questions: tuple[str, ...]
    name: str = "checksum"
    instruction: str = ""
    grader_version: str = "1"

    def problems(self, split: str) -> list[Problem]:
        return [
            Problem(f"{split}/{i}", text, "", task=self.name)
            for i, text in enumerate(self.questions)
        ]

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        return Grade(float(zlib.crc32(completion.text.encode()) % 2))

    def gold_error(self, problem: Problem) -> str:
        return ""


def train(
    begin_step: Callable[[], None], model: str, prompts: Sequence[str], num_tokens: int,
    shape: Any = None, **settings: Any,
) -> None:  # fmt: skip
    """`r1 grpo` on these prompts, a step at a time; `shape` as in `open`."""
    if shape is not None:
        tokenizer = load_tokenizer(model)
        model = str(settings["output"].with_name("policy"))
        save_model(build_model(ModelConfig.from_dict(shape), torch.bfloat16), Path(model))
        tokenizer.save(Path(model))

    def make_generator(policy: LanguageModel, tokenizer: Tokenizer, config: EngineConfig) -> Engine:
        engine = SteppedEngine(policy, tokenizer, config)
        engine.begin_step = begin_step
        return engine

    task_module.TASKS["checksum"] = lambda _: ChecksumTask(tuple(prompts))
    config = GrpoConfig(
        model=model, task=TaskConfig(name="checksum"), questions_per_step=len(prompts),
        max_tokens=num_tokens, updates_per_rollout=1, kl_coefficient=0.0, learning_rate=1e-6,
        reward_weights={"accuracy": 1.0}, save_every=10_000, **settings,
    )  # fmt: skip
    run_grpo(config, make_generator=make_generator)


# ---------------------------------------------------------------- the machine, and run folders


def limits(device: str, num_runs: int = 20) -> dict[str, Any]:
    """Bytes a second read from memory, and a square matmul's flops a second by dtype.

    The best of some runs: the reading sums a buffer that no cache holds. On a GPU both are
    long enough for launching to be nothing.
    """
    count, size = (2**28, 2048) if device == "cpu" else (2**31, 8192)
    buffer = torch.ones(count, dtype=torch.float32, device=device)
    found = {"bandwidth": 4 * count / best_seconds(lambda: buffer.sum().item(), num_runs)}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        seconds = best_seconds(lambda left=left, right=right: left @ right, num_runs)
        found[str(dtype).removeprefix("torch.")] = 2 * size**3 / seconds
    return found


def best_seconds(compute: Callable[[], object], num_runs: int) -> float:
    seconds = []
    for _ in range(num_runs + 1):
        synchronize()
        started = time.perf_counter()
        compute()
        synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def run_folder(num_rows: int) -> dict[str, Any]:
    """A log of so many samples: adding one, and taking up a run that has written them."""
    with tempfile.TemporaryDirectory() as folder:
        row = {"prompt": "a question " * 20, "reply": "some words " * 100, "reward": 1.0}
        path = Path(folder) / "samples.jsonl"
        log = JsonlLog(path)
        for step in range(num_rows):
            log.append({"step": step, **row})
        started = time.perf_counter()
        for step in range(100):
            log.append({"step": num_rows + step, **row})
        append_seconds = (time.perf_counter() - started) / 100
        started = time.perf_counter()
        log.truncate(max_step=num_rows)
        return {"append_seconds": append_seconds, "resume_seconds": time.perf_counter() - started}


if __name__ == "__main__":
    own = Contestant()
    serve({
        "open": own.open, "generate": own.generate, "train": own.train, "update": own.update,
        "open_run": own.open_run, "step": own.step, "limits": limits, "run_folder": run_folder,
    })  # fmt: skip

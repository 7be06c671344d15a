from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from r1.engine.engine import Engine, EngineConfig
from r1.models.hf_checkpoint import load_model
from r1.models.language_model import LanguageModel
from r1.models.llama import LlamaForCausalLM
from r1.records import Completion, GenerationRequest, Grade, Problem, Sample
from r1.run_log import JsonlLog, RunError
from r1.tasks import task as task_module
from r1.tasks.task import TaskConfig, TaskError
from r1.text.tokenizer import Tokenizer
from r1.training import grpo, policy_update
from r1.training.grpo import GrpoConfig, run_grpo
from r1.training.losses import PolicyTokens, policy_loss


def make_config(output: Path, policy: Path, task: TaskConfig, /, **settings: Any) -> GrpoConfig:
    values: dict[str, Any] = {
        "output": output,
        "model": str(policy),
        "task": task,
        "prompt_style": "chat",
        "steps": 4,
        "group_size": 4,
        "questions_per_step": 3,
        "updates_per_rollout": 1,
        "max_tokens": 6,
        "learning_rate": 3e-3,
        "reward_weights": {"accuracy": 1.0},
        "reference_refresh_steps": 2,
        "save_every": 2,
        "samples_every": 2,
        "samples_groups": 1,
        "micro_batch_tokens": 64,
        "device": "cpu",
        "engine": {"num_blocks": 256},
    }
    return GrpoConfig.model_validate(values | settings)


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """The rows less their times."""
    rows = JsonlLog(folder / "metrics.jsonl").rows()
    timed = ("time_", "tokens_per_second")
    return [{k: v for k, v in row.items() if not k.startswith(timed)} for row in rows]


def weights_of(checkpoint: Path) -> bytes:
    return (checkpoint / "model.safetensors").read_bytes()


class CountingGenerator(Engine):
    """Our engine, which fails at its `fail_at`-th call of `generate`."""

    num_calls = 0
    fail_at = 0
    error: type[BaseException] = RuntimeError

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        on_sample: Callable[[Sample], None] | None = None,
    ) -> list[list[Sample]]:
        self.num_calls += 1
        if self.num_calls == self.fail_at:
            raise self.error("the power went out")
        return super().generate(requests, on_sample)


def failing(fail_at: int, error: type[BaseException] = RuntimeError) -> Any:
    return type("Failing", (CountingGenerator,), {"fail_at": fail_at, "error": error})


def test_learns_what_earns_reward(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    config = make_config(tmp_path, tiny_policy, letter_task, steps=12, group_size=8)
    checkpoint = run_grpo(config)
    rows = metrics_of(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[-1]["reward"] > rows[0]["reward"] + 0.1
    assert all(row["logprob_gap_mean_abs"] <= 1e-5 for row in rows)
    assert all(row["clip_fraction"] == 0.0 for row in rows)
    # The reference is the policy itself right after a refresh, every second step.
    assert [row["kl_to_reference"] == 0.0 for row in rows] == [True, False] * 6
    assert isinstance(load_model(checkpoint), LlamaForCausalLM)
    assert Tokenizer.from_folder(checkpoint).eos_id == Tokenizer.from_folder(tiny_policy).eos_id


def test_layers_computed_again_change_no_bit(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    kept, again = (
        run_grpo(
            make_config(
                tmp_path / str(is_again),
                tiny_policy,
                letter_task,
                updates_per_rollout=2,
                activation_checkpointing=is_again,
            )
        )
        for is_again in (False, True)
    )
    assert weights_of(kept) == weights_of(again)
    assert metrics_of(kept.parent) == metrics_of(again.parent)


def test_samples_are_kept_to_read(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    run_grpo(make_config(tmp_path, tiny_policy, letter_task))
    rows = JsonlLog(tmp_path / "samples.jsonl").rows()
    assert [row["step"] for row in rows] == [1] * 4 + [3] * 4
    assert {"question", "text", "reward", "parts", "advantage"} <= rows[0].keys()


SETTINGS: dict[str, dict[str, Any]] = {
    "one update": {},
    "no reference": {"kl_coefficient": 0.0},
    "four updates": {"updates_per_rollout": 2, "inner_epochs": 2, "reference_refresh_steps": 4},
    "dynamic": {"dynamic_sampling": True, "group_size": 2, "max_tokens": 2},
    "little memory": {
        "dtype": "bfloat16",
        "moments_dtype": "bfloat16",
        "activation_checkpointing": True,
        "max_memory_bytes": 8 * 10**9,
    },
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_stopped_run_ends_with_the_same_bits(
    name: str, tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    settings = {"steps": 8, "save_every": 3, **SETTINGS[name]}
    whole = make_config(tmp_path / "whole", tiny_policy, letter_task, **settings)
    expected = weights_of(run_grpo(whole))
    stopped = make_config(tmp_path / "stopped", tiny_policy, letter_task, **settings)
    for fail_at in (2, 1, 2, 3):
        with pytest.raises(RuntimeError, match="power"):
            run_grpo(stopped, make_generator=failing(fail_at))
        if name == "four updates":
            break
    assert weights_of(run_grpo(stopped)) == expected
    assert metrics_of(tmp_path / "stopped") == metrics_of(tmp_path / "whole")
    samples = [(tmp_path / run / "samples.jsonl").read_bytes() for run in ("whole", "stopped")]
    assert samples[0] == samples[1]


def test_a_finished_run_is_not_run_again(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    config = make_config(tmp_path, tiny_policy, letter_task, steps=1)
    assert run_grpo(config) == run_grpo(config, make_generator=failing(1))


KILLED_SCRIPT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("fixtures", sys.argv[1])
fixtures = importlib.util.module_from_spec(spec)
sys.modules["fixtures"] = fixtures
spec.loader.exec_module(fixtures)
from r1.tasks import task
task.TASKS["letters"] = lambda config: fixtures.LetterTask(config.name)
from r1.config import load_config
from r1.training.grpo import GrpoConfig, run_grpo
run_grpo(load_config(GrpoConfig, sys.argv[2]))
"""


def test_a_run_killed_at_any_moment_ends_with_the_same_bits(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    settings = {"steps": 30, "save_every": 2, "samples_every": 1}
    config = make_config(tmp_path / "killed", tiny_policy, letter_task, **settings)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    fixtures = Path(__file__).parent / "conftest.py"
    command = [sys.executable, "-c", KILLED_SCRIPT, str(fixtures), str(tmp_path / "config.json")]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    metrics = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 7):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "checkpoint").exists()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = make_config(tmp_path / "whole", tiny_policy, letter_task, **settings)
        assert weights_of(run_grpo(config)) == weights_of(run_grpo(whole))
    finally:
        torch.set_num_threads(threads)
    assert metrics_of(tmp_path / "killed") == metrics_of(tmp_path / "whole")


def test_ctrl_c_keeps_the_last_saved_step(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    config = make_config(tmp_path, tiny_policy, letter_task)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        run_grpo(config, make_generator=failing(4, KeyboardInterrupt))
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-00000002"]


def test_a_backend_with_its_own_weights_gives_the_same_run(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    def apart(model: LanguageModel, tokenizer: Tokenizer, config: EngineConfig) -> Engine:
        return Engine(copy.deepcopy(model), tokenizer, config)

    shared = run_grpo(make_config(tmp_path / "shared", tiny_policy, letter_task))
    config = make_config(tmp_path / "apart", tiny_policy, letter_task)
    assert weights_of(run_grpo(config, make_generator=apart)) == weights_of(shared)


def test_the_order_in_which_replies_finish_changes_no_weight(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    """All replies at once, three at a time, and preempted again and again; grades in any order."""
    engines = ({"num_blocks": 256}, {"max_num_seqs": 3}, {"num_blocks": 12, "block_size": 4})
    weights = []
    for number, engine in enumerate(engines):
        folder = tmp_path / str(number)
        settings = {"engine": engine, "num_grading_threads": 1 + 2 * number, "exact": True}
        weights.append(
            weights_of(run_grpo(make_config(folder, tiny_policy, letter_task, **settings)))
        )
    assert weights[1] == weights[0] and weights[2] == weights[0]


def test_several_updates_a_rollout_drift_from_the_policy_that_sampled(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    config = make_config(
        tmp_path, tiny_policy, letter_task, updates_per_rollout=2, temperature=0.7, clip_low=1e-3
    )
    run_grpo(config)
    rows = metrics_of(tmp_path)
    assert [row["policy_kl"] > 1e-5 for row in rows] == [False, True, False, True]
    assert rows[1]["clip_fraction"] > 0
    assert all(row["logprob_gap_mean_abs"] <= 1e-5 for row in rows)
    assert rows[0]["reward"] == rows[1]["reward"]


def test_dynamic_sampling_asks_until_enough_groups_have_signal(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    settings = {"dynamic_sampling": True, "group_size": 2, "max_tokens": 1, "max_refills": 2}
    run_grpo(make_config(tmp_path, tiny_policy, letter_task, **settings))
    rows = metrics_of(tmp_path)
    for row in rows:
        num_signal = round(row["num_groups"] * (1 - row["no_signal_rate"]))
        assert num_signal == 3 or (num_signal < 3 and row["num_groups"] > 3)
    assert any(row["num_groups"] > 3 for row in rows)


def test_reply_limit_follows_its_schedule(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    limits = [{"from_step": 0, "max_tokens": 3}, {"from_step": 2, "max_tokens": 5}]
    run_grpo(make_config(tmp_path, tiny_policy, letter_task, max_tokens=limits))
    assert [row["response_tokens_max"] for row in metrics_of(tmp_path)] == [3, 3, 5, 5]


def test_data_changes_during_the_run(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    tasks = [
        {"task": {"name": "letters"}, "until_step": 2},
        {"task": {"name": "letters/open"}, "from_step": 2},
    ]
    run_grpo(make_config(tmp_path, tiny_policy, letter_task, task=None, tasks=tasks))
    assert [row["accuracy"] is None for row in metrics_of(tmp_path)] == [False, False, True, True]


def test_a_loss_that_is_not_finite_stops_the_run(
    tmp_path: Path,
    tiny_policy: Path,
    letter_task: TaskConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(logprobs: torch.Tensor, tokens: PolicyTokens, **settings: Any) -> Any:
        loss, statistics = policy_loss(logprobs, tokens, **settings)
        return loss * float("nan"), statistics

    config = make_config(tmp_path, tiny_policy, letter_task, save_every=1)
    with monkeypatch.context() as patch:
        patch.setattr(policy_update, "policy_loss", broken)
        with pytest.raises(
            RunError, match=r"step 1 was not applied: the loss is nan.*failed_batch"
        ):
            run_grpo(config)
    batch = json.loads((tmp_path / "failed_batch.json").read_text())
    assert batch["step"] == 1 and len(batch["token_ids"]) == len(batch["advantages"]) == 12
    assert metrics_of(tmp_path) == []


def test_reward_models_count_from_their_step_on(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: str, *, device: str) -> Callable[[Sequence[tuple[str, str]]], list[float]]:
        assert (path, device) == ("trained/safety", "cpu")
        return lambda pairs: [float(len(response)) for _, response in pairs]

    monkeypatch.setattr(grpo, "load_reward_model", load)
    config = make_config(
        tmp_path,
        tiny_policy,
        TaskConfig(name="letters/open"),
        reward_models={"safety": "trained/safety"},
        reward_weights={"safety": 0.5},
        preference_from_step=2,
    )
    run_grpo(config)
    rows = metrics_of(tmp_path)
    assert [row["reward"] == 0.0 for row in rows] == [True, True, False, False]
    assert rows[2]["reward"] == pytest.approx(0.5 * rows[2]["reward_safety"])
    assert rows[0]["num_ungraded"] == 0 and rows[0]["no_signal_rate"] == 1.0


def test_overlong_replies_are_penalized(
    tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig
) -> None:
    settings = {"overlong": "penalty", "overlong_buffer_tokens": 2, "steps": 1}
    run_grpo(make_config(tmp_path, tiny_policy, letter_task, **settings))
    (row,) = metrics_of(tmp_path)
    assert row["reward_overlong"] < 0
    assert row["reward"] == pytest.approx(row["accuracy"] + row["reward_overlong"])


class BrokenTask:
    """A grader that always fails."""

    name = "broken"
    instruction = ""
    grader_version = "1"

    def problems(self, split: str) -> list[Problem]:
        return [Problem("a", "Q?", "a")]

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        return Grade(None, {"format": 0.0}, reason="sandbox timeout")

    def gold_error(self, problem: Problem) -> str:
        return ""


def test_failed_graders_are_counted_and_teach_nothing(
    tmp_path: Path, tiny_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(task_module.TASKS, "broken", lambda _: BrokenTask())
    config = make_config(tmp_path, tiny_policy, TaskConfig(name="broken"), steps=2)
    before = load_model(tiny_policy)
    after = load_model(run_grpo(config))
    assert all(row["num_ungraded"] == 12 for row in metrics_of(tmp_path))
    assert all(row["reward"] is None for row in metrics_of(tmp_path))
    for (_, old), (_, new) in zip(before.named_parameters(), after.named_parameters(), strict=True):
        assert torch.equal(old, new)


SHORTER = [{"from_step": 0, "max_tokens": 9}, {"from_step": 2, "max_tokens": 5}]
LETTERS = {"task": {"name": "letters"}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_p": 0.9}, "leave top_p at 1 and top_k at 0"),
        ({"top_k": 5}, "leave top_p at 1 and top_k at 0"),
        ({"task": None}, "give either `task` or `tasks`"),
        ({"updates_per_rollout": 3}, r"reference_refresh_steps \(2\) must be a multiple"),
        ({"reward_weights": {"preference": 1.0}}, "set reward_models.preference"),
        ({"reward_models": {"safety": "x"}}, "set reward_weights.safety"),
        ({"max_tokens": [{"from_step": 3, "max_tokens": 9}]}, "must begin with one from_step 0"),
        (
            {"max_tokens": [{"from_step": s, "max_tokens": 9} for s in (0, 3, 2)]},
            r"must rise, not \[0, 3, 2\]",
        ),
        (
            {"overlong": "penalty", "max_tokens": SHORTER, "overlong_buffer_tokens": 6},
            r"max_tokens \(5\)",
        ),
        ({"task": None, "tasks": [{**LETTERS, "until_step": 3}]}, "no task is active at step 3"),
        ({"task": None, "tasks": [{**LETTERS, "from_step": 1}]}, "no task is active at step 0"),
        ({"overlong": "penalty"}, r"overlong_buffer_tokens \(4096\) must be at most"),
        ({"group_size": 1}, "greater than or equal to 2"),
        ({"groupsize": 8}, "Extra inputs"),
    ],
)
def test_config_mistakes_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_config(Path("x"), Path("y"), TaskConfig(name="letters"), **settings)


def test_defaults_are_those_of_r1_zero() -> None:
    config = GrpoConfig(output=Path("x"), model="m", task=TaskConfig(name="gsm8k"))
    assert config.learning_rate == 3e-6 and config.kl_coefficient == 0.001
    assert config.questions_per_step * config.group_size == 512
    assert config.questions_per_step * config.group_size * config.updates_per_rollout == 8_192
    assert config.steps == 10_400 and config.reference_refresh_steps == 400
    assert config.max_tokens_at(8_199) == 32_768 and config.max_tokens_at(8_200) == 65_536
    assert config.reward_weights == {"accuracy": 1.0, "format": 1.0}


def test_mistakes_in_data_are_found_before_the_model_is_opened(
    tmp_path: Path, letter_task: TaskConfig
) -> None:
    nowhere = Path("no/such/model")
    weights = {"reward_weights": {"accuracy": 1.0, "style": 1.0}}
    with pytest.raises(ValueError, match=r"reward_weights\.style"):
        run_grpo(make_config(tmp_path / "a", nowhere, letter_task, **weights))
    unknown = TaskConfig(name="leters")
    with pytest.raises(TaskError, match="did you mean 'letters'"):
        run_grpo(make_config(tmp_path / "b", nowhere, unknown))

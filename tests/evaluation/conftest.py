"""A synthetic run folder: what a pipeline leaves, without running one."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1.evaluation.result import compute_result

STAGES = {
    # name: (kind, share correct, tokens, language consistency)
    "base": ("evaluate", 0.18, 21.0, 0.93),
    "r1_zero": ("grpo", 0.86, 48.0, 0.78),
    "cold_start": ("sft", 0.71, 45.0, 0.97),
    "r1": ("grpo", 0.85, 46.0, 0.985),
    "student_rl": ("grpo", 0.41, 30.0, 0.9),
    "student_distilled": ("sft", 0.66, 44.0, 0.97),
}
NUM_PROBLEMS, NUM_SAMPLES = 12, 8

HOSTILE = (
    "<script>document.title='run'</script><img src=x onerror=alert(1)> \x00\x1b[31m \u202e</div>"
)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_records(share: float, tokens: float, language: float, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    rows = []
    for problem in range(NUM_PROBLEMS):
        a, b = 17 + 3 * problem, 24 + 5 * problem
        chance = min(1.0, max(0.0, share + 0.25 * math.cos(problem)))
        is_chinese = problem % 3 == 2
        question = f"计算 {a} + {b} × 2。" if is_chinese else f"What is {a} + {b} * 2?"
        for sample in range(NUM_SAMPLES):
            is_correct = draw.random() < chance
            value = a + 2 * b if is_correct else a + 2 * b + draw.choice((-10, 1, 10))
            thought = f"{b} * 2 = {2 * b}\n{a} + {2 * b} = {value}\nLet me check: {value - a} / 2"
            rows.append(
                {
                    "problem_id": f"p{problem}",
                    "sample_index": sample,
                    "question": question,
                    "gold": str(a + 2 * b),
                    "language": "zh" if is_chinese else "en",
                    "text": f"<think>{thought}</think>{value}",
                    "thought": thought,
                    "answer": f"The answer is {value}.",
                    "extracted": str(value),
                    "reward": float(is_correct),
                    "parts": {"format": 1.0, "language": language},
                    "num_tokens": int(tokens + draw.randint(-6, 6)),
                    "finish_reason": "stop",
                    "seconds": 0.01 * len(rows),
                }
            )
    return rows


def make_metrics(kind: str, num_steps: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for step in range(1, num_steps + 1):
        t = step / num_steps
        noise = draw.gauss(0, 1)
        row: dict[str, Any] = {"step": step, "loss": 2.1 * math.exp(-3 * t) + 0.3 + 0.03 * noise}
        row |= {"grad_norm": 0.6 + 0.1 * noise, "tokens_per_second": 8100 + 300 * noise}
        if kind == "grpo":
            row |= {
                "reward": 0.2 + 1.5 / (1 + math.exp(-8 * (t - 0.4))) + 0.06 * noise,
                "reward_accuracy": min(1, max(0, 0.18 + 0.7 * t + 0.04 * noise)),
                "reward_language": min(1, max(0, 0.95 - 0.2 * t + 0.02 * noise)),
                "reward_format": min(1.0, 0.4 + t),
                "response_tokens_mean": 21 + 28 * t**0.7 + noise,
                "entropy": 1.1 * math.exp(-1.5 * t) + 0.1 + 0.02 * noise,
                "kl_to_reference": 0.08 * t + 0.003 * abs(noise),
                "clip_fraction": 0.01 + 0.002 * abs(noise),
                "truncated_rate": 0.02 * t,
                "no_signal_rate": 0.3 * t,
                "logprob_gap_mean_abs": 3.2e-7 + 1e-8 * noise,
                "logprob_gap_max_abs": 5e-6,
                "time_generate": 0.7,
                "time_update": 0.5,
                "time_grade": 0.05,
            }
        else:
            row |= {"time_update": 0.4}
        rows.append({**row, "time_step": 1.3})
    return rows


def write_stage(path: Path, name: str, seed: int = 0, num_steps: int = 24) -> None:
    kind, share, tokens, language = STAGES[name]
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps({"model": "tiny", "steps": num_steps}))
    records = make_records(share, tokens, language, seed)
    write_rows(path / "evaluation" / "records.jsonl", records)
    result = compute_result(
        records,
        num_problems=NUM_PROBLEMS,
        num_samples=NUM_SAMPLES,
        equivalent=lambda a, b: False,
    )
    if kind != "evaluate":
        write_rows(path / "metrics.jsonl", make_metrics(kind, num_steps, seed))
    if kind == "grpo":
        row = {"question": "What is 3 + 4?", "text": "3 + 4 = 7</think>7", "num_tokens": 9}
        rows = [{"step": step, "accuracy": step > 1, "reward": 1.0, **row} for step in range(1, 9)]
        write_rows(path / "samples.jsonl", rows)
    stage = {
        "name": name,
        "kind": kind,
        "seconds": 40.0 + 9 * seed,
        "peak_rss_bytes": 1_100_000_000 + 90_000_000 * seed,
        "evaluation": result.to_json(),
    }
    (path / "stage.json").write_text(json.dumps(stage))


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """make_run() writes a finished pipeline run and returns its folder."""

    def make(name: str = "quickstart", num_steps: int = 24, **run_json: Any) -> Path:
        folder = tmp_path / name
        for seed, stage in enumerate(STAGES):
            write_stage(folder / "stages" / stage, stage, seed, num_steps)
        values = {
            "name": name,
            "command": "r1 run recipes/quickstart.toml",
            "versions": {"r1": "0.1.0", "torch": "2.11.0"},
            "seed": 0,
            "seconds": 431.2,
            "peak_rss_bytes": 1_650_000_000,
            "recipe": {"name": name, "seed": 0},
            "stages": list(STAGES),
            "final": "r1",
            **run_json,
        }
        (folder / "run.json").write_text(json.dumps(values))
        return folder

    return make


@pytest.fixture
def hostile_text() -> str:
    """What a model might write to take over the page."""
    return HOSTILE

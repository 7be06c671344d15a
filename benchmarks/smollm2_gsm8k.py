"""A real base model on this machine: a few steps of `r1 sft`, then of `r1 grpo`.

    r1 models get smollm2
    python benchmarks/smollm2_gsm8k.py ../shared/data/gsm8k/gsm8k_test.jsonl

Takes rows of GSM8K's form: the first become supervised data, their own solutions in
R1's think + summary form; others become questions for reinforcement learning. Shows
the time of a step by phase, memory, and the gap between the sampler's and the trainer's
log-probs. It measures the machine, never the model: rows of a test set are trained on
here, so no score of a model that it makes means anything.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from r1.tasks.question_answer import gsm8k_answer
from r1.training.rewriting import think_and_summary

_CALCULATION = re.compile(r"<<[^>]*>>")


@dataclass(frozen=True, slots=True)
class Measured:
    """One command: what it logged at each step, and what it took in all."""

    name: str
    steps: list[dict[str, Any]]
    seconds: float
    peak_rss_bytes: int


def main() -> None:
    options = parse_options()
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in options.data.read_text(encoding="utf-8").splitlines()]
    num_sft = options.batch_size * options.sft_steps
    num_rl = options.questions * options.grpo_steps
    if len(rows) < num_sft + num_rl:
        raise SystemExit(f"{options.data}: {len(rows)} rows, {num_sft + num_rl} are needed")
    sft_path, questions_path = folder / "sft.jsonl", folder / "questions.jsonl"
    write_rows(sft_path, map(think_row, rows[:num_sft]))
    write_rows(questions_path, rows[-num_rl:])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shared = [f"dtype={options.dtype or best_dtype(device)}", f"device={device}"]
    sft = run_verb("sft", folder, [*shared, *sft_settings(options, sft_path)])
    grpo = run_verb("grpo", folder, [*shared, *grpo_settings(options, questions_path)])
    print("\n".join(table([sft, grpo])))
    check(sft, grpo)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("data", type=Path, help="a .jsonl file with GSM8K's fields")
    parser.add_argument("--model", default="smollm2", help="a name from `r1 models` or a folder")
    parser.add_argument("--output", type=Path, default=Path("runs/smollm2_gsm8k"))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="left out: the fastest")
    parser.add_argument("--sft-steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8, help="rows of a supervised step")
    parser.add_argument("--grpo-steps", type=int, default=3)
    parser.add_argument("--questions", type=int, default=4, help="of a step")
    parser.add_argument("--group-size", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=192, help="of a reply")
    return parser.parse_args()


def best_dtype(device: str) -> str:
    """bfloat16 where the hardware multiplies it, else float32."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    has = torch.cpu.get_capabilities()
    return "bfloat16" if has.get("amx_bf16") or has.get("avx512_bf16") else "float32"


def think_row(row: Mapping[str, str]) -> dict[str, str]:
    """A row's own solution as a thought, without GSM8K's calculator marks, and a summary."""
    solution, _, _ = row["answer"].rpartition("####")
    thought = _CALCULATION.sub("", solution)
    summary = f"The answer is \\boxed{{{gsm8k_answer(row['answer'])}}}."
    return {"prompt": row["question"], "completion": think_and_summary(thought, summary)}


def write_rows(path: Path, rows: Any) -> None:
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def sft_settings(options: argparse.Namespace, data: Path) -> list[str]:
    return [
        f"model={options.model}",
        f"data={data}",
        f"batch_size={options.batch_size}",
        "learning_rate=1e-4",
        "micro_batch_tokens=1024",
    ]


def grpo_settings(options: argparse.Namespace, questions: Path) -> list[str]:
    return [
        f"model={options.output / 'sft' / 'checkpoint'}",
        "task.name=gsm8k",
        f"task.train_path={questions}",
        "prompt_style=chat",
        f"steps={options.grpo_steps}",
        f"questions_per_step={options.questions}",
        f"group_size={options.group_size}",
        "updates_per_rollout=1",
        f"max_tokens={options.max_tokens}",
        "learning_rate=3e-6",
        "reference_refresh_steps=0",
        "micro_batch_tokens=1024",
        "samples_every=1",
    ]


def run_verb(verb: str, folder: Path, settings: Sequence[str]) -> Measured:
    """Run `r1 VERB` as a process of its own, so that its memory is its own."""
    output = folder / verb
    command = [sys.executable, "-m", "r1", verb, f"output={output}", *settings]
    started = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if status:
        raise SystemExit(f"r1 {verb} ended with status {os.waitstatus_to_exitcode(status)}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return Measured(verb, [json.loads(line) for line in lines], seconds, peak)


def table(commands: Sequence[Measured]) -> Iterator[str]:
    """Markdown: a row a step, then a row a command."""
    yield "| step | seconds | of it | tokens/s | loss, reward | reply tokens | gap mean | gap max |"
    yield "|---|---|---|---|---|---|---|---|"
    for command in commands:
        for step in command.steps:
            names = [name for name in step if name.startswith("time_") and name != "time_step"]
            names.sort(key=lambda name: -step[name])
            phases = ", ".join(
                f"{name[5:]} {step[name]:.1f}" for name in names if step[name] > 0.05
            )
            shown = [step.get("loss", step.get("reward")), step.get("response_tokens_mean")]
            gaps = [step.get("logprob_gap_mean_abs"), step.get("logprob_gap_max_abs")]
            cells = [f"{command.name} {step['step']}", f"{step['time_step']:.1f}", phases]
            cells += [f"{step['tokens_per_second']:.0f}"]
            cells += ["" if value is None else f"{value:.3f}" for value in shown]
            cells += ["" if value is None else f"{value:.1e}" for value in gaps]
            yield f"| {' | '.join(cells)} |"
    yield ""
    for command in commands:
        peak = command.peak_rss_bytes / 1e9
        yield f"r1 {command.name}: {command.seconds:.0f} s in all, {peak:.1f} GB at most"


def check(sft: Measured, grpo: Measured) -> None:
    """Numbers that are not sane end the benchmark with exit status 1."""
    problems = []
    for step in [*sft.steps, *grpo.steps]:
        numbers = [value for value in step.values() if isinstance(value, float)]
        if not all(abs(number) < float("inf") for number in numbers):
            problems.append(f"step {step['step']}: a number is not finite")
    first, last = sft.steps[0]["loss"], sft.steps[-1]["loss"]
    if not 0 < last < 5 or first > 5:
        problems.append(f"SFT loss {first:.2f} -> {last:.2f}: an English model starts below 5")
    if any(step["logprob_gap_mean_abs"] > 0.05 for step in grpo.steps):
        problems.append("sampler and trainer disagree")
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()

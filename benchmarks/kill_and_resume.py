"""Kill a recipe at random moments, start it again, and compare it with an undisturbed run.

    python benchmarks/kill_and_resume.py recipes/quickstart.toml --output runs/kill

Runs the recipe once undisturbed (or takes a finished run as --reference), then once more
with a SIGKILL in each of several different stages, at a random moment of that stage.
Compares every checkpoint, data file and evaluation of the two, byte by byte. Exit status
1 when anything differs. The same machine and number of threads are needed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

# What legitimately differs between two runs: when, and how long.
_TIMES = (
    "seconds",
    "generation_seconds",
    "grading_seconds",
    "time_",
    "tokens_per_second",
    "asked_at",
    "finished_at",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", help="dotted overrides, as for r1 run")
    parser.add_argument("--output", type=Path, required=True, help="folder for both runs")
    parser.add_argument("--reference", type=Path, help="a finished run of the same recipe")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    reference = options.reference or options.output / "undisturbed"
    if options.reference is None:
        start(options, reference).wait()
    killed = options.output / "killed"
    seconds = stage_seconds(reference)
    rng = random.Random(options.seed)
    chosen = sorted(rng.sample(sorted(seconds), min(options.kills, len(seconds))))
    order = [name for name in json.loads((reference / "run.json").read_text())["stages"]]
    for name in sorted(chosen, key=order.index):
        kill_in(options, killed, name, rng.uniform(0, seconds[name]))
    if start(options, killed).wait() != 0:
        print("the last start failed")
        return 1
    return compare(reference, killed)


def start(options: argparse.Namespace, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "r1", "run", str(options.recipe), f"output={output}"]
    return subprocess.Popen([*command, *options.overrides], start_new_session=True)


def stage_seconds(run: Path) -> dict[str, float]:
    """How long each stage took, its evaluation included; data stages of no length left out."""
    found = {}
    for file in (run / "stages").glob("*/stage.json"):
        stage = json.loads(file.read_text())
        seconds = stage["seconds"] + ((stage["evaluation"] or {}).get("seconds") or 0)
        if seconds > 1:
            found[stage["name"]] = seconds
    return found


def kill_in(options: argparse.Namespace, output: Path, stage: str, delay_seconds: float) -> None:
    """Start, wait until the stage has begun, wait a little longer, and kill."""
    process = start(options, output)
    mark = output / "stages" / stage / "fingerprint.json"
    while not mark.exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(delay_seconds)
    was_running = process.poll() is None
    if was_running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    fate = "killed" if was_running else "had ended"
    print(f"{stage}: {fate} {delay_seconds:.1f} s after its start", flush=True)


def compare(reference: Path, killed: Path) -> int:
    """Print a line for each file that both runs should agree on; 1 when one differs."""
    files = sorted(
        path.relative_to(reference)
        for pattern in (
            "checkpoint/*.safetensors",
            "data.jsonl",
            "metrics.jsonl",
            "evaluation/*.jsonl",
        )
        for path in reference.glob(f"stages/*/{pattern}")
    )
    num_different = 0
    for file in files:
        is_same = digest(reference / file) == digest(killed / file)
        num_different += not is_same
        print(f"{'same     ' if is_same else 'DIFFERENT'} {file}")
    print(f"{len(files) - num_different} of {len(files)} files are the same")
    return int(num_different > 0)


def digest(path: Path) -> str:
    if not path.exists():
        return "absent"
    if path.suffix != ".jsonl":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [{k: v for k, v in row.items() if not k.startswith(_TIMES)} for row in rows]
    # Records of an evaluation are written as they finish, which a resume may reorder.
    lines = sorted(json.dumps(row, sort_keys=True) for row in kept)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())

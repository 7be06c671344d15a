from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import contestants
import pytest
from contestants import Arena, Worker
from measurement import ContestantError

SCRIPT = """
import sys, time
sys.path.insert(0, {workers!r})
from worker import SteppedRun, serve

def train(begin_step):
    for number in range(2):
        begin_step()
        steps.append(number)

steps = []
def open(model, device, **options):
    if model == "broken":
        raise OSError("no such model")
    print("libraries may print")
    return {{"version": "1.0", "options": options}}
def start():
    global run
    run = SteppedRun(train)
    return {{"steps": list(steps)}}
def step():
    run.step()
    return {{"steps": list(steps)}}
def grow(num_bytes):
    data = bytearray(num_bytes)
    return {{}}
serve({{"open": open, "start": start, "step": step, "grow": grow, "die": lambda: sys.exit(3),
        "sleep": lambda seconds: time.sleep(seconds) or {{}}}})
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    script = write_script(tmp_path)
    worker = Worker("fake", [sys.executable, str(script)], tmp_path / "log", {})
    yield worker
    worker.close()


def write_script(folder: Path) -> Path:
    script = folder / "fake.py"
    script.write_text(SCRIPT.format(workers=str(contestants.WORKERS)))
    return script


def test_a_worker_answers_with_time_and_peak_memory(worker: Worker) -> None:
    reply = worker.ask("open", model="m", device="cpu", dtype="float32")
    assert (reply["version"], reply["options"]) == ("1.0", {"dtype": "float32"})
    assert worker.ask("sleep", seconds=0.05)["seconds"] >= 0.05
    before = reply["peak_bytes"]
    grown = worker.ask("grow", num_bytes=300_000_000)["peak_bytes"]
    assert 290_000_000 <= grown - before <= 400_000_000
    # The peak is of each request, not of the process.
    assert worker.ask("sleep", seconds=0)["peak_bytes"] < before + 50_000_000


def test_a_worker_is_frozen_between_requests(worker: Worker) -> None:
    worker.ask("open", model="m", device="cpu")
    status = Path(f"/proc/{worker.process.pid}/stat")
    for _ in range(100):
        if status.read_text().split(")")[1].split()[0] == "T":
            break
        time.sleep(0.01)
    assert status.read_text().split(")")[1].split()[0] == "T"
    assert worker.ask("sleep", seconds=0)["seconds"] >= 0


def test_what_a_worker_cannot_do_is_one_clear_line(worker: Worker) -> None:
    with pytest.raises(ContestantError, match="open: OSError: no such model"):
        worker.ask("open", model="broken", device="cpu")
    with pytest.raises(ContestantError, match="cannot do that"):
        worker.ask("fly")
    with pytest.raises(ContestantError, match="process ended during die"):
        worker.ask("die")
    with pytest.raises(ContestantError, match=r"its process (has )?ended"):
        worker.ask("sleep", seconds=0)


def test_a_worker_that_takes_too_long_is_ended(worker: Worker) -> None:
    with pytest.raises(ContestantError, match="sleep took more than 0 s"):
        worker.ask("sleep", seconds=60, timeout_seconds=0.3)
    assert worker.process.poll() is not None


def test_a_training_run_goes_a_step_at_a_time(worker: Worker) -> None:
    assert worker.ask("start")["steps"] == []
    assert worker.ask("step")["steps"] == [0]
    with pytest.raises(ContestantError, match="the run is over"):
        worker.ask("step")


def test_missing_and_failing_peers_are_noted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = str(write_script(tmp_path))
    monkeypatch.setitem(contestants.SCRIPTS, "ours", (script, None))
    monkeypatch.setitem(contestants.SCRIPTS, "vLLM", (script, "vllm"))
    arena = Arena(tmp_path, num_threads=1, device="cpu")
    try:
        assert arena.enter("vLLM", model="m") is None
        assert arena.enter("vLLM", model="m") is None
        assert arena.enter("ours", model="broken") is None
        assert arena.notes == [
            "vLLM is missing: make bench-peers BENCH_PEERS=vllm",
            "ours could not start: open: OSError: no such model",
        ]
        worker = arena.enter("ours", model="m", dtype="float32")
        assert worker is not None
        assert arena.enter("ours", model="m", dtype="float32") is worker
        assert arena.versions == {"ours": "1.0"}
    finally:
        arena.leave()
    assert worker.process.poll() is not None

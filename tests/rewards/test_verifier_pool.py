"""Workers that hang, crash and lie, played by a small script."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from r1.rewards.verifier_pool import WorkerFailure, WorkerPool

# Fails at every hundredth request over all its lives: crashes, spins, sleeps and is killed in turn.
FLAKY_SCRIPT = """
import json, os, pathlib, signal, sys, time
from r1.rewards.worker_process import cpu_time_limit
counter = pathlib.Path(sys.argv[1])
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    count = int(counter.read_text()) + 1
    counter.write_text(str(count))
    if count % 100 == 50:
        fault = count // 100 % 4
        if fault == 0:
            os._exit(7)
        if fault == 1:
            with cpu_time_limit(0.1):
                while True:
                    pass
        if fault == 2:
            time.sleep(100)
        os.kill(os.getpid(), signal.SIGKILL)
    print(json.dumps({"is_correct": request["gold"] == request["answer"]}), flush=True)
"""

SCRIPT = """
import json, os, sys, time
from r1.rewards.worker_process import cpu_time_limit
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "hang":
        time.sleep(100)
    if request["do"] == "crash":
        os._exit(7)
    if request["do"] == "sleep":
        time.sleep(0.3)
    if request["do"] == "work":
        with cpu_time_limit(0.2):
            10 ** 10 ** 10  # in C code, with the interpreter's lock
    if request["do"] == "rest":
        with cpu_time_limit(0.2):
            time.sleep(0.4)
    print(json.dumps({"pid": os.getpid(), "text": request.get("text")}), flush=True)
"""


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool([sys.executable, "-c", SCRIPT], num_workers=2, timeout_seconds=5.0)
    yield pool
    pool.close()


def test_one_thread_starts_one_worker_and_keeps_it(pool: WorkerPool) -> None:
    assert [worker._process for worker in pool._workers] == [None, None]
    pids = {pool.ask({"do": "echo"})["pid"] for _ in range(3)}
    assert len(pids) == 1
    assert sum(worker._process is not None for worker in pool._workers) == 1


def test_text_comes_back_whole(pool: WorkerPool) -> None:
    text = "答案\n\u2028\\boxed{1}" * 10_000
    assert pool.ask({"do": "echo", "text": text})["text"] == text


def test_a_crash_is_a_failure_and_the_worker_is_replaced(pool: WorkerPool) -> None:
    before = pool.ask({"do": "echo"})["pid"]
    with pytest.raises(WorkerFailure, match=r"died \(exit status 7\)"):
        pool.ask({"do": "crash"})
    assert pool.ask({"do": "echo"})["pid"] != before


def test_a_wait_is_killed_at_ten_times_the_limit() -> None:
    pool = WorkerPool(
        [sys.executable, "-c", SCRIPT], num_workers=1, timeout_seconds=0.05, num_attempts=1
    )
    with pytest.raises(WorkerFailure, match=r"timeout after 0\.5 s$"):
        pool.ask({"do": "hang"})
    pool.close()


def test_the_limit_is_cpu_time_and_ends_c_code() -> None:
    pool = WorkerPool(
        [sys.executable, "-c", SCRIPT], num_workers=1, timeout_seconds=0.2, num_attempts=1
    )
    first = pool.ask({"do": "rest"})["pid"]
    assert pool.ask({"do": "rest"})["pid"] == first
    with pytest.raises(WorkerFailure, match=r"timeout after 0\.2 s of CPU time"):
        pool.ask({"do": "work"})
    assert pool.ask({"do": "echo"})["pid"] != first
    pool.close()


def test_two_threads_use_two_workers(pool: WorkerPool) -> None:
    barrier = threading.Barrier(2)

    def ask(_: int) -> int:
        barrier.wait()
        return pool.ask({"do": "sleep"})["pid"]

    with ThreadPoolExecutor(2) as threads:
        assert len(set(threads.map(ask, range(2)))) == 2


def test_a_worker_that_dies_between_requests_is_replaced(pool: WorkerPool) -> None:
    pool.ask({"do": "echo"})
    process = next(w._process for w in pool._workers if w._process is not None)
    process.kill()
    process.wait()
    assert pool.ask({"do": "echo"})["pid"] != process.pid


def test_a_command_that_does_not_start_is_a_failure() -> None:
    pool = WorkerPool(
        [sys.executable, "-c", "raise SystemExit(3)"], num_workers=1, timeout_seconds=1
    )
    with pytest.raises(WorkerFailure, match="exit status 3"):
        pool.ask({"do": "echo"})
    pool.close()


def test_close_kills_and_refuses(pool: WorkerPool) -> None:
    pool.ask({"do": "echo"})
    process = next(w._process for w in pool._workers if w._process is not None)
    pool.close()
    assert process.poll() is not None
    with pytest.raises(WorkerFailure, match="closed"):
        pool.ask({"do": "echo"})
    pool.close()


def test_random_failures_in_one_percent_of_calls_change_no_verdict(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    counter.write_text("0")
    command = [sys.executable, "-c", FLAKY_SCRIPT, str(counter)]
    pool = WorkerPool(command, num_workers=1, timeout_seconds=0.05)
    verdicts = [
        pool.ask({"op": "verify", "gold": str(i % 3), "answer": str(i % 2)})["is_correct"]
        for i in range(800)
    ]
    pool.close()
    assert verdicts == [i % 3 == i % 2 for i in range(800)]
    assert int(counter.read_text()) == 808


def test_a_request_that_always_fails_is_a_failure_after_all_attempts(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    counter.write_text("49")
    script = FLAKY_SCRIPT.replace("% 100 == 50", ">= 50").replace("// 100 % 4", "* 0")
    pool = WorkerPool(
        [sys.executable, "-c", script, str(counter)],
        num_workers=1, timeout_seconds=1, num_attempts=3,
    )  # fmt: skip
    with pytest.raises(WorkerFailure, match="exit status 7"):
        pool.ask({"op": "verify", "gold": "1", "answer": "1"})
    pool.close()
    assert counter.read_text() == "52"


def test_settings_out_of_range() -> None:
    with pytest.raises(ValueError, match="num_workers"):
        WorkerPool(["x"], num_workers=0, timeout_seconds=1)
    with pytest.raises(ValueError, match="timeout_seconds"):
        WorkerPool(["x"], num_workers=1, timeout_seconds=0)
    with pytest.raises(ValueError, match="num_attempts"):
        WorkerPool(["x"], num_workers=1, timeout_seconds=1, num_attempts=0)

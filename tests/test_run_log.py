from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from rich.console import Console

from r1 import atomic_files, progress
from r1.config import Config
from r1.run_log import (
    JsonlLog,
    Progress,
    RunError,
    RunFolder,
    StepTimer,
    atomic_folder,
    explain_write_errors,
    peak_rss_bytes,
    versions,
    write_json,
    write_text,
)


class Settings(Config):
    output: Path = Path("run")
    group_size: int = 4


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def fail_with(code: int):
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


# ---------------------------------------------------------------- files and folders


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"path": tmp_path, "gap": float("nan"), "文": 1})
    assert json.loads(path.read_text()) == {"path": str(tmp_path), "gap": None, "文": 1}
    write_text(path, "second")
    assert path.read_text() == "second"
    assert names_in(path.parent) == {"a.json"}
    assert path.stat().st_mode & 0o777 == 0o644 or os.umask(os.umask(0)) != 0o022


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    monkeypatch.setattr(atomic_files.os, call, fail_with(errno.ENOSPC))
    with pytest.raises(RunError, match=r"a\.txt: disk full; free some space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names_in(tmp_path) == {"a.txt"}


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    for content in ("one", "two"):
        with atomic_folder(path) as folder:
            (folder / "weights").write_text(content)
            assert not (path / "weights").exists() or (path / "weights").read_text() == "one"
    assert (path / "weights").read_text() == "two"
    assert names_in(tmp_path) == {"checkpoint"}


def test_a_folder_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    with atomic_folder(path) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(KeyError), atomic_folder(path) as folder:
        raise KeyError
    with (
        pytest.raises(RunError, match="state: disk full"),
        atomic_folder(path) as folder,
    ):
        (folder / "a").write_text("new")
        raise RuntimeError("I/O error: No space left on device (os error 28)")  # as safetensors
    monkeypatch.setattr(atomic_files.os, "fsync", fail_with(errno.ENOSPC))
    with pytest.raises(RunError, match="state: disk full"), atomic_folder(path) as folder:
        (folder / "a").write_text("new")
    assert (path / "a").read_text() == "old"
    assert names_in(tmp_path) == {"state"}


def test_a_kill_between_the_two_renames_is_recovered(tmp_path: Path) -> None:
    (tmp_path / ".state.old").mkdir()
    (tmp_path / ".state.old" / "step").write_text("3")
    (tmp_path / ".state.new-abc").mkdir()
    with RunFolder.open(tmp_path) as folder:
        assert (folder.state_path / "step").read_text() == "3"
    assert names_in(tmp_path) == {".lock", "state"}


def test_errors_are_told_in_one_line(tmp_path: Path) -> None:
    for code, words in (
        (errno.ENOSPC, "disk full"),
        (errno.EACCES, "not writable"),
        (errno.EROFS, "not writable"),
        (errno.EIO, "cannot be written"),
    ):
        with pytest.raises(RunError, match=words) as caught, explain_write_errors(tmp_path):
            raise OSError(code, os.strerror(code))
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(str(tmp_path))


# ---------------------------------------------------------------- logs


def test_rows_come_back_and_truncate(tmp_path: Path) -> None:
    log = JsonlLog(tmp_path / "deep" / "metrics.jsonl")
    assert log.rows() == []
    log.truncate(3)
    for step in range(5):
        log.append({"step": step, "loss": float("inf") if step == 2 else 0.5})
    assert [row["step"] for row in log.rows()] == [0, 1, 2, 3, 4]
    assert log.rows()[2] == {"step": 2, "loss": None}
    log.truncate(3)
    log.truncate(max_step=2)
    log.append({"step": 9})
    assert [row["step"] for row in log.rows()] == [0, 1, 2, 9]
    log.truncate(lambda row: row["step"] > 1)
    assert [row["step"] for row in log.rows()] == [2, 9]


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 0}\n{"step": 1, "lo')
    log = JsonlLog(path)
    assert log.rows() == [{"step": 0}]
    log.append({"step": 1})
    assert path.read_text() == '{"step": 0}\n{"step": 1}\n'
    path.write_text('{"step": 0}\n{"torn\n{"step": 1}\n')
    with pytest.raises(RunError, match=r"m\.jsonl: line 2 is not JSON"):
        JsonlLog(path).rows()


def test_a_full_disk_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = JsonlLog(tmp_path / "m.jsonl")
    log.append({"step": 0})
    system_write = os.write
    calls = []

    def write_a_little(descriptor: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return system_write(descriptor, data[:4])

    monkeypatch.setattr(os, "write", write_a_little)
    with pytest.raises(RunError, match="disk full"):
        log.append({"step": 1})
    monkeypatch.undo()
    log.append({"step": 2})
    assert log.path.read_text() == '{"step": 0}\n{"step": 2}\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_really_full_device() -> None:
    with pytest.raises(RunError, match="/dev/full: disk full"):
        JsonlLog(Path("/dev/full")).append({"step": 1})


# ---------------------------------------------------------------- the run folder


def test_the_second_run_in_a_folder_is_refused(tmp_path: Path) -> None:
    with (
        RunFolder.open(tmp_path / "run", config=Settings()),
        pytest.raises(RunError, match=f"another run is using this folder .process {os.getpid()}"),
    ):
        RunFolder.open(tmp_path / "run")
    with RunFolder.open(tmp_path / "run", config=Settings(output=tmp_path)) as again:
        assert json.loads((again.path / "config.json").read_text())["group_size"] == 4


def test_a_killed_run_lets_its_folder_go_and_keeps_its_rows(tmp_path: Path) -> None:
    """Even while a worker that it forked lives on."""
    script = textwrap.dedent("""
        import os, signal, sys, time
        from pathlib import Path
        from r1.run_log import RunFolder
        folder = RunFolder.open(Path(sys.argv[1]))
        for step in range(100):
            folder.metrics.append({"step": step})
        worker = os.fork()
        if worker == 0:
            # Said by the worker: on a busy machine it may not have run yet when its parent has.
            print(os.getpid(), flush=True)
            os.close(1); os.close(2)
            time.sleep(20)
            os._exit(0)
        time.sleep(20)
    """)
    run = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert run.stdout is not None
    worker = int(run.stdout.readline())
    with pytest.raises(RunError, match=f"process {run.pid}"):
        RunFolder.open(tmp_path)
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    with RunFolder.open(tmp_path) as folder:
        assert [row["step"] for row in folder.metrics.rows()] == list(range(100))
    os.kill(worker, signal.SIGKILL)


def test_another_config_is_refused(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, config=Settings()) as folder:
        folder.metrics.append({"step": 0})
        with atomic_folder(folder.state_path) as state:
            (state / "a").write_text("x")
    with pytest.raises(RunError, match=r"another config: group_size was 4, is now 8; choose"):
        RunFolder.open(tmp_path, config=Settings(group_size=8))
    RunFolder.open(tmp_path, config=Settings()).close()


def test_a_run_that_never_began_does_not_hold_its_folder_to_its_config(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, config=Settings()).close()
    with RunFolder.open(tmp_path, config=Settings(group_size=8)) as folder:
        folder.metrics.append({"step": 1})
    with pytest.raises(RunError, match="another config: group_size was 8, is now 4"):
        RunFolder.open(tmp_path, config=Settings())


def test_an_unwritable_folder_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file/run: cannot be written: Not a directory"):
        RunFolder.open(tmp_path / "file" / "run")
    monkeypatch.setattr(os, "open", fail_with(errno.EACCES))
    with pytest.raises(RunError, match=r"not writable .Permission denied"):
        RunFolder.open(tmp_path / "run")


def test_a_full_disk_is_said_on_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", fail_with(errno.ENOSPC))
    with pytest.raises(RunError, match="disk full"):
        RunFolder.open(tmp_path)
    monkeypatch.undo()
    RunFolder.open(tmp_path).close()


# ---------------------------------------------------------------- time, progress, facts


def test_phases_add_up_and_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 3.0, 6.0, 7.0, 10.0, 12.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    timer = StepTimer()
    with timer.phase("generate"):
        pass
    with timer.phase("generate"):
        pass
    assert timer.seconds == {"time_generate": 5.0, "time_step": 7.0}
    timer.reset()
    assert timer.seconds == {"time_step": 2.0}


def test_progress_shows_where_the_time_goes() -> None:
    shown = progress.format_metrics(
        {"reward": 0.8251, "step_count": 3, "kl": None, "time_generate": 1.5, "time_step": 2.0}
    )
    assert shown == "reward 0.825 step count 3 | 2.0 s: generate 75%"
    output = io.StringIO()
    with Progress(2, "grpo", console=Console(file=output)) as bar:
        bar.update(1, reward=0.5)
        bar.update(2, reward=0.75)
    assert output.getvalue() == "grpo 2/2 reward 0.75\n"


def test_progress_draws_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("R1_QUIET", raising=False)
    output = io.StringIO()
    with Progress(2, "sft", console=Console(file=output, force_terminal=True, width=120)) as bar:
        bar.update(2, loss=0.125)
    assert "sft" in output.getvalue()
    assert "2/2" in output.getvalue()
    assert "loss 0.125" in output.getvalue()


def test_facts_of_the_machine() -> None:
    assert 10_000_000 < peak_rss_bytes() < 1 << 45
    assert versions()["python"] == sys.version.split()[0]
    assert "torch" in versions()

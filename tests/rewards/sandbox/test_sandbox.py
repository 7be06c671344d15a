from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from r1.rewards.sandbox.landlock import landlock_version
from r1.rewards.sandbox.launch import Isolation, new_user_id
from r1.rewards.sandbox.sandbox import Box, Sandbox, SandboxFailure, SandboxLimits, SandboxResult
from r1.rewards.sandbox.seccomp import build_filter
from r1.rewards.sandbox.self_check import isolation_fault, strongest_isolation
from tests.rewards.sandbox import sandbox_attacks as attacks

MIB = 1 << 20
LEVELS: tuple[Isolation, ...] = ("namespaces", "bubblewrap", "dropped-user")
LIMITS = SandboxLimits(
    wall_seconds=10,
    cpu_seconds=3,
    memory_bytes=256 * MIB,
    folder_bytes=32 * MIB,
    file_bytes=16 * MIB,
    output_bytes=MIB,
    num_processes=32,
)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Isolation:
    """Each level that this machine has; the others are skipped with the reason."""
    fault = isolation_fault(request.param)
    if fault:
        pytest.skip(f"{request.param}: {fault}")
    return request.param


@pytest.fixture
def box(level: Isolation) -> Iterator[Box]:
    with Sandbox(LIMITS, isolation=level).open() as opened:
        yield opened


def attack(box: Box, program: str, *arguments: str, **limits: float) -> SandboxResult:
    command = [box.python, "-S", "-c", program, *arguments]
    result = box.run(command, limits=replace(box.limits, **limits))
    assert result.stdout.startswith(b"started"), result
    return result


def processes_named(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(entry.name)
            except OSError:  # it ended meanwhile
                continue
    return found


# ---------------------------------------------------------------- the ten attacks


def test_1_network(box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        output = attack(box, attacks.NETWORK, "127.0.0.1", str(port)).stdout.decode()
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()
    assert "connected" not in output
    assert output.count("refused") == 4


def test_2_fork_bomb(box: Box) -> None:
    started = time.monotonic()
    result = attack(box, attacks.FORK_BOMB, wall_seconds=0.5)
    assert result.status in ("timed_out", "too_many_processes")
    assert time.monotonic() - started < 30
    assert box.run(["echo", "alive"]).stdout == b"alive\n"  # and all of them are gone


def test_3_memory(box: Box) -> None:
    result = attack(box, attacks.MEMORY)
    is_stopped = result.status == "out_of_memory" or b"MemoryError" in result.stderr
    assert is_stopped and result.max_memory_bytes < 5 * box.limits.memory_bytes
    together = attack(box, attacks.MEMORY_IN_MANY_PROCESSES)
    assert together.status == "out_of_memory"


def test_4_cpu(box: Box) -> None:
    result = attack(box, attacks.CPU, cpu_seconds=0.2)
    assert result.status == "timed_out"
    assert attack(box, attacks.CPU_IN_MANY_PROCESSES, cpu_seconds=0.3).status == "timed_out"


def test_5_disk(box: Box) -> None:
    result = attack(box, attacks.DISK)
    written = result.stdout.decode().split()[-1]
    assert result.status == "disk_full" or int(written) <= box.limits.folder_bytes
    # The box may be so full already that this does not even start.
    command = [box.python, "-S", "-c", attacks.MANY_FILES]
    files = box.run(command, limits=replace(box.limits, wall_seconds=2.0))
    is_stopped = files.status in ("disk_full", "timed_out")
    assert is_stopped or int(files.stdout.split()[-1]) <= 100_000


def test_6_other_users_files(box: Box, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("of another user")
    secret.chmod(0o600)
    for folder in (tmp_path, *tmp_path.parents):
        assert folder == folder.resolve()
    private = [str(secret), "/etc/shadow", "/root/.bashrc", "/root/.ssh"]
    public = tmp_path / "public.txt"
    public.write_text("for everybody on this machine")
    public.chmod(0o644)
    output = attack(box, attacks.READ_FILES, *private).stdout.decode()
    assert "read" not in output and "listed" not in output
    if box.isolation != "dropped-user" or landlock_version():
        seen = attack(box, attacks.READ_FILES, str(public), "/home", "/etc/passwd-", "/var").stdout
        assert b"read" not in seen and b"listed" not in seen


def test_7_escaped_children(box: Box) -> None:
    mark = f"r1-escape-{os.getpid()}-{box.isolation}"
    result = attack(box, attacks.ESCAPE.replace("MARK", repr(mark)))
    assert result.is_success
    assert processes_named(mark) == []


def test_8_the_graders_own_files(box: Box) -> None:
    package = Path(__file__).resolve().parents[3] / "r1"
    repository = [str(package), str(package / "records.py"), str(Path(__file__))]
    parent = [f"/proc/{os.getpid()}/{name}" for name in ("environ", "mem", "maps", "cwd/pyproject")]
    supervisor = [f"/proc/{pid}/{name}" for pid in ("1",) for name in ("mem", "environ", "fd")]
    output = attack(box, attacks.READ_FILES, *parent, *supervisor).stdout.decode()
    assert "read" not in output and "listed" not in output
    if box.isolation != "dropped-user" or landlock_version():
        seen = attack(box, attacks.READ_FILES, *repository).stdout.decode()
        assert "read" not in seen
        assert all(line.endswith(" 0") for line in seen.splitlines() if "listed" in line)


def test_9_a_hundred_megabytes_of_output(box: Box) -> None:
    result = attack(box, attacks.OUTPUT)
    assert result.status == "too_much_output"
    assert len(result.stdout) == MIB


def test_10_sleeping_forever(box: Box) -> None:
    started = time.monotonic()
    assert attack(box, attacks.SLEEP, wall_seconds=0.5).status == "timed_out"
    assert time.monotonic() - started < 20


# ---------------------------------------------------------------- further ones


def test_the_supervisor_cannot_be_killed(box: Box) -> None:
    attack(box, attacks.KILL_EVERYONE)
    assert box.run(["echo", "still here"]).stdout == b"still here\n"


def test_no_new_namespace_trace_mount_or_root(box: Box) -> None:
    output = attack(box, attacks.NEW_NAMESPACE).stdout.decode().split()
    assert output == ["started"] + ["refused"] * 5


def test_secrets_of_the_environment_stay_out(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_SECRET_TOKEN", "sesame")
    with Sandbox(LIMITS, isolation=box.isolation).open() as fresh:
        assert b"SECRET" not in fresh.run(["env"]).stdout
        shown = fresh.run([fresh.python, "-S", "-c", "print(open('/proc/self/environ').read())"])
        assert shown.is_success and b"sesame" not in shown.stdout
        assert fresh.run(["env"], environment={"GIVEN": "1"}).stdout.count(b"GIVEN=1") == 1


def test_boxes_do_not_see_each_other(level: Isolation) -> None:
    sandbox = Sandbox(LIMITS, isolation=level, num_parallel=2)
    with sandbox.open({"secret.txt": b"mine"}) as first, sandbox.open() as second:
        assert first.run(["cat", "secret.txt"]).stdout == b"mine"
        path = first.run(["pwd"]).stdout.decode().strip()
        assert second.run(["cat", f"{path}/secret.txt"]).exit_code == 1


# ---------------------------------------------------------------- running programs


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(LIMITS)


def test_files_input_and_exit_code(sandbox: Sandbox) -> None:
    with sandbox.open({"a/b/echo.sh": b"#!/bin/sh\ncat; echo err >&2; exit 3\n"}) as box:
        result = box.run(["./a/b/echo.sh"], stdin=b"\x00\xff in")
        assert (result.status, result.exit_code) == ("exited", 3)
        assert (result.stdout, result.stderr) == (b"\x00\xff in", b"err\n")
        assert not result.is_success and result.isolation == box.isolation
        assert box.run(["no-such-program"]).exit_code == 127
        assert box.run(["./a"]).exit_code == 126
        crash = box.run([box.python, "-S", "-c", "import os; os.abort()"])
        assert (crash.status, crash.signal, crash.exit_code) == ("signalled", 6, None)
        # What one program writes the next one finds; the input cannot be written to.
        assert box.run(["sh", "-c", "echo kept > note"]).is_success
        assert box.run(["cat", "note"]).stdout == b"kept\n"
        spoil = "import os; os.write(os.open('/proc/self/fd/0', os.O_RDWR), b'x')"
        assert not box.run([box.python, "-S", "-c", spoil], stdin=b"abc").is_success


def test_what_is_shown_may_lie_in_tmp() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        (Path(folder) / "shown.txt").write_text("seen")
        os.chmod(folder, 0o755)
        with Sandbox(LIMITS, readable=[folder]).open() as box:
            result = box.run(["/bin/sh", "-c", f"cat {folder}/shown.txt; echo x > /tmp/own"])
            assert (result.stdout, result.exit_code) == (b"seen", 0)
            assert box.run(["/bin/sh", "-c", f"echo x > {folder}/new"]).exit_code != 0


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", ""])
def test_files_stay_inside(sandbox: Sandbox, name: str) -> None:
    with pytest.raises(ValueError, match="not a path inside"), sandbox.open({name: b""}):
        pass


def test_limits_must_be_positive() -> None:
    with pytest.raises(ValueError, match="cpu_seconds must be above 0"):
        SandboxLimits(cpu_seconds=0)


def test_a_supervisor_that_dies_is_a_failure_and_no_result(sandbox: Sandbox) -> None:
    with sandbox.open() as box:
        threading.Timer(0.3, box._process.kill).start()
        with pytest.raises(SandboxFailure):
            box.run(["sleep", "20"], limits=SandboxLimits(wall_seconds=30))


def test_no_sandbox_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from r1.rewards.sandbox import self_check

    monkeypatch.setattr(self_check, "isolation_fault", lambda level: f"no {level} today")
    with pytest.raises(
        SandboxFailure, match="no sandbox works here, so no program is run"
    ) as error:
        Sandbox().run(["echo", "unsafe"])
    assert "namespaces: no namespaces today" in str(error.value)
    with pytest.raises(SandboxFailure, match="no sandbox of level dropped-user works here"):
        Sandbox(isolation="dropped-user").run(["echo", "unsafe"])


def test_the_strongest_level_is_taken() -> None:
    if all(isolation_fault(level) for level in LEVELS):
        pytest.skip("no sandbox here")
    first = next(level for level in LEVELS if not isolation_fault(level))
    assert strongest_isolation() == first


def test_a_probe_that_finds_a_hole_refuses_the_level() -> None:
    from r1.rewards.sandbox.self_check import _faults

    sealed = {
        "user_id": 12345,
        "capabilities": False,
        "no_new_privileges": True,
        "filter": True,
        "network": False,
        "writes_outside": False,
        "sees_package": False,
        "sees_processes": False,
        "environment": ["HOME", "PATH"],
    }
    assert _faults("namespaces", sealed) == []
    holes = {"network": True, "writes_outside": True, "filter": False, "sees_package": True}
    for name, value in holes.items():
        assert len(_faults("namespaces", {**sealed, name: value})) == 1
    assert _faults("dropped-user", {**sealed, "sees_package": True}) == []


def test_the_filter_is_whole_instructions() -> None:
    program = build_filter((1,))
    assert len(program) % 8 == 0 and 40 < len(program) // 8 < 200
    assert len(build_filter((1, 2, 10))) == len(program) + 2 * 16


def test_user_ids_are_those_of_nobody() -> None:
    ids = {new_user_id() for _ in range(20)}
    assert min(ids) >= 20_000
    assert len(ids) > 15
    assert shutil.which("sh") is not None

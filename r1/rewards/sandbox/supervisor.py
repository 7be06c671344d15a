"""The process inside a sandbox that starts its programs, watches them and ends them.

It is the first process of its process namespace, where there is one: root there, or hidden
from the programs by the kernel otherwise. Programs never hold its pipes. It speaks JSON
lines: first how to set up, then one program after the other; bytes travel as Latin-1 text.
Every sandbox starts one, so that what it imports counts: no dataclasses, no typing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time

from r1.rewards.sandbox import jail, landlock, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

# Where every user may write, so that a user without a view of its own may as well.
_SHARED_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock")
_POLL_SECONDS = 0.05
_CHUNK_BYTES = 1 << 16
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class _Box:
    """How this sandbox was set up: `root` holds the folder and the temporary files."""

    def __init__(self, level: str, user_id: int, root: str, code: bytes) -> None:
        self.level = level
        self.user_id = user_id
        self.is_other_user = os.getuid() != user_id
        self.root = root
        self.folder = f"{root}/work"
        self.temporary = f"{root}/tmp"
        self.filter = code
        self.ruleset: int | None = None

    @property
    def has_own_processes(self) -> bool:
        """Whether all processes that are seen here are this sandbox's."""
        return self.level != "dropped-user"


class _Program:
    """One running program; `process` is its descriptor, readable once it has ended."""

    def __init__(self, pid: int, outputs: dict[int, bytearray]) -> None:
        self.pid = pid
        self.process = os.pidfd_open(pid)
        self.outputs = outputs
        self.started = time.monotonic()
        self.verdict = ""


def main() -> None:
    """Serve one sandbox until the requests end."""
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    box: _Box | None = None
    try:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                if box is None:
                    box = _set_up(request)
                    reply: dict[str, Any] = {"is_ready": True}
                else:
                    reply = _run(box, request)
            except OSError as error:
                reply = {"error": str(error)}
            sys.stdout.write(json.dumps(reply) + "\n")
            sys.stdout.flush()
    finally:
        if box is not None and not box.has_own_processes:
            _kill_all(box)
            _remove_strays(box)


def _set_up(request: Mapping[str, Any]) -> _Box:
    level = request["level"]
    user_id = os.getuid() if request["user_id"] is None else request["user_id"]
    jail.hide_memory()
    families = [seccomp.AF_UNIX]
    if level == "namespaces":
        jail.build_view(request["readable"], request["hidden"], request["folder_bytes"], user_id)
    if level == "dropped-user":
        root = request["folder"]
        os.chmod(root, 0o711)
        for name in ("work", "tmp"):
            os.mkdir(f"{root}/{name}", 0o700)
            os.chown(f"{root}/{name}", user_id, user_id)
    else:
        # An empty network namespace holds these; here only the machine's own unix sockets.
        root = jail.BOX
        families += [seccomp.AF_INET, seccomp.AF_INET6, seccomp.AF_NETLINK]
    box = _Box(level, user_id, root, seccomp.build_filter(tuple(families)))
    if level == "dropped-user":
        box.ruleset = landlock.build_ruleset(
            readable=[*jail.SYSTEM_PATHS, "/proc", *request["readable"]],
            writable=[box.folder, box.temporary],
            devices=[f"/dev/{name}" for name in jail.DEVICES],
        )
    files = {name: text.encode("latin-1") for name, text in request["files"].items()}
    jail.write_files(box.folder, files, user_id)
    return box


def _run(box: _Box, request: Mapping[str, Any]) -> dict[str, Any]:
    limits = request["limits"]
    program = _start(box, request)
    _watch(box, program, limits)
    _kill_all(box)
    # Only now: what it left behind held the pipes open.
    _, status, usage = os.wait4(program.pid, 0)
    _drain(program, limits["output_bytes"])
    _wait_for_all(box)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    is_over_time = cpu_seconds > limits["cpu_seconds"] or _signal(status) == signal.SIGXCPU
    verdict = program.verdict or ("timed_out" if is_over_time else "")
    stdout, stderr = program.outputs.values()
    return {
        "status": verdict or ("signalled" if os.WIFSIGNALED(status) else "exited"),
        "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        "signal": _signal(status),
        "stdout": stdout.decode("latin-1"),
        "stderr": stderr.decode("latin-1"),
        "wall_seconds": time.monotonic() - program.started,
        "cpu_seconds": cpu_seconds,
        "max_memory_bytes": usage.ru_maxrss * 1024,
    }


def _signal(status: int) -> int | None:
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


# ---------------------------------------------------------------- starting a program


def _start(box: _Box, request: Mapping[str, Any]) -> _Program:
    stdin = _input_file(request["stdin"].encode("latin-1"))
    pipes = [os.pipe(), os.pipe()]
    report_end, child_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(box, request, (stdin, pipes[0][1], pipes[1][1]), child_end)
    for descriptor in (stdin, child_end, *(write_end for _, write_end in pipes)):
        os.close(descriptor)
    with os.fdopen(report_end, "rb") as report:
        failure = report.read().decode()
    if failure:
        os.waitpid(pid, 0)
        for read_end, _ in pipes:
            os.close(read_end)
        raise OSError(failure)
    for read_end, _ in pipes:
        os.set_blocking(read_end, False)
    return _Program(pid, {read_end: bytearray() for read_end, _ in pipes})


def _input_file(content: bytes) -> int:
    """What a program reads as its input: a file of the supervisor's that it cannot write to."""
    descriptor = os.memfd_create("stdin", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _become(
    box: _Box, request: Mapping[str, Any], streams: tuple[int, int, int], report: int
) -> None:
    """In the forked child: turn into the command. What fails before that goes to `report`."""
    try:
        limits = request["limits"]
        os.setsid()
        os.chdir(box.folder)
        for target, descriptor in enumerate(streams):
            os.dup2(descriptor, target)
        resources = {
            "RLIMIT_CORE": 0,
            # The kernel's limit is the coarse one; the exact time is read afterwards.
            "RLIMIT_CPU": int(limits["cpu_seconds"]) + 1,
            "RLIMIT_AS": limits["address_space_bytes"],
            "RLIMIT_FSIZE": limits["file_bytes"],
            "RLIMIT_NPROC": limits["num_processes"],
            "RLIMIT_NOFILE": limits["num_open_files"],
            "RLIMIT_STACK": limits["stack_bytes"],
        }
        user_id = box.user_id if box.is_other_user else None
        jail.drop_privileges(user_id, resources, box.ruleset, box.filter)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        folders = {"HOME": box.folder, "TMPDIR": box.temporary}
        # The child's end of the report closes on exec, as every descriptor of Python's does.
        _execute(request["command"], {**request["environment"], **folders})
    except FileNotFoundError:
        os.write(2, f"{request['command'][0]}: command not found\n".encode())
        os._exit(127)
    except PermissionError as error:
        os.write(2, f"{request['command'][0]}: {error.strerror}\n".encode())
        os._exit(126)
    # Whatever it is: the child must never return into the supervisor's loop.
    except BaseException as error:
        os.write(report, (str(error) or type(error).__name__).encode())
    os._exit(125)


def _execute(command: list[str], environment: dict[str, str]) -> None:
    # Not os.execvpe: that imports a module, which this user may be unable to read.
    folders = [""] if "/" in command[0] else environment["PATH"].split(":")
    for folder in folders:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.execve(os.path.join(folder, command[0]), command, environment)
    raise FileNotFoundError(command[0])


# ---------------------------------------------------------------- watching it


def _watch(box: _Box, program: _Program, limits: Mapping[str, Any]) -> None:
    """Read its output until it ends or breaks a limit, which becomes its verdict."""
    poller = select.poll()
    for descriptor in (*program.outputs, program.process):
        poller.register(descriptor, select.POLLIN)
    next_check = program.started + _POLL_SECONDS
    while not program.verdict:
        for descriptor, _ in poller.poll(_POLL_SECONDS * 1000):
            if descriptor == program.process:
                return
            if not _read(program, descriptor, limits["output_bytes"]):
                poller.unregister(descriptor)
        now = time.monotonic()
        if now - program.started > limits["wall_seconds"]:
            program.verdict = "timed_out"
        elif now >= next_check:
            program.verdict = _broken_limit(box, limits)
            # Looking at many processes takes long; it may take a tenth of the time.
            next_check = now + max(_POLL_SECONDS, 10 * (time.monotonic() - now))


def _read(program: _Program, descriptor: int, limit: int) -> bool:
    """Take what is there; False at the end of the stream."""
    with contextlib.suppress(BlockingIOError):
        chunk = os.read(descriptor, _CHUNK_BYTES)
        output = program.outputs[descriptor]
        output += chunk[: limit - len(output)]
        if len(output) >= limit and chunk:
            program.verdict = "too_much_output"
        return bool(chunk)
    return True


def _drain(program: _Program, limit: int) -> None:
    """Read what is left after all writers are dead, and close."""
    for descriptor in program.outputs:
        os.set_blocking(descriptor, False)
        while True:
            before = len(program.outputs[descriptor])
            is_open = _read(program, descriptor, limit)
            if not is_open or len(program.outputs[descriptor]) == before:
                break
        os.close(descriptor)
    os.close(program.process)


def _broken_limit(box: _Box, limits: Mapping[str, Any]) -> str:
    """Limits of the whole sandbox, which the kernel's limits of one process do not hold."""
    num_processes = num_pages = ticks = 0
    for pid in _processes(box):
        with contextlib.suppress(OSError):  # it ended meanwhile
            num_processes += 1
            num_pages += int(_content(f"/proc/{pid}/statm").split()[1])
            # After the name, which may hold anything, stand the times: fields 14 to 17.
            fields = _content(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    if num_pages * _PAGE_BYTES > limits["memory_bytes"]:
        return "out_of_memory"
    if ticks / _TICKS > limits["cpu_seconds"]:
        return "timed_out"
    if num_processes > limits["num_processes"]:
        return "too_many_processes"
    return "disk_full" if _is_disk_full(box, limits["folder_bytes"]) else ""


def _is_disk_full(box: _Box, folder_bytes: int) -> bool:
    """What the file system of a box does not bound by itself: empty files, or all of it."""
    if not box.has_own_processes:
        return _folder_bytes(box) > folder_bytes
    system = os.statvfs(box.root)
    return system.f_files - system.f_ffree > jail.MAX_INODES


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _processes(box: _Box) -> Iterator[int]:
    own = os.getpid()
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == own:
            continue
        if box.has_own_processes:
            yield int(name)
            continue
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == box.user_id:
                yield int(name)


def _folder_bytes(box: _Box) -> int:
    """What the sandbox's user holds on disk: its folder, and what it left where all may write."""
    folders = [box.root, *(entry.path for entry in _strays(box))]
    total = 0
    for top in folders:
        for folder, _, names in os.walk(top):
            for name in names:
                with contextlib.suppress(OSError):
                    blocks = os.lstat(f"{folder}/{name}").st_blocks * 512
                    # An empty file takes an inode, of which a disk has only so many.
                    total += max(blocks, _PAGE_BYTES)
    return total + sum(entry.stat(follow_symlinks=False).st_size for entry in _strays(box))


def _strays(box: _Box) -> Iterator[os.DirEntry[str]]:
    for folder in _SHARED_FOLDERS:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_uid == box.user_id:
                    yield entry


def _remove_strays(box: _Box) -> None:
    import shutil

    for entry in list(_strays(box)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)


# ---------------------------------------------------------------- ending it


def _kill_all(box: _Box) -> None:
    """Kill every process of the sandbox but this one, whatever it forked or detached."""
    if os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        return
    # As the sandbox's user, whom only the sandbox has, "all processes" are its own.
    pid = os.fork()
    if pid == 0:
        try:
            os.setresgid(box.user_id, box.user_id, box.user_id)
            os.setresuid(box.user_id, box.user_id, box.user_id)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _wait_for_all(box: _Box) -> None:
    """Return when all that was killed is gone: before the reply, not some time after it."""
    with contextlib.suppress(ChildProcessError):
        # The first process of a namespace inherits all orphans in it.
        while os.getpid() == 1:
            os.waitpid(-1, 0)
    deadline = time.monotonic() + 5
    while next(_processes(box), None) is not None and time.monotonic() < deadline:
        _kill_all(box)
        time.sleep(0.001)

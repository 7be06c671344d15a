"""The walls of the sandbox, put up by its supervisor: what is seen, and what may be done.

By system calls and not by `mount` and `setpriv`, which would take a process each.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct

from r1.rewards.sandbox import landlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BOX = "/box"
"""Where the writable, bounded part of the view lies: the folder and the temporary files."""

# sys/mount.h
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _RECURSIVE = 1, 2, 4, 32, 4096, 16384
_DETACH = 2
# linux/mount.h: mount_setattr(2), the same number on every machine
_MOUNT_SETATTR, _AT_RECURSIVE, _AT_FDCWD = 442, 0x8000, -100
# linux/prctl.h
_SET_DUMPABLE, _CAPBSET_DROP, _SET_SECCOMP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT = 4, 24, 22, 38, 47
_CAP_AMBIENT_CLEAR_ALL, _SECCOMP_FILTER = 4, 2
_LAST_CAPABILITY_PATH = "/proc/sys/kernel/cap_last_cap"

# All that compilers and interpreters of a distribution need; of /etc only what holds no secret.
SYSTEM_PATHS = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"),
    "/etc/localtime",
)
DEVICES = ("null", "zero", "full", "random", "urandom")
MAX_INODES = 100_000

_libc = ctypes.CDLL(None, use_errno=True)


class SeccompProgram(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def build_view(
    readable: Sequence[str], hidden: Sequence[str], folder_bytes: int, user_id: int
) -> None:
    """Make this mount namespace show the system and `readable`, read-only, and a bounded box.

    Everything else of the machine's files is gone from the view: /root, /home, its /tmp.
    `hidden` folders inside what is shown are covered with empty ones. Raises OSError.
    """
    # Opened first: the new root covers a folder, and what is to be shown may lie in it.
    shown = [*SYSTEM_PATHS, *readable]
    sources = {path: os.open(path, os.O_PATH) for path in shown if _is_real(path)}
    devices = {name: os.open(f"/dev/{name}", os.O_PATH) for name in DEVICES}
    root = "/tmp"
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, f"size=16m,nr_inodes={MAX_INODES},mode=755")
    for path in SYSTEM_PATHS:
        if os.path.islink(path):
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            os.symlink(os.readlink(path), root + path)
    # Before what is shown, which may lie in /tmp.
    _make_box(root, folder_bytes, user_id)
    for path, source in sources.items():
        _bind_read_only(source, root + path)
    for path in hidden:
        if os.path.isdir(root + path):
            _mount("tmpfs", root + path, "tmpfs", _NOSUID | _NODEV | _RDONLY, "size=4k,mode=755")
    _make_devices(root, devices)
    os.makedirs(f"{root}/proc")
    _mount("proc", f"{root}/proc", "proc", _NOSUID | _NODEV, "hidepid=2")
    _write(f"{root}/etc/passwd", f"box:x:{user_id}:{user_id}::{BOX}/work:/bin/sh\n".encode())
    _mount(None, root, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV, None)
    os.chdir(root)
    _check(_libc.pivot_root(b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _DETACH), "detach the old root")
    for descriptor in (*sources.values(), *devices.values()):
        os.close(descriptor)
    os.chdir("/")


def _is_real(path: str) -> bool:
    return os.path.exists(path) and not (path in SYSTEM_PATHS and os.path.islink(path))


def _bind_read_only(source: int, target: str) -> None:
    if os.path.isdir(f"/proc/self/fd/{source}"):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _write(target, b"")
    _mount(f"/proc/self/fd/{source}", target, None, _BIND | _RECURSIVE, None)
    attributes = struct.pack("QQQQ", _RDONLY | _NOSUID | _NODEV, 0, 0, 0)
    result = _libc.syscall(
        _MOUNT_SETATTR, _AT_FDCWD, target.encode(), _AT_RECURSIVE, attributes, len(attributes)
    )
    if result != 0:  # before Linux 5.12
        _mount(None, target, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV, None)


def _make_devices(root: str, devices: Mapping[str, int]) -> None:
    os.makedirs(f"{root}/dev")
    for name, source in devices.items():
        _write(f"{root}/dev/{name}", b"")
        _mount(f"/proc/self/fd/{source}", f"{root}/dev/{name}", None, _BIND, None)
    links = {"fd": "/proc/self/fd", "shm": f"{BOX}/tmp"}
    links |= {name: f"/proc/self/fd/{i}" for i, name in enumerate(("stdin", "stdout", "stderr"))}
    for name, target in links.items():
        os.symlink(target, f"{root}/dev/{name}")


def _make_box(root: str, folder_bytes: int, user_id: int) -> None:
    """One file system of bounded size for all that can be written."""
    os.makedirs(root + BOX)
    size = f"size={folder_bytes},nr_inodes={MAX_INODES},mode=755"
    _mount("tmpfs", root + BOX, "tmpfs", _NOSUID | _NODEV, size)
    for name in ("work", "tmp"):
        os.mkdir(f"{root}{BOX}/{name}", 0o700)
        os.chown(f"{root}{BOX}/{name}", user_id, user_id)
    os.mkdir(f"{root}/tmp")
    _mount(f"{root}{BOX}/tmp", f"{root}/tmp", None, _BIND, None)


def hide_memory() -> None:
    """Keep other processes of the same user from reading or tracing this one."""
    _check(_libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def drop_privileges(
    user_id: int | None, limits: Mapping[str, int | None], ruleset: int | None, code: bytes
) -> None:
    """For a forked child, before it becomes the command: limits, user, no way back, filter.

    `user_id` None keeps the user, who then has no capabilities left all the same. `ruleset`
    are Landlock's, if any. The filter `code` comes last. Raises OSError when any of it fails.
    """
    for name, value in limits.items():
        if value is not None:
            number = getattr(resource, name)
            hard = resource.getrlimit(number)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (value, value))
    os.umask(0o077)
    # EINVAL ends the list of capabilities; without the right to drop them there are none to keep.
    for capability in range(64):
        if _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break
    _libc.prctl(_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if user_id is not None:
        os.setgroups([])
        os.setresgid(user_id, user_id, user_id)
        os.setresuid(user_id, user_id, user_id)
    _check(_libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    if ruleset is not None:
        landlock.restrict_to(ruleset)
    program = SeccompProgram(len(code) // 8, code)
    result = _libc.prctl(_SET_SECCOMP, _SECCOMP_FILTER, ctypes.byref(program), 0, 0)
    _check(result, "prctl(PR_SET_SECCOMP)")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, data)]
    source_b, target_b, kind_b, data_b = encoded
    result = _libc.mount(source_b, target_b, kind_b, ctypes.c_ulong(flags), data_b)
    _check(result, f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def write_files(folder: str, files: Mapping[str, bytes], user_id: int) -> None:
    """Put files, all executable and owned by the user, into a folder."""
    for name, content in files.items():
        parts = name.split("/")
        for depth in range(1, len(parts)):
            parent = f"{folder}/{'/'.join(parts[:depth])}"
            with contextlib.suppress(FileExistsError):
                os.mkdir(parent, 0o700)
                os.chown(parent, user_id, user_id)
        path = f"{folder}/{name}"
        _write(path, content)
        os.chmod(path, 0o700)
        os.chown(path, user_id, user_id)


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)

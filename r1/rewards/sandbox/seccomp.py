"""The system calls that sandboxed programs may not make, as a seccomp filter (seccomp(2)).

Namespaces and limits leave gaps that only this closes: a user namespace of the program's own,
in which it could mount memory without a quota; memory files, which count nowhere; sockets of
families that no network namespace covers (AF_VSOCK); reading other processes of its user.
"""

from __future__ import annotations

import errno
import os
import struct

# linux/seccomp.h, linux/bpf_common.h
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_X32_BIT = 0x40000000
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_NAMESPACE_FLAGS = 0x7E020000

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16

# (audit architecture, clone, clone3, socket), and the calls that are refused.
_REFUSED_EVERYWHERE = (
    425, 426, 427,  # io_uring_*, which would make calls past this filter
    428, 429, 430, 432, 442,  # open_tree, move_mount, fsopen, fsmount, mount_setattr
    438,  # pidfd_getfd
    447,  # memfd_secret
)  # fmt: skip
_MACHINES: dict[str, tuple[tuple[int, int, int, int], tuple[int, ...]]] = {
    "x86_64": (
        (0xC000003E, 56, 435, 41),
        (
            29, 64, 68, 240,  # shmget, semget, msgget, mq_open
            101, 310, 311, 312,  # ptrace, process_vm_readv, process_vm_writev, kcmp
            155, 161, 165, 166, 272, 308,  # pivot_root, chroot, mount, umount2, unshare, setns
            175, 246, 313, 320,  # init_module, kexec_load, finit_module, kexec_file_load
            248, 249, 250,  # add_key, request_key, keyctl
            298, 303, 304, 319, 321, 323,  # perf_event_open, *_handle_at, memfd_create, bpf,
        ),  # userfaultfd
    ),
    "aarch64": (
        (0xC00000B7, 220, 435, 198),
        (
            194, 190, 186, 180,
            117, 270, 271, 272,
            41, 51, 40, 39, 97, 268,
            105, 104, 273, 294,
            217, 218, 219,
            241, 264, 265, 279, 280, 282,
        ),
    ),
}  # fmt: skip


def is_supported() -> bool:
    """Whether the numbers of this machine's system calls are known here."""
    return os.uname().machine in _MACHINES


def build_filter(socket_families: tuple[int, ...]) -> bytes:
    """The filter as an array of `struct sock_filter`; other socket families are refused.

    Raises OSError on a machine whose system calls are not in the table.
    """
    if not is_supported():
        raise OSError(f"no table of system calls for {os.uname().machine}")
    (architecture, clone, clone3, socket), refused = _MACHINES[os.uname().machine]
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _KILL),
        # "No such call" lets the C library fall back to clone, whose flags can be read here.
        (_EQUAL, 0, 1, clone3),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    for number in (*refused, *_REFUSED_EVERYWHERE):
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    code += [
        (_EQUAL, 0, 4, clone),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_ANY_BIT, 0, 1, _NAMESPACE_FLAGS),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
        (_EQUAL, 1, 0, socket),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
    ]
    for family in socket_families:
        code += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
    code.append((_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)

"""Programs that try to break out of the sandbox, each saying what it managed to do.

They are run inside it by `test_sandbox.py`. An attack that is contained must fail in its
own way, not because the program cannot start: each prints `started` first.
"""

from __future__ import annotations

NETWORK = """
import socket, sys
print("started", flush=True)
host, port = sys.argv[1], int(sys.argv[2])
for family, kind, address in (
    (socket.AF_INET, socket.SOCK_STREAM, (host, port)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 53)),
    (socket.AF_INET6, socket.SOCK_DGRAM, ("2001:db8::1", 53)),
    (40, socket.SOCK_STREAM, (2, 1024)),  # AF_VSOCK: no network namespace covers it
):
    try:
        with socket.socket(family, kind) as channel:
            channel.settimeout(2)
            channel.connect(address)
            print("connected", family, flush=True)
    except OSError as error:
        print("refused", family, error.errno, flush=True)
"""

FORK_BOMB = """
import os, time
print("started", flush=True)
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.01)
"""

MEMORY = """
print("started", flush=True)
hoard = []
while True:
    hoard.append(bytearray(16 << 20))
"""

MEMORY_IN_MANY_PROCESSES = """
import os, time
print("started", flush=True)
for _ in range(16):
    if os.fork() == 0:
        hoard = bytearray(b"x") * (48 << 20)
        time.sleep(60)
time.sleep(60)
"""

CPU = """
print("started", flush=True)
while True:
    pass
"""

CPU_IN_MANY_PROCESSES = """
import os
print("started", flush=True)
for _ in range(3):
    os.fork()
while True:
    pass
"""

DISK = """
import os, sys
print("started", flush=True)
written = 0
try:
    for number in range(10_000):
        with open(f"file{number}", "wb") as file:
            for _ in range(8):
                written += file.write(bytes(1 << 20))
except OSError as error:
    print("stopped", error.errno, flush=True)
print("written", written, flush=True)
"""

MANY_FILES = """
print("started", flush=True)
number = 0
try:
    while number < 300_000:
        open(f"file{number}", "wb").close()
        number += 1
except OSError:
    pass
print("files", number, flush=True)
"""

READ_FILES = """
import os, sys
print("started", flush=True)
for path in sys.argv[1:]:
    try:
        if os.path.isdir(path):
            print("listed", path, len(os.listdir(path)), flush=True)
        else:
            print("read", path, len(open(path, "rb").read()), flush=True)
    except OSError:
        print("refused", path, flush=True)
"""

ESCAPE = """
import os, sys, time
print("started", flush=True)
# Twice forked, each time the leader of a new session, deaf to what would end it.
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import signal
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.execv(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(300)", MARK])
    os._exit(0)
time.sleep(0.3)
"""

OUTPUT = """
import os
print("started", flush=True)
chunk = b"x" * (1 << 20)
for _ in range(100):
    os.write(1, chunk)
"""

SLEEP = """
import time
print("started", flush=True)
time.sleep(10 ** 6)
"""

KILL_EVERYONE = """
import os, signal
print("started", flush=True)
for pid in (1, os.getppid()):
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGTERM):
        try:
            os.kill(pid, number)
        except OSError:
            pass
"""

NEW_NAMESPACE = """
import ctypes, os
print("started", flush=True)
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
print("unshared" if libc.unshare(CLONE_NEWUSER) == 0 else "refused", flush=True)
print("traced" if libc.ptrace(16, os.getppid(), 0, 0) == 0 else "refused", flush=True)
print("mounted" if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0 else "refused", flush=True)
try:
    os.memfd_create("hoard")
    print("hoarded")
except OSError:
    print("refused")
try:
    os.setuid(0)
    print("root" if os.getuid() == 0 and os.access("/etc/shadow", os.R_OK) else "refused")
except OSError:
    print("refused")
"""

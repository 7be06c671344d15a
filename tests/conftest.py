"""Fixtures and markers that the whole suite shares."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import hypothesis
import pytest

# Before torch is imported: tests are small, and threads of several workers would fight.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("R1_QUIET", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Without a GPU Triton's kernels run in its interpreter; asked when triton is imported.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# What Triton 3.9 does unless told otherwise, with a warning.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

# How long one example takes says nothing on a busy machine.
hypothesis.settings.register_profile("r1", deadline=None)
hypothesis.settings.load_profile("r1")

REPOSITORY = Path(__file__).resolve().parent.parent

OPTIONAL_MARKERS = {
    "gpu": "needs a GPU",
    "slow": "takes minutes",
    "browser": "needs a browser",
    "peers": "needs other projects' packages",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--with",
        action="append",
        default=[],
        metavar="MARKER",
        dest="wanted_markers",
        help=f"also run tests marked {', '.join(OPTIONAL_MARKERS)} (repeat for several)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = set(config.getoption("wanted_markers") or [])
    unknown = wanted - set(OPTIONAL_MARKERS)
    if unknown:
        raise pytest.UsageError(
            f"--with {unknown.pop()}: choose from {', '.join(OPTIONAL_MARKERS)}"
        )
    expression = config.getoption("markexpr") or ""
    for item in items:
        for name, reason in OPTIONAL_MARKERS.items():
            if name in item.keywords and name not in wanted and name not in expression:
                item.add_marker(pytest.mark.skip(reason=f"{reason}; run with --with {name}"))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of published benchmark data; tests that need it skip without it."""
    folder = Path(os.environ.get("R1_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"benchmark data not found at {folder}/data; set R1_SHARED")
    return folder


SPARE_BYTES = 1 << 29
MAX_CPU_SECONDS = 4.0


@pytest.fixture(scope="session")
def bounded() -> Callable[[], AbstractContextManager[None]]:
    """A block with half a gigabyte more than is in use, and seconds of the processor's time."""
    return _bounded


@contextmanager
def _bounded() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"not refused within {MAX_CPU_SECONDS} CPU seconds")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGVTALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, limits[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)

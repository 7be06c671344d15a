"""Fixtures and markers that the whole suite shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch is imported: tests are small, and threads of several workers would fight.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("R1_QUIET", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

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

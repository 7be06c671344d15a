"""Kernels are there, or torch computes and one line says why: never a crash."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1.kernels import native

needs_compiler = pytest.mark.skipif(native.load_kernels() is None, reason="no C compiler")

# Just enough for a build that takes no time; every function that is asked for is there.
SMALL = "\n".join(
    [
        "#if DTYPE_BITS == 16",
        "int r1_self_test(void) { return 42; }",
        *(f"void {name}_bf16(void) {{}}" for name in native._SIGNATURES),
        "#else",
        *(f"void {name}_f32(void) {{}}" for name in native._SIGNATURES),
        "#endif",
    ]
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, small sources, and nothing remembered."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "kernels.c").write_text(SMALL)
    monkeypatch.setattr(native, "_SOURCES", sources)
    monkeypatch.setenv("R1_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("R1_KERNELS", raising=False)
    native.load_kernels.cache_clear()
    yield tmp_path / "home" / "kernels"
    native.load_kernels.cache_clear()


def make_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A `cc` that is a shell script, and no other compiler."""
    path = folder / "bin" / "cc"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CC", str(path))


def the_one_line(caplog: pytest.LogCaptureFixture) -> str:
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    message = record.getMessage()
    assert message.startswith("no C kernels, torch computes instead: ") and "\n" not in message
    return message


@needs_compiler
def test_built_once_then_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = native.load_kernels()
    assert first is not None and first.r1_self_test() == 42
    (library,) = home.iterdir()
    native.load_kernels.cache_clear()
    monkeypatch.setattr(native, "_compile", None)
    assert native.load_kernels() is not None
    assert [path.name for path in home.iterdir()] == [library.name]


@needs_compiler
def test_other_sources_are_another_build(home: Path) -> None:
    native.load_kernels()
    (native._SOURCES / "more.h").write_text("// changed")
    native.load_kernels.cache_clear()
    assert native.load_kernels() is not None
    assert len(list(home.iterdir())) == 2


@needs_compiler
def test_a_damaged_library_is_built_again(home: Path) -> None:
    library = home / f"{native._build_key(native._find_compiler())}.so"
    home.mkdir(parents=True)
    library.write_bytes(b"not a library")
    assert native.load_kernels() is not None
    assert library.stat().st_size > 1000


@needs_compiler
def test_a_cache_that_cannot_be_written(home: Path) -> None:
    home.parent.mkdir()
    home.write_text("a file where the folder should be")
    assert native.load_kernels() is not None


@needs_compiler
def test_what_killed_builds_leave_is_removed(home: Path) -> None:
    for name, age_seconds in (("build-old", 7200), ("build-running", 10)):
        (home / name).mkdir(parents=True)
        (home / name / "k16.o").touch()
        modified = time.time() - age_seconds
        os.utime(home / name, (modified, modified))
    assert native.load_kernels() is not None
    assert [path.name for path in home.glob("build-*")] == ["build-running"]


def test_no_home_directory(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("R1_HOME")
    monkeypatch.setattr(Path, "home", refuse)
    assert native.load_kernels() is None
    assert "home directory" in the_one_line(caplog)


def test_no_compiler(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(home))
    assert native.load_kernels() is None
    assert "no C compiler found" in the_one_line(caplog)
    assert native.load_kernels() is None
    the_one_line(caplog)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'kernels.c:1: error: unknown flag' >&2; exit 1", "unknown flag"),
        ("exit 3", "exit code 3"),
        ("kill -SEGV $$", "exit code -11"),
        # Says that all is well and leaves nothing, or no library.
        ("exit 0", "k.so"),
        ('while [ "$1" != -o ]; do shift; done; echo broken > "$2"', "k.so"),
    ],
    ids=["refuses", "silent", "crashes", "leaves nothing", "leaves rubbish"],
)
def test_a_broken_compiler(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    script: str,
    reason: str,
) -> None:
    make_compiler(tmp_path, monkeypatch, script)
    assert native.load_kernels() is None
    assert reason in the_one_line(caplog)
    assert list(home.iterdir()) == []


@needs_compiler
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("__attribute__((constructor)) static void die(void) { __builtin_trap(); }", "exit code -"),
        (
            "extern int nowhere(void); static int extra(void) { return nowhere(); }\n"
            "int (*volatile keep)(void) __attribute__((weak)) = extra;",
            "nowhere",
        ),
    ],
    ids=["crashes on load", "does not load"],
)
def test_a_library_that_does_not_run(
    home: Path, caplog: pytest.LogCaptureFixture, code: str, reason: str
) -> None:
    (native._SOURCES / "kernels.c").write_text(f"{SMALL}\n{code}\n")
    assert native.load_kernels() is None
    assert reason in the_one_line(caplog)
    assert list(home.iterdir()) == []


def test_a_compiler_that_never_ends(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_compiler(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(native._run, "__kwdefaults__", {"timeout": 0.2})
    assert native.load_kernels() is None
    assert "timed out" in the_one_line(caplog)


def test_turned_off(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_KERNELS", "off")
    assert native.load_kernels() is None
    assert not home.exists()


@needs_compiler
def test_two_processes_build_at_once(home: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from r1.kernels import native\n"
        f"native._SOURCES = Path({str(native._SOURCES)!r})\n"
        "sys.exit(native.load_kernels() is None)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [process.wait(timeout=100) for process in processes] == [0, 0]
    assert len(list(home.iterdir())) == 1

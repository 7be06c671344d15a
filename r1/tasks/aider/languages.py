"""How the tests of each language of Aider-Polyglot are run, in the sandbox.

The commands are aider's (github.com/Aider-AI/aider, benchmark/benchmark.py `run_unit_tests`,
cpp-test.sh, npm-test.sh), except that Python's tests, which are unittest files, run without
pytest, and Java's without Gradle, which would have to load libraries from the network.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from r1.rewards.sandbox.sandbox import Sandbox, SandboxFailure, SandboxLimits
from r1.tasks.aider.exercises import Exercise

# aider's limit for one run is 180 s on a machine of its own; here others may be at work, so
# the clock gets twice that.
_CPU_SECONDS, _WALL_SECONDS = 180.0, 360.0

_MIB = 1 << 20
_LIMITS = SandboxLimits(
    wall_seconds=_WALL_SECONDS,
    cpu_seconds=_CPU_SECONDS,
    memory_bytes=3072 * _MIB,
    address_space_bytes=None,  # the runtimes of Java, Go and Node reserve far more than they use
    folder_bytes=1024 * _MIB,
    file_bytes=256 * _MIB,
    num_processes=4096,  # an exercise starts a thousand threads
    num_open_files=1024,
)
_CATCH_MAIN = "test/tests-main.cpp"
_TIMED_OUT = "Tests timed out!"
_TIMING = re.compile(r"\bin \d+\.\d+s\b")
_MAX_OUTPUT_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class TestRun:
    """Whether all tests passed, and what the run printed, fit to be shown to a model."""

    __test__ = False

    has_passed: bool
    output: str


@dataclass(frozen=True, slots=True)
class Toolchains:
    """Where libraries lie that are no part of a language; without them it is not run.

    `node_modules` is a folder that `npm install` made for an exercise's package.json.
    `java_jars` are JUnit's console launcher (junit-platform-console-standalone), AssertJ
    and what it needs.
    """

    node_modules: Path | None = None
    java_jars: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class _Language:
    """`missing` says what is not installed, or nothing; `script` runs in the exercise's folder.

    A run has passed when the script exits with 0 and `passed` finds in its output that tests
    ran: a program that ends the test runner early exits with 0 as well.
    """

    missing: Callable[[Exercise, Toolchains], str]
    script: Callable[[Exercise, Toolchains], str]
    passed: Callable[[Exercise, str], bool]
    test_text: Callable[[str], str] = str


class TestRunner:
    """Runs exercises' tests, each in a box of its own. Thread-safe; starts nothing before use."""

    __test__ = False

    def __init__(self, toolchains: Toolchains) -> None:
        self._toolchains = toolchains
        self._sandboxes = {name: _sandbox(name, toolchains) for name in _LANGUAGES}
        self._catch_libraries: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def missing(self, exercise: Exercise) -> str:
        """What this machine lacks to test the exercise; empty when nothing."""
        return _LANGUAGES[exercise.language].missing(exercise, self._toolchains)

    def run(self, exercise: Exercise, files: Mapping[str, bytes]) -> TestRun:
        """Run the exercise's tests on these files. Raises SandboxFailure."""
        language, sandbox = _LANGUAGES[exercise.language], self._sandboxes[exercise.language]
        placed = {f"{exercise.name}/{path}": content for path, content in files.items()}
        for path in exercise.test_paths:
            placed[f"{exercise.name}/{path}"] = language.test_text(exercise.text(path)).encode()
        if exercise.language == "cpp":
            placed[f"{exercise.name}/{_CATCH_MAIN}"] = b"// in libcatch.a\n"
            placed["libcatch.a"] = self._catch_library(exercise)
        with sandbox.open(placed) as box:
            script = language.script(exercise, self._toolchains)
            script = script.replace("{python}", shlex.quote(box.python))
            result = box.run(["sh", "-c", f"cd {shlex.quote(exercise.name)} && {script}"])
        if result.status == "timed_out":
            return TestRun(False, _TIMED_OUT)
        output = (result.stdout + result.stderr).decode("utf-8", "replace")
        if result.status != "exited":
            output += f"\nThe tests were stopped: {result.status.replace('_', ' ')}"
        has_passed = result.is_success and language.passed(exercise, output)
        return TestRun(has_passed, _clean(output, exercise))

    def _catch_library(self, exercise: Exercise) -> bytes:
        """Catch's own `main`, which is the same in all exercises and takes longest to compile.

        As a library, because CMake's checks link programs that have a `main` themselves.
        """
        sources = {path: exercise.files[path] for path in (_CATCH_MAIN, "test/catch.hpp")}
        key = hashlib.sha256(b"".join(sources.values())).digest()
        with self._lock:
            if key not in self._catch_libraries:
                build = f"g++ -std=c++17 -c {_CATCH_MAIN} -o main.o && ar rcs catch.a main.o"
                command = ["sh", "-c", f"{build} && cat catch.a"]
                result = self._sandboxes["cpp"].run(command, files=sources)
                if not result.is_success:
                    what = result.stderr.decode("utf-8", "replace").strip() or result.status
                    raise SandboxFailure(f"Catch does not compile: {what.splitlines()[-1]}")
                self._catch_libraries[key] = result.stdout
            return self._catch_libraries[key]


def _sandbox(language: str, toolchains: Toolchains) -> Sandbox:
    """With the limits of a test run; it shows the language's libraries."""
    jars = {jar.parent for jar in toolchains.java_jars}
    folders = {
        "rust": [_rust_root()],
        "go": [_go_root()],
        "javascript": [toolchains.node_modules],
        "java": sorted(jars),
    }
    shown = [str(folder) for folder in folders.get(language, []) if folder is not None]
    return Sandbox(_LIMITS, readable=shown)


def _clean(output: str, exercise: Exercise) -> str:
    """Without times and places, which differ from run to run, and of bounded length."""
    text = _TIMING.sub("", output)
    text = re.sub(rf"(/\w[\w./-]*)?/{re.escape(exercise.name)}(?=[/\s:'\"])", exercise.name, text)
    if len(text) > _MAX_OUTPUT_CHARS:
        half = _MAX_OUTPUT_CHARS // 2
        text = (
            f"{text[:half]}\n... ({len(text) - 2 * half} characters left out) ...\n{text[-half:]}"
        )
    return text


# ---------------------------------------------------------------- Python


def _python_script(exercise: Exercise, toolchains: Toolchains) -> str:
    tests = " ".join(shlex.quote(path) for path in exercise.test_paths)
    return f"{{python}} -m unittest -v {tests}"


def _python_passed(exercise: Exercise, output: str) -> bool:
    tests = "".join(exercise.text(path) for path in exercise.test_paths)
    num_expected = len(re.findall(r"^\s+def test", tests, re.MULTILINE))
    ran = re.search(r"^Ran (\d+) tests?", output, re.MULTILINE)
    return ran is not None and int(ran[1]) >= num_expected > 0


# ---------------------------------------------------------------- C++


def _cpp_missing(exercise: Exercise, toolchains: Toolchains) -> str:
    needs_boost = "find_package(Boost" in exercise.text("CMakeLists.txt")
    if needs_boost and not Path("/usr/include/boost").is_dir():
        return "Boost"
    return _missing_tools("cmake", "make", "g++")


def _cpp_script(exercise: Exercise, toolchains: Toolchains) -> str:
    options = '-DEXERCISM_RUN_ALL_TESTS=1 -DCMAKE_CXX_STANDARD_LIBRARIES="$PWD/../libcatch.a"'
    configure = f'cmake {options} -G "Unix Makefiles"'
    return f"mkdir -p build && ({configure} -S . -B build) && make -C build"


# ---------------------------------------------------------------- Rust


@cache
def _rust_root() -> Path | None:
    """The toolchain's folder; `cargo` itself may be rustup's, which needs a home to write to."""
    if shutil.which("rustc") is None:
        return None
    command = ["rustc", "--print", "sysroot"]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    root = Path(printed.stdout.strip())
    return root if printed.returncode == 0 and (root / "bin" / "cargo").is_file() else None


def _rust_missing(exercise: Exercise, toolchains: Toolchains) -> str:
    if _rust_root() is None:
        return "cargo"
    _, _, dependencies = exercise.text("Cargo.toml").partition("[dependencies]")
    needs = re.search(r"^\s*([\w-]+)\s*=", dependencies.partition("[")[0], re.MULTILINE)
    return f"the crate {needs[1]}" if needs else ""


def _rust_script(exercise: Exercise, toolchains: Toolchains) -> str:
    root = shlex.quote(f"{_rust_root()}/bin")
    setup = f'export PATH={root}:"$PATH" CARGO_HOME="$TMPDIR/cargo"'
    return f"{setup} && cargo test --offline -- --include-ignored"


# ---------------------------------------------------------------- Go


@cache
def _go_root() -> Path | None:
    tool = shutil.which("go")
    return Path(os.path.realpath(tool)).parent.parent if tool else None


def _go_missing(exercise: Exercise, toolchains: Toolchains) -> str:
    return _missing_tools("go")


def _go_script(exercise: Exercise, toolchains: Toolchains) -> str:
    setup = f'export PATH={_go_root()}/bin:"$PATH" GOCACHE="$TMPDIR/go" GOPATH="$TMPDIR/gopath"'
    return f"{setup} GOFLAGS=-mod=mod GOPROXY=off && go test ./..."


# ---------------------------------------------------------------- JavaScript


def _javascript_missing(exercise: Exercise, toolchains: Toolchains) -> str:
    modules = toolchains.node_modules
    if modules is None or not (modules / "jest").is_dir():
        return "jest (task.options.node_modules=FOLDER, made by npm install of a package.json)"
    return _missing_tools("node")


def _javascript_script(exercise: Exercise, toolchains: Toolchains) -> str:
    modules = shlex.quote(os.path.realpath(str(toolchains.node_modules)))
    return f"ln -s {modules} node_modules && node node_modules/jest/bin/jest.js ./*"


def _run_skipped_javascript(text: str) -> str:
    return re.sub(r"\bxtest\(", "test(", text)


# ---------------------------------------------------------------- Java


def _java_missing(exercise: Exercise, toolchains: Toolchains) -> str:
    if not any("console-standalone" in jar.name for jar in toolchains.java_jars):
        return "JUnit (task.options.java_jars=[its console launcher, AssertJ, ...])"
    library = re.search(r'^\s*implementation "([^"]+)"', exercise.text("build.gradle"), re.M)
    artifact = library[1].split(":")[1] if library else ""
    if artifact and not any(artifact in jar.name for jar in toolchains.java_jars):
        return f"the library {artifact}"
    return _missing_tools("javac", "java")


def _java_script(exercise: Exercise, toolchains: Toolchains) -> str:
    jars = shlex.quote(":".join(os.path.realpath(jar) for jar in toolchains.java_jars))
    compile_all = f"find src -name '*.java' | xargs javac -nowarn -cp {jars} -d classes"
    launcher = "org.junit.platform.console.ConsoleLauncher execute --fail-if-no-tests"
    return f"{compile_all} && java -cp classes:{jars} {launcher} --scan-class-path classes"


def _run_disabled_java(text: str) -> str:
    return re.sub(r"@Disabled\([^)]*\)\s*\n", "", text)


# ---------------------------------------------------------------- all of them


def _missing_tools(*names: str) -> str:
    return next((name for name in names if shutil.which(name) is None), "")


def _says(pattern: str) -> Callable[[Exercise, str], bool]:
    compiled = re.compile(pattern, re.MULTILINE)
    return lambda exercise, output: compiled.search(output) is not None


_LANGUAGES = {
    "python": _Language(lambda exercise, toolchains: "", _python_script, _python_passed),
    "cpp": _Language(_cpp_missing, _cpp_script, _says(r"^All tests passed \(\d+ assertion")),
    "rust": _Language(_rust_missing, _rust_script, _says(r"^test result: ok\. [1-9]\d* passed")),
    "go": _Language(_go_missing, _go_script, _says(r"^ok\s")),
    "javascript": _Language(
        _javascript_missing,
        _javascript_script,
        _says(r"^Tests:\s.*\b[1-9]\d* passed"),
        _run_skipped_javascript,
    ),
    "java": _Language(
        _java_missing,
        _java_script,
        _says(r"^\[\s+[1-9]\d* tests successful"),
        _run_disabled_java,
    ),
}

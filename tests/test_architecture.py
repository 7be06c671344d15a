"""The house rules that docs/architecture.md states, read from the code itself."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "r1"

FLOORS = {
    "cli": 6,
    "__main__": 6,
    "pipeline": 5,
    "serving": 5,
    "training": 4,
    "evaluation": 3,
    "engine": 2,
    "backends": 2,
    "parallel": 2,
    "tasks": 2,
    "models": 1,
    "text": 1,
    "rewards": 1,
    "records": 0,
    "generator": 0,
    "config": 0,
    "config_errors": 0,
    "allocator": 0,
    "long_lived": 0,
    "atomic_files": 0,
    "run_log": 0,
    "gguf_file": 0,
    "untrusted_files": 0,
    "progress": 0,
    "kernels": 0,
    "mesh": 0,
}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "misc"}
# The plan's own name; imports are absolute, so `import math` beside them is still Python's.
PLANNED_NAMES = {"rewards/math.py"}
PICKLING_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve"}

FILES = sorted(PACKAGE.rglob("*.py"))
every_file = pytest.mark.parametrize(
    "path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES]
)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, the lazy and the type-checking ones too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            module = node.module or ""
            names = [f"r1.{alias.name}" for alias in node.names] if module == "r1" else [module]
            yield from ((node.lineno, name) for name in names)


def room_of(path: Path) -> str:
    """The folder or the root file that a floor belongs to: `engine`, `config`."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def forbidden_import(room: str, module: str) -> str | None:
    """Why a file of `room` may not import `module`, or None."""
    package, _, rest = module.partition(".")
    neighbour = rest.partition(".")[0]
    if package != "r1" or not neighbour or neighbour in ("__version__", room):
        return None
    if neighbour not in FLOORS:
        return f"{neighbour} is on no floor; give it one in this test and in docs/architecture.md"
    is_root_file = FLOORS[room] in (0, 6)  # r1/ itself is the folder of both floors
    if FLOORS[neighbour] < FLOORS[room] or (is_root_file and FLOORS[neighbour] == FLOORS[room]):
        return None
    return f"{room} (floor {FLOORS[room]}) imports {neighbour} (floor {FLOORS[neighbour]})"


def test_the_package_was_found() -> None:
    assert len(FILES) >= 6
    assert sorted(FLOORS.values(), reverse=True) == list(FLOORS.values())


@every_file
def test_imports_go_down(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    assert room in FLOORS, f"{room} is on no floor; see docs/architecture.md"
    for line, module in imported_modules(tree_of(path)):
        problem = forbidden_import(room, module)
        assert problem is None, f"{path.name}:{line}: {problem}"


def test_the_import_rule_itself() -> None:
    assert forbidden_import("engine", "r1.models.llama") is None
    assert forbidden_import("engine", "r1.engine.sampler") is None
    assert forbidden_import("config", "r1.atomic_files") is None
    assert forbidden_import("engine", "torch") is None
    assert forbidden_import("engine", "r1.tasks.task") == "engine (floor 2) imports tasks (floor 2)"
    assert forbidden_import("config", "r1.models.llama") is not None
    assert "on no floor" in str(forbidden_import("config", "r1.elsewhere"))


@every_file
def test_files_and_functions_stay_short(path: Path) -> None:
    num_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert num_lines <= MAX_FILE_LINES, f"{path.name} has {num_lines} lines"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{path.name}: {node.name} has {length} lines"


@every_file
def test_module_names_say_something(path: Path) -> None:
    for part in path.relative_to(PACKAGE).with_suffix("").parts:
        assert part not in FORBIDDEN_NAMES, f"{path}: {part} says nothing"
        is_exempt = part.startswith("__") or str(path.relative_to(PACKAGE)) in PLANNED_NAMES
        assert is_exempt or part not in sys.stdlib_module_names, f"{path}: hides {part}"


@every_file
def test_nothing_is_pickled(path: Path) -> None:
    tree = tree_of(path)
    for line, module in imported_modules(tree):
        assert module.partition(".")[0] not in PICKLING_MODULES, f"{path.name}:{line}: {module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            called = f"{node.value.id}.{node.attr}"
            assert called not in ("torch.load", "torch.save"), f"{path.name}:{node.lineno}"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            is_off = isinstance(node.value, ast.Constant) and node.value.value is False
            assert is_off, f"{path.name}:{node.value.lineno}: allow_pickle"


@every_file
def test_no_error_is_swallowed(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler):
            where = f"{path.name}:{node.lineno}"
            assert node.type is not None, f"{where}: a bare except"
            is_silent = len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
            assert not is_silent, f"{where}: except ...: pass"


@every_file
def test_importing_does_nothing(path: Path) -> None:
    """Only definitions at the top; in `__init__.py` only a docstring and the version."""
    for node in tree_of(path).body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        where = f"{path.relative_to(PACKAGE)}:{node.lineno}"
        if path.name == "__init__.py":
            is_version = isinstance(node, ast.Assign) and path.parent == PACKAGE
            assert is_docstring or is_version, f"{where}: logic in __init__.py"
        else:
            is_loop = isinstance(node, ast.For | ast.While | ast.With | ast.Try)
            is_call = isinstance(node, ast.Expr) and not is_docstring
            assert not is_loop and not is_call, f"{where}: a side effect of importing"

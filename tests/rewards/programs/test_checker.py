from __future__ import annotations

import json
import shutil

import pytest

from r1.rewards.programs.blocks import CodeBlock, extract_code
from r1.rewards.programs.checker import CodeChecker, CodeLimits
from r1.rewards.programs.outputs import output_difference, value_difference
from r1.rewards.programs.values import Opaque, decode, encode
from r1.rewards.programs.verdict import (
    AssertTests,
    CallTests,
    CodeTests,
    Outcome,
    StdinTests,
    judge,
)
from r1.rewards.sandbox.sandbox import Sandbox, SandboxFailure, SandboxLimits

ADD = StdinTests((("3 4\n", "7\n"), ("1 1\n", "2\n"), ("5 6\n", "11\n")))
SQUARE = CallTests("square", (([3], 9), ([4], 16)))
DOUBLE = AssertTests("assert double(2) == 4\nassert double('a') == 'aa'")


@pytest.fixture(scope="module")
def checker() -> CodeChecker:
    # Below a second: the kernel's own limit is a whole number of them.
    made = CodeChecker(CodeLimits(test_seconds=0.9, total_seconds=60))
    if made.fault():
        pytest.skip(made.fault())
    return made


def python(code: str) -> CodeBlock:
    return CodeBlock("python", code)


# ---------------------------------------------------------------- finding the program


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("```python\na\n```", ("python", "a")),
        ("```python\na\n```\nbetter:\n```py\nb\n```\nprints\n```text\n7\n```", ("py", "b")),
        ("```\na = 1\n```", ("", "a = 1")),
        ("```\n#include <x>\n```", ("", "#include <x>")),
        ("```C++\nint x;\n```", ("c++", "int x;")),
        ("````python\n```\ns\n```\n````", ("python", "```\ns\n```")),
        ("~~~python\na\n~~~", ("python", "a")),
        ("1. first\n   ```python\n   if x:\n       y\n   ```", ("python", "if x:\n    y")),
        ("```python\na\n```\n```python\nb", ("python", "a")),
        ("```python\na\nb", ("python", "a\nb")),
        ("```python title=x\r\na\r\n```\r\n", ("python", "a\r")),
    ],
)
def test_the_last_block_of_a_language_that_runs(answer: str, expected: tuple[str, str]) -> None:
    block = extract_code(answer)
    assert block is not None and (block.tag, block.code) == expected


def test_blocks_of_the_wanted_language_only() -> None:
    answer = "```python\np\n```\n```cpp\nc\n```"
    found = [extract_code(answer, wanted) for wanted in ("python", "cpp", None)]
    assert [block.code for block in found if block] == ["p", "c", "c"]
    assert extract_code("```cpp\nc\n```", "python") is None
    assert extract_code("no code at all, only `x`") is None
    assert extract_code("```json\n{}\n```") is None


# ---------------------------------------------------------------- comparing


@pytest.mark.parametrize(
    ("output", "expected", "is_equal"),
    [
        ("7\n", "7", True),
        ("  7  \n\n", "7", True),
        ("1 2\n3", "1 2 \n 3\n", True),
        ("1.0 2", "1 2.00", True),
        ("1e2", "100", True),
        ("50000000000000000", "50000000000000001", False),
        ("0.1000000001", "0.1", False),
        ("1 2", "1 2 3", False),
        ("1\n2", "1 2", False),
        ("1\n\n2", "1\n2", False),
        ("YES", "Yes", False),
        ("a  b", "a b", False),  # as LiveCodeBench: words within a line are not normalised
        ("a 1.0", "a 1", False),
        ("nan", "nan", True),
        ("nan 1", "nan 1.0", False),
        ("sNaN 1", "1 sNaN", False),
        ("", "", True),
        ("", "7", False),
    ],
)
def test_outputs_as_livecodebench_compares_them(output: str, expected: str, is_equal: bool) -> None:
    assert (output_difference(output, expected) == "") is is_equal


def test_a_tolerance_is_absolute_or_relative() -> None:
    assert output_difference("1000.0009", "1000", tolerance=1e-6) == ""
    assert output_difference("1000.002", "1000", tolerance=1e-6) != ""
    assert output_difference("a 0.1000001", "a 0.1", tolerance=1e-6) == ""
    assert output_difference("inf", "1", tolerance=1e-6) != ""


def test_returned_values() -> None:
    assert value_difference((1, 2), [1, 2]) == ""
    assert value_difference([(1, 2)], [[1, 2]]) == "returned [(1, 2)], expected [[1, 2]]"
    assert value_difference(Opaque("Yes"), 4) == "returned <Yes>, expected 4"


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 7, -(10**40), 0.1, float("inf"), 2j, "é\ud83d", b"\xff", bytearray(b"a")),
        [(1, [2]), {"a": {1, 2}, (1,): frozenset({3})}, range(1, 9, 2)],
    ],
)
def test_plain_values_survive(value: object) -> None:
    copy = decode(json.loads(json.dumps(encode(value))))
    assert copy == value and type(copy) is type(value)


def test_other_values_do_not() -> None:
    class Yes:
        def __eq__(self, other: object) -> bool:
            return True

    copy = decode(encode([Yes()]))
    assert copy != [4] and copy[0] != copy[0]
    assert list(decode(encode(x for x in (1, 2)))) == [1, 2]
    for bad in ({"list": 3}, {"a": 1, "b": 2}, {"call": []}, 1.5, [1]):
        with pytest.raises(ValueError, match="not an encoded value"):
            decode(bad)


# ---------------------------------------------------------------- verdicts


CASES: list[tuple[str, str, CodeTests, Outcome]] = [
    ("right", "a, b = map(int, input().split())\nprint(a + b)", ADD, "passed"),
    ("right with numpy", "import numpy as np\nprint(sum(np.fromstring(input(), sep=' ', "
     "dtype=int)))", ADD, "passed"),
    ("main guard", "if __name__ == '__main__':\n    print(sum(map(int, open(0).read().split())))",
     ADD, "passed"),
    ("a thread", "from threading import Thread\nThread(target=lambda: print(sum(map(int, "
     "input().split())))).start()", ADD, "passed"),
    ("names of the prelude", "print(reduce(add, map(int, stdin.readline().split())))", ADD,
     "passed"),
    ("leaves by exit()", "print(sum(map(int, input().split())))\nexit()", ADD, "passed"),
    ("output in atexit", "import atexit, os\ns = input()\n"
     "atexit.register(lambda: os.write(1, str(sum(map(int, s.split()))).encode()))", ADD, "passed"),
    ("a file left open", "f = open(1, 'w')\nf.write(str(sum(map(int, input().split()))))", ADD,
     "passed"),
    ("a wrapped stdout", "import io, sys\nsys.stdout = io.TextIOWrapper(io.BufferedWriter("
     "io.FileIO(1, 'w', closefd=False)))\nprint(sum(map(int, input().split())))", ADD, "passed"),
    ("exits with a message", "import sys\nprint(7)\nsys.exit('no')", ADD, "crashed"),
    ("wrong at the last", "a, b = map(int, input().split())\nprint(a + b if a < 5 else 0)", ADD,
     "wrong"),
    ("silent exit", "import os\nos._exit(0)", ADD, "wrong"),
    ("raises", "1 / 0", ADD, "crashed"),
    ("prints, then fails", "print(7)\nraise SystemExit(1)", ADD, "crashed"),
    ("does not parse", "def", ADD, "crashed"),
    ("loops", "while True: pass", ADD, "timed_out"),
    ("hoards", "x = [0] * 10**10", ADD, "memory"),
    ("a null", "\0", ADD, "crashed"),
    ("half a character", "print('\ud83d')", ADD, "crashed"),
    ("a function", "def square(x): return x * x", SQUARE, "passed"),
    ("a method", "class Solution:\n    def square(self, x: int) -> int:\n        return x * x",
     SQUARE, "passed"),
    ("no such function", "def cube(x): return x ** 3", SQUARE, "crashed"),
    ("prints as well", "def square(x):\n    print('noise')\n    return x * x", SQUARE, "passed"),
    ("asserts hold", "def double(x): return x + x", DOUBLE, "passed"),
    ("asserts fail", "def double(x): return 4", DOUBLE, "wrong"),
    ("a type that is missing", "def double(x: List[int]): return 2 * x", DOUBLE, "passed"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "code", "tests", "outcome"), CASES, ids=[c[0] for c in CASES])
def test_verdicts(
    checker: CodeChecker, name: str, code: str, tests: CodeTests, outcome: Outcome
) -> None:
    if "numpy" in name and checker._sandbox.isolation == "dropped-user":
        pytest.skip("NumPy is not shown to another user")
    verdict = checker.check(python(code), tests)
    assert verdict.outcome == outcome, verdict
    assert verdict.is_passed is (outcome == "passed")
    assert verdict.isolation == checker._sandbox.isolation


def test_the_reason_names_the_test(checker: CodeChecker) -> None:
    code = "a, b = map(int, input().split())\nprint(a + b if a < 5 else 0)"
    reason = checker.check(python(code), ADD).reason
    assert reason == "test 3 of 3: line 1 is '0', expected '11'"


def test_many_tests_in_few_processes(checker: CodeChecker) -> None:
    tests = StdinTests(tuple((f"{i} {i}", str(2 * i)) for i in range(40)))
    code = "a, b = map(int, input().split())\nprint(a + b)"
    assert checker.check(python(code), tests).reason == "40 tests passed"
    late = code.replace("a + b)", "a + b if a != 39 else 'x')")
    assert checker.check(python(late), tests).reason.startswith("test 40 of 40: ")


HACKS: list[tuple[str, str]] = [
    ("an equality that agrees", "class Y:\n    def __eq__(s, o): return True\n"
     "    __ne__ = None\ndef double(x): return Y()"),
    ("sys.exit(0) in the call", "def double(x):\n    import sys\n    sys.exit(0)"),
    ("sys.exit(0) at once", "import sys\nsys.exit(0)"),
    ("os._exit(0)", "import os\nos._exit(0)"),
    ("SystemExit", "def double(x): raise SystemExit"),
    ("a patched builtin", "import builtins\nbuiltins.AssertionError = None\n"
     "builtins.print = lambda *a: None\ndef double(x): return 4"),
    ("patched modules", "import sys\nfor m in list(sys.modules.values()):\n"
     "    try: m.encode = lambda v: {'opaque': 'x'}\n    except Exception: pass\n"
     "def double(x): return 0"),
    ("a search for the nonce", "import gc, os\n"
     "text = ' '.join(o for o in gc.get_objects() if isinstance(o, str))\n"
     "for pid in (os.getppid(), 1):\n"
     "    for name in ('mem', 'environ', 'fd/0', 'fd/1', 'maps'):\n"
     "        try: text += open(f'/proc/{pid}/{name}', errors='replace').read(10**6)\n"
     "        except OSError: pass\n"
     "import re\nos.write(1, ''.join(re.findall('[0-9a-f]{32}', text)).encode())\n"
     "def double(x): return 0"),
    ("writing into the parent's output", "import os, glob\n"
     "for path in glob.glob('/proc/[0-9]*/fd/*'):\n"
     "    try: open(path, 'w').write('0' * 32)\n    except OSError: pass\n"
     "def double(x): return 0"),
    ("killing the tests", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)"),
    ("modules in the tests' way", "for name in ('re', 'math', 'collections', 'itertools'):\n"
     "    open(name + '.py', 'w').write('import os; os._exit(0)')\ndef double(x): return 0"),
    ("a reply of its own", "import os, json\nfor fd in range(3, 64):\n"
     "    try: os.write(fd, b'{\"value\": 4}\\n' * 9)\n    except OSError: pass\n"
     "def double(x): return 0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "code"), HACKS, ids=[hack[0] for hack in HACKS])
def test_hacks_do_not_pass_asserts(checker: CodeChecker, name: str, code: str) -> None:
    tests = AssertTests("assert double(2) == 4\nassert double(9) == 18\nassert double('a') == 'aa'")
    verdict = checker.check(python(code), tests)
    assert verdict.outcome in ("wrong", "crashed"), verdict


def test_hacks_do_not_pass_compared_outputs(checker: CodeChecker) -> None:
    forged = json.dumps({"status": "exited", "exit_code": 0, "stdout": "7\n", "stderr": ""})
    code = (
        "import os, glob\nfor path in glob.glob('/proc/[0-9]*/fd/1'):\n"
        f"    try: open(path, 'w').write({forged!r} + '\\n')\n    except OSError: pass\n"
    )
    assert checker.check(python(code), ADD).is_passed is False
    equal = "class Y(int):\n    def __eq__(s, o): return True\ndef square(x): return Y(5)"
    assert checker.check(python(equal), SQUARE).outcome == "wrong"


SEARCH = """
import os, sys
needle = 'yzzyx'[::-1]
seen = [
    open(os.path.join(folder, name), errors='replace').read()
    for folder, _, names in os.walk('.') for name in names
]
frame = sys._getframe()
while frame:
    seen.append(str({k: v for k, v in frame.f_locals.items() if k not in ('needle', 'seen')}))
    frame = frame.f_back
print(needle if any(needle in text for text in seen) else 'hidden')
"""


def test_expected_outputs_are_not_in_the_sandbox(checker: CodeChecker) -> None:
    verdict = checker.check(python(SEARCH), StdinTests((("1", "xyzzy"),)))
    assert verdict.reason == "test 1 of 1: line 1 is 'hidden', expected 'xyzzy'"


def test_tests_that_build_the_solutions_objects(checker: CodeChecker) -> None:
    code = "class Node:\n    def __init__(self, v): self.v = v\ndef value(n): return n.v"
    tests = AssertTests("n = Node(3)\nassert value(n) == 3", needs_solution_classes=True)
    assert checker.check(python(code), tests).is_passed is True
    wrong = AssertTests("n = Node(3)\nassert value(n) == 4", needs_solution_classes=True)
    assert checker.check(python(code), wrong).outcome == "wrong"


# ---------------------------------------------------------------- C++


def test_cpp(checker: CodeChecker) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    source = "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }"
    assert checker.check(CodeBlock("cpp", source), ADD).outcome == "passed"
    late = source.replace("int a, b;", "volatile int a; int b; for (;;) a = 1;")
    assert checker.check(CodeBlock("cpp", source.replace("a + b", "a - b")), ADD).outcome == "wrong"
    verdict = CodeChecker(CodeLimits(test_seconds=0.5)).check(CodeBlock("c++", late), ADD)
    assert verdict.outcome in ("timed_out", "crashed")
    broken = checker.check(CodeBlock("cpp", "int main() { return x; }"), ADD)
    assert broken.outcome == "crashed" and "does not compile" in broken.reason
    assert checker.check(CodeBlock("cpp", source), SQUARE).outcome == "wrong"


def test_no_compiler_is_no_verdict(checker: CodeChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    verdict = checker.check(CodeBlock("cpp", "int main() {}"), ADD)
    assert verdict.is_passed is None and "no C++ compiler" in verdict.reason


# ---------------------------------------------------------------- failures are no verdicts


class _BrokenSandbox(Sandbox):
    def open(self, files: object = None) -> object:  # pyright: ignore
        raise SandboxFailure("namespaces: the supervisor died")


def test_a_failing_sandbox_is_no_verdict() -> None:
    checker = CodeChecker(sandbox=_BrokenSandbox(SandboxLimits()))
    verdict = checker.check(python("print(7)"), ADD)
    assert (verdict.outcome, verdict.is_passed) == ("failed", None)
    assert verdict.reason == "namespaces: the supervisor died"


def test_judging_reports() -> None:
    well = {"status": "exited", "exit_code": 0, "stdout": "7"}
    assert judge(well, ADD, 0).outcome == "passed"
    assert judge({**well, "stdout": "8"}, ADD, 0).outcome == "wrong"
    assert judge({**well, "stdout": "not json"}, SQUARE, 0).outcome == "crashed"
    assert judge({**well, "exit_code": 1, "stderr": "MemoryError"}, ADD, 0).outcome == "memory"
    assert judge({"status": "too_much_output"}, ADD, 0).reason == "too much output"
    assert judge({"status": "signalled", "signal": 11}, ADD, 0).reason == "killed by signal 11"
    assert judge({}, ADD, 0).outcome == "crashed"


@pytest.mark.parametrize(
    ("expected", "right", "wrong"),
    [([9], [9, [9]], [8, [[9]]]), ([[1, 2]], [[1, 2], [[1, 2]]], [1]), ([], [[]], [None, 0])],
)
def test_expected_values_in_a_list_of_their_own(
    expected: list[object], right: list[object], wrong: list[object]
) -> None:
    for values, outcome in ((right, "passed"), (wrong, "wrong")):
        for value in values:
            well = {"status": "exited", "exit_code": 0, "stdout": json.dumps(encode(value))}
            assert judge(well, CallTests("f", (([3], expected),), True), 0).outcome == outcome
    bare = {"status": "exited", "exit_code": 0, "stdout": "9"}
    assert judge(bare, CallTests("f", (([3], [9]),)), 0).outcome == "wrong"

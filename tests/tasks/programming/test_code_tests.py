from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from typing import Any

import pytest

from r1.rewards.programs.verdict import AssertTests, CallTests, StdinTests
from r1.tasks.programming.code_tests import livecodebench_tests, paired_tests, record_tests

CASES = [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]


def packed(value: Any, protocol: int = 4) -> str:
    """As in the release of LiveCodeBench: JSON text, pickled, compressed, base64."""
    return base64.b64encode(zlib.compress(pickle.dumps(value, protocol))).decode()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_private_tests_are_unpacked_without_unpickling(protocol: int) -> None:
    private = [{"input": "é" * 300, "output": "2", "testtype": "stdin"}]
    record = {
        "public_test_cases": json.dumps(CASES),
        "private_test_cases": packed(json.dumps(private, ensure_ascii=False), protocol),
        "metadata": "{}",
    }
    tests = livecodebench_tests(record)
    assert tests == StdinTests((("1 2\n", "3\n"), ("é" * 300, "2")))


class _Attack:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/r1-unpickled",)


@pytest.mark.parametrize("value", [_Attack(), ["a", "b"], 7, {"a": 1}, ("x",)])
def test_pickles_of_anything_else_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="packs something else than one string"):
        livecodebench_tests({"private_test_cases": packed(value)})
    assert not os.path.exists("/tmp/r1-unpickled")


@pytest.mark.parametrize("text", ["not base64!", base64.b64encode(b"no zlib").decode(), "AAAA"])
def test_what_is_not_packed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither JSON nor packed"):
        livecodebench_tests({"private_test_cases": text})


def test_functional_tests() -> None:
    record = {
        "public_test_cases": json.dumps(
            [{"input": '[1, 2]\n"x"', "output": "[3]", "testtype": "functional"}]
        ),
        "private_test_cases": "[]",
        "metadata": json.dumps({"func_name": "solve"}),
    }
    assert livecodebench_tests(record) == CallTests("solve", ((([[1, 2], "x"]), [3]),))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"tests": CASES}, StdinTests((("1 2\n", "3\n"),))),
        ({"tests": json.dumps(CASES)}, StdinTests((("1 2\n", "3\n"),))),
        ({"tests": CASES, "tolerance": 1e-6}, StdinTests((("1 2\n", "3\n"),), 1e-6)),
        ({"input_output": '{"inputs": ["1"], "outputs": ["2"]}'}, StdinTests((("1", "2"),))),
        (
            {"input_output": {"inputs": [["1", "2"]], "outputs": ["3"]}},
            StdinTests((("1\n2", "3"),)),
        ),
        (
            {"tests": {"inputs": [[1, [2]]], "outputs": [3], "fn_name": "f"}},
            CallTests("f", (([1, [2]], 3),), may_be_wrapped=True),
        ),
        ({"tests": ["assert f(1) == 2"]}, AssertTests("assert f(1) == 2")),
        (
            {"test": "def check(c): assert c(1)", "entry_point": "f", "prompt": "def f(x):\n"},
            AssertTests(
                "def check(c): assert c(1)\n\ncheck(f)\n", prelude="def f(x):\n", functions=("f",)
            ),
        ),
        (
            {"test_list": ["assert f(1)"], "test_setup_code": "", "test_imports": ["import math"]},
            AssertTests("import math\n\nassert f(1)"),
        ),
        (
            {"test_list": ["assert f(n)"], "test_setup_code": "n = Node(1)"},
            AssertTests("n = Node(1)\nassert f(n)", needs_solution_classes=True),
        ),
    ],
)
def test_forms_of_tests(record: dict[str, Any], expected: object) -> None:
    assert record_tests(record) == expected


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "no tests in a known form"),
        ({"tests": []}, "no tests"),
        ({"tests": [{"input": "1"}]}, "without 'input' and 'output'"),
        ({"tests": {"inputs": ["1"], "outputs": []}}, "1 inputs and 0 outputs"),
        ({"tests": {"inputs": "1"}}, "without lists"),
        ({"tests": "{"}, "Expecting"),
        ({"public_test_cases": "[]"}, "no tests"),
    ],
)
def test_faulty_tests(record: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record_tests(record)


def test_no_tests_at_all() -> None:
    with pytest.raises(ValueError, match="it has no tests"):
        paired_tests([])

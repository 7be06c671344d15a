"""Tests of programs in the forms in which data sets publish them."""

from __future__ import annotations

import base64
import binascii
import json
import pickletools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from r1.rewards.programs.verdict import AssertTests, CallTests, CodeTests, StdinTests

# What a pickled string is made of (pickletools); anything else could call something.
_STRING_OPCODES = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
_HARMLESS_OPCODES = {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"}


def livecodebench_tests(record: Mapping[str, Any]) -> CodeTests:
    """Public and private tests of a LiveCodeBench record, all of which must pass.

    Raises ValueError for a record without any, or with tests that cannot be read.
    """
    cases = [
        *_cases(record.get("public_test_cases"), "public_test_cases"),
        *_cases(record.get("private_test_cases"), "private_test_cases"),
    ]
    metadata = record.get("metadata") or {}
    if isinstance(metadata, str):
        metadata = json.loads(metadata)
    return paired_tests([(c["input"], c["output"]) for c in cases], metadata.get("func_name"))


def paired_tests(
    pairs: Sequence[tuple[Any, Any]],
    function: str | None = None,
    tolerance: float | None = None,
    *,
    may_be_wrapped: bool = False,
) -> CodeTests:
    """Inputs and expected outputs, of a program or, with `function`, of a function.

    A function's arguments are JSON values, one a line, as in LiveCodeBench, or a list.
    Raises ValueError where there are none, or where they are neither.
    """
    if not pairs:
        raise ValueError("it has no tests")
    if function is None:
        texts = [(_input_text(given), str(expected)) for given, expected in pairs]
        return StdinTests(tuple(texts), tolerance)
    calls = []
    for given, expected in pairs:
        arguments = [json.loads(line) for line in given.split("\n")] if _is_text(given) else given
        calls.append((list(arguments), json.loads(expected) if _is_text(expected) else expected))
    return CallTests(function, tuple(calls), may_be_wrapped)


def record_tests(record: Mapping[str, Any]) -> CodeTests:
    """The tests of a record in any of the forms known here.

    `test` and `entry_point` (HumanEval), `test_list` (MBPP), `public_test_cases`
    (LiveCodeBench), and `tests` or `input_output`: a list of asserts, a list of
    {input, output}, or {inputs, outputs, fn_name} (APPS, TACO), each also as JSON text.
    Raises ValueError for anything else.
    """
    if record.get("test") and record.get("entry_point"):
        return humaneval_tests(record)
    if record.get("test_list"):
        return mbpp_tests(record)
    if record.get("public_test_cases") or record.get("private_test_cases"):
        return livecodebench_tests(record)
    tests = record.get("tests") or record.get("input_output")
    if isinstance(tests, str):
        tests = json.loads(tests)
    function = record.get("function_name") or record.get("fn_name")
    if isinstance(tests, Mapping):
        inputs, outputs = tests.get("inputs"), tests.get("outputs")
        if not isinstance(inputs, list) or not isinstance(outputs, list):
            raise ValueError("tests are an object without lists 'inputs' and 'outputs'")
        if len(inputs) != len(outputs):
            raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs")
        pairs = list(zip(inputs, outputs, strict=True))
        function = tests.get("fn_name") or function
        # APPS's testing_util.py (MIT) accepts the first element of an expected list as well.
        return paired_tests(pairs, function, record.get("tolerance"), may_be_wrapped=True)
    if isinstance(tests, list) and tests and all(map(_is_text, tests)):
        return AssertTests("\n".join(tests))
    if isinstance(tests, list) and all(isinstance(test, Mapping) for test in tests):
        pairs = [(test["input"], test["output"]) for test in _with_outputs(tests)]
        return paired_tests(pairs, function, record.get("tolerance"))
    raise ValueError("no tests in a known form (tests, input_output, test_list, test)")


def humaneval_tests(record: Mapping[str, Any]) -> AssertTests:
    """HumanEval's `check(candidate)`, called with the function asked for."""
    name = str(record["entry_point"])
    code = f"{record['test']}\n\ncheck({name})\n"
    # The prompt holds what the tests may call beside the solution, such as `poly`.
    return AssertTests(code, prelude=str(record.get("prompt", "")), functions=(name,))


def mbpp_tests(record: Mapping[str, Any]) -> AssertTests:
    """MBPP's asserts; those with `test_setup_code` build objects of the solution's classes."""
    setup = str(record.get("test_setup_code") or "")
    imports = list(record.get("test_imports") or [])
    code = "\n".join([*imports, setup, *record["test_list"]])
    return AssertTests(code, needs_solution_classes=bool(setup.strip()))


def _cases(value: Any, field: str) -> Sequence[Mapping[str, Any]]:
    if not value:
        return []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = json.loads(_packed_text(value, field))
    if not isinstance(value, list):
        raise ValueError(f"{field} is not a list of tests")
    return _with_outputs(value)


def _packed_text(packed: str, field: str) -> str:
    """LiveCodeBench's packing: base64 of zlib of a pickled string, which is not unpickled.

    A pickle is a program; its instructions are read here and only those that make one
    string are accepted.
    """
    try:
        pickled = zlib.decompress(base64.b64decode(packed, validate=True))
        opcodes = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(pickled)]
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ValueError(f"{field} is neither JSON nor packed as released: {error}") from None
    texts = [argument for name, argument in opcodes if name in _STRING_OPCODES]
    others = {name for name, _ in opcodes} - _STRING_OPCODES - _HARMLESS_OPCODES
    if others or len(texts) != 1:
        raise ValueError(f"{field} packs something else than one string")
    return str(texts[0])


def _with_outputs(tests: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
    for test in tests:
        if not isinstance(test, Mapping) or "input" not in test or "output" not in test:
            raise ValueError("a test without 'input' and 'output'")
    return tests


def _input_text(given: Any) -> str:
    # APPS gives some inputs as a list of lines.
    return "\n".join(map(str, given)) if isinstance(given, list) else str(given)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)

"""The arithmetic of claims: `r1.pass_at_1 - r1_zero.pass_at_1` over measured numbers.

Recipes state claims as text, so expressions are read by a grammar of our own that
knows numbers, `<stage>.<metric>`, + - * / and one comparison, and nothing else.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping

from r1.config_errors import nearest_name

Results = Mapping[str, Mapping[str, object]]
"""Metrics by stage name; the stage `run` holds what belongs to the whole run."""

_METRICS = (
    "pass_at_1",
    "cons_at_8",
    "mean_response_tokens",
    "format_rate",
    "language_consistency",
    "truncated_rate",
    "num_problems",
    "num_samples",
    "num_ungraded",
    "num_missing",
    "error_by_question",
    "rerun_error",
    "seconds",
    "peak_rss_bytes",
    "logprob_gap_mean_abs",
    "logprob_gap_max_abs",
)
_AT_K = re.compile(r"(pass|cons)_at_[1-9]\d*")
_EVERY_STAGE = re.compile(r"\bstage\.")
_OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


class NotMeasuredError(LookupError):
    """A claim needs a number that the run does not have (yet)."""


def speaks_of_every_stage(text: str) -> bool:
    """Whether the expression names `stage`, which stands for each stage in turn."""
    return _EVERY_STAGE.search(text) is not None


def evaluate_expression(text: str, results: Results, stage: str = "") -> float:
    """Arithmetic or one comparison (1.0 or 0.0) over measured numbers.

    `stage` is the stage that the word `stage` stands for. Raises NotMeasuredError
    when a number is absent, or a divisor is zero.
    """
    return _evaluate(ast.parse(text, mode="eval").body, results, stage)


def _evaluate(node: ast.AST, results: Results, stage: str) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, results, stage)
        case ast.BinOp(left=left, op=op, right=right):
            try:
                apply = _OPERATORS[type(op)]
                return apply(_evaluate(left, results, stage), _evaluate(right, results, stage))
            except ZeroDivisionError:
                raise NotMeasuredError("division by zero") from None
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            compare = COMPARISONS[_sign(op)]
            return float(compare(_evaluate(left, results, stage), _evaluate(right, results, stage)))
        case ast.Attribute(value=ast.Name(id=name), attr=metric):
            return _measured(results, stage if name == "stage" else name, metric)
    raise AssertionError(f"unchecked expression: {ast.dump(node)}")


def _measured(results: Results, stage: str, metric: str) -> float:
    value = results.get(stage, {}).get(metric)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotMeasuredError(f"{stage}.{metric}")
    return float(value)


def _sign(op: ast.AST) -> str:
    return {ast.GtE: ">=", ast.LtE: "<=", ast.Gt: ">", ast.Lt: "<"}.get(type(op), "")


def check_expression(text: str, where: str) -> None:
    """Raise ValueError, beginning with `where`, unless the expression can be evaluated."""
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        raise ValueError(f"{where}: {text!r} is not an expression") from None
    for node in _operands(tree, text, where):
        if node.attr not in _METRICS and not _AT_K.fullmatch(node.attr):
            near = nearest_name(node.attr, _METRICS)
            hint = f"did you mean {near!r}? " if near else ""
            choices = ", ".join(_METRICS)
            raise ValueError(f"{where}: unknown metric {node.attr!r}; {hint}known: {choices}")


def _operands(node: ast.AST, text: str, where: str) -> list[ast.Attribute]:
    match node:
        case ast.Constant(value=int() | float()):
            return []
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _operands(operand, text, where)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _operands(left, text, where) + _operands(right, text, where)
        case ast.Compare(left=left, ops=[op], comparators=[right]) if _sign(op):
            return _operands(left, text, where) + _operands(right, text, where)
        case ast.Attribute(value=ast.Name()):
            return [node]
    raise ValueError(
        f"{where}: {text!r} may only hold numbers, <stage>.<metric>, + - * / and one comparison"
    )

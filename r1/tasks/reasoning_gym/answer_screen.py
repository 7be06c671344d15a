"""Which answers may be handed to a scorer that evaluates them as Python.

Some reasoning-gym scorers call `eval`, or sympy's `parse_expr` which calls it, on what
the model wrote. Such an answer could run any code, or compute for ever (`9**9**9`), so
only plain data and small expressions pass.
"""

from __future__ import annotations

import ast
import math

_MAX_LENGTH = 500
_MAX_EXPONENT = 1000
_MAX_NESTED_POWERS = 2
_FUNCTIONS = frozenset(
    {"sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan", "exp", "log", "ln"}
    | {"sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sqrt", "Abs"}
)
_SHARED_NODES = (
    ast.Expression,
    ast.Constant,
    ast.Name,
    ast.Load,
    ast.UnaryOp,
    ast.USub,
    ast.UAdd,
)
_DATA_NODES = (*_SHARED_NODES, ast.List, ast.Tuple)
_EXPRESSION_NODES = (
    *_SHARED_NODES,
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.Pow,
    ast.BitXor,
    ast.Call,
)


def is_plain_data(text: str) -> bool:
    """Whether `eval(text)` does no more than build literals, or fails at once as not Python."""
    if len(text) > 20 * _MAX_LENGTH:
        return False
    tree = _parse(text)
    if tree is None:
        return False
    if isinstance(tree, SyntaxError):
        return True  # eval fails on it in the same way, before it runs anything
    return all(isinstance(node, _DATA_NODES) for node in ast.walk(tree))


def is_plain_expression(text: str) -> bool:
    """Whether sympy's `parse_expr(text)` meets only small arithmetic on numbers and symbols.

    Text that is not Python does not pass: parse_expr rewrites it before it evaluates
    it (`5!` becomes a call).
    """
    if len(text) > _MAX_LENGTH:
        return False
    tree = _parse(text)
    if tree is None or isinstance(tree, SyntaxError):
        return False
    is_small = all(_is_small(node) for node in ast.walk(tree))
    return is_small and _power_depth(tree) <= _MAX_NESTED_POWERS


def _parse(text: str) -> ast.Expression | SyntaxError | None:
    """The syntax tree, the SyntaxError, or None when the parser itself gives up."""
    if "\\" in text:  # no family's answer has one, and Python warns of unknown escapes
        return None
    try:
        return ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        return error
    except (ValueError, MemoryError, RecursionError):
        return None


def _is_small(node: ast.AST) -> bool:
    if not isinstance(node, _EXPRESSION_NODES):
        return False
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float)
    if isinstance(node, ast.Call):
        is_known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        return is_known and not node.keywords and _has_symbol(node.args)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.BitXor):
        return _is_small_exponent(node.right)
    return True


def _has_symbol(nodes: list[ast.expr]) -> bool:
    # Of numbers alone a function is evaluated at once: exp(exp(exp(99.0))) never ends.
    return any(isinstance(part, ast.Name) for node in nodes for part in ast.walk(node))


def _is_small_exponent(exponent: ast.expr) -> bool:
    parts = list(ast.walk(exponent))
    if any(isinstance(part, ast.Pow | ast.BitXor) for part in parts):
        return False
    values = [part.value for part in parts if isinstance(part, ast.Constant)]
    sizes = [max(1.0, abs(value)) for value in values if isinstance(value, int | float)]
    return math.prod(sizes) <= _MAX_EXPONENT


def _power_depth(node: ast.AST) -> int:
    depth = max((_power_depth(child) for child in ast.iter_child_nodes(node)), default=0)
    is_power = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)
    return depth + 1 if is_power else depth

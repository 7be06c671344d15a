"""A jinja2 sandbox for chat templates, which come with models from anywhere.

jinja2's own sandbox keeps a template from Python's insides and from changing its input.
It bounds neither time nor memory: two nested loops, a text that doubles in a loop,
`10**10**10`. Here every step of a loop, call, filter, new container and joined text is
charged to the rendering's budget, and before it is made where it could be large.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache, wraps
from typing import Any, NoReturn

from jinja2 import Template, nodes, pass_context
from jinja2.environment import Environment
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.filters import FILTERS
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

# jinja2 takes a second to compile the first, and for the second cubic time.
_MAX_TEMPLATE_CHARS = 64_000
_MAX_DEPTH = 80
# A released template takes some ten steps a message and writes each message once.
_MIN_STEPS, _STEPS_PER_MESSAGE = 200_000, 1000
_MIN_CHARS, _CHARS_PER_INPUT_CHAR = 1_000_000, 20
_MAX_CPU_SECONDS = 2.0
_MAX_NUMBER_BITS = 256
_MAX_WIDTH = 1000

_FILTER_NAMES = """
    abs attr capitalize count d default dictsort e escape first float groupby indent int
    items last length list lower map max min reject rejectattr replace reverse safe
    select selectattr sort string title trim truncate unique upper wordcount
"""
_GLOBAL_NAMES = ("range", "dict", "namespace", "cycler", "joiner")
# What they return has little to do with the size of what they get; chat templates use others.
_REFUSED_METHODS = ("format", "format_map", "translate", "encode")
_PADDING = ("ljust", "rjust", "center", "zfill", "expandtabs", "indent")


class _Budget:
    """What one rendering may still spend."""

    def __init__(self, num_messages: int, num_chars: int) -> None:
        self._steps = _MIN_STEPS + _STEPS_PER_MESSAGE * num_messages
        self._chars = _MIN_CHARS + _CHARS_PER_INPUT_CHAR * num_chars
        self._deadline = time.thread_time() + _MAX_CPU_SECONDS

    def charge(self, num_chars: int = 0) -> None:
        """Take one step that makes so many characters."""
        self._steps -= 1
        self._chars -= num_chars
        if self._chars < 0:
            raise SecurityError("its text grows without end")
        if self._steps < 0 or time.thread_time() > self._deadline:
            raise SecurityError("it does not come to an end")


_budget: ContextVar[_Budget] = ContextVar("budget of the chat template")


def render_template(source: str, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
    """Render an untrusted chat template.

    Raises ValueError, in one line, when it is broken, refuses the messages, reaches into
    Python, or takes more time or memory than chat templates do.
    """
    if len(source) > _MAX_TEMPLATE_CHARS:
        raise ValueError(f"the chat template has {len(source):,} characters; none in use does")
    num_chars = sum(len(text) for row in messages for text in row.values() if isinstance(text, str))
    token = _budget.set(_Budget(len(messages), num_chars))
    try:
        return _compile(source).render(messages=messages, **variables)
    except Exception as error:  # what comes from elsewhere can raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"the chat template cannot render these messages: {reason}") from error
    finally:
        _budget.reset(token)


@lru_cache(maxsize=16)
def _compile(source: str) -> Template:
    return _Sandbox().from_string(source)


class _Sandbox(ImmutableSandboxedEnvironment):
    """The names, operators and settings that chat templates are written for (transformers')."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        extensions = ["jinja2.ext.loopcontrols", _Generation]
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=extensions, finalize=_charged_output
        )
        self.filters = {
            name: _charged_filter(name, FILTERS[name]) for name in _FILTER_NAMES.split()
        }
        self.filters |= {"tojson": _to_json, "join": _join}
        self.filters |= {"r1_step": _step, "r1_concat": _concat, "r1_slice": _slice}
        self.filters["r1_container"] = _container
        self.globals = {name: self.globals[name] for name in _GLOBAL_NAMES}
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _Charging(self).visit(Parser(self, source, name, filename).parse())

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What joins the output, a macro's and a block's."""
        return "".join(map(_charged_text, pieces))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Operators whose result can be far larger than what they take."""
        _charge_operator(operator, left, right)
        return super().call_binop(context, operator, left, right)

    # jinja2 names them so, out of the way of keyword arguments.
    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Macros, globals and methods."""
        name = getattr(__obj, "__name__", "")
        if name in _REFUSED_METHODS:
            raise SecurityError(f"`{name}` is not available")
        _charge_growth(name, getattr(__obj, "__self__", None), (*args, *kwargs.values()))
        if __obj is dict or getattr(__obj, "catch_varargs", False) or kwargs:
            _charge_nodes([*args, *kwargs.values()])  # they become a container
        return _charged_result(super().call(__context, __obj, *args, **kwargs))


class _Generation(Extension):
    """`{% generation %}` marks what the assistant says, for trainers; rendered, it is its body."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements up to `{% endgeneration %}`."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Charging(NodeTransformer):
    """Puts the budget's filters where a template makes steps, texts and containers."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._depth = 0

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        """Any node, unless it is nested deeper than people write."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise TemplateError("it is nested too deeply")
        visited = super().visit(node, *args, **kwargs)
        self._depth -= 1
        return visited

    def _filter(self, name: str, node: nodes.Expr, *args: nodes.Expr) -> nodes.Filter:
        made = nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)
        made.set_environment(self._environment)
        return made

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        step = self._filter("r1_step", nodes.Const("", lineno=node.lineno))
        node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return self._filter("r1_concat", nodes.List(node.nodes, lineno=node.lineno))

    def visit_List(self, node: nodes.List | nodes.Dict) -> nodes.Filter:
        self.generic_visit(node)
        return self._filter("r1_container", node)

    visit_Dict = visit_List

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:
        self.generic_visit(node)
        return self._filter("r1_container", node) if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        parts = (node.arg.start, node.arg.stop, node.arg.step)
        bounds = [part or nodes.Const(None, lineno=node.lineno) for part in parts]
        return self._filter("r1_slice", node.node, *bounds)


# ---------------------------------------------------------------- what is charged


def _charged_text(text: str) -> str:
    _budget.get().charge(len(text))
    return text


def _charge_nodes(value: Any) -> None:
    """A step for every element at every depth, which is how long comparing takes.

    Charged to every new container, so that none doubles with its depth.
    """
    _budget.get().charge()
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple | set | frozenset):
        return
    for element in value:
        _charge_nodes(element)


def _charged_output(value: Any) -> Any:
    """A value that becomes text: a container with all that is in it."""
    if isinstance(value, str):
        _budget.get().charge(len(value))
    elif isinstance(value, Mapping):
        _charged_output([*value, *value.values()])
    elif isinstance(value, list | tuple | set | frozenset):
        for element in value:
            _charged_output(element)
    elif value is None or isinstance(value, int | float | Undefined):
        _budget.get().charge(_MAX_NUMBER_BITS)
    else:
        raise SecurityError(f"a {type(value).__name__} is no text")
    return value


def _charged_result(value: Any) -> Any:
    is_sized = isinstance(value, str | list | tuple | dict)
    _budget.get().charge(len(value) if is_sized else 0)
    return value


def _charge_operator(operator: str, left: Any, right: Any) -> None:
    sizes = [len(side) if isinstance(side, str | list | tuple) else None for side in (left, right)]
    if operator == "%" and isinstance(left, str):
        raise SecurityError("`%` of a text is not available")
    if sizes == [None, None]:
        _charge_number(operator, left, right)
    elif operator == "+":
        _budget.get().charge((sizes[0] or 0) + (sizes[1] or 0))
    else:
        factor = left if sizes[0] is None else right
        length = sizes[1] if sizes[0] is None else sizes[0]
        _budget.get().charge((length or 0) * (factor if isinstance(factor, int) else 1))


def _charge_number(operator: str, left: Any, right: Any) -> None:
    _budget.get().charge()
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length()
        if bits + (right.bit_length() if operator == "*" else 0) > _MAX_NUMBER_BITS:
            raise SecurityError("a number that is too large")


def _charge_growth(name: str, value: Any, args: Sequence[Any]) -> None:
    """Charge a method or filter before it makes a text larger than what it gets."""
    text = value if isinstance(value, str) else ""
    num_chars = len(text)
    if name in _PADDING:
        widths = [arg if isinstance(arg, int) else len(str(arg)) for arg in args]
        if any(width > _MAX_WIDTH for width in widths):
            raise SecurityError(f"`{name}` by more than {_MAX_WIDTH}")
        num_chars += max(widths, default=4) * (1 + text.count("\n") + text.count("\t"))
    elif name == "replace" and len(args) >= 2:
        old, new = str(args[0]), str(args[1])
        num_chars += text.count(old) * len(new)
    elif name == "join":
        if not args or not isinstance(args[0], list | tuple | str):
            raise SecurityError("`join` is for lists")
        num_chars = sum(len(text) + len(item) for item in args[0])
    _budget.get().charge(num_chars)


def _charged_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)  # with the mark that says what jinja2 passes first
    def run(*args: Any, **kwargs: Any) -> Any:
        values = [a for a in args if not isinstance(a, Environment | Context | EvalContext)]
        _charge_growth(name, values[0], (*values[1:], *kwargs.values()))
        if name == "string":
            _charged_output(values[0])
        return _charged_result(function(*args, **kwargs))

    return run


# With the context passed, jinja2 computes none of these while it compiles.


@pass_context
def _step(context: Context, value: Any) -> Any:
    _budget.get().charge()
    return value


@pass_context
def _container(context: Context, value: Any) -> Any:
    _charge_nodes(value)
    return value


@pass_context
def _concat(context: Context, values: Sequence[Any]) -> str:
    return "".join(str(_charged_output(value)) for value in values)


@pass_context
def _slice(context: Context, value: Any, start: Any, stop: Any, step: Any) -> Any:
    return _charged_result(value[start:stop:step])


@pass_context
def _join(context: Context, values: Iterable[Any], d: str = "") -> str:
    texts = [str(_charged_output(value)) for value in values]
    _budget.get().charge(len(texts) * len(d))
    return d.join(texts)


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    """Plain JSON as transformers writes it: jinja2's own filter escapes for HTML."""
    if isinstance(indent, int) and indent > _MAX_WIDTH:
        raise SecurityError(f"`tojson` by more than {_MAX_WIDTH}")
    known = ("ensure_ascii", "separators", "sort_keys")
    kept = {name: option for name, option in options.items() if name in known}
    encoder = json.JSONEncoder(**{"ensure_ascii": False, "indent": indent, **kept})
    return "".join(map(_charged_text, encoder.iterencode(value)))


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    if len(form) > 100 or any(letter.isdigit() for letter in form):
        raise SecurityError("such a form of date is not available")
    return datetime.now().strftime(form)

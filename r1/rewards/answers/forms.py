"""What kind of answer a text is: a quantity, a list, a tuple, a region, an equation, words.

`read_form` names the kind from the whole text. Two answers are compared as what they are
(`check`), so that a member is not its set and an interval not its end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from r1.rewards.answers.expression import read_expression
from r1.rewards.answers.nodes import Call, Node
from r1.rewards.answers.quantities import Quantity, read_quantity
from r1.rewards.answers.regions import Region, read_region
from r1.rewards.answers.text import bracketed, split_top
from r1.rewards.answers.words import choice_of, clock_of, date_of, nothing_kind


@dataclass(frozen=True, slots=True)
class Nothing:
    """No solution, does not exist, undefined: `kind` of `words.nothing_kind`."""

    kind: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The letter of an option, and what was written after it."""

    letter: str
    rest: str


@dataclass(frozen=True, slots=True)
class Clock:
    time: tuple[int, int, int, str | None]


@dataclass(frozen=True, slots=True)
class Date:
    """(year or None, month, day)."""

    date: tuple[int | None, int, int]


@dataclass(frozen=True, slots=True)
class Ratio:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Based:
    """Digits in a stated base, such as `101_2`."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Chain:
    """Inequalities between expressions of which none is a lone variable: `f(2) < f(1)`."""

    sides: tuple[Node, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Values in brackets, in order: a point, a vector, or an interval that is not known as one."""

    items: tuple[Form, ...]
    brackets: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Several values without order: in braces (`is_set`) or only separated."""

    items: tuple[Form, ...]
    is_set: bool = False
    is_choice: bool = False
    label: str | None = None  # of which variable all items are values, when the text says so


@dataclass(frozen=True, slots=True)
class Equation:
    """`left = value`. `label` is the left side's name when that only says what is given."""

    label: str | None
    value: Form
    left: Node | None
    right: Node | None
    left_text: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """Plain language, or letters that may also be a product of variables."""

    text: str
    expression: Node | None = None


@dataclass(frozen=True, slots=True)
class Unread:
    """Notation that only math-verify may know: compared by spelling before it is asked."""

    text: str


Form = (
    Nothing | Choice | Clock | Date | Ratio | Based | Chain | Matrix | Group | Listing | Equation
    | Words | Unread | Quantity | Region
)  # fmt: skip

_INEQUALITY = r"\\(?:le|ge)(?![A-Za-z])|[<>]"
_SEPARATOR = r",|;|\band\b|\bor\b|和|或|且|及|与|&"
_MATRIX = re.compile(
    r"\\begin\{([pbB]?matrix|smallmatrix|array)\}(?:\{[^{}]*\})?(.*?)\\end\{\1\}", re.DOTALL
)
_MEMBER = re.compile(r"^[A-Za-z](?:_\w)?\s*\\in(?![A-Za-z])\s*(?=\\\{)")
_BASE_NAMES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
               "nine": 9, "ten": 10, "twelve": 12, "sixteen": 16}  # fmt: skip
# "k is an integer" behind a family of solutions says nothing that "n = 3k" does not.
_DOMAIN = re.compile(
    r"\s*(?:,|;|\bwhere\b|\bfor\b|\bwith\b)\s*(?:(?:any|all|some|every|each)\s+)?"
    r"(?:(?:(?:non-?negative|positive)\s+)?integers?\s+)?\(?\s*([A-Za-z])\s*\)?\s*"
    r"(?:\\in\s*\\mathbb\s*\{?\s*[A-Z]\s*\}?(?:\^\+|_\+|_\{>0\})?|is an(?:y)? integer|"
    r"(?<=integer [A-Za-z])|(?<=integers [A-Za-z]))\s*\)?$"
)
_CONSTANT = re.compile(
    r"\s*,?\s*(?:for\s+(?:some|any|all|every)\s+(?:(?:real|arbitrary)\s+)*constants?\s+[A-Za-z]|"
    r"where\s+[A-Za-z]\s+is\s+(?:a|an|any)\s+(?:(?:real|arbitrary|any)\s+)*(?:constant|number))$"
)
_BASED = re.compile(r"(-?[0-9A-Fa-f]+(?:\.[0-9A-Fa-f]+)?)\s*_\s*\{?\s*(?:base\s*)?(\d{1,2})\s*\}?$")
_BASED_WORDS = re.compile(r"([0-9A-F]+)\s*(?:\(?(?:in\s+)?base[ -]?(\d{1,2})\)?)$")
_RATIO = re.compile(r"^[^:]+(?::[^:]+)+$")
_TO = re.compile(r"^(\d+(?:\.\d+)?)\s+to\s+(\d+(?:\.\d+)?)$")
_LABEL = re.compile(
    r"[A-Za-z](?:_\{?\\?\w+\}?)?'*(?:\^\{?(?:-1|')\}?)?|\\(?!pi|frac|sqrt|infty)[a-z]+(?:_\{?\w+\}?)?|"
    r"(?:\\?[A-Za-z]{1,4})(?:_\{?\w+\}?)?'*(?:\^\{?[-\d]+\}?)?\s*\([^()=]*\)|"
    r"(?:m\s*)?\\(?:angle|triangle|overline|widehat|vec|overrightarrow|hat|bar|widetilde)"
    r"\s*\{?[\w {}']*\}?|"
    r"[A-Z]{2,4}'?|\|\s*[A-Z]{2}\s*\||[A-Za-z][a-z]+(?: [A-Za-z]+){0,4}|[\u4e00-\u9fff]{1,8}|"
    r"\(\s*[A-Za-z](?:_\w)?(?:\s*,\s*[A-Za-z](?:_\w)?)*\s*\)|"
    r"\\(?:sin|cos|tan|log|ln)\s*\(?\s*[A-Za-z]\s*\)?|"
    r"[A-Za-z]\s*\\cap\s*[A-Za-z]|[A-Z]\s*\\cup\s*[A-Z]"
)  # fmt: skip
_MAX_PARTS = 60


def declared_parameter(text: str) -> str | None:
    """The `k` of `3k + 1, k \\in \\mathbb{Z}`."""
    match = _DOMAIN.search(text)
    return match[1] if match else None


@lru_cache(maxsize=8192)
def read_form(text: str) -> Form:
    """The form of a tidy text; every text has one."""
    for reader in (_read_special, _read_region, _read_matrix, _read_list, _read_bracket):
        if (form := reader(text)) is not None:
            return form
    for reader in (_read_equation, _read_numeral, _read_signs, read_quantity):
        if (form := reader(text)) is not None:
            return form
    return _read_words(text)


def _read_special(text: str) -> Form | None:
    if kind := nothing_kind(text):
        return Nothing(kind)
    if re.fullmatch(r"[A-Z]", text):
        return Choice(text, "")
    if choice := choice_of(text):
        return Choice(*choice)
    if clock := clock_of(text):
        return Clock(clock)
    if date := date_of(text):
        return Date(date)
    return None


def _read_region(text: str) -> Form | None:
    return read_region(text) or _read_chain(text)


def _read_chain(text: str) -> Chain | None:
    """A chain of inequalities, from small to large."""
    if match := re.match(rf"({_INEQUALITY})(.*)", text):
        node = read_expression(match[2].strip())
        return Chain((node,), (match[1],)) if node is not None else None
    signs = re.findall(_INEQUALITY, text)
    if not signs or len(split_top(text, r",|;|\bor\b|\band\b")) > 1:
        return None
    nodes = [read_expression(side) for side in split_top(text, _INEQUALITY)]
    sides = tuple(node for node in nodes if node is not None)
    if len(sides) != len(nodes) or len(nodes) != len(signs) + 1:
        return None
    if all(sign in (">", r"\ge") for sign in signs):
        flipped = tuple({">": "<", r"\ge": r"\le"}[sign] for sign in reversed(signs))
        return Chain(sides[::-1], flipped)
    return Chain(sides, tuple(signs))


def _read_matrix(text: str) -> Form | None:
    """A matrix, with a factor before it or a transposition behind it, or Python's `[[1, 2]]`."""
    if match := _MATRIX.search(text):
        before, after = text[: match.start()].strip(), text[match.end() :].strip()
        rows = [split_top(row, "&") for row in split_top(match[2].strip(), r"\\\\(?:\[[^\]]*\])?")]
        if before[-1:] + after[:1] in ("()", "[]"):
            before, after = before[:-1].strip(), after[1:].strip()
        matrix = _matrix([row for row in rows if row != [""]], before.rstrip("*").strip())
        if matrix is None or not after:
            return matrix
        return _transposed(matrix) if re.fullmatch(r"\^\s*\{?\s*(?:T|\\top)\s*\}?", after) else None
    if re.fullmatch(r"\[\s*\[.*\]\s*\]", text):
        rows = [bracketed(row) for row in split_top(text[1:-1].strip(), ",|;")]
        if all(row and row[0] == "[" for row in rows):
            return _matrix([split_top(row[1], ",") for row in rows if row], "")
    if match := re.fullmatch(r"(\(.*\)|\[.*\])\s*\^\s*\{?\s*(?:T|\\top)\s*\}?", text):
        content = bracketed(match[1])
        return _matrix([[part] for part in split_top(content[1], ",")], "") if content else None
    return None


def _matrix(rows: list[list[str]], factor: str) -> Matrix | None:
    scale = read_expression(factor) if factor else None
    if factor == "-":
        scale = read_expression("-1")
    if (factor and scale is None) or not rows or len({len(row) for row in rows}) != 1:
        return None
    nodes = [[read_expression(entry) for entry in row] for row in rows]
    if any(node is None for row in nodes for node in row):
        return None
    return Matrix(
        tuple(
            tuple(Call("*", (scale, node)) if scale is not None else node for node in row if node)
            for row in nodes
        )
    )


def _transposed(matrix: Matrix) -> Matrix:
    return Matrix(tuple(zip(*matrix.rows, strict=True)))


def _read_list(text: str) -> Form | None:
    """Values between separators, expanded where one stands for two, and without their labels."""
    if (bare := _CONSTANT.sub("", _DOMAIN.sub("", text))) != text:
        return read_form(bare)
    parts = split_top(re.sub(r"^both\s+|^either\s+", "", text), _SEPARATOR)
    parts = [part for part in parts if part]
    if len(parts) < 2 or len(parts) > _MAX_PARTS:
        return None
    items: list[Form] = []
    for part in parts:
        form = read_form(part)
        items += form.items if isinstance(form, Listing) and not form.is_set else (form,)
    is_choice = re.search(r"\bor\b|或", text) is not None
    return _with_shared_label(items, is_choice=is_choice)


def _with_shared_label(items: list[Form], *, is_choice: bool = False) -> Listing:
    """`x = 1, 2` and `x = 1, x = 2` are the values 1 and 2, of x."""
    first = items[0]
    label = first.label if isinstance(first, Equation) else None
    is_shared = all(
        not isinstance(item, Equation) or item.label == label for item in items
    ) and not any(isinstance(item, Words) for item in items)
    if label is None or not is_shared:
        return Listing(tuple(items), is_choice=is_choice)
    values = (item.value if isinstance(item, Equation) else item for item in items)
    flat: list[Form] = []
    for value in values:
        flat += value.items if isinstance(value, Listing) and not value.is_set else (value,)
    return Listing(tuple(flat), is_choice=is_choice, label=label)


def _read_bracket(text: str) -> Form | None:
    bracket = bracketed(_MEMBER.sub("", text))
    if bracket is None:
        return None
    opening, content, closing = bracket
    if opening in (r"\{", "{"):
        parts = [part for part in split_top(content, ",|;") if part]
        items: list[Form] = []
        for part in parts:
            form = read_form(part)
            items += form.items if isinstance(form, Listing) and not form.is_set else (form,)
        return Listing(tuple(items), is_set=opening == r"\{")
    if r"\pm" in content:
        return _read_signs(text)
    parts = split_top(content, ",|;")
    if len(parts) < 2:
        inner = read_form(content)
        keeps = (Listing, Equation, Group, Matrix, Words, Choice, Unread, Based)
        return inner if isinstance(inner, keeps) and opening == "(" else None
    if len(parts) > _MAX_PARTS or "" in parts:
        return None
    return Group(tuple(read_form(part) for part in parts), opening + closing)


def _read_equation(text: str) -> Form | None:
    """Equations and chains of them; what follows an approximation sign is left out."""
    approximate = split_top(text, r"\\approx(?![A-Za-z])")
    if len(approximate) > 1:
        if _LABEL.fullmatch(approximate[0]):
            approximate = [" = ".join(approximate[:2])]
        return read_form(approximate[0])
    sides = split_top(text, r"=|\\equiv(?![A-Za-z])")
    if len(sides) < 2 or "" in sides:
        return None
    if _LABEL.fullmatch(sides[-1]) and not _LABEL.fullmatch(sides[0]) and len(sides) == 2:
        sides.reverse()
    label = _label(sides[0])
    value = read_form(sides[-1])
    left, right = read_expression(sides[0]), read_expression(sides[-1])
    if isinstance(value, Words | Unread) and right is None and label is None:
        return Unread(text)
    return Equation(label, value, left, right, sides[0])


def _label(text: str) -> str | None:
    if not _LABEL.fullmatch(text) or text in ("e", "i"):
        return None
    return re.sub(r"[\s{}]|^m(?=\s*\\angle)", "", text)


def _read_numeral(text: str) -> Form | None:
    text = re.sub(
        r"_\s*\{?\s*([a-z]{3,})\s*\}?$", lambda m: f"_{_BASE_NAMES.get(m[1], m[1])}", text
    )
    if (match := _BASED.fullmatch(text)) or (match := _BASED_WORDS.fullmatch(text)):
        base = int(match[2])
        digits = match[1].upper().lstrip("0") or "0"
        if 2 <= base <= 36 and all(int(digit, 36) < base for digit in digits if digit.isalnum()):
            return Based(digits, base)
    if match := _TO.fullmatch(text):
        text = f"{match[1]}:{match[2]}"
    if _RATIO.match(text):
        parts = [read_expression(part.strip()) for part in text.split(":")]
        if all(part is not None for part in parts):
            return Ratio(tuple(part for part in parts if part is not None))
    return None


def _read_signs(text: str) -> Form | None:
    r"""`a \pm b` is two values; `\mp` takes the sign that `\pm` does not, more `\pm` are free."""
    if r"\pm" not in text:
        text = text.replace(r"\mp", r"\pm")
    count = len(re.findall(r"\\pm(?![A-Za-z])", text))
    if count == 0 or count > 4:
        return None
    is_tied = r"\mp" in text
    texts = []
    for choice in range(2 if is_tied else 2**count):
        signs = ["-" if choice >> index & 1 else "+" for index in range(count)]
        expanded = text
        for sign in [signs[0]] * count if is_tied else signs:
            expanded = re.sub(r"\\pm(?![A-Za-z])", sign, expanded, count=1)
        opposite = "+" if signs[0] == "-" else "-"
        texts.append(re.sub(r"\\mp(?![A-Za-z])", opposite, expanded))
    items = tuple(read_form(re.sub(r"^\+\s*", "", expanded)) for expanded in texts)
    is_read = all(isinstance(item, Quantity | Group | Equation) for item in items)
    return _with_shared_label(list(items)) if is_read else None


def _read_words(text: str) -> Form:
    letters = re.sub(r"\\[A-Za-z]+", "", text)
    longest = max((len(run) for run in re.findall(r"[A-Za-z]+", letters)), default=0)
    has_chinese = re.search(r"[\u4e00-\u9fff]", text) is not None
    if re.search(r"[\\^_=<>{}|]", text) or not (longest or has_chinese):
        return Unread(text)
    return Words(text)

r"""Expressions in LaTeX or plain notation, read whole or not at all.

A reader that skips what it does not know is how a checker comes to accept `1 + 1/e` for
`1 - 1/e` (Math-Verify issue 14): here one unknown sign makes the text unreadable.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from r1.rewards.answers.literals import Unreadable, in_scientific_notation, read_number
from r1.rewards.answers.nodes import Call, Name, Node, Number

_FUNCTION_NAMES = """
sin cos tan cot sec csc sinh cosh tanh coth arcsin arccos arctan arccot arcsec arccsc ln log
exp sqrt floor ceil abs binom gcd lcm max min root asin acos atan det Re Im arg
"""
FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
CONSTANTS = ("pi", "infty", "inf", "oo")
_GREEK_NAMES = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon
phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar
"""
_GREEK = frozenset(_GREEK_NAMES.split())
_WORDS = sorted((*FUNCTIONS, *CONSTANTS, *_GREEK, "infinity"), key=len, reverse=True)
_MULTI_ARGUMENT = frozenset(("gcd", "lcm", "max", "min", "binom", "root", "log"))
_ACCENTED = re.compile(r"\\(vec|overrightarrow|hat|bar|overline|tilde|d?dot)(?![A-Za-z])")
_OPERATORS = r"\cdot \times \div \} \rangle \pm \mp \rfloor \rceil"
_NO_FACTOR = tuple(_OPERATORS.split())
_MAX_CHARS = 2000
_MAX_DEPTH = 60


@lru_cache(maxsize=8192)
def read_expression(text: str) -> Node | None:
    """The expression that the whole (tidy) text is, or None."""
    if not text or len(text) > _MAX_CHARS:
        return None
    try:
        reader = _Reader(text)
        node = reader.sum()
        return node if reader.at_end() else None
    except (Unreadable, RecursionError):
        return None


class _Reader:
    """Recursive descent over the text; every method reads one level of precedence."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.depth = 0

    # ---------------------------------------------------------------- looking and taking

    def skip(self) -> None:
        while self.position < len(self.text) and self.text[self.position] == " ":
            self.position += 1

    def at_end(self) -> bool:
        self.skip()
        return self.position == len(self.text)

    def peek(self, *tokens: str) -> str | None:
        """The one of the tokens that comes next, or None; a command's name must be whole."""
        self.skip()
        for token in tokens:
            if self.text.startswith(token, self.position):
                after = self.text[self.position + len(token) : self.position + len(token) + 1]
                if not (token[0] == "\\" and token[-1].isalpha() and after.isalpha()):
                    return token
        return None

    def take(self, *tokens: str) -> str | None:
        token = self.peek(*tokens)
        if token is not None:
            self.position += len(token)
        return token

    def expect(self, token: str) -> None:
        if self.take(token) is None:
            raise Unreadable(token)

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self.skip()
        match = pattern.match(self.text, self.position)
        if match is not None:
            self.position = match.end()
        return match

    # ---------------------------------------------------------------- levels of precedence

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise Unreadable("too deep")
        node = self.product()
        while sign := self.take("+", "-"):
            node = Call(sign, (node, self.product()))
        self.depth -= 1
        return node

    def product(self) -> Node:
        node = self.signed()
        while True:
            if self.peek("**"):
                raise Unreadable("**")
            if self.take("*", r"\cdot", r"\times"):
                node = Call("*", (node, self.signed()))
            elif self.take("/", r"\div"):
                node = Call("/", (node, self.signed()))
            elif self._is_factor_next():
                factor = self.power()
                if isinstance(factor, Number):
                    raise Unreadable("two numbers side by side are no product")
                node = Call("*", (node, factor))
            else:
                return in_scientific_notation(node)

    def signed(self) -> Node:
        if self.take("+"):
            return self.signed()
        if self.take("-"):
            return Call("neg", (self.signed(),))
        return self.power()

    def power(self) -> Node:
        base = self.postfix()
        while self.take("^", "**"):
            base = Call("^", (base, self.exponent()))
            base = self._after(base)
        return base

    def exponent(self) -> Node:
        if self.peek("{", "("):
            return self.group()
        if self.take("-"):
            return Call("neg", (self.exponent(),))
        self.skip()
        # In LaTeX x^23 is x^2 3; written plainly it is x^23, which everybody means.
        return self.postfix()

    def postfix(self) -> Node:
        return self._after(self.atom())

    def _after(self, node: Node) -> Node:
        while True:
            if self.take("!"):
                node = Call("!", (node,))
            elif self.take("degrees"):
                half_turn = Call("/", (Name("pi"), Number(Fraction(180))))
                node = Call("*", (node, half_turn))
            elif self.take("%"):
                node = Call("/", (node, Number(Fraction(100))))
            elif isinstance(node, Name) and self.take("'", r"\prime"):
                node = Name(node.name + "'")
            elif self.peek("_") and isinstance(node, Name):
                node = Name(f"{node.name}_{self.subscript()}")
            else:
                return node

    def subscript(self) -> str:
        self.expect("_")
        match = self.match(re.compile(r"\{([\w ,+\\-]*)\}|([A-Za-z0-9])"))
        if match is None:
            raise Unreadable("subscript")
        return (match[1] or match[2] or "").replace(" ", "")

    # ---------------------------------------------------------------- atoms

    def _is_factor_next(self) -> bool:
        self.skip()
        rest = self.text[self.position : self.position + 1]
        if rest == "\\":
            return self.peek(*_NO_FACTOR) is None
        return rest.isalnum() or rest in ("(", "{", "[", ".")

    def atom(self) -> Node:
        self.skip()
        char = self.text[self.position : self.position + 1]
        if char.isdigit() or char == ".":
            return self.number()
        if char in ("(", "[", "{"):
            return self.group()
        if char == "|":
            self.take("|")
            node = self.sum()
            self.expect("|")
            return Call("abs", (node,))
        if char == "\\":
            return self.command()
        if char.isascii() and char.isalpha():
            return self.word()
        raise Unreadable(char)

    def group(self) -> Node:
        closing = {"(": ")", "[": "]", "{": "}"}
        opening = self.take(*closing)
        if opening is None:
            raise Unreadable("group")
        node = self.sum()
        self.expect(closing[opening])
        return node

    def number(self) -> Node:
        number, self.position = read_number(self.text, self.position)
        return number

    def word(self) -> Node:
        """A name of a function or constant, or one letter: letters side by side are a product."""
        for word in _WORDS:
            if self.text.startswith(word, self.position):
                after = self.text[self.position + len(word) :][:1]
                if after.isalpha() and word not in ("pi", *FUNCTIONS):
                    continue
                self.position += len(word)
                return self.named(word)
        letter = self.text[self.position]
        self.position += 1
        if letter in "fgh" and self.peek("("):
            return Call(f"apply {letter}", self.arguments())
        return Name(letter)

    def named(self, word: str) -> Node:
        if word in FUNCTIONS:
            return self.function(word)
        return Name("infty" if word in ("inf", "oo", "infinity") else word)

    def command(self) -> Node:
        if self.take(r"\{"):
            node = self.sum()
            self.expect(r"\}")
            return node
        if accent := self.match(_ACCENTED):
            content = re.compile(r"\{\s*(\\?[A-Za-z]+)\s*\}|\s*(\\[a-z]+|[A-Za-z])")
            if (match := self.match(content)) is None:
                raise Unreadable(accent[0])
            return Name(f"{accent[1]} {match[1] or match[2]}")
        match = self.match(re.compile(r"\\([A-Za-z]+)"))
        if match is None:
            raise Unreadable("\\")
        name = match[1]
        if name in ("frac", "binom"):
            return Call("/" if name == "frac" else name, (self.piece(), self.piece()))
        if name in ("lfloor", "lceil"):
            node = self.sum()
            self.expect(rf"\r{name[1:]}")
            return Call("floor" if name == "lfloor" else "ceil", (node,))
        if name in FUNCTIONS or name in CONSTANTS or name in _GREEK:
            return self.named(name)
        raise Unreadable(name)

    def piece(self) -> Node:
        r"""An argument of `\frac`: a group, or one sign, so that `\frac12` is a half."""
        self.skip()
        if self.peek("{"):
            return self.group()
        char = self.text[self.position : self.position + 1]
        if char.isalnum():
            self.position += 1
            return Number(Fraction(char)) if char.isdigit() else Name(char)
        if char == "\\":
            return self.command()
        raise Unreadable("argument")

    def arguments(self) -> tuple[Node, ...]:
        self.expect("(")
        nodes = [self.sum()]
        while self.take(","):
            nodes.append(self.sum())
        self.expect(")")
        return tuple(nodes)

    def function(self, name: str) -> Node:
        name = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}.get(name, name)
        if name == "sqrt":
            return self._root()
        base = None
        if name == "log" and self.take("_"):
            base = self.piece() if not self.peek("(") else self.group()
        power = self.exponent() if self.take("^") else None
        if self.peek("(", "{") and name in _MULTI_ARGUMENT:
            arguments = self.arguments() if self.peek("(") else (self.group(),)
        elif self.peek("(", "{", "["):
            arguments = (self._after(self.group()),)
        else:
            arguments = (self._bare_argument(),)
        if name == "log" and base is not None:
            arguments = (arguments[0], base)
        inverse = Call("neg", (Number(Fraction(1)),))
        if power == inverse and name in ("sin", "cos", "tan", "cot", "sec", "csc"):
            return Call(f"arc{name}", arguments)
        call = Call(name, arguments)
        return self._after(call) if power is None else Call("^", (call, power))

    def _root(self) -> Node:
        if self.take("["):
            degree = self.sum()
            self.expect("]")
            return Call("root", (self.piece(), degree))
        if self.peek("("):
            return Call("sqrt", (self.group(),))
        return Call("sqrt", (self.piece(),))

    def _bare_argument(self) -> Node:
        r"""What `\sin 2x` is the sine of: factors up to an operator, a bracket or a function."""
        node = self.power()
        while self._is_factor_next() and not self.peek("(", "["):
            start = self.position
            factor = self.power()
            if isinstance(factor, Call) and factor.function in FUNCTIONS - {"sqrt", "root"}:
                self.position = start
                break
            if isinstance(factor, Number):
                raise Unreadable("two numbers side by side are no product")
            node = Call("*", (node, factor))
        return node

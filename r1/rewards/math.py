"""The accuracy reward for maths: find the final answer in a reply and verify it.

Numbers are compared exactly here, in microseconds; everything else goes to
math-verify in worker processes with a hard limit. What the verifier cannot decide
is no verdict (`is_correct` None with the reason), never a wrong answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from types import TracebackType

from r1.rewards.verifier_pool import WorkerFailure, WorkerPool, python_module_command

_BOX = re.compile(r"\\f?box(?:ed)?(?=\s*\{|\s+\S)")
_BARE_BOX = re.compile(r"\s+([^\s$\\{}]+|\\[A-Za-z]+)")
_ANSWER_TAG = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)
_ANSWER_LINE = re.compile(
    r"(?:\banswer\b[*_]*\s*(?:is\b\s*[:：]?|[:：=])|答案[*_]*\s*(?:[:：=]|[为是][:：]?))"
    r"[*_ \t]*(\S.*)",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(?<![\w.])[-−+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d)\.(?!\d)|(?<=\d))(?:/\d+(?![\d.]))?%?"
)
_PROSE_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}|[\u4e00-\u9fff]")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox)\s*\{([^{}]*)\}")
_FORMULA_MARK = re.compile(r"\\|\^|[(\[{][^()\[\]{}]*,[^()\[\]{}]*[)\]}]")
_MIXED_NUMBER = re.compile(r"([-+]?)(\d+)\s+(\d+)/(\d+)")
# A gap is no part of a number, except before a group of three digits ("12 345").
_GAP = re.compile(r"(?<=\d)(?:\s|\\[,;: ]|~)+(?=\d)")
_THOUSANDS = re.compile(r"(?<![\w.,])(?<!\d )[-+]?[1-9]\d{0,2}(?: \d{3})+(?![\d/]| \d)")
_SPACED_NUMBERS = re.compile(r"[-+]?[\d.]+(?: [-+]?[\d.]+)+")
_SPACING = re.compile(r"\\[,;:! ]|~|\\(?:left|right|displaystyle)(?![A-Za-z])")
_EXACT_NUMBER = re.compile(r"([-+]?)(\d{1,3}(?:,\d{3})+|\d*)(\.\d*)?(?:/([-+]?)(\d+))?")
_LATEX_FRACTION = re.compile(r"([-+]?)\\[dt]?frac(?:\{(-?\d+)\}\{(-?\d+)\}|(\d)(\d))")
_TEXT_GOLD = re.compile(r"[^\W\d_]{4,}|[^\W\d_]+(?:[ '-][^\W\d_]+)+")

_MAX_ANSWER_CHARS = 1000
_MAX_NUMBER_CHARS = 100
_MAX_GOLD_WORDS = 6


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer equals the gold, or None when the verifier failed; and why."""

    is_correct: bool | None
    reason: str


def extract_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}` or `\fbox{...}`, braces balanced."""
    for match in reversed(list(_BOX.finditer(text))):
        content = _braced(text, match.end())
        if content is not None:
            return content.strip()
    return None


def extract_answer(text: str, *, is_whole: bool = False) -> str | None:
    """The final answer that a reply states, or None.

    Pass the answer part of the reply: an unclosed thought has no answer. Looked for
    in this order: the last box; the last `<answer>` block; what follows the last
    "answer is", "Answer:" or 答案 on its line; the last number, or with `is_whole`
    all of the text.
    """
    boxed = extract_boxed(text)
    if boxed is not None:
        return boxed or None
    tagged = _ANSWER_TAG.findall(text)
    if tagged:
        return tagged[-1].strip() or None
    lines = _ANSWER_LINE.findall(text)
    if lines:
        return _short_answer(lines[-1])
    return (text.strip() or None) if is_whole else _last_number(text)


def is_formula(text: str) -> bool:
    r"""Whether a text is LaTeX, a power or a tuple, without prose: no number of it is its value."""
    return _FORMULA_MARK.search(text) is not None and not _has_prose(text)


def parse_number(text: str) -> Fraction | None:
    r"""The exact value of an integer, decimal, `a/b`, `n a/b` or `\frac{a}{b}`, else None."""
    text = _tidy(text)
    if not text or len(text) > _MAX_NUMBER_CHARS:
        return None
    if match := _LATEX_FRACTION.fullmatch(text):
        sign, numerator, denominator, digit, other = match.groups()
        value = _fraction(int(numerator or digit), int(denominator or other))
        return -value if value is not None and sign == "-" else value
    if match := _MIXED_NUMBER.fullmatch(text):
        sign, whole, numerator, denominator = match.groups()
        part = _fraction(int(numerator), int(denominator))
        if part is None or part >= 1:
            return None
        return -(int(whole) + part) if sign == "-" else int(whole) + part
    match = _EXACT_NUMBER.fullmatch(text)
    if match is None or not any(char.isdigit() for char in (match[2] + (match[3] or ""))):
        return None
    sign, whole, decimals, sign_below, below = match.groups()
    value = Fraction((whole.replace(",", "") or "0") + (decimals or "").rstrip("."))
    if below is not None:
        divided = _fraction(value, int(below))
        if divided is None:
            return None
        value = -divided if sign_below == "-" else divided
    return -value if sign == "-" else value


class MathVerifier:
    """Compares answers; a thread pool of `num_workers` threads keeps all workers busy.

    `timeout_seconds` is the hard limit of one comparison in CPU time. A worker that hangs is
    killed, one that dies is replaced, and neither is a verdict. Workers start at the
    first answer that is not a plain number. Close it, or leave that to the exit.
    """

    def __init__(self, num_workers: int = 2, timeout_seconds: float = 5.0) -> None:
        command = python_module_command("r1.rewards.verifier_worker", str(timeout_seconds))
        self._pool = WorkerPool(command, num_workers=num_workers, timeout_seconds=timeout_seconds)
        # A group's samples often give the same answer; failures raise and are not kept.
        self._ask_once = lru_cache(maxsize=4096)(self._ask)

    def __enter__(self) -> MathVerifier:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the workers."""
        self._pool.close()

    def verify(self, gold: str, answer: str | None) -> Verdict:
        """Whether `answer` (as `extract_answer` gives it) equals `gold`.

        Against a readable gold an answer that is missing, unreadable or absurdly long is wrong.
        """
        quick = _quick_verdict(gold, answer)
        if quick is not None or answer is None:
            return quick or Verdict(False, "no answer")
        try:
            return self._ask_once(_tidy(gold), _tidy(answer))
        except WorkerFailure as failure:
            return Verdict(None, f"verifier failed: {failure}")

    def is_readable(self, gold: str) -> bool:
        """Whether answers can be verified against `gold`: a number, a formula or a few words."""
        if parse_number(gold) is not None:
            return True
        tidy = _tidy(gold)
        if not tidy or len(_PROSE_WORD.findall(tidy)) > _MAX_GOLD_WORDS:
            return False
        if _TEXT_GOLD.fullmatch(tidy):
            return True
        braces = re.findall(r"(?<!\\)[{}]", tidy)
        if braces.count("{") != braces.count("}"):
            return False
        try:
            return bool(self._pool.ask({"op": "read", "gold": tidy}).get("is_readable"))
        except WorkerFailure:
            return False

    def _ask(self, gold: str, answer: str) -> Verdict:
        reply = self._pool.ask({"op": "verify", "gold": gold, "answer": answer})
        if reply["is_correct"] is None:
            raise WorkerFailure(reply["reason"])
        return Verdict(reply["is_correct"], reply["reason"])


def _quick_verdict(gold: str, answer: str | None) -> Verdict | None:
    """The verdict that needs no algebra, or None."""
    if answer is None or not answer.strip():
        return Verdict(False, "no answer")
    if not gold.strip():
        return Verdict(None, "the gold answer is empty")
    if _as_text(gold) == _as_text(answer):
        return Verdict(True, "same text")
    gold_number, number = parse_number(gold), parse_number(answer)
    if gold_number is not None and number is not None:
        is_equal = gold_number == number
        return Verdict(is_equal, "equal numbers" if is_equal else "different numbers")
    # The parser of the worker would join the digits of "2 3".
    if any(_SPACED_NUMBERS.fullmatch(_tidy(text)) for text in (gold, answer)) and all(
        parse_number(text) is not None or _SPACED_NUMBERS.fullmatch(_tidy(text))
        for text in (gold, answer)
    ):
        return Verdict(False, "different numbers")
    if gold_number is not None and not re.search(r"[\d\\]", answer):
        return Verdict(False, "the answer holds no number")
    # As algebra "east" is a product of letters, equal to "seat".
    if _TEXT_GOLD.fullmatch(_tidy(gold)) or _TEXT_COMMAND.fullmatch(gold.strip(" $")):
        return Verdict(False, "different text")
    if len(answer) > max(_MAX_ANSWER_CHARS, 4 * len(gold)):
        return Verdict(False, f"the answer is longer than {_MAX_ANSWER_CHARS} characters")
    return None


def _tidy(text: str) -> str:
    r"""Take off what surrounds an answer: dollars, `\text{}`, spacing commands, a full stop."""
    text = text.strip().replace("−", "-").replace("，", ",").replace("：", ":")
    for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if len(text) > len(opening) and text.startswith(opening) and text.endswith(closing):
            text = text[len(opening) : -len(closing)].strip()
    text = _GAP.sub(" ", text)
    text = _THOUSANDS.sub(lambda match: match[0].replace(" ", ""), text)
    text = _SPACING.sub("", text).strip().rstrip("。")
    text = text[:-1] if text.endswith(".") else text
    if match := _TEXT_COMMAND.fullmatch(text):
        text = match[1]
    if re.match(r"\\?\$[-\d.]", text):  # money
        text = text.lstrip("\\").lstrip("$")
    return text.strip()


def _as_text(text: str) -> str:
    """A form in which equal texts are equal: no spaces, case or brackets around one letter."""
    # Without its space the mixed number "1 1/2" would be the fraction 11/2.
    text = _MIXED_NUMBER.sub(r"\1\2+\3/\4", _tidy(text))
    # Numbers beside each other stay apart.
    text = "".join(_GAP.sub("_", text).split()).casefold()
    match = re.fullmatch(r"\(([a-z])\)", text)
    return match[1] if match else text


def _braced(text: str, start: int) -> str | None:
    """What the braces at `start` hold, or the bare word there (`\\boxed 7`)."""
    position = start
    while position < len(text) and text[position].isspace():
        position += 1
    if not text.startswith("{", position):
        bare = _BARE_BOX.match(text, start)
        return bare[1].rstrip(".,") if bare else None
    depth, index = 0, position
    while index < len(text):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return text[position + 1 : index]
        index += 2 if text[index] == "\\" else 1  # an escaped brace is no brace
    return None


def _short_answer(line: str) -> str | None:
    """The answer at the start of a line: all of it, or its number where prose follows."""
    line = line.strip().strip("*_").strip().rstrip("。").removesuffix(".")
    if not _has_prose(line):
        return line or None
    if formula := re.match(r"\$([^$]+)\$|\\\((.+?)\\\)", line):
        return (formula[1] or formula[2]).strip()
    number = next((match for match in _NUMBER.finditer(line) if match[0]), None)
    return number[0].rstrip(".") if number else line


def _has_prose(text: str) -> bool:
    return _PROSE_WORD.search(_TEXT_COMMAND.sub("", text)) is not None


def _last_number(text: str) -> str | None:
    numbers = [match[0] for match in _NUMBER.finditer(text) if match[0]]
    return numbers[-1].rstrip(".") if numbers else None


def _fraction(numerator: int | Fraction, denominator: int) -> Fraction | None:
    return Fraction(numerator) / denominator if denominator else None

"""The accuracy reward for maths: find the final answer in a reply and verify it.

Answers are compared by form and value in process (`answers.check`); what that cannot decide
goes to math-verify in worker processes with a hard limit. What the verifier cannot decide
is no verdict (`is_correct` None with the reason), never a wrong answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from types import TracebackType

from r1.rewards.answers.check import check_answer
from r1.rewards.answers.forms import Unread, read_form
from r1.rewards.answers.question import read_question
from r1.rewards.answers.text import tidy
from r1.rewards.verifier_pool import WorkerFailure, WorkerPool, python_module_command

_BOX = re.compile(r"\\f?box(?:ed)?(?=(\s*)\{|(\s+)\S)")
# An escaped brace is no brace.
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"\s+([^\s$\\{}]+|\\[A-Za-z]+)")
_BOX_JOINT = re.compile(
    r"[\s$]*(?:\\[\])])?(?:\s+[a-z]+){0,3}[\s$]*(?:,|;|\\?(?:quad|text)?\{?\s*(?:and|or)\s*\}?|和|或)(?:\\quad)?[\s$]*(?:\\[\[(])?"
    r"[\s$]*(?:[A-Za-z](?:_\w)?\s*=\s*)?"
)
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
_OR_ANOTHER = re.compile(r"\s*(?:or|to|and|或|至|到|[-–])\s*[$\\(]*[-−]?[\d.\\]")
_MIXED_NUMBER = re.compile(r"([-+]?)(\d+)\s+(\d+)/(\d+)")
# A gap is no part of a number, except before a group of three digits ("12 345").
_GAP = re.compile(r"(?<=\d)(?:\s|\\[,;: ]|~)+(?=\d)")
_THOUSANDS = re.compile(r"(?<![\w.,])(?<!\d )[-+]?[1-9]\d{0,2}(?: \d{3})+(?![\d/]| \d)")
_SPACING = re.compile(r"\\[,;:! ]|(?<!^)~|\\(?:left|right|displaystyle)(?![A-Za-z])")
_EXACT_NUMBER = re.compile(r"([-+]?)(\d{1,3}(?:,\d{3})+|\d*)(\.\d*)?(?:/([-+]?)(\d+))?")
_LATEX_FRACTION = re.compile(r"([-+]?)\\[dt]?frac(?:\{(-?\d+)\}\{(-?\d+)\}|(\d)(\d))")

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
    return next((content.strip() for _, _, content in _boxes(text)), None)


def _last_boxes(text: str) -> str | None:
    """The last box, and those before it that only a comma, "and" or "or" separates."""
    found: list[str] = []
    start = len(text)
    for box_start, box_end, content in _boxes(text):
        between = text[box_end + len(content) + 2 : start]
        if found and not _BOX_JOINT.fullmatch(between):
            break
        if content.strip() not in found:
            found.insert(0, content.strip())
        start = box_start
    return ", ".join(found) if found else None


def extract_answer(text: str, *, is_whole: bool = False) -> str | None:
    """The final answer that a reply states, or None.

    Pass the answer part of the reply: an unclosed thought has no answer. Looked for
    in this order: the last box; the last `<answer>` block; what follows the last
    "answer is", "Answer:" or 答案 on its line; the last number, or with `is_whole`
    all of the text.
    """
    boxed = _last_boxes(text)
    if boxed is not None:
        return boxed or None
    tagged = _ANSWER_TAG.findall(text)
    if tagged:
        return tagged[-1].strip() or None
    lines = _ANSWER_LINE.findall(text)
    if lines:
        return _short_answer(lines[-1])
    return (text.strip() or None) if is_whole else _last_number(text)


def final_answer(text: str) -> str | None:
    """The answer in what may be a whole reply or only an answer.

    A reply is recognised by its box, its thought, its `<answer>` tags or "the answer is".
    Of a thought that never closes there is no answer.
    """
    if "<think>" in text or "</think>" in text:
        _, closing, text = text.rpartition("</think>")
        if not closing:
            return None
        return extract_answer(text)
    is_reply = _ANSWER_TAG.search(text) or _ANSWER_LINE.search(text) or _is_prose_with_box(text)
    return extract_answer(text, is_whole=True) if is_reply else text.strip() or None


def _is_prose_with_box(text: str) -> bool:
    """Whether there is more than connectives around the boxes: not in `\\boxed{1}, \\boxed{2}`."""
    if _BOX.search(text) is None:
        return False
    outside = re.sub(r"\\f?box(?:ed)?\s*\{.*\}", " ", text)
    return len(set(_PROSE_WORD.findall(outside)) - {"and", "or", "text"}) > 0


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

    Most pairs are decided in this process (`answers.check`), within bounds. The rest goes to
    math-verify in a worker: `timeout_seconds` is the hard limit of one comparison in CPU
    time; a worker that hangs is killed, one that dies is replaced, the comparison is tried
    `num_attempts` times in all, and what then fails is no verdict. Workers start with the
    first pair that needs them. Close it, or leave that to the exit.
    """

    def __init__(
        self, num_workers: int = 2, timeout_seconds: float = 5.0, num_attempts: int = 3
    ) -> None:
        command = python_module_command("r1.rewards.verifier_worker", str(timeout_seconds))
        self._pool = WorkerPool(
            command,
            num_workers=num_workers,
            timeout_seconds=timeout_seconds,
            num_attempts=num_attempts,
        )
        self.num_workers = num_workers
        # A group's samples often give the same answer; failures raise and are not kept.
        self._check_once = lru_cache(maxsize=4096)(self._check)

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

    def verify(
        self,
        gold: str | Sequence[str],
        answer: str | None,
        *,
        question: str | None = None,
        order_free: bool = False,
    ) -> Verdict:
        """Whether `answer` (as `extract_answer` gives it) equals `gold`, or one of several golds.

        The question settles what the answers leave open: its unit, whether to round, the
        order of a list, an expression that is only repeated. With `order_free` tuples are
        compared without order too. Against a readable gold an answer that is missing,
        unreadable or absurdly long is wrong.
        """
        golds = [gold] if isinstance(gold, str) else list(gold)
        failed: Verdict | None = None
        wrong = Verdict(None, "there is no gold answer")
        for accepted in golds:
            verdict = self._verify_one(accepted, answer, question, order_free)
            if verdict.is_correct:
                return verdict
            if verdict.is_correct is None:
                failed = verdict
            else:
                wrong = verdict
        return failed or wrong

    def _verify_one(
        self, gold: str, answer: str | None, question: str | None, order_free: bool
    ) -> Verdict:
        if not gold.strip():
            return Verdict(None, "the gold answer is empty")
        if answer is None or not answer.strip():
            return Verdict(False, "no answer")
        quick = _quick_verdict(gold, answer)
        # A question may ask for lowest terms.
        if quick is not None and (question is None or not re.search(r"/|frac", answer)):
            return quick
        if len(answer) > max(_MAX_ANSWER_CHARS, 4 * len(gold)):
            return Verdict(False, f"the answer is longer than {_MAX_ANSWER_CHARS} characters")
        try:
            return self._check_once(gold, answer, question, order_free)
        except WorkerFailure as failure:
            return Verdict(None, f"verifier failed: {failure}")
        except Exception as error:  # a mistake of the checker is its failure, not a verdict
            return Verdict(None, f"verifier failed: {type(error).__name__}: {error}")

    def is_readable(self, gold: str) -> bool:
        """Whether answers can be verified against `gold`: a value, a formula or a few words."""
        if parse_number(gold) is not None:
            return True
        text = tidy(gold)
        if not text or len(_PROSE_WORD.findall(text)) > _MAX_GOLD_WORDS:
            return False
        form = read_form(text)
        if not isinstance(form, Unread):
            return True
        braces = re.findall(r"(?<!\\)[{}]", text)
        if braces.count("{") != braces.count("}"):
            return False
        try:
            return bool(self._pool.ask({"op": "read", "gold": text}).get("is_readable"))
        except WorkerFailure:
            return False

    def _check(self, gold: str, answer: str, question: str | None, order_free: bool) -> Verdict:
        """By form and value here, by math-verify where that does not decide."""
        finding = check_answer(gold, answer, read_question(question, order_free=order_free))
        if finding.is_equal is not None:
            return Verdict(finding.is_equal, finding.reason)
        reply = self._pool.ask({"op": "verify", "gold": tidy(gold), "answer": tidy(answer)})
        if reply["is_correct"] is None:
            raise WorkerFailure(reply["reason"])
        return Verdict(reply["is_correct"], f"{reply['reason']} (math-verify)")


def _quick_verdict(gold: str, answer: str) -> Verdict | None:
    """The verdict on two plain numbers, or None; decimals that differ have rules of their own."""
    gold_number, number = parse_number(gold), parse_number(answer)
    if gold_number is None or number is None:
        return None
    if gold_number == number:
        return Verdict(True, "equal numbers")
    return None if "." in gold + answer else Verdict(False, "different numbers")


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


def _boxes(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end of the command, content) of every complete box, the last first."""
    closings = _closing_braces(text)
    for match in reversed(list(_BOX.finditer(text))):
        opening = match.end() + len(match[1] or match[2] or "")
        if opening in closings:
            yield match.start(), match.end(), text[opening + 1 : closings[opening]]
        elif not text.startswith("{", opening) and (bare := _BARE_BOX.match(text, match.end())):
            yield match.start(), match.end(), bare[1].rstrip(".,")


def _closing_braces(text: str) -> dict[int, int]:
    """Where each opening brace is closed, in one pass: a loop may open ten thousand boxes."""
    closings: dict[int, int] = {}
    opened: list[int] = []
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            closings[opened.pop()] = match.start()
    return closings


def _short_answer(line: str) -> str | None:
    """The answer at the start of a line: all of it, or its number where prose follows."""
    line = line.strip().strip("*_").strip().rstrip("。").removesuffix(".")
    if not _has_prose(line):
        return line or None
    if formula := re.match(r"\$([^$]+)\$|\\\((.+?)\\\)", line):
        return (formula[1] or formula[2]).strip()
    number = next((match for match in _NUMBER.finditer(line) if match[0]), None)
    if number is not None:
        before, after = line[: number.start()], line[number.end() :]
        is_hedged = re.search(r"\bnot\b|n't\b|不", before) or _OR_ANOTHER.match(after)
        return line if is_hedged else number[0].rstrip(".")
    return line


def _has_prose(text: str) -> bool:
    return _PROSE_WORD.search(_TEXT_COMMAND.sub("", text)) is not None


def _last_number(text: str) -> str | None:
    numbers = [match[0] for match in _NUMBER.finditer(text) if match[0]]
    return numbers[-1].rstrip(".") if numbers else None


def _fraction(numerator: int | Fraction, denominator: int) -> Fraction | None:
    return Fraction(numerator) / denominator if denominator else None

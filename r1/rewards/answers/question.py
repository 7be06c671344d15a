"""What the question settles about its answer, and what an answer says beside its value."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

from r1.rewards.answers.forms import Equation, Form, Quantity
from r1.rewards.answers.nodes import Call, Number
from r1.rewards.answers.text import same_text, tidy
from r1.rewards.answers.units import Unit, asked_units, question_units
from r1.rewards.answers.value import is_plain_number
from r1.rewards.answers.words import date_of

# An explanation behind the answer: "8 (not 9)"; with another candidate in it it is a hedge.
_PARENTHESIS = re.compile(
    r"^(.*[\d)}%\w])\s+\(\s*(?=[^()]*(?<![\\a-z])[a-z]{3})(?![^()]*\b(?:or|maybe|perhaps|possibly|"
    r"degrees)\b)(?:[^()]|\([^()]*\))*\)$"
)
_ID_EST = re.compile(
    r"^(.+?)\s*,?\s*(?:i\.?\s?e\.|that is,|or about|or approximately|也就是|即)\s*,?.*$"
)
_APPROXIMATELY = re.compile(r"^(?:about|approximately|approx\.?|around|roughly|大约|约)\s*")
_HEDGES = re.compile(
    r"\b(?:not|no|least|most|more|less|than|or|either|between|over|under|up|except|if|"
    r"maybe|from|to|about|around|almost|nearly|below|above|times|per|of|half|third|quarter|twice|double|base)\b|n't|[<>~]|至少|至多|不|或"
)
# A statement with one formula in it: "拿走了34把椅子", the number with what it counts.
_CHINESE_SENTENCE = re.compile(
    r":?\s*([\u4e00-\u9fff][\u4e00-\u9fff,: ]+?)\s*([-\d.\\][^\u4e00-\u9fff]*?)\s*"
    r"(\(?[\u4e00-\u9fff]{0,6}\)?)"
)
_CHINESE_HEDGES = re.compile(
    r"不|或|至[少多]|最[少多]|超过|小于|大于|以[上下内]|约|分之|[倍折成余]|非|无|错"
)
_IN_TOTAL = re.compile(r",\s*(?:altogether|in total|in all)$")
_OF_THEM = re.compile(r"\bof (?:them|these|those|the)\b")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the question settles about the form of its answer."""

    text: str = ""
    may_round: bool = False
    about_percent: bool = True
    as_decimal: bool = False
    lowest_terms: bool = False
    variable: str | None = None
    about_base: bool = False
    about_ratio: bool = False
    in_order: bool = False
    any_of_several: bool = False
    is_exact: bool = False
    has_constants: bool = False
    units: tuple[Unit, ...] = ()
    wanted_units: tuple[Unit, ...] = ()
    order_free: bool = False


@lru_cache(maxsize=1024)
def read_question(question: str | None, *, order_free: bool = False) -> Asked:
    """What can be learned from the question; without one nothing is held against an answer."""
    if not question:
        return Asked(order_free=order_free)

    def says(pattern: str) -> bool:
        return re.search(pattern, question, re.IGNORECASE) is not None

    return Asked(
        text=question,
        may_round=says(r"\bround|nearest|decimal place|approximat|significant|estimate|保留|约"),
        as_decimal=says(r"as an? (?:exact )?decimal|decimal (?:number|form)|小数"),
        lowest_terms=says(r"lowest terms|simplest form|reduced (?:form|fraction)|最简"),
        variable=_asked_variable(question),
        about_percent=says(r"%|percent|百分|rate|probability|chance"),
        about_base=says(r"\bbase\b|binary|octal|hexadecimal|_\{?\d"),
        about_ratio=says(r"\bratio\b|\bodds\b|比"),
        in_order=says(r"(?:in|from)\s+(?:increasing|decreasing|ascending|descending|order|least|"
                      r"smallest|largest|greatest|alphabetical)|respectively|ordered|依次|分别"),
        any_of_several=says(r"\bfind (?:one|any|an?)\b(?! \w+ (?:all|every))|one of the|either of"
                            r"|give (?:one|an?) example|enter only one|a possible"),
        is_exact=says(r"in terms of \$?\s*\\?pi|\bexact (?:value|answer|form)|exactly\b.{0,20}$|"
                      r"simplest radical form|common fraction|不取近似"),
        has_constants=says(r"\bconstants?\b|general solution|antiderivative|indefinite|\\int\b"),
        units=tuple(question_units(question)),
        wanted_units=tuple(asked_units(tidy(question.replace("$", " ")))),
        order_free=order_free,
    )  # fmt: skip


def _asked_variable(question: str) -> str | None:
    """The one variable whose value a question asks for."""
    match = re.search(
        r"(?:[Ff]ind|[Ss]olve for|[Dd]etermine|value of|[Ww]hat is|求)\s+(?:the value of\s+)?"
        r"\$?\s*([A-Za-z])\s*\$?\s*[.?,]?$",
        question.strip(),
    )
    return match[1] if match else None


def breaks_rule(form: Form, asked: Asked) -> str | None:
    """What the question demands of the form and the answer does not keep, or None."""
    label = form.label if isinstance(form, Equation) and asked.variable else None
    if label is not None and re.fullmatch(r"[A-Za-z]", label) and label != asked.variable:
        return "the value of another variable"
    if isinstance(form, Quantity) and asked.lowest_terms:
        parts = form.node.arguments if isinstance(form.node, Call) else ()
        values = [part.value for part in parts if isinstance(part, Number)]
        is_fraction = len(values) == 2 and all(value.denominator == 1 for value in values)
        if is_fraction and math.gcd(int(values[0]), int(values[1])) > 1:
            return "a fraction that is not reduced"
    return None


def restates(gold: str, answer: str, form: Form, asked: Asked) -> bool:
    """Whether the answer is an expression with operators copied out of the question."""
    if not asked.text or not isinstance(form, Quantity) or is_plain_number(form.node):
        return False
    question = same_text(tidy(asked.text))
    bare, bare_gold = same_text(answer), same_text(gold)
    if len(bare) < 4 or bare_gold in question or bare not in question:
        return False
    return bool(re.search(r"[-+*/^(]|\\(?:frac|cdot|times|div)", bare))


def concise(answer: str, gold: str, asked: Asked) -> str:
    """The answer without an explanation in brackets, and the one number of a short sentence."""
    answer = _IN_TOTAL.sub("", answer)
    if match := _ID_EST.match(answer):
        answer = match[1]
    if (match := _PARENTHESIS.match(answer)) and not re.search(r"base|mod", answer):
        answer = match[1]
    if "." in gold or asked.may_round:
        answer = _APPROXIMATELY.sub("", answer)
    if (match := _CHINESE_SENTENCE.fullmatch(answer)) and not _CHINESE_HEDGES.search(answer):
        unit = match[3].strip(" ()")
        return f"{match[2].strip()} {unit}".strip()
    if not re.fullmatch(
        r"[A-Za-z\u4e00-\u9fff ,.'!?:$-]*\d[\d.]*(?:[A-Za-z\u4e00-\u9fff ,.'!:$-]*)", answer
    ):
        return answer
    prose = _OF_THEM.sub("", answer)
    words = re.findall(r"[A-Za-z]{2,}", prose)
    is_sentence = re.match(r"[A-Z][a-z]+ (?:[a-z]+ )*", prose) and len(words) >= 2
    if is_sentence and date_of(answer) is None and not _HEDGES.search(prose):
        return re.findall(r"\d[\d.]*", answer)[0].rstrip(".")
    return answer


def option_text(letter: str, question: str) -> str | None:
    """What the question lists under a letter."""
    pattern = rf"(?<![A-Za-z])\(?{letter}[).:]\s*(.+?)\s*(?=[;,]?\s*\(?[A-Z][).:]\s|$)"
    match = re.search(pattern, question, re.DOTALL)
    return match[1] if match else None

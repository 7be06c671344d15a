"""Which option of a multiple-choice question a reply chooses.

Only what a reply states as its answer counts, the last statement first: the line after
`Answer:` (in many languages), a box, "the answer is", and then a last line that is nothing
but an option. Two options at once are none, and the article in "A dog" is no letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

# The words for "Answer:" of openai/simple-evals (MIT), common.py, MULTILINGUAL_ANSWER_REGEXES.
_ANSWER_WORDS = (
    "Answer|Antwort|Respuesta|Risposta|Réponse|Resposta|Jawaban|Jibu|Idahun|Ìdáhùn|Idáhùn|Àmọ̀nà"
    "|Àdáhùn|Ànúgọ|Àṣàyàn|উত্তর|उत्तर|답변|정답|답|答案|答复|答曰|答え|答|回答|解答"
    "|الإجابة النهائية|الإجابة الصحيحة هي|الإجابة الصحيحة|الإجابة هي|الإجابة|إجابة"
    "|الجواب النهائي|الجواب"
)
_ANSWER_LINE = re.compile(rf"(?:{_ANSWER_WORDS})[*_ \t]*[:：ঃ][*_]*", re.IGNORECASE)
# What may stand before it on its line for the line to be the answer, not a step.
_BEFORE_ANSWER = re.compile(
    r"[\W_]*(?:(?:the|my|our|so|thus|hence|therefore|final|correct|best|right)[\W_]+|最终|正确|最后|的)*",
    re.IGNORECASE,
)
_SPOKEN = re.compile(
    r"\b(?:answer|option|choice) is\b(?! (?:not|wrong|incorrect))[: ]*"
    r"|答案(?:应该是|应为|应是|是|为|选)[:： ]*"
    r"|(?:故选|应选|所以选|因此选|选择)[:： ]*(?=[（(]?[A-J])",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_WRAPPING = re.compile(
    r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|rm|bf)\s*\{|\\[()\[\]]|[*$`{}]|__"
)
_LEAD_IN = re.compile(
    r"(?:(?:it is|that is|the|is|my|final|correct|best|answer|option|choice|letter)\b[: ]*"
    r"|选项|字母|选择|选|是|为)+",
    re.IGNORECASE,
)
_LETTER = re.compile(r"([(\[（【])?\s*([A-J])\s*([)\]）】])?(?![^\W_]|['’+#])", re.IGNORECASE)
_STOP = re.compile(r"\s*(?:\.(?![A-Za-z])|[:：、,，。;；)]|[-–—=](?=\s)|$)")
_BRACKETED = re.compile(r"(?<!\w)[(（\[【]([A-J])[)）\]】]")
_CONTINUES = re.compile(r"\s+(?:because|since|as|is|and|or|but|which|given|due)\b", re.IGNORECASE)
_OTHER_LETTER = re.compile(r"(?<![^\W_])(?<!['’\\])([A-J])(?![^\W_]|['’])")
_ARTICLE = re.compile(r"(?<![^\W_])A (?=[^\W\d_])")
_JSON_ANSWER = re.compile(r"\"answer\"\s*:\s*(\"(?:[^\"\\]|\\.)*\"|[A-Ja-j]\b)", re.IGNORECASE)
_FULL_WIDTH = {ord("Ａ") + offset: chr(ord("A") + offset) for offset in range(10)}
_MAX_STATEMENT_CHARS = 2000
_MAX_STATEMENTS = 20


@dataclass(frozen=True, slots=True)
class Choice:
    """The option that a reply chooses, or None, and why."""

    label: str | None
    reason: str


def read_choice(text: str, options: Mapping[str, str], *, is_whole: bool = False) -> Choice:
    """The option that a reply chooses; `options` is the text of each by its letter.

    Pass the answer part of the reply. With `is_whole` the text is the answer itself, as in
    `<answer>` tags or a field of JSON.
    """
    text = text.translate(_FULL_WIDTH)
    if is_whole and (choice := _parse(text, options)):
        return choice
    for statement, is_binding in _statements(text):
        choice = _parse(statement, options)
        if choice or is_binding:
            return choice or Choice(None, f"no option in {_shortened(statement)}")
    spoken = list(_SPOKEN.finditer(text))
    for match in spoken[: -_MAX_STATEMENTS - 1 : -1]:
        if choice := _parse(_rest_of_line(text, match.end()), options):
            return choice
    return _parse_last_line(text, options) or Choice(None, "no answer found")


def read_json_choice(text: str, options: Mapping[str, str]) -> Choice:
    """The option in the last `"answer"` field of a reply in JSON, else as `read_choice`."""
    fields = _JSON_ANSWER.findall(text)
    if not fields:
        return read_choice(text, options)
    value = fields[-1]
    if value.startswith('"'):
        try:
            value = json.loads(value, strict=False)
        except ValueError:  # a LaTeX backslash is no JSON escape
            value = value[1:-1]
    return read_choice(value, options, is_whole=True)


def _statements(text: str) -> Iterator[tuple[str, bool]]:
    """What the reply states as its answer, the last first, and whether nothing earlier counts.

    A line that starts with `Answer:` is binding; "to check the answer: ..." and a box may
    also be a step of the way.
    """
    lines = [(match.start(), match.end(), False) for match in _ANSWER_LINE.finditer(text)]
    boxes = [(match.start(), match.end(), True) for match in _BOX.finditer(text)]
    for start, end, is_box in sorted(lines + boxes, reverse=True)[:_MAX_STATEMENTS]:
        if is_box:
            yield _in_braces(text, end), False
        else:
            before = text[max(0, start - _MAX_STATEMENT_CHARS) : start].rpartition("\n")[2]
            yield _rest_of_line(text, end), _BEFORE_ANSWER.fullmatch(before) is not None


def _rest_of_line(text: str, start: int) -> str:
    """The line from `start`, or the next one that says something."""
    return text[start : start + _MAX_STATEMENT_CHARS].lstrip().split("\n", 1)[0]


def _in_braces(text: str, start: int) -> str:
    depth = 1
    for index in range(start, min(len(text), start + _MAX_STATEMENT_CHARS)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return text[start:index]
    return ""


def _parse(statement: str, options: Mapping[str, str]) -> Choice | None:
    """The option that a statement names, a Choice of None for several, None for nothing."""
    text = _WRAPPING.sub("", statement).replace("\\boxed", "").strip()
    if label := _option_of(text, options):
        return Choice(label, "option text")
    text = text[match.end() :] if (match := _LEAD_IN.match(text)) else text
    if label := _option_of(text, options):
        return Choice(label, "option text")
    match = _LETTER.match(text)
    label = match[2].upper() if match else ""
    if match is None or label not in options:
        return _parse_bracketed(text, options)
    rest = text[match.end() :]
    is_own_text = _same(rest.strip(" .:：、,，。)-–—"), options[label])
    is_marked = match[1] or match[3] or _STOP.match(rest) or _CONTINUES.match(rest)
    # "A dog" and "I think": a letter before a word is a word, unless the option follows it.
    is_before_word = match[2].isupper() and label not in "AI" and rest[:1].isspace()
    if not (is_own_text or is_marked or is_before_word):
        return None
    others = set() if is_own_text else _other_letters(rest, options) - {label}
    if others:
        return _several({label, *others})
    return Choice(label, "letter")


def _parse_bracketed(text: str, options: Mapping[str, str]) -> Choice | None:
    """The one option in brackets, `(B)`, of a sentence."""
    found = {label for label in _BRACKETED.findall(text) if label in options}
    if len(found) > 1:
        return _several(found)
    return Choice(found.pop(), "letter in brackets") if found else None


def _parse_last_line(text: str, options: Mapping[str, str]) -> Choice | None:
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return None
    line = _WRAPPING.sub("", lines[-1]).strip()
    match = _LETTER.match(line)
    is_letter = match is not None and match[2].upper() in options
    is_alone = match is not None and (match[2].isupper() or match[1] is not None)
    rest = line[match.end() :].strip(" .:：、,，。)-–—") if match else ""
    if match and is_letter and is_alone and (not rest or _same(rest, options[match[2].upper()])):
        return Choice(match[2].upper(), "last line")
    if label := _option_of(line, options):
        return Choice(label, "option text")
    return _parse_bracketed(line, options)


def _other_letters(text: str, options: Mapping[str, str]) -> set[str]:
    return set(_OTHER_LETTER.findall(_ARTICLE.sub(" ", text))) & set(options)


def _several(labels: set[str]) -> Choice:
    return Choice(None, f"several options: {', '.join(sorted(labels))}")


def _option_of(text: str, options: Mapping[str, str]) -> str | None:
    """The one option whose whole text this is; a single letter is a letter first."""
    if len(text.strip(" .()")) <= 1 and text.strip(" .()").upper() in options:
        return None
    found = [label for label, option in options.items() if _same(text, option)]
    # Genotypes differ by case alone: Bb is not bb.
    exact = [label for label in found if _plain(text, str) == _plain(options[label], str)]
    best = exact or found
    return best[0] if len(best) == 1 else None


def _same(text: str, option: str) -> bool:
    return bool(_plain(text)) and _plain(text) == _plain(option)


def _plain(text: str, fold: Callable[[str], str] = str.casefold) -> str:
    return fold(" ".join(_WRAPPING.sub("", text).split()).rstrip(".。 "))


def _shortened(text: str, length: int = 60) -> str:
    text = text.strip()
    return repr(text if len(text) <= length else text[:length] + "...")

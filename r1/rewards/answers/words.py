"""Answers in words: no solution, yes and no, names, options, times, dates, spelled numbers."""

from __future__ import annotations

import re
from fractions import Fraction

_NONE = (
    r"(?:there\s+(?:is|are|exists?)\s+)?no\s+(?:such\s+)?"
    r"(?:(?:real|valid|integer|positive|possible)\s+){0,3}"
    r"(?:solutions?|values?|roots?|numbers?|integers?|answers?|functions?|pairs?|triples?|x|n|exists?)"
    r"(?:\s+(?:exists?|satisf\w+.*))?|none(?:\s+exists?)?|nothing|the\s+empty\s+set|"
    r"empty(?:\s+set)?|null\s+set|\\emptyset|\\\{\s*\\\}|\{\s*\}|"
    r"(?:原?方程)?(?:组)?无(?:实数)?解|空集|没有解"
)
_MISSING = (
    r"(?:it\s+|the\s+(?:limit|value|expression|answer)\s+)?"
    r"(?:does\s+not|doesn't|do\s+not)\s+exist|dne|不存在|no\s+limit|nonexistent"
)
_UNDEFINED = (
    r"(?:(?:it|the\s+(?:value|expression|answer|slope|function))\s+is\s+|is\s+)?"
    r"(?:undefined|not\s+defined)|未定义|无意义"
)
_ENDLESS = (
    r"(?:infinitely\s+many|an\s+infinite\s+number\s+of|infinite)"
    r"(?:\s+(?:solutions?|values?|roots?))?|无数个?解?|无穷多个?解?"
)
_KINDS = {"endless": _ENDLESS, "none": _NONE, "missing": _MISSING, "undefined": _UNDEFINED}
_MATCHING_KINDS = {("none", "missing"), ("missing", "none"), ("missing", "undefined")} | {
    ("undefined", "missing")
}

_SYNONYMS = {
    "是": "yes", "否": "no", "不是": "no", "对": "true", "错": "false", "正确": "true",
    "错误": "false", "correct": "true", "incorrect": "false", "是的": "yes", "能": "yes",
    "不能": "no", "会": "yes", "不会": "no",
}  # fmt: skip
_FILLER_WORDS = """
a an the it is its of on at in to be answer option choice that this
"""
_FILLERS = frozenset(_FILLER_WORDS.split())
_MONTH_NAMES = (
    "january jan; february feb; march mar; april apr; may; june jun; july jul; august aug; "
    "september sep sept; october oct; november nov; december dec"
)
_MONTHS = {
    name: number
    for number, names in enumerate(
        _MONTH_NAMES.split("; "),
        start=1,
    )
    for name in names.split()
}
_CLOCK = re.compile(
    r"(\d{1,2})\s*(?::|点)\s*([0-5]\d)(?:\s*:\s*([0-5]\d)|分)?\s*(?:([aApP])\.?\s*[mM]\.?)?"
    r"(?:\s*(?:in the )?(morning|afternoon|evening))?"
)
_HOUR = re.compile(r"(\d{1,2})\s*([aApP])\.?\s*[mM]\.?")
_CHOICE = re.compile(
    r"\(\s*([A-Z])\s*\)|\[\s*([A-Z])\s*\]|([A-Z])\s*[).:、]|(?:[Oo]ption|[Cc]hoice|选项|选)\s*\(?([A-Z])\)?"
)
_ANOTHER = re.compile(r"\b(?:or|and)\s*\([A-Z]\)")
_CHINESE_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {
    "两": 2,
    "〇": 0,
}
_CHINESE_UNITS = {"十": 10, "百": 100, "千": 1000}
_FRACTION = re.compile(
    r"([零一二三四五六七八九十百两]+|\d+)分之([零一二三四五六七八九十百两]+|\d+)"
)
_SMALL_NUMBERS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty
"""
_NUMBER_WORDS = {word: value for value, word in enumerate(_SMALL_NUMBERS.split())} | {
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}


def nothing_kind(text: str) -> str | None:
    """Whether the text says that there is no answer: "none", "missing", "undefined" or None."""
    text = text.strip().strip(".").lower()
    for kind, pattern in _KINDS.items():
        if re.fullmatch(pattern, text):
            return kind
    return None


def same_nothing(one: str, other: str) -> bool:
    """No solution is the empty set, and what does not exist may be called undefined."""
    return one == other or (one, other) in _MATCHING_KINDS


def choice_of(text: str) -> tuple[str, str] | None:
    """(letter, what follows it) of an option such as `(B)`, `B) 5` or `Option B`, or None."""
    match = _CHOICE.match(text)
    if match is None:
        return None
    rest = text[match.end() :].strip(" .:,")
    if match[3] is not None and text[match.end() - 1 : match.end()] in ".:" and not rest:
        return next(group for group in match.groups() if group), ""
    # Two options are none.
    if re.match(r"(?:or|and|&|和|或|both)\b\s*\(?[A-Z]\b", rest) or _ANOTHER.search(rest):
        return None
    # `(A)(B)` is a product and `(A + 1)` none of ours.
    if rest and rest[0] in "+-*/^=<>(,!_":
        return None
    return next(group for group in match.groups() if group), rest


def words_of(text: str) -> tuple[str, ...]:
    """The telling words of a text: lower case, without articles and punctuation."""
    text = re.sub(r"(?<=[a-z])'s\b", "", text.lower().replace("\\", " "))
    words = re.findall(r"[a-z]+|\d+(?:\.\d+)?|[\u4e00-\u9fff]+", text)
    kept = [str(_SYNONYMS.get(word, word)) for word in words]
    return tuple(word for word in kept if word not in _FILLERS) or tuple(kept)


def same_words(gold: str, answer: str) -> bool:
    """Equal telling words; an answer may explain its yes or no behind a comma."""
    gold_words, words = words_of(gold), words_of(answer)
    if not gold_words:
        return False
    if gold_words == words or "".join(gold_words) == "".join(words):
        return True
    if len(gold_words) == 2 and sorted(gold_words) == sorted(words):  # "odd n", "n is odd"
        return True
    if gold_words in (("yes",), ("no",), ("true",), ("false",)) and words:
        return words[0] == gold_words[0] and re.match(r"\s*\w+\s*[,.;:—-]", answer) is not None
    return False


def without_words_of(question: str, answer: str) -> str:
    """An answer without what the question already said: "Alice" of "Alice won the game".

    Names and choices between several are left as they are.
    """
    if not question or re.search(r"\b(?:or|and|not|neither|nor|no)\b|n't|,|;", answer):
        return answer
    said = set(re.findall(r"[a-z]+", question))
    return " ".join(word for word in answer.split() if word.strip(".!") not in said) or answer


def clock_of(text: str) -> tuple[int, int, int, str | None] | None:
    """(hour, minute, second, am or pm or None) of a time of day, or None."""
    if match := _HOUR.fullmatch(text):
        return int(match[1]), 0, 0, match[2].lower()
    match = _CLOCK.fullmatch(text.strip())
    if match is None or int(match[1]) > 24:
        return None
    half = {"morning": "a", "afternoon": "p", "evening": "p"}.get(match[5] or "")
    return int(match[1]), int(match[2]), int(match[3] or 0), (match[4] or "").lower() or half


def same_clock(
    one: tuple[int, int, int, str | None], other: tuple[int, int, int, str | None]
) -> bool:
    """Equal times; without am or pm on one side the other's is taken."""

    def seconds(clock: tuple[int, int, int, str | None], half: str | None) -> int:
        hour = clock[0] % 12 + (12 if half == "p" else 0) if half else clock[0]
        return (hour * 60 + clock[1]) * 60 + clock[2]

    if one[3] and other[3]:
        return seconds(one, one[3]) == seconds(other, other[3])
    half = one[3] or other[3]
    if half is None:
        return one[:3] == other[:3]
    stated, bare = (one, other) if one[3] else (other, one)
    return seconds(stated, half) in (
        seconds(bare, None),
        seconds(bare, half if bare[0] <= 12 else None),
    )


def date_of(text: str) -> tuple[int | None, int, int] | None:
    """(year or None, month, day) of a date with the month's name, or in Chinese, or None."""
    if match := re.fullmatch(r"(?:(\d{4})\s*年\s*)?(\d{1,2})\s*月\s*(\d{1,2})\s*[日号]", text):
        return (int(match[1]) if match[1] else None), int(match[2]), int(match[3])
    words = re.findall(r"[a-z]+|\d+", re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", text.lower()))
    words = [word for word in words if word not in ("of", "the", "on")]
    months = [_MONTHS[word] for word in words if word in _MONTHS]
    numbers = [int(word) for word in words if word.isdigit()]
    if len(months) != 1 or not 1 <= len(numbers) <= 2 or len(words) != 1 + len(numbers):
        return None
    days = [number for number in numbers if number <= 31]
    years = [number for number in numbers if number > 31]
    if len(days) != 1:
        return None
    return (years[0] if years else None), months[0], days[0]


def spelled_number(text: str) -> Fraction | None:
    """The number that English or Chinese number words say, or None."""
    text = text.strip().lower()
    if match := _FRACTION.fullmatch(text):
        below, above = (
            int(part) if part.isdigit() else _chinese_number(part) for part in match.groups()
        )
        return Fraction(above, below) if below else None
    whole = _spelled_integer(text)
    return None if whole is None else Fraction(whole)


def _spelled_integer(text: str) -> int | None:
    if re.fullmatch(r"[a-z]+(?:[ -][a-z]+)?", text):
        parts = re.split(r"[ -]", text)
        values = [_NUMBER_WORDS.get(part) for part in parts]
        if None in values:
            return None
        if len(values) == 1:
            return values[0]
        tens, ones = values
        assert tens is not None and ones is not None
        return tens + ones if tens >= 20 and 0 < ones < 10 else None
    if text and all(
        char in _CHINESE_DIGITS or char in _CHINESE_UNITS or char in "万亿" for char in text
    ):
        return _chinese_number(text)
    return None


def _chinese_number(text: str) -> int:
    for char, size in (("亿", 10**8), ("万", 10**4)):
        if char in text:
            above, _, below = text.partition(char)
            return (_chinese_number(above) if above else 1) * size + (
                _chinese_number(below) if below else 0
            )
    total, digit = 0, None
    for char in text:
        if char in _CHINESE_UNITS:
            total += (1 if digit is None else digit) * _CHINESE_UNITS[char]
            digit = None
        else:
            digit = (digit or 0) * 10 + _CHINESE_DIGITS[char]
    return total + (digit or 0)

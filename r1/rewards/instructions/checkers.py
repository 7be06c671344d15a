"""The 25 kinds of IF-Eval instructions, each a function that says whether a reply follows it.

The rules are those of google-research/instruction_following_eval (Zhou et al. 2023,
Apache License 2.0; state of 2025), surprises included: keywords and section names are
regular expressions there, and `- -` is a bullet. Verdicts are meant to be equal; only
patterns that take quadratic time on long replies are written as a scan over the lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from r1.rewards.instructions.sentences import (
    count_words,
    detect_language,
    split_sentences,
    word_tokens,
)

Relation = Literal["less than", "at least"]

_FENCES = ("```json", "```Json", "```JSON", "```")
_CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_STAR_BULLET = re.compile(r"^[^\S\n]*\*[^*].*$", re.MULTILINE)
_HIGHLIGHT = re.compile(r"\*[^\n*]*\*")
_DOUBLE_HIGHLIGHT = re.compile(r"\*\*[^\n*]*\*\*")
_DIVIDER = re.compile(r"\s?\*\*\*\s?")
# Looked for in the reply in lower case.
_POSTSCRIPTS = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}


def _holds(count: int, relation: Relation, threshold: int) -> bool:
    return count < threshold if relation == "less than" else count >= threshold


# ---------------------------------------------------------------- keywords


def keywords_exist(response: str, *, keywords: Sequence[str]) -> bool:
    """Every keyword occurs, in any case, also within words."""
    return all(re.search(word, response, re.IGNORECASE) for word in keywords)


def keyword_frequency(response: str, *, keyword: str, frequency: int, relation: Relation) -> bool:
    found = re.findall(keyword.strip(), response, re.IGNORECASE)
    return _holds(len(found), relation, frequency)


def no_forbidden_words(response: str, *, forbidden_words: Sequence[str]) -> bool:
    """None of the words occurs as a whole word, in any case."""
    return not any(re.search(rf"\b{word}\b", response, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(
    response: str, *, letter: str, let_frequency: int, let_relation: Relation
) -> bool:
    # Any one character: releases before 2025 put a random letter in the place of the `#`
    # and `!` that two of the 541 prompts ask for.
    return _holds(response.lower().count(letter.strip().lower()), let_relation, let_frequency)


# ---------------------------------------------------------------- language and length


def response_language(response: str, *, language: str) -> bool:
    """The whole reply is in the language; what has none (digits only) counts as followed."""
    return detect_language(response) in (language, None)


def number_sentences(response: str, *, num_sentences: int, relation: Relation) -> bool:
    return _holds(len(split_sentences(response)), relation, num_sentences)


def number_paragraphs(response: str, *, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs between `***`; only the first and the last may be blank."""
    paragraphs = _DIVIDER.split(response)
    if any(not paragraph.strip() for paragraph in paragraphs[1:-1]):
        return False
    return sum(1 for paragraph in paragraphs if paragraph.strip()) == num_paragraphs


def number_words(response: str, *, num_words: int, relation: Relation) -> bool:
    return _holds(count_words(response), relation, num_words)


def nth_paragraph_first_word(
    response: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """So many paragraphs between blank lines, and the n-th starts with the word.

    n counts blank paragraphs too, which three newlines make; their number does not.
    """
    paragraphs = response.split("\n\n")
    num_filled = sum(1 for paragraph in paragraphs if paragraph.strip())
    if nth_paragraph > num_filled:
        return False
    words = paragraphs[nth_paragraph - 1].split()
    if not words:
        return False
    word = re.split(r"[.,?!'\"]", words[0].lstrip("'").lstrip('"'), maxsplit=1)[0]
    return num_filled == num_paragraphs and word.lower() == first_word.lower()


# ---------------------------------------------------------------- content and format


def number_placeholders(response: str, *, num_placeholders: int) -> bool:
    """At least so many `[...]`, each within a line."""
    # A bracket is open in what stands before each closing one.
    pieces = (piece for line in response.split("\n") for piece in line.split("]")[:-1])
    return sum("[" in piece for piece in pieces) >= num_placeholders


def postscript(response: str, *, postscript_marker: str) -> bool:
    """The marker occurs anywhere, in any case; spaces within `P. S.` are allowed."""
    marker = postscript_marker.strip()
    return re.search(_POSTSCRIPTS.get(marker, marker.lower()), response.lower()) is not None


def number_bullet_lists(response: str, *, num_bullets: int) -> bool:
    """Exactly so many lines that start with `*` (not `**`) or `-`."""
    dashes = sum(line.lstrip().startswith("-") for line in response.split("\n"))
    return len(_STAR_BULLET.findall(response)) + dashes == num_bullets


def constrained_response(response: str) -> bool:
    return any(option in response for option in _CONSTRAINED)


def number_highlighted_sections(response: str, *, num_highlights: int) -> bool:
    """At least so many `*...*`, those of `**...**` counted by both patterns."""
    single = _HIGHLIGHT.findall(response)
    double = _DOUBLE_HIGHLIGHT.findall(response)
    count = sum(bool(mark.strip("*").strip()) for mark in single)
    count += sum(bool(mark.removeprefix("**").removesuffix("**").strip()) for mark in double)
    return count >= num_highlights


def multiple_sections(response: str, *, section_spliter: str, num_sections: int) -> bool:
    """At least so many `Section 1`."""
    return len(re.findall(rf"\s?{section_spliter.strip()}\s?\d+", response)) >= num_sections


def json_format(response: str) -> bool:
    text = response.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(response: str) -> bool:
    """A line holds `<<...>>` with something in it."""
    return any(text.lstrip("<").rstrip(">").strip() for text in _angle_brackets(response))


def _angle_brackets(response: str) -> Iterator[str]:
    for line in response.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if start >= 0 and start + 3 <= end:
            yield line[start : end + 2]


# ---------------------------------------------------------------- combination, start and end


def two_responses(response: str) -> bool:
    """Two different replies between `******`."""
    parts = response.split("******")
    if any(not part.strip() for part in parts[1:-1]):
        return False
    filled = [part.strip() for part in parts if part.strip()]
    return len(filled) == 2 and filled[0] != filled[1]


def repeat_prompt(response: str, *, prompt_to_repeat: str) -> bool:
    return response.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(response: str, *, end_phrase: str) -> bool:
    """The reply ends with the phrase, in any case; quotation marks around it may follow."""
    return response.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(response: str) -> bool:
    text = response.strip()
    return len(text) > 1 and text[0] == '"' == text[-1]


# ---------------------------------------------------------------- case and punctuation


def capital_word_frequency(
    response: str, *, capital_frequency: int, capital_relation: Relation
) -> bool:
    count = sum(token.isupper() for token in word_tokens(response))
    return _holds(count, capital_relation, capital_frequency)


def english_capital(response: str) -> bool:
    return response.isupper() and detect_language(response) in ("en", None)


def english_lowercase(response: str) -> bool:
    return response.islower() and detect_language(response) in ("en", None)


def no_comma(response: str) -> bool:
    return "," not in response


CHECKERS: dict[str, Callable[..., bool]] = {
    "keywords:existence": keywords_exist,
    "keywords:frequency": keyword_frequency,
    "keywords:forbidden_words": no_forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:number_words": number_words,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "punctuation:no_comma": no_comma,
}

"""What to search for: the question, and for a follow-up what it follows. No model is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Brave takes at most 400 characters and 50 words; long queries find less everywhere.
MAX_CHARACTERS = 300
MAX_WORDS = 40
_NUM_TURNS = 3

_NO_QUERY = re.compile(r"```.*?(?:```|\Z)|https?://\S+|[`*_#>|<\[\]{}\\]+", re.DOTALL)
_SENTENCE = re.compile(r"[^.!?。！？\n]*[.!?。！？\n]?")
# A question that leans on what was said before: by its first words, or by a pronoun.
_LEANING_START = re.compile(
    r"(and|but|so|then|also|what about|how about|tell me more|more|continue|go on|which one)\b"
    r"|那么?|还有|然后|继续|详细|再|また|では|じゃあ|もっと|그럼|그러면|더 ",
    re.IGNORECASE,
)
_PRONOUN = re.compile(
    r"\b(he|she|it|they|him|her|them|his|hers|its|their|theirs|this|these|those"
    r"|(?:is|was|does|did|about|of|after|before) that)\b"
    r"|[它他她]|这个|那个|这些|那些|其中|前者|后者|それ|これ|あれ|彼女?|그것|이것|그녀|그들|그는",
    re.IGNORECASE,
)
_MAX_LEANING_CHARACTERS = 120


def make_query(question: str, history: Sequence[str] = ()) -> str:
    """A query for a question; `history` are the user's earlier turns, oldest first.

    Code, links and markup are left out. Of a long text its questions are kept, else its
    beginning. A follow-up ("and where was she born?") has the turns that it leans on put
    before it.
    """
    own = _condense(question)
    earlier = list(history[-_NUM_TURNS:])
    if not earlier or not _leans(own):
        return own
    before = make_query(earlier[-1], earlier[:-1])
    return _cut(f"{_cut(before, MAX_CHARACTERS // 2)} {own}".strip())


def _condense(text: str) -> str:
    plain = _NO_QUERY.sub(" ", text)
    words = " ".join(plain.split())
    if len(words) <= MAX_CHARACTERS:
        return _cut(words)
    asked = [s.strip() for s in _SENTENCE.findall(plain) if s.strip().endswith(("?", "？"))]
    # The last questions: what comes before them is mostly material.
    return _cut(" ".join(" ".join(asked[-2:]).split()) or words)


def _leans(question: str) -> bool:
    """Whether a question says too little by itself."""
    if len(question) > _MAX_LEANING_CHARACTERS:
        return False
    is_bare = len(question) <= (10 if question.isascii() else 4)  # "Why?", "为什么？"
    return bool(is_bare or _LEANING_START.match(question) or _PRONOUN.search(question))


def _cut(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    text = " ".join(text.split()[:MAX_WORDS])
    if len(text) <= max_characters:
        return text
    cut = text[:max_characters]
    return (cut.rpartition(" ")[0] or cut) if " " in cut[max_characters // 2 :] else cut

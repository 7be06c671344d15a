"""Finding the program in a reply: its last fenced block of a language."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

ProgramLanguage = Literal["python", "cpp"]

# A fence as Markdown has it (CommonMark 4.5), but indented as deep as in a list.
_FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*([\w+#.-]*)[^`]*")
_TAGS: dict[str, ProgramLanguage] = {
    **dict.fromkeys(("python", "py", "python3", "pypy", "pypy3"), "python"),
    **dict.fromkeys(("cpp", "c++", "cc", "cxx", "cpp17", "c++17", "cpp20", "c++20"), "cpp"),
}


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """One fenced block: its tag in lower case (may be empty) and what it holds."""

    tag: str
    code: str

    @property
    def language(self) -> ProgramLanguage | None:
        """By the tag, without one by the text; None for languages that are not run."""
        if self.tag:
            return _TAGS.get(self.tag)
        return "cpp" if "#include" in self.code else "python"


def extract_code(
    answer: str, language: ProgramLanguage | None = None, *, is_whole: bool = False
) -> CodeBlock | None:
    """The last block of the language (of any that can be run), or None.

    Benchmarks say "enclose your code"; replies often show a draft first and example input
    after it, so blocks of other languages (`text`, `json`) do not count. A last block that
    never closes counts only where there is no other. With `is_whole` an answer without any
    block is the program itself, as in `<answer>` tags.
    """
    blocks, unclosed = _blocks(answer)
    if is_whole and answer.strip() and not (blocks or unclosed):
        unclosed = [CodeBlock(language or "", answer)]
    for block in (*reversed(blocks), *unclosed):
        if block.language is not None and language in (None, block.language):
            return block
    return None


def _blocks(text: str) -> tuple[list[CodeBlock], list[CodeBlock]]:
    """The closed blocks, and the one that is open at the end, if any."""
    closed: list[CodeBlock] = []
    fence, tag, indent = "", "", 0
    lines: list[str] = []
    for line in text.split("\n"):
        match = _FENCE.fullmatch(line.rstrip("\r"))
        if not fence:
            if match:
                fence, tag, lines = match[1], match[2].lower(), []
                indent = len(line) - len(line.lstrip(" "))
        elif match and match[1].startswith(fence) and not match[2]:
            closed.append(CodeBlock(tag, "\n".join(lines)))
            fence = ""
        else:
            lines.append(line[min(indent, len(line) - len(line.lstrip(" "))) :])
    return closed, [CodeBlock(tag, "\n".join(lines))] if fence else []

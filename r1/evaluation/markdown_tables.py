"""Tables in Markdown, whatever the cells hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from r1.evaluation.html_pages import printable

_SHOWN = {"|": "\\|", "<": "&lt;", ">": "&gt;", "\r": " ", "\n": " "}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], num_left: int = 1) -> str:
    """A table whose first `num_left` columns are aligned left, the others right.

    A cell stays one cell and text: bars are escaped, line breaks become blanks, and tags
    are shown.
    """
    aligned = ["---" if place < num_left else "---:" for place in range(len(header))]
    cells = [[markdown_text(cell) for cell in row] for row in (header, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells[0], aligned, *cells[1:]))


def markdown_text(text: str) -> str:
    """Text as part of a line of Markdown."""
    return "".join(_SHOWN.get(character, character) for character in printable(text))

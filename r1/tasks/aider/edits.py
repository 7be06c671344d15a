"""The edits of a reply, as aider reads and applies them: SEARCH/REPLACE blocks, whole files.

The rules and the messages to the model are those of aider's `diff` and `whole` edit formats
(github.com/Aider-AI/aider, Apache-2.0: aider/coders/editblock_coder.py, wholefile_coder.py).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

FENCE = "```"

_HEAD = re.compile(r"<{5,9} SEARCH\s*")
_DIVIDER = re.compile(r"={5,9}\s*")
_TAIL = re.compile(r">{5,9} REPLACE\s*")
_SHELL = re.compile(r"```(bash|sh|shell|cmd|batch|powershell|ps1|zsh|fish|ksh|csh|tcsh)")
_DOTS_LINE = re.compile(r"(^[ \t]*\.\.\.\n)", re.MULTILINE)
_NUM_LINES_TO_FILENAME = 3
_SIMILAR_NAME, _SIMILAR_LINES = 0.8, 0.6
_NUM_CONTEXT_LINES = 5


class EditError(ValueError):
    """A reply whose edits cannot be read or do not fit; the text is what aider tells the model."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One SEARCH/REPLACE block. An empty `search` appends to the file, or starts a new one."""

    path: str
    search: str
    replace: str


# ---------------------------------------------------------------- reading


def parse_search_replace(reply: str, names: Sequence[str]) -> list[Edit]:
    """The SEARCH/REPLACE blocks of a reply in order; none where it has none.

    `names` are the files that the model was shown: a block's file name is taken for the one
    that is equal, ends the same, or is nearly so.

    Raises:
        EditError: for a block without a file name, a divider, or an end.
    """
    lines = reply.splitlines(keepends=True)
    edits: list[Edit] = []
    position = 0
    while position < len(lines):
        is_head = _HEAD.fullmatch(lines[position].strip()) is not None
        if not is_head:
            position = _after_shell(lines, position) or position + 1
            continue
        is_new_file = position + 1 < len(lines) and _matches(_DIVIDER, lines[position + 1])
        before = lines[max(0, position - _NUM_LINES_TO_FILENAME) : position]
        path = _find_filename(before, () if is_new_file else names)
        path = path or (edits[-1].path if edits else None)
        if path is None:
            raise EditError(
                f"{''.join(lines[: position + 1])}\n^^^ Bad/missing filename. The filename must be "
                f"alone on the line before the opening fence {FENCE}"
            )
        middle = _find(lines, position + 1, (_DIVIDER,), "Expected `=======`")
        end = _find(lines, middle + 1, (_TAIL, _DIVIDER), "Expected `>>>>>>> REPLACE` or `=======`")
        search, replace = "".join(lines[position + 1 : middle]), "".join(lines[middle + 1 : end])
        edits.append(Edit(path, _unwrapped(search, path), _unwrapped(replace, path)))
        position = end + 1
    return edits


def _matches(pattern: re.Pattern[str], line: str) -> bool:
    return pattern.fullmatch(line.strip()) is not None


def _find(lines: Sequence[str], start: int, patterns: Iterable[re.Pattern[str]], error: str) -> int:
    for position in range(start, len(lines)):
        if any(_matches(pattern, lines[position]) for pattern in patterns):
            return position
    raise EditError(f"{''.join(lines)}\n^^^ {error}")


def _after_shell(lines: Sequence[str], position: int) -> int | None:
    """Where a block of shell commands ends, when one starts here: it holds no edits."""
    if not _SHELL.match(lines[position].strip()):
        return None
    if position + 1 < len(lines) and _matches(_HEAD, lines[position + 1]):
        return None
    for end in range(position + 1, len(lines)):
        if lines[end].strip().startswith(FENCE):
            return end + 1
    return len(lines)


def _find_filename(before: Sequence[str], names: Sequence[str]) -> str | None:
    """The file name in the lines above a block, of which all but the last may be fences."""
    candidates: list[str] = []
    for line in reversed(before):
        name = _clean_filename(line)
        if name:
            candidates.append(name)
        if not line.startswith(FENCE):
            break
    by_last_part = {PurePosixPath(name).name: name for name in reversed(names)}
    near = [
        match
        for name in candidates
        for match in difflib.get_close_matches(name, names, n=1, cutoff=_SIMILAR_NAME)
    ]
    choices = [
        *(name for name in candidates if name in names),
        *(by_last_part[name] for name in candidates if name in by_last_part),
        *near,
        *(name for name in candidates if "." in name),
        *candidates,
    ]
    return choices[0] if choices else None


def _clean_filename(line: str) -> str:
    name = line.strip()
    if name == "..." or name.startswith(FENCE):
        return ""
    return name.rstrip(":").lstrip("#").strip().strip("`").strip("*")


def _unwrapped(text: str, path: str) -> str:
    """Without a file name and fences that a model put inside the block."""
    lines = text.splitlines()
    if lines and lines[0].strip().endswith(PurePosixPath(path).name):
        lines = lines[1:]
    if len(lines) >= 2 and lines[0].startswith(FENCE) and lines[-1].startswith(FENCE):
        lines = lines[1:-1]
    return "".join(f"{line}\n" for line in lines)


def parse_whole_files(reply: str, names: Sequence[str]) -> dict[str, str]:
    """The file listings of a reply, a name and a fenced block each; the last one counts.

    Raises:
        EditError: for a listing without a file name where several files could be meant.
    """
    files: dict[str, str] = {}
    path: str | None = None
    mentioned: str | None = None
    content: list[str] = []
    lines = reply.splitlines(keepends=True)
    for position, line in enumerate(lines):
        if line.startswith(FENCE) and path is not None:
            files[path], path, mentioned, content = "".join(content), None, None, []
        elif line.startswith(FENCE):
            above = _clean_filename(lines[position - 1]) if position else ""
            path = _listed_name(above, names) or mentioned
            if path is None and len(names) == 1:
                path = names[0]
            if path is None:
                raise EditError(f"No filename provided before {FENCE} in file listing")
        elif path is not None:
            content.append(line)
        else:
            words = {word.rstrip(".:,;!") for word in line.split()}
            mentioned = next((name for name in names if f"`{name}`" in words), mentioned)
    if path is not None:
        files[path] = "".join(content)
    return files


def _listed_name(name: str, names: Sequence[str]) -> str | None:
    last_part = PurePosixPath(name).name
    if name not in names and last_part in names:
        return last_part
    return name or None


# ---------------------------------------------------------------- applying


def apply_edits(files: Mapping[str, str], edits: Sequence[Edit]) -> dict[str, str]:
    """The files after the edits, with those that the edits start.

    A block that does not fit its file is tried on the others.

    Raises:
        AppliedInPart: when some fit nowhere; the others were applied.
    """
    result = dict(files)
    failed: list[Edit] = []
    for edit in edits:
        places = [edit.path, *files] if edit.search.strip() else [edit.path]
        for path in places:
            changed = _edited(result.get(path), edit)
            if changed:
                result[path] = changed
                break
        else:
            failed.append(edit)
    if failed:
        raise AppliedInPart(_failure_message(result, edits, failed), result)
    return result


class AppliedInPart(EditError):
    """Some blocks match nothing; `files` holds what the others made."""

    def __init__(self, message: str, files: dict[str, str]) -> None:
        super().__init__(message)
        self.files = files


def _edited(content: str | None, edit: Edit) -> str | None:
    if not edit.search.strip():
        return (content or "") + edit.replace
    return None if content is None else replace_lines(content, edit.search, edit.replace)


def replace_lines(content: str, search: str, replace: str) -> str | None:
    """Replace the first run of lines equal to `search`; None when there is none.

    Tried in turn: the lines as they are; the same with another indentation, by one amount
    throughout; both without a blank first line; then pieces between lines of `...`, each
    of which must occur once.
    """
    whole, part, new = (as_lines(text) for text in (content, search, replace))
    lines = (whole.splitlines(True), part.splitlines(True), new.splitlines(True))
    changed = _replace_run(*lines)
    if changed is None and len(lines[1]) > 2 and not lines[1][0].strip():
        changed = _replace_run(lines[0], lines[1][1:], lines[2])
    return changed or _replace_around_dots(whole, part, new)


def as_lines(text: str) -> str:
    """The text with its last line ended, as every block of an edit holds it."""
    return text if not text or text.endswith("\n") else f"{text}\n"


def _replace_run(whole: list[str], part: list[str], new: list[str]) -> str | None:
    for start in range(len(whole) - len(part) + 1):
        if whole[start : start + len(part)] == part:
            return "".join([*whole[:start], *new, *whole[start + len(part) :]])
    part, new = _outdented(part, new)
    for start in range(len(whole) - len(part) + 1):
        indentation = _common_indentation(whole[start : start + len(part)], part)
        if indentation is not None:
            indented = [indentation + line if line.strip() else line for line in new]
            return "".join([*whole[:start], *indented, *whole[start + len(part) :]])
    return None


def _outdented(part: list[str], new: list[str]) -> tuple[list[str], list[str]]:
    """Both without the indentation that all their lines have."""
    widths = [len(line) - len(line.lstrip()) for line in (*part, *new) if line.strip()]
    width = min(widths, default=0)
    cut = [[line[width:] if line.strip() else line for line in lines] for lines in (part, new)]
    return cut[0], cut[1]


def _common_indentation(whole: list[str], part: list[str]) -> str | None:
    """What to put before each line of `part` to get `whole`, if one thing does."""
    pairs = list(zip(whole, part, strict=True))
    if any(there.lstrip() != wanted.lstrip() for there, wanted in pairs):
        return None
    added = {there[: len(there) - len(wanted)] for there, wanted in pairs if there.strip()}
    return added.pop() if len(added) == 1 else None


def _replace_around_dots(whole: str, part: str, new: str) -> str | None:
    part_pieces, new_pieces = _DOTS_LINE.split(part), _DOTS_LINE.split(new)
    if len(part_pieces) == 1 or len(part_pieces) != len(new_pieces):
        return None
    if part_pieces[1::2] != new_pieces[1::2]:
        return None
    for piece, replacement in zip(part_pieces[::2], new_pieces[::2], strict=True):
        if not piece:
            whole += replacement
        elif whole.count(piece) == 1:
            whole = whole.replace(piece, replacement)
        else:
            return None
    return whole


# ---------------------------------------------------------------- telling the model


def _failure_message(
    files: Mapping[str, str], edits: Sequence[Edit], failed: Sequence[Edit]
) -> str:
    blocks = _blocks(len(failed))
    message = f"# {len(failed)} SEARCH/REPLACE {blocks} failed to match!\n"
    message += "".join(_mismatch(edit, files.get(edit.path, "")) for edit in failed)
    message += (
        "The SEARCH section must exactly match an existing block of lines including all white"
        " space, comments, indentation, docstrings, etc\n"
    )
    num_passed = len(edits) - len(failed)
    if num_passed:
        message += (
            f"\n# The other {num_passed} SEARCH/REPLACE {_blocks(num_passed)} were applied "
            "successfully.\nDon't re-send them.\n"
            f"Just reply with fixed versions of the {blocks} above that failed to match.\n"
        )
    return message


def _blocks(count: int) -> str:
    return "block" if count == 1 else "blocks"


def _mismatch(edit: Edit, content: str) -> str:
    message = (
        f"\n## SearchReplaceNoExactMatch: This SEARCH block failed to exactly match lines in "
        f"{edit.path}\n<<<<<<< SEARCH\n{edit.search}=======\n{edit.replace}>>>>>>> REPLACE\n\n"
    )
    similar = _similar_lines(edit.search.splitlines(), content.splitlines())
    if similar:
        message += (
            f"Did you mean to match some of these actual lines from {edit.path}?\n\n"
            f"{FENCE}\n{similar}\n{FENCE}\n\n"
        )
    if edit.replace and edit.replace in content:
        message += (
            "Are you sure you need this SEARCH/REPLACE block?\n"
            f"The REPLACE lines are already in {edit.path}!\n\n"
        )
    return message


def _similar_lines(search: list[str], content: list[str]) -> str:
    """The run of lines most like `search`, with some around it; empty when none is near."""
    starts = range(len(content) - len(search) + 1)
    ratios = [
        difflib.SequenceMatcher(None, search, content[start : start + len(search)]).ratio()
        for start in starts
    ]
    if not ratios or max(ratios) < _SIMILAR_LINES:
        return ""
    start = ratios.index(max(ratios))
    end = start + len(search)
    if (content[start], content[end - 1]) != (search[0], search[-1]):
        start, end = max(0, start - _NUM_CONTEXT_LINES), end + _NUM_CONTEXT_LINES
    return "\n".join(content[start:end])

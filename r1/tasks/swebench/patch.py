"""From a reply to a patch, and how near a patch's places are to the published fix's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from r1.tasks.aider.edits import EditError, apply_edits, parse_search_replace
from r1.text.unified_diff import DiffError, FileDiff, Hunk, apply_hunks, make_diff, parse_diff

_BLOCK = re.compile(r"^```[\w+-]*[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_DIFF_START = re.compile(r"^(diff --git |--- )", re.MULTILINE)
_DEFINITION = re.compile(r"\b(?:def|class)\s+(\w+)")


def patch_of_reply(answer: str, contents: Mapping[str, str]) -> tuple[str, str]:
    """The patch that a reply proposes, and why there is none or it is no good: one is empty.

    SEARCH/REPLACE edits become a diff where the files' `contents` are known. Otherwise the
    last fenced block that begins a diff counts, or a diff that stands without fences.
    """
    try:
        edits = parse_search_replace(answer, list(contents))
        if edits and contents:
            return make_diff(contents, apply_edits(contents, edits)), ""
    except EditError as error:
        return "", f"the edits do not fit: {_first_line(error)}"
    if edits:
        return "", "SEARCH/REPLACE edits of files that are not known here"
    diff = _diff_text(answer)
    if not diff:
        return "", "no patch in the reply"
    try:
        parse_diff(diff)
    except DiffError as error:
        return "", f"no valid unified diff: {error}"
    return diff, ""


def _diff_text(answer: str) -> str:
    blocks = [block for block in _BLOCK.findall(answer) if _DIFF_START.match(block)]
    if blocks:
        return blocks[-1]
    start = _DIFF_START.search(answer)
    return "" if start is None else answer[start.start() :].split("\n```", 1)[0].rstrip() + "\n"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].removeprefix("^^^ ")


def applies(patch: Sequence[FileDiff], contents: Mapping[str, str]) -> bool:
    """Whether every hunk of files that exist fits the contents."""
    return all(
        file.old_path is None
        or (
            file.old_path in contents
            and apply_hunks(contents[file.old_path], file.hunks) is not None
        )
        for file in patch
    )


def localisation(gold: Sequence[FileDiff], patch: Sequence[FileDiff]) -> dict[str, float]:
    """How the patch's places cover those of the published fix, each from 0 to 1.

    `files_located` is 1 where the patch edits every file of the fix (Agentless's correct
    location, arXiv 2407.01489); `file_precision` and `file_recall` are shares of files,
    `function_recall` the share of the functions and classes that the fix's hunks name, and
    `hunk_recall` the share of its hunks whose changed lines the patch's hunks touch.
    """
    wanted, found = {file.path for file in gold}, {file.path for file in patch}
    shared = wanted & found
    functions, found_functions = _functions(gold), _functions(patch)
    hunks = [(file.path, hunk) for file in gold for hunk in file.hunks]
    edited = [(file.path, hunk) for file in patch for hunk in file.hunks]
    touched = [hunk for hunk in hunks if any(_overlap(hunk, other) for other in edited)]
    parts = {
        "files_located": float(wanted <= found),
        "file_precision": len(shared) / len(found) if found else 0.0,
        "file_recall": len(shared) / len(wanted),
        "hunk_recall": len(touched) / len(hunks) if hunks else 0.0,
    }
    if functions:
        parts["function_recall"] = len(functions & found_functions) / len(functions)
    return parts


def _functions(files: Sequence[FileDiff]) -> set[tuple[str, str]]:
    return {
        (file.path, name)
        for file in files
        for hunk in file.hunks
        for name in _DEFINITION.findall("\n".join([hunk.section, *hunk.lines]))
    }


def _overlap(wanted: tuple[str, Hunk], other: tuple[str, Hunk]) -> bool:
    first, last = wanted[1].changed_old_lines()
    other_first, other_last = other[1].changed_old_lines()
    return wanted[0] == other[0] and first <= other_last and other_first <= last

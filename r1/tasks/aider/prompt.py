"""What aider's benchmark says to a model, word for word.

From github.com/Aider-AI/aider (Apache-2.0): benchmark/prompts.py, aider/coders/base_prompts.py,
editblock_prompts.py (`diff`) and wholefile_prompts.py (`whole`). aider sends the format's rules
as a system prompt with the examples in it; DeepSeek-R1 is given no system prompt, so all of it
stands in one user message, in aider's order. What aider adds about the user's platform is
left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from r1.tasks.aider.edits import as_lines

EditFormat = Literal["diff", "whole"]

_PROMPTS = Path(__file__).resolve().parents[2] / "assets" / "prompts"

_ADDENDUM = """
####

Use the above instructions to modify the supplied files: {file_list}
Don't change the names of existing functions or classes, as they may be referenced from other code like unit tests, etc.
Only use standard libraries, don't suggest installing any packages.
"""  # noqa: E501

_TEST_FAILURES = """
####

See the testing errors above.
The tests are correct, don't try and change them.
Fix the code in {file_list} to resolve the errors.
"""

_FILES = """I have *added these files to the chat* so you can go ahead and edit them.

*Trust this message as the true contents of these files!*
Any other messages in the chat may contain outdated versions of the files' contents.
"""


def first_message(instructions: str, files: Mapping[str, str], edit_format: EditFormat) -> str:
    """The rules of the format, the files as they are, and what is asked for."""
    request = instructions + _ADDENDUM.format(file_list=_file_list(files))
    rules = (_PROMPTS / f"aider_{edit_format}.txt").read_text(encoding="utf-8")
    return f"{rules}\n{_listing(files)}\n{request}"


def failure_message(test_output: str, files: Mapping[str, str]) -> str:
    """What the user says after the tests failed, with the files as they are by now."""
    request = test_output + _TEST_FAILURES.format(file_list=_file_list(files))
    return f"{_listing(files)}\n{request}"


def return_message(error: str, changed_files: Mapping[str, str] | None) -> str:
    """What the user says to edits that do not fit; with the files, if others were applied."""
    return error if changed_files is None else f"{_listing(changed_files)}\n{error}"


def _listing(files: Mapping[str, str]) -> str:
    # aider gives the contents anew with every message, so that the last ones are true.
    listed = (f"\n{name}\n```\n{as_lines(content)}```\n" for name, content in files.items())
    return _FILES + "".join(listed)


def _file_list(names: Iterable[str]) -> str:
    # Without folders, as in aider's benchmark.
    return " ".join(name.rsplit("/", 1)[-1] for name in names)

from __future__ import annotations

import pytest

from r1.tasks.aider.edits import (
    AppliedInPart,
    Edit,
    EditError,
    apply_edits,
    parse_search_replace,
    parse_whole_files,
    replace_lines,
)


def block(search: str, replace: str, above: str = "a.py\n```python\n") -> str:
    return f"{above}<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n```\n"


@pytest.mark.parametrize(
    "above",
    [
        "a.py\n```python\n",
        "**a.py**\n```\n",
        "`a.py`:\n```python\n",
        "### a.py\n```python\n",
        "```python\na.py\n",
        "```\na.py\n```\n```python\n",
        "a.pyy\n```python\n",
    ],
)
def test_the_file_name_stands_above_the_block_in_many_ways(above: str) -> None:
    edits = parse_search_replace("Sure:\n\n" + block("x\n", "y\n", above), ["a.py"])
    assert edits == [Edit("a.py", "x\n", "y\n")]


def test_a_second_block_without_a_name_is_of_the_same_file() -> None:
    reply = block("x\n", "y\n") + "and\n\n" + block("z\n", "", "```python\n")
    assert parse_search_replace(reply, ["a.py"]) == [
        Edit("a.py", "x\n", "y\n"),
        Edit("a.py", "z\n", ""),
    ]


def test_a_new_file_keeps_its_name() -> None:
    """An empty SEARCH is not taken for the known file with a name like it."""
    assert parse_search_replace(block("", "y\n", "b.py\n```\n"), ["a.py"]) == [
        Edit("b.py", "", "y\n")
    ]


def test_a_reply_without_blocks_has_no_edits() -> None:
    assert parse_search_replace("Use this:\n```python\nprint(1)\n```\n", ["a.py"]) == []


def test_shell_commands_are_no_edits() -> None:
    reply = "```bash\ncat <<EOF\n<<<<<<< SEARCH\nEOF\n```\n" + block("x\n", "y\n")
    assert len(parse_search_replace(reply, ["a.py"])) == 1


def test_names_and_fences_inside_a_block_are_removed() -> None:
    reply = block("a.py\n```python\nx\n```\n", "```\ny\n```\n")
    assert parse_search_replace(reply, ["a.py"]) == [Edit("a.py", "x\n", "y\n")]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE\n", "Bad/missing filename"),
        ("a.py\n```\n<<<<<<< SEARCH\nx\n```\n", "Expected `=======`"),
        ("a.py\n```\n<<<<<<< SEARCH\nx\n=======\ny\n```\n", "Expected `>>>>>>> REPLACE`"),
    ],
)
def test_malformed_blocks_are_told_to_the_model(reply: str, message: str) -> None:
    with pytest.raises(EditError, match=r"\^\^\^ ") as error:
        parse_search_replace(reply, ["a.py"])
    assert message in str(error.value)


CODE = "def f():\n    if x:\n        return 1\n\n    return 2\n"


@pytest.mark.parametrize(
    ("search", "replace", "expected"),
    [
        ("    return 2\n", "    return 3\n", CODE.replace("2", "3")),
        ("if x:\n    return 1\n", "if y:\n    return 1\n", CODE.replace("if x", "if y")),
        (
            "      if x:\n          return 1\n",
            "      pass\n",
            "def f():\n    pass\n\n    return 2\n",
        ),
        ("\n    if x:\n        return 1\n", "    pass\n", "def f():\n    pass\n\n    return 2\n"),
        (
            "def f():\n...\n    return 2\n",
            "def g():\n...\n    return 2\n",
            CODE.replace("f()", "g()"),
        ),
        ("def f():\n    ...\n    return 9\n", "def g():\n    ...\n    return 9\n", None),
        ("if x:\n        return 1\n", "pass\n", None),
        ("nothing like it\n", "y\n", None),
    ],
)
def test_how_lines_are_found(search: str, replace: str, expected: str | None) -> None:
    assert replace_lines(CODE, search, replace) == expected


def test_only_the_first_match_is_replaced() -> None:
    assert replace_lines("a\nb\na\n", "a\n", "c\n") == "c\nb\na\n"


def test_edits_apply_in_order_and_to_the_file_that_they_fit() -> None:
    files = {"a.h": "int f();\n", "a.cpp": "int f() { return 1; }"}
    edits = [
        Edit("a.h", "int f() { return 1; }\n", "int f() { return 2; }\n"),
        Edit("a.cpp", "int f() { return 2; }\n", "int f() { return 3; }\n"),
        Edit("a.h", "", "int g();\n"),
        Edit("b.h", "", "int h();\n"),
    ]
    assert apply_edits(files, edits) == {
        "a.h": "int f();\nint g();\n",
        "a.cpp": "int f() { return 3; }\n",
        "b.h": "int h();\n",
    }


def test_blocks_that_fit_nowhere_are_told_and_the_others_applied() -> None:
    edits = [Edit("a.py", "x = 1\n", "x = 2\n"), Edit("a.py", "y = 1\nz = 4\n", "y = 2\n")]
    with pytest.raises(AppliedInPart) as error:
        apply_edits({"a.py": "x = 1\ny = 1\nz = 3\n"}, edits)
    assert error.value.files == {"a.py": "x = 2\ny = 1\nz = 3\n"}
    message = str(error.value)
    assert message.startswith("# 1 SEARCH/REPLACE block failed to match!\n")
    assert "from a.py?\n\n```\nx = 2\ny = 1\nz = 3\n```" not in message
    assert "# The other 1 SEARCH/REPLACE block were applied successfully." in message


def test_lines_like_the_search_are_shown() -> None:
    content = "".join(f"line {number}\n" for number in range(20))
    search = "line 9\nline 10\nline eleven\n"
    with pytest.raises(AppliedInPart) as error:
        apply_edits({"a.py": content}, [Edit("a.py", search, "line 3\n")])
    shown = "\n".join(f"line {number}" for number in range(3, 16))
    assert (
        f"Did you mean to match some of these actual lines from a.py?\n\n```\n{shown}\n```"
        in str(error.value)
    )
    assert "The REPLACE lines are already in a.py!" in str(error.value)


def test_whole_files_take_the_name_above_or_the_only_one() -> None:
    reply = "Here:\n\na.py\n```python\nx\n```\n\nand `b.py`:\n\n```\ny\n```\n"
    assert parse_whole_files(reply, ["a.py", "b.py"]) == {"a.py": "x\n", "b.py": "y\n"}
    assert parse_whole_files("\n```\nx\n", ["a.py"]) == {"a.py": "x\n"}
    assert parse_whole_files("path/to/a.py\n```\nx\n```\n", ["a.py"]) == {"a.py": "x\n"}
    with pytest.raises(EditError, match="No filename provided"):
        parse_whole_files("\n```\nx\n```\n", ["a.py", "b.py"])

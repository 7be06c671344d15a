from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1.text.unified_diff import (
    DiffError,
    apply_hunks,
    make_diff,
    normalized_changes,
    parse_diff,
)

DIFF = """diff --git a/src/a.py b/src/a.py
index 123..456 100644
--- a/src/a.py
+++ b/src/a.py
@@ -10,4 +10,5 @@ def first(x):
     y = x
-    return y
+    z = y
+    return z

 # end
@@ -40 +41 @@ class Last:
-old
+new
diff --git a/b.py b/b.py
new file mode 100644
--- /dev/null
+++ b/b.py
@@ -0,0 +1 @@
+x = 1
\\ No newline at end of file
"""


def test_a_diff_is_read() -> None:
    first, second = parse_diff(DIFF)
    assert (first.old_path, first.new_path, second.old_path, second.path) == (
        "src/a.py",
        "src/a.py",
        None,
        "b.py",
    )
    assert [hunk.section for hunk in first.hunks] == ["def first(x):", "class Last:"]
    assert first.hunks[0].changed_old_lines() == (11, 11)
    assert first.hunks[1].changed_old_lines() == (40, 40)
    assert second.hunks[0].lines == ("+x = 1",)
    (insertion,) = parse_diff("--- a/x\n+++ b/x\n@@ -1,2 +1,3 @@\n a\n+c\n b\n")[0].hunks
    assert insertion.changed_old_lines() == (1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no file in it"),
        ("Here is the fix", "line 1: 'Here is the fix' belongs to no file"),
        ("--- a/x\nx", "line 2: expected \\+\\+\\+ after ---"),
        ("--- a/x\n+++ b/x\n", "no @@ hunk of x"),
        ("--- a/x\n+++ b/x\n@@ -1 +1\n-a\n+b\n", "is no hunk header"),
        ("--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n-a\n+b\n", "shorter than its header says"),
        ("--- a/x\n+++ b/x\n@@ -1,1 +1,2 @@\n-a\n-c\n+b\n", "longer than its header says"),
    ],
)
def test_what_is_no_diff_is_told(text: str, message: str) -> None:
    with pytest.raises(DiffError, match=message):
        parse_diff(text)


LINES = st.lists(st.sampled_from(["a", "b", "", "  c"]), max_size=12).map("\n".join)


@given(LINES, LINES)
def test_a_diff_that_was_made_leads_from_one_text_to_the_other(old: str, new: str) -> None:
    old, new = f"{old}\n", f"{new}\n"
    diff = make_diff({"x": old}, {"x": new})
    if old == new:
        assert diff == ""
        return
    (file,) = parse_diff(diff)
    assert apply_hunks(old, file.hunks) == new


def test_hunks_find_their_lines_elsewhere_or_fail() -> None:
    (file,) = parse_diff("--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n")
    assert apply_hunks("z\nz\na\nb\n", file.hunks) == "z\nz\na\nc\n"
    assert apply_hunks("a\nz\nb\n", file.hunks) is None


def test_patches_that_differ_in_white_space_and_comments_are_one() -> None:
    other = DIFF.replace("+    z = y", "+    z  =  y\n+    # why").replace("+10,5", "+10,6")
    assert normalized_changes(parse_diff(other)) == normalized_changes(parse_diff(DIFF))
    wrong = DIFF.replace("z = y", "z = x")
    assert normalized_changes(parse_diff(wrong)) != normalized_changes(parse_diff(DIFF))


def test_every_published_fix_is_read(shared_dir: Path) -> None:
    path = shared_dir / "data" / "swebench_verified" / "swebench_verified_500.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert sum(len(parse_diff(row["patch"])) for row in rows) == 623

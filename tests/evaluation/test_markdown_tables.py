from __future__ import annotations

from r1.evaluation.markdown_tables import markdown_table


def test_a_cell_stays_one_cell_and_text() -> None:
    table = markdown_table(["a", "b"], [["x|y", "<b>\n\u202e1"]])
    assert table.splitlines() == ["| a | b |", "| --- | ---: |", "| x\\|y | &lt;b&gt; [U+202E]1 |"]

from __future__ import annotations

from pathlib import Path

from results_page import TITLE, write_section


def test_a_section_replaces_the_one_of_its_title(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    write_section(page, "A", "make a", ["one"])
    write_section(page, "A longer", "make b", ["two", r"\1 is no group"])
    write_section(page, "A", "make a", ["three"])
    assert page.read_text() == (
        f"{TITLE}\n## A\n\n```sh\nmake a\n```\n\nthree\n"
        "\n## A longer\n\n```sh\nmake b\n```\n\ntwo\n\\1 is no group\n"
    )

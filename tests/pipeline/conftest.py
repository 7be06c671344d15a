"""A kind of stage that only writes a file, so that recipes run in no time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from r1.config import Config
from r1.pipeline import stages
from r1.pipeline.stages import StageKind
from r1.run_log import RunFolder, write_text


class NoteConfig(Config):
    """Write `text` and what is in the files."""

    output: Path
    seed: int = 0
    text: str = ""
    model: str | None = None
    data: Path | None = None
    general_data: tuple[Path, ...] = ()


@dataclass
class Notes:
    """The verb `note`: what it ran, and what to do before it writes (raise, say)."""

    ran: list[str] = field(default_factory=list)
    before_writing: Callable[[NoteConfig], None] | None = None

    def run(self, config: NoteConfig) -> Path:
        with RunFolder.open(config.output, config=config) as run:
            self.ran.append(config.output.name)
            paths = [config.data, *config.general_data]
            texts = [config.text, *(path.read_text() for path in paths if path is not None)]
            if self.before_writing is not None:
                self.before_writing(config)
            write_text(run.path / "note.txt", "+".join(texts))
            return run.path / "note.txt"


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    """The verb `note` in the table of stages."""
    notes = Notes()
    monkeypatch.setitem(
        stages.STAGE_KINDS,  # type: ignore[arg-type]
        "note",
        StageKind(NoteConfig, notes.run, "note.txt"),
    )
    return notes


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[[str], Path]:
    """Write the text of a recipe, whose output is `run` beside it."""

    def write(text: str) -> Path:
        path = tmp_path / "recipe.toml"
        path.write_text(f'name = "test"\noutput = "{tmp_path / "run"}"\n{text}')
        return path

    return write

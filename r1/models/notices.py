"""Licences and notices of a model, which those made from it have to carry along."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from r1.models.presets import Preset, find_preset
from r1.untrusted_files import read_text

_PREFIXES = ("LICENSE", "NOTICE", "USE_POLICY")
_HUB_FOLDER = "models--"
_MAX_BYTES = 500_000


def read_notices(folder: Path) -> dict[str, str]:
    """The licence files of a checkpoint folder by name, and a known model's own notice."""
    notices = {
        file.name: read_text(file, _MAX_BYTES)
        for file in sorted(folder.iterdir())
        if file.name.upper().startswith(_PREFIXES) and not file.is_dir()
    }
    preset = preset_of_cached(folder)
    if preset is not None and preset.notice:
        notices.setdefault("NOTICE", preset.notice + "\n")
    return notices


def preset_of_cached(folder: Path) -> Preset | None:
    """The released model whose folder of the hub's cache (`models--owner--name`) this is."""
    for part in folder.absolute().parts:
        if part.startswith(_HUB_FOLDER):
            return find_preset(part.removeprefix(_HUB_FOLDER).replace("--", "/", 1))
    return None


def write_notices(notices: Mapping[str, str], folder: Path) -> None:
    """Write those that are not in `folder` yet."""
    for name, text in notices.items():
        if not (folder / name).exists():
            (folder / name).write_text(text, encoding="utf-8")

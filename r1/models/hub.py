"""Models from the Hugging Face hub: downloaded once, resumed, found again offline."""

from __future__ import annotations

import os
import re
from pathlib import Path

from r1.gguf_file import part_names

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_GGUF_FILE = re.compile(r"([^:]+):([\w.-]+\.gguf)")
_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "LICENSE*", "NOTICE*", "USE_POLICY*"]
_CONFIG_PATTERNS = ["config.json"]
_MAX_NAMES_SHOWN = 4


def is_hub_id(name: str) -> bool:
    """Whether `name` can be `owner/name` or `owner/name:file.gguf`, by its form alone."""
    match = _GGUF_FILE.fullmatch(name)
    return bool(_HUB_ID.fullmatch(match[1] if match else name)) and bool(
        match or not name.endswith(".gguf")
    )


def download_model(name: str, *, config_only: bool = False) -> Path:
    """The folder or `.gguf` file of a hub id in the hub's own cache, downloaded where needed.

    `owner/name` means its safetensors, or its only GGUF file when it has none;
    `owner/name:file.gguf` that file, with all its parts if it was split. A download that was
    cut off goes on where it stopped; bars are shown unless R1_QUIET is set. With
    `config_only` no more than config.json comes. Raises ValueError, in one line, saying what
    is missing and what would help.
    """
    if os.environ.get("R1_QUIET"):
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
    match = _GGUF_FILE.fullmatch(name)
    if match:
        return _download_parts(match[1], match[2])
    folder = _download_folder(name, _CONFIG_PATTERNS if config_only else _PATTERNS)
    is_complete = (folder / "config.json").exists()
    if is_complete and (config_only or any(folder.glob("*.safetensors"))):
        return folder
    return _only_gguf(name, folder)


def _download_folder(repo_id: str, patterns: list[str]) -> Path:
    # Imported where it is used: it brings an HTTP client that no local model needs.
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repo_id, allow_patterns=patterns, ignore_patterns=["*/*"], etag_timeout=10
            )
        )
    except Exception as error:  # the hub's, the HTTP client's and the system's, all one here
        raise ValueError(_explain(repo_id, error)) from error


def _download_parts(repo_id: str, file_name: str) -> Path:
    """A GGUF file, or all parts of the one that it belongs to; the path of the first."""
    files = [_download_file(repo_id, name) for name in part_names(file_name)]
    return files[0]


def _download_file(repo_id: str, file_name: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo_id, file_name, etag_timeout=10))
    except Exception as error:
        raise ValueError(_explain(f"{repo_id}:{file_name}", error)) from error


def _only_gguf(repo_id: str, folder: Path) -> Path:
    """The GGUF file of a model that has no safetensors."""
    if _is_offline():
        names = [file.name for file in folder.glob("*.gguf")]
    else:
        from huggingface_hub import list_repo_files

        try:
            names = [name for name in list_repo_files(repo_id) if name.endswith(".gguf")]
        except Exception as error:
            raise ValueError(_explain(repo_id, error)) from error
    names = sorted(name for name in names if "/" not in name)
    if len({part_names(name)[0] for name in names}) == 1:
        return _download_parts(repo_id, names[0])
    if not names:
        raise ValueError(f"{repo_id}: holds neither safetensors nor a .gguf file")
    shown = ", ".join(names[:_MAX_NAMES_SHOWN]) + (", ..." if len(names) > _MAX_NAMES_SHOWN else "")
    raise ValueError(
        f"{repo_id}: holds {len(names)} .gguf files; name one, as in {repo_id}:{names[0]} ({shown})"
    )


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _explain(name: str, error: Exception) -> str:
    """One line for what went wrong: what, and what would help."""
    from huggingface_hub import constants, errors

    repo_id = name.partition(":")[0]
    explained: list[tuple[type[Exception], str]] = [
        (
            errors.GatedRepoError,
            f"its owner asks for consent: accept the licence at https://huggingface.co/{repo_id} "
            "and log in with `hf auth login`",
        ),
        (
            errors.RepositoryNotFoundError,
            "no such folder, and no such model on the Hugging Face hub (a private one needs "
            "`hf auth login`)",
        ),
        (errors.RemoteEntryNotFoundError, "no such file on the Hugging Face hub"),
    ]
    for kind, text in explained:
        if isinstance(error, kind):
            return f"{name}: {text}"
    if _is_offline():
        return (
            f"{name}: no such folder, and not complete in the hub's cache "
            f"({constants.HF_HUB_CACHE}); HF_HUB_OFFLINE keeps it from being downloaded"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines else type(error).__name__
    return f"{name}: no such folder, and not available from the Hugging Face hub ({reason})"

"""The hub: what is fetched, what a failure says, and what works offline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from r1.models.catalogue import resolve_model
from r1.models.hub import is_hub_id


def without_response(kind: type[Exception]) -> Exception:
    """An error of the hub's, which otherwise is made from an HTTP client's response."""
    error = kind.__new__(kind)
    error.args = ("404 Client Error\n\nmore",)
    return error


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub of one repository: `files` are its names, `fetched` what was asked for."""
    monkeypatch.chdir(tmp_path)
    state: dict[str, Any] = {"files": [], "fetched": [], "folder": tmp_path / "snapshot"}
    state["folder"].mkdir()

    def snapshot(repo_id: str, *, allow_patterns: list[str], **_: Any) -> str:
        state["fetched"].append((repo_id, allow_patterns))
        for name in state["files"]:
            if not name.endswith(".gguf"):
                (state["folder"] / name).write_text("{}")
        return str(state["folder"])

    def one_file(repo_id: str, name: str, **_: Any) -> str:
        state["fetched"].append((repo_id, name))
        if name not in state["files"]:
            raise without_response(errors.RemoteEntryNotFoundError)
        return str(state["folder"] / name)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", one_file)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda _: state["files"])
    return state


def test_the_form_of_a_hub_id():
    assert is_hub_id("someone/model-1.5B") and is_hub_id("someone/model:a-Q4_K_M.gguf")
    for name in (
        "model",
        "a/b/c",
        "/a/b",
        "./a/b",
        "a/b.gguf",
        "a/b:c.bin",
        "a/b:../c.gguf",
        "../b",
    ):
        assert not is_hub_id(name), name


def test_a_folder_of_safetensors(hub):
    hub["files"] = ["config.json", "model.safetensors", "LICENSE"]
    assert resolve_model("someone/model") == hub["folder"]
    ((repo_id, patterns),) = hub["fetched"]
    assert repo_id == "someone/model" and {"*.safetensors", "LICENSE*", "NOTICE*"} <= set(patterns)
    hub["fetched"].clear()
    assert resolve_model("deepseek-r1", config_only=True) == hub["folder"]
    assert hub["fetched"] == [("deepseek-ai/DeepSeek-R1", ["config.json"])]


def test_gguf_files(hub):
    hub["files"] = ["a-Q4.gguf", "config.json", "sub/b.gguf"]
    assert resolve_model("someone/model") == hub["folder"] / "a-Q4.gguf"
    hub["files"] = ["a-Q4.gguf", "a-Q8.gguf"]
    with pytest.raises(ValueError, match=r"2 \.gguf files; name one, as in someone/model:a-Q4"):
        resolve_model("someone/model")
    assert resolve_model("someone/model:a-Q8.gguf") == hub["folder"] / "a-Q8.gguf"
    with pytest.raises(ValueError, match=r"someone/model:c\.gguf: no such file on the Hugging"):
        resolve_model("someone/model:c.gguf")
    parts = [f"a-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    hub["files"] = parts
    for name in ("someone/model", f"someone/model:{parts[1]}"):
        assert resolve_model(name) == hub["folder"] / parts[0]
    hub["files"] = parts[:2]
    with pytest.raises(ValueError, match=r"a-00003-of-00003\.gguf: no such file on the Hugging"):
        resolve_model("someone/model")
    hub["files"] = ["pytorch_model.bin"]
    with pytest.raises(ValueError, match="holds neither safetensors nor"):
        resolve_model("someone/model")


FAILURES = {
    "no route": (ConnectionError("no route\nto host"), r"hub \(no route\)$"),
    "unknown": (
        without_response(errors.RepositoryNotFoundError),
        "no such model on the Hugging Face hub",
    ),
    "gated": (
        without_response(errors.GatedRepoError),
        "accept the licence at https://huggingface.co/someone/model and log in",
    ),
    "silent": (RuntimeError(), r"\(RuntimeError\)$"),
    "disk": (OSError(28, "No space left on device"), "No space left on device"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_is_one_line(hub, monkeypatch, kind):
    error, words = FAILURES[kind]

    def refuse(*args: object, **options: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ValueError, match=words) as caught:
        resolve_model("someone/model")
    assert str(caught.value).startswith("someone/model: ") and "\n" not in str(caught.value)


def cached(cache: Path, *names: str) -> Path:
    """A model as the hub's own cache holds it."""
    repository = cache / "models--someone--model"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    for name in names:
        (snapshot / name).write_text("{}")
    return snapshot


def test_offline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("someone/model", "someone/model:a.gguf"):
        with pytest.raises(ValueError, match="HF_HUB_OFFLINE keeps it from being downloaded"):
            resolve_model(name)


@pytest.mark.parametrize("names", [("config.json", "model.safetensors"), ("a.gguf",)])
def test_what_is_cached_opens_offline(tmp_path, names):
    snapshot = cached(tmp_path / "hub", *names)
    found = run_offline(tmp_path, "someone/model")
    assert found == str(snapshot if len(names) == 2 else snapshot / "a.gguf")


def run_offline(folder: Path, name: str) -> str:
    """`resolve_model` in a process of its own: huggingface_hub reads its settings on import."""
    import subprocess
    import sys

    code = f"from r1.models.catalogue import resolve_model; print(resolve_model({name!r}))"
    settings = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "hub")}
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **settings, "PYTHONPATH": root},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(("quiet", "is_disabled"), [("1", True), ("", False)])
def test_bars_are_shown_unless_quiet(hub, monkeypatch, quiet, is_disabled):
    from huggingface_hub import utils

    monkeypatch.setenv("R1_QUIET", quiet)
    utils.enable_progress_bars()
    hub["files"] = ["config.json", "model.safetensors"]
    resolve_model("someone/model")
    assert utils.are_progress_bars_disabled() == is_disabled

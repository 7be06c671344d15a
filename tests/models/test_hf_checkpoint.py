"""Checkpoints both ways between us and transformers, and what is wrong with bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from r1.models.architectures import build_scorer
from r1.models.hf_checkpoint import (
    load_config,
    load_language_model,
    load_model,
    save_model,
)
from r1.models.language_model import SequenceScorer

ROW = [3, 1, 4, 1, 5, 9, 2, 6]
FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("LlamaForCausalLM", {"attention_bias": True}),
    ("LlamaForCausalLM", {"tie_word_embeddings": True}),
    ("Qwen2ForCausalLM", {}),
    ("Qwen2ForCausalLM", {"tie_word_embeddings": True}),
]


@pytest.fixture
def saved(tmp_path: Path, make_model) -> Path:
    folder = tmp_path / "model"
    save_model(make_model(), folder)
    return folder


@torch.no_grad()
def logits_of_transformers(folder: Path, architecture: str) -> torch.Tensor:
    model = getattr(transformers, architecture).from_pretrained(folder, dtype=torch.float32)
    return model.eval()(torch.tensor([ROW])).logits[0]


@pytest.mark.parametrize("max_shard_bytes", [10**9, 9000])
@pytest.mark.parametrize(("architecture", "changes"), FAMILIES)
def test_transformers_opens_ours(
    tmp_path, make_model, row_logits, architecture, changes, max_shard_bytes
):
    model = make_model(architecture, **changes)
    save_model(model, tmp_path / "model", max_shard_bytes=max_shard_bytes)
    num_files = len(list((tmp_path / "model").glob("*.safetensors")))
    assert num_files == 1 if max_shard_bytes == 10**9 else num_files > 5
    expected = row_logits(model, ROW)
    theirs = logits_of_transformers(tmp_path / "model", architecture)
    assert (theirs - expected).abs().max() < 1e-4
    assert torch.equal(row_logits(load_model(tmp_path / "model"), ROW), expected)


@pytest.mark.parametrize("max_shard_size", ["1GB", "9KB"])
@pytest.mark.parametrize(("architecture", "changes"), FAMILIES)
def test_we_open_those_of_transformers(
    tmp_path, make_config, randomize, row_logits, architecture, changes, max_shard_size
):
    values = make_config(architecture, **changes).to_dict()
    config_class = getattr(transformers, architecture.replace("ForCausalLM", "Config"))
    theirs = getattr(transformers, architecture)(config_class(**values)).eval()
    randomize(theirs)
    theirs.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    with torch.no_grad():
        expected = theirs(torch.tensor([ROW])).logits[0]
    assert (row_logits(load_model(tmp_path), ROW) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_survive_and_can_be_changed(tmp_path, make_model, dtype):
    model = make_model().to(dtype)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.dtype == dtype
    for one, two in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(one, two)
    assert load_model(tmp_path / "model", dtype=torch.float32).dtype == torch.float32


def test_reward_model_opens_in_both(tmp_path, make_model):
    scorer = build_scorer(make_model(pad_token_id=0))
    save_model(scorer, tmp_path / "scorer")
    loaded = load_model(tmp_path / "scorer")
    assert isinstance(loaded, SequenceScorer)
    ids = torch.tensor([ROW])
    with torch.no_grad():
        hidden = loaded(ids, torch.arange(len(ROW))[None])
        ours = loaded.compute_scores(hidden[:, -1])
        theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
            tmp_path / "scorer"
        ).eval()(ids)
    assert theirs.logits.shape == (1, 1)
    assert (theirs.logits[:, 0] - ours).abs().max() < 1e-4
    with pytest.raises(ValueError, match="Qwen2ForSequenceClassification is a reward model"):
        load_language_model(tmp_path / "scorer")


def test_saving_again_keeps_other_files_and_drops_old_shards(saved, make_model):
    (saved / "tokenizer.json").write_text("{}")
    (saved / "notes").mkdir()
    (saved / "notes" / "a.txt").write_text("kept")
    (saved / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    save_model(make_model(), saved, max_shard_bytes=9000)
    save_model(make_model(), saved)
    assert {item.name for item in saved.iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors"),
        *("notes", "tokenizer.json"),
    }
    assert (saved / "notes" / "a.txt").read_text() == "kept"


def test_generation_config_travels_with_the_model(saved, tmp_path):
    (saved / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    save_model(load_model(saved), tmp_path / "copy")
    written = json.loads((tmp_path / "copy" / "generation_config.json").read_text())
    assert written == {"eos_token_id": [1, 2]}


def test_failed_save_leaves_the_old_checkpoint_whole(saved, make_model, monkeypatch):
    before = {item.name: item.read_bytes() for item in saved.iterdir()}

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("r1.models.hf_checkpoint.save_file", fail)
    with pytest.raises(ValueError, match="disk full"):
        save_model(make_model(), saved)
    assert {item.name: item.read_bytes() for item in saved.iterdir()} == before
    assert [item.name for item in saved.parent.iterdir()] == ["model"]


def test_the_config_alone_can_be_read(saved):
    assert load_config(saved) == load_model(saved).config


def change_tensors(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


BAD_TENSORS = {
    "missing": (
        lambda t: t.pop("model.norm.weight"),
        "missing tensor model.norm.weight [32]",
    ),
    "unexpected": (
        lambda t: t.update({"model.layers.9.weight": torch.ones(1)}),
        "unexpected tensor model.layers.9.weight [1]",
    ),
    "wrong shape": (
        lambda t: t.update({"model.norm.weight": torch.ones(5)}),
        "wrong shape: model.norm.weight is [5], expected [32]",
    ),
}


@pytest.mark.parametrize("kind", BAD_TENSORS)
def test_bad_tensors_are_named(saved, kind):
    change, message = BAD_TENSORS[kind]
    change_tensors(saved, change)
    with pytest.raises(ValueError) as caught:
        load_model(saved)
    assert str(caught.value) == f"{saved}: {message}"


def test_stored_tied_head_and_rope_buffers_are_ignored(tmp_path, make_model, row_logits):
    model = make_model(tie_word_embeddings=True)
    save_model(model, tmp_path / "model")
    change_tensors(
        tmp_path / "model",
        lambda tensors: tensors.update(
            {
                "lm_head.weight": torch.zeros(89, 32),
                "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
            }
        ),
    )
    assert torch.equal(row_logits(load_model(tmp_path / "model"), ROW), row_logits(model, ROW))


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _replace_by_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _escape_by_index(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "../../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _forget_a_shard(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


BAD_FOLDERS: dict[str, tuple[Any, str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json: no such file"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "not readable JSON"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "JSON object"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no weights"),
    "pickle": (_replace_by_pickle, "can run code; convert to safetensors"),
    "truncated": (_truncate, "not a readable safetensors file"),
    "corrupt header": (
        lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64),
        "not a readable safetensors file",
    ),
    "empty file": (
        lambda f: (f / "model.safetensors").write_bytes(b""),
        "not a readable safetensors file",
    ),
    "index outside": (_escape_by_index, "names a file outside the folder"),
    "shard gone": (_forget_a_shard, "missing weight file model-00001-of-00002.safetensors"),
}


@pytest.mark.parametrize("kind", BAD_FOLDERS)
def test_bad_folders_are_refused_in_one_line(saved, kind):
    damage, words = BAD_FOLDERS[kind]
    damage(saved)
    with pytest.raises(ValueError) as caught:
        load_model(saved)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.pt", "model.bin", "model.pth"])
def test_pickle_file_is_refused_unopened(tmp_path, name):
    with pytest.raises(ValueError, match="can run code"):
        load_model(tmp_path / name)


def test_missing_folder(tmp_path):
    with pytest.raises(ValueError, match="no such model folder"):
        load_model(tmp_path / "nothing")

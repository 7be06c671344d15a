from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from r1.engine.open_model import choose_device, fastest_dtype, open_model
from r1.models.catalogue import resolve_model


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "device 'gpu' is not supported; choices: auto, cpu, cuda"),
        ("meta", "device 'meta' is not supported"),
        ("cuda:1000", "device 'cuda:1000' is not on this machine"),
        ("cpu:1", "device 'cpu:1' is not on this machine"),
        ("", "device '' is not supported"),
    ],
)
def test_a_device_that_is_not_there_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_device(name)


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(resolve_model("tiny-student"), folder)
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    first = 1 + max(token["id"] for token in spec["added_tokens"])
    first = max(first, len(spec["model"]["vocab"]))
    like = spec["added_tokens"][-1]
    spec["added_tokens"] += [
        {**like, "id": first + i, "content": f"<more_{i}>"} for i in range(1000)
    ]
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(ValueError, match=r"the tokenizer has \d+ ids, the model only \d+"):
        open_model(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("device", "has_bf16", "dtype"),
    [("cpu", True, "bfloat16"), ("cpu", False, "float32"), ("cuda", False, "bfloat16")],
)
def test_auto_is_what_the_device_multiplies_fastest(
    monkeypatch: pytest.MonkeyPatch, device: str, has_bf16: bool, dtype: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    assert fastest_dtype(torch.device(device)) == getattr(torch, dtype)
    if device == "cpu":
        model, _ = open_model("tiny-student", dtype="auto", device="cpu")
        assert model.dtype == getattr(torch, dtype)

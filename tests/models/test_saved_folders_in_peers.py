"""Folders that we save, opened by vLLM and SGLang and converted by llama.cpp's own converter.

make bench-peers BENCH_PEERS='vllm sglang'   or R1_VLLM_PYTHON, R1_SGLANG_PYTHON=/path/to/python
R1_LLAMA_CPP=/path/to/llama.cpp          a checkout; its converter needs sentencepiece
python -m pytest tests/models/test_saved_folders_in_peers.py --with peers
"""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Backend

from r1.engine.open_model import open_model
from r1.models.architectures import build_model
from r1.models.hf_checkpoint import save_model
from r1.models.model_config import ModelConfig
from r1.records import Message
from r1.text.chat_template import R1_CHAT_TEMPLATE, encode_chat
from r1.text.special_tokens import SpecialTokens
from r1.text.tokenizer import Tokenizer
from tests.models.conftest import TINY_YARN

pytestmark = pytest.mark.peers

ROOT = Path(__file__).resolve().parents[2]
NUM_TOKENS = 12
CHAT = [Message("user", "What is 12 + 30? 你好")]
# vLLM's CPU attention knows heads of 32, 64, ... and latents of 512 with a rotary key of 64.
DENSE = {"hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 2} | {
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "Qwen2": {"architectures": ["Qwen2ForCausalLM"], **DENSE},
    "Llama": {"architectures": ["LlamaForCausalLM"], **DENSE},
    "DeepSeek-V3": {
        "architectures": ["DeepseekV3ForCausalLM"],
        **{**DENSE, "num_key_value_heads": 2, "max_position_embeddings": 640},
        "moe_intermediate_size": 32,
        "first_k_dense_replace": 1,
        "n_routed_experts": 16,
        "n_shared_experts": 1,
        "num_experts_per_tok": 3,
        "n_group": 4,
        "topk_group": 2,
        "routed_scaling_factor": 2.5,
        "q_lora_rank": 48,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "rope_scaling": TINY_YARN,
    },
}
VLLM = """
import json, sys
import vllm
folder, dtype, num_tokens, chat = sys.argv[1:]
llm = vllm.LLM(model=folder, dtype=dtype, max_model_len=128, max_num_seqs=2, enforce_eager=True)
sampling = vllm.SamplingParams(temperature=0, max_tokens=int(num_tokens), ignore_eos=True)
(found,) = llm.chat(json.loads(chat), sampling, use_tqdm=False)
print("FOUND", json.dumps([found.prompt_token_ids, list(found.outputs[0].token_ids)]))
"""

# SGLang's engine on its own PyTorch methods. Its torch_native attention has no prefill for MLA and
# borrows triton's, which cannot run there: we name SGLang's absorbed MLA, as for its decoding.
# Its processes start by importing this file again.
SGLANG = """
import json, sys
from sglang.srt.models.deepseek_common import attention_backend_handler as attention
attention.AttentionBackendRegistry.register("torch_native", attention._dispatch_mla_subtype)
if __name__ == "__main__":
    import sglang
    folder, dtype, num_tokens, chat = sys.argv[1:]
    limits = {"context_length": 128, "max_running_requests": 2, "max_total_tokens": 512}
    backend = {"device": "cpu", "attention_backend": "torch_native"}
    engine = sglang.Engine(model_path=folder, dtype=dtype, log_level="warning", **backend, **limits)
    tokenizer = engine.tokenizer_manager.tokenizer
    chat = json.loads(chat)
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    sampling = {"temperature": 0, "max_new_tokens": int(num_tokens), "ignore_eos": True}
    found = engine.generate(input_ids=prompt, sampling_params=sampling)
    print("FOUND", json.dumps([prompt, found["output_ids"]]))
    engine.shutdown()
"""


@pytest.fixture(scope="module")
def tokenizer(shared_dir: Path) -> Tokenizer:
    """A real R1-distilled tokenizer: the converter knows its pre-tokenizer by a checksum."""
    folder = shared_dir / "data/tokenizers/r1_distill_qwen"
    if not folder.is_dir():
        pytest.skip(f"no R1 tokenizer at {folder}")
    text = lzma.decompress((folder / "tokenizer.json.xz").read_bytes()).decode()
    names = SpecialTokens(eos="<｜end▁of▁sentence｜>", bos="<｜begin▁of▁sentence｜>")
    return Tokenizer(Backend.from_str(text), names, chat_template=R1_CHAT_TEMPLATE)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(
    request: pytest.FixtureRequest, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A small random model of each family, saved by us."""
    raw = {**FAMILIES[request.param], "vocab_size": 152_064, **tokenizer.token_ids}
    folder = tmp_path_factory.mktemp("saved") / request.param
    model = build_model(ModelConfig.from_dict(raw), seed=3)
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # zero when a model is new: leaving it out would not be seen
            torch.nn.init.normal_(parameter, std=0.1)
    save_model(model, folder)
    tokenizer.save(folder)
    return folder


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def python_of(name: str) -> Path:
    """The peer's interpreter; skips where there is none."""
    variable = f"R1_{name.upper()}_PYTHON"
    python = Path(os.environ.get(variable, ROOT / ".bench" / name / "bin" / "python"))
    if not python.exists():
        pytest.skip(f"no {name}: {python} is not there ({variable} names another)")
    return python


@torch.no_grad()
def check_replies(output: str, folder: Path) -> None:
    """The peer read our prompt's ids, and answered with our best tokens."""
    (line,) = [line for line in output.splitlines() if line.startswith("FOUND ")]
    prompt, generated = json.loads(line.removeprefix("FOUND "))
    model, tokenizer = open_model(str(folder), device="cpu")
    assert tuple(prompt) == encode_chat(tokenizer, CHAT).ids
    assert len(generated) == NUM_TOKENS
    # Each token is our best one too, or as good as it to what rounding leaves.
    ids_BT = torch.tensor([[*prompt, *generated]])
    hidden_BTD = model(ids_BT, torch.arange(ids_BT.shape[1])[None])
    logits_TV = model.compute_logits(hidden_BTD)[0, len(prompt) - 1 : -1]
    drawn_T = logits_TV.gather(1, torch.tensor(generated)[:, None])[:, 0]
    assert (logits_TV.max(1).values - drawn_T).max() < 1e-4
    assert logits_TV.std() > 0.01


def arguments(folder: Path) -> tuple[object, ...]:
    rows = [{"role": message.role, "content": message.content} for message in CHAT]
    return folder, "float32", NUM_TOKENS, json.dumps(rows)


def test_vllm_opens_it_and_generates_what_we_do(folder: Path) -> None:
    python = python_of("vllm")
    check_replies(run(python, "-c", VLLM, *arguments(folder), VLLM_CPU_KVCACHE_SPACE="1"), folder)


def test_sglang_opens_it_and_generates_what_we_do(folder: Path, tmp_path: Path) -> None:
    python, script = python_of("sglang"), tmp_path / "generate.py"
    script.write_text(SGLANG)
    check_replies(run(python, script, *arguments(folder), SGLANG_USE_CPU_ENGINE="1"), folder)


def test_llama_cpp_converts_it_and_we_read_it_back(folder: Path, tmp_path: Path) -> None:
    place = os.environ.get("R1_LLAMA_CPP")
    if not place:
        pytest.skip("no llama.cpp: R1_LLAMA_CPP does not name a checkout of it")
    path = os.pathsep.join([f"{place}/gguf-py", *filter(None, [os.environ.get("PYTHONPATH")])])
    converter, target = Path(place) / "convert_hf_to_gguf.py", tmp_path / "model.gguf"
    command = (sys.executable, converter, folder, "--outfile", target, "--outtype", "f32")
    run(*command, PYTHONPATH=path)
    run(*command, "--split-max-tensors", "9", PYTHONPATH=path)
    (model, tokenizer), (again, read) = (
        open_model(str(at), device="cpu") for at in (folder, target)
    )
    expected = dict(model.checkpoint_tensors())
    assert expected.keys() == dict(again.checkpoint_tensors()).keys()
    for name, tensor in again.checkpoint_tensors():
        assert torch.equal(tensor, expected[name]), name
    assert encode_chat(read, CHAT) == encode_chat(tokenizer, CHAT)
    target.unlink()
    in_parts, _ = open_model(str(tmp_path), device="cpu")
    for name, tensor in in_parts.checkpoint_tensors():
        assert torch.equal(tensor, expected[name]), name

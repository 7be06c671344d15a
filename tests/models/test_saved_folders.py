"""What we save, as transformers, vLLM and llama.cpp's converter read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from gguf import SpecialVocab
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from r1.models.architectures import build_scorer
from r1.models.hf_checkpoint import load_model, save_model
from r1.models.presets import R1_GENERATION
from r1.records import Message
from r1.text.chat_template import R1_CHAT_TEMPLATE, encode_chat
from r1.text.special_tokens import SpecialTokens
from r1.text.tokenizer import Tokenizer, load_tokenizer

LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen2": ("Qwen2ForCausalLM", {"rope_theta": 1_000_000.0}),
    "Llama 3.1": ("LlamaForCausalLM", {"rope_theta": 500_000.0, "rope_scaling": LLAMA_3}),
}
CHAT = [
    Message("system", "Be brief."),
    Message("user", "What is <think> 1+1?"),
    Message("assistant", "<think>\nold</think>\n\n2"),
    Message("user", "你好, and 2+2? 😀"),
]

# llama.cpp convert_hf_to_gguf.py: TextModel.set_gguf_parameters, LlamaModel and Qwen2Model;
# vLLM: ModelConfig, LlamaForCausalLM and Qwen2ForCausalLM. What either reads, or guesses wrongly
# where it is absent.
DENSE_KEYS = {
    *("architectures", "model_type", "vocab_size", "hidden_size", "intermediate_size"),
    *("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("max_position_embeddings", "rms_norm_eps", "rope_theta", "hidden_act"),
    *("tie_word_embeddings", "torch_dtype", "dtype", "bos_token_id", "eos_token_id"),
}
# convert_hf_to_gguf.py: DeepseekV2Model.set_gguf_parameters; vLLM and SGLang: deepseek_v2.py.
DEEPSEEK_KEYS = (DENSE_KEYS - {"head_dim"}) | {
    *("first_k_dense_replace", "moe_intermediate_size", "n_routed_experts", "n_shared_experts"),
    *("num_experts_per_tok", "n_group", "topk_group", "norm_topk_prob", "routed_scaling_factor"),
    *("scoring_func", "topk_method", "moe_layer_freq", "q_lora_rank", "kv_lora_rank"),
    *("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "rope_scaling"),
    *("num_nextn_predict_layers",),
}


EOS, BOS = "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"
MARKUP = [EOS, BOS, "<｜User｜>", "<｜Assistant｜>"]
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A small tokenizer of Qwen2's form, which transformers 5 imposes on every Qwen2 model."""
    backend = Backend(models.BPE())
    backend.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[*MARKUP, "<think>", "</think>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["what is three plus four? User thinks of it"] * 3, trainer)
    backend.add_tokens([AddedToken(tag, special=False) for tag in ("<think>", "</think>")])
    return Tokenizer(backend, SpecialTokens(eos=EOS, bos=BOS), chat_template=R1_CHAT_TEMPLATE)


def save(folder: Path, model: Any, tokenizer: Tokenizer) -> dict[str, Any]:
    save_model(model, folder, generation_config={**R1_GENERATION, **tokenizer.token_ids})
    tokenizer.save(folder)
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_opens_model_tokenizer_and_template(
    tmp_path, make_model, row_logits, tokenizer, family
):
    architecture, changes = FAMILIES[family]
    model = make_model(architecture, vocab_size=tokenizer.vocab_size, **changes)
    config = save(tmp_path / "model", model, tokenizer)
    assert config.keys() >= DENSE_KEYS

    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    rows = [{"role": message.role, "content": message.content} for message in CHAT]
    # Only our encoder keeps a user's `<think>` text, so it is taken out for the comparison.
    rows[1]["content"] = rows[1]["content"].replace("<think> ", "")
    plain = [Message(row["role"], row["content"]) for row in rows]  # type: ignore[arg-type]
    ids = their_tokenizer.apply_chat_template(rows, add_generation_prompt=True)["input_ids"]
    assert tuple(ids) == encode_chat(tokenizer, plain).ids
    with torch.no_grad():
        logits = theirs(torch.tensor([ids])).logits[0]
    assert (logits - row_logits(model, ids)).abs().max() < 1e-4

    generation = theirs.generation_config
    assert (generation.temperature, generation.top_p, generation.do_sample) == (0.6, 0.95, True)
    assert generation.eos_token_id == tokenizer.eos_id
    assert theirs.config.eos_token_id == tokenizer.eos_id
    assert theirs.config.bos_token_id == tokenizer.bos_id


def test_what_readers_of_deepseek_v3_ask_for(tmp_path, make_v3, tokenizer):
    config = save(tmp_path / "model", make_v3(), tokenizer)
    assert config.keys() >= DEEPSEEK_KEYS
    assert (config["scoring_func"], config["topk_method"]) == ("sigmoid", "noaux_tc")
    scaling = config["rope_scaling"]
    assert scaling["type"] == scaling["rope_type"] == "yarn"
    assert scaling["mscale_all_dim"] == 1.0 and scaling["factor"] == 40


def test_rope_scaling_in_both_spellings(tmp_path, make_model, tokenizer):
    architecture, changes = FAMILIES["Llama 3.1"]
    config = save(tmp_path / "model", make_model(architecture, **changes), tokenizer)
    assert config["rope_scaling"] == {**LLAMA_3, "type": "llama3"}
    assert config["rope_parameters"] == {**LLAMA_3, "rope_theta": 500_000.0}
    assert config["rope_theta"] == 500_000.0


def test_the_vocabulary_as_llama_cpps_converter_reads_it(tmp_path, make_model, tokenizer):
    save(tmp_path / "model", make_model(vocab_size=tokenizer.vocab_size), tokenizer)
    read = SpecialVocab(tmp_path / "model", load_merges=True, n_vocab=tokenizer.vocab_size)
    assert read.special_token_ids["bos"] == tokenizer.bos_id
    assert read.special_token_ids["eos"] == tokenizer.eos_id
    assert read.chat_template == (tmp_path / "model" / "chat_template.jinja").read_text()
    merges = json.loads((tmp_path / "model" / "tokenizer.json").read_text())["model"]["merges"]
    assert len(read.merges) == len(merges)


def test_the_template_is_there_for_old_readers_and_new(tmp_path, tokenizer):
    tokenizer.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["chat_template"] == (tmp_path / "chat_template.jinja").read_text()
    assert load_tokenizer(tmp_path).chat_template == config["chat_template"]


def test_a_tokenizer_without_template_is_saved_with_the_one_it_is_talked_to_with(
    tmp_path, tokenizer
):
    bare = Tokenizer(tokenizer.backend, tokenizer.names)
    bare.save(tmp_path)
    saved = load_tokenizer(tmp_path)
    assert encode_chat(saved, CHAT) == encode_chat(bare, CHAT)


def test_licences_travel_with_what_is_made_from_a_model(tmp_path, make_model):
    base = tmp_path / "base"
    save_model(make_model(), base)
    (base / "LICENSE").write_text("licence of the base")
    (base / "NOTICE.txt").write_text("Built with care.")
    scorer = build_scorer(load_model(base))  # type: ignore[arg-type]
    for model in (load_model(base), scorer):
        save_model(model, tmp_path / "derived")
        again = load_model(tmp_path / "derived")
        assert again.notices == {"LICENSE": "licence of the base", "NOTICE.txt": "Built with care."}
    (tmp_path / "derived" / "LICENSE").write_text("our own")
    save_model(load_model(base), tmp_path / "derived")
    assert (tmp_path / "derived" / "LICENSE").read_text() == "our own"


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ("meta-llama--Llama-3.1-8B", "Built with Llama. Llama 3.1 is licensed under"),
        ("meta-llama--Llama-3.3-70B-Instruct", "Llama 3.3 Community License, Copyright © Meta"),
        ("deepseek-ai--DeepSeek-R1-Distill-Llama-8B", "Built with Llama."),
        ("deepseek-ai--DeepSeek-R1-Distill-Qwen-7B", "Derived from Qwen2.5 (Apache License 2.0)"),
        ("Qwen--Qwen2.5-14B", None),
        ("someone--else", None),
    ],
)
def test_known_bases_bring_their_notice(tmp_path, make_model, repository, words):
    snapshot = tmp_path / f"models--{repository}" / "snapshots" / "01"
    save_model(make_model(), snapshot)
    save_model(load_model(snapshot), tmp_path / "derived")
    file = tmp_path / "derived" / "NOTICE"
    assert file.exists() == (words is not None)
    assert words is None or words in file.read_text()

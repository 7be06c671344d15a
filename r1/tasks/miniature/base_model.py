"""What the embedded base models are pretrained from: a tokenizer, a config, and text.

`write_base` makes the files, `recipes/pretrain_tiny.toml` trains on them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers
from pydantic import Field
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from r1.config import Config
from r1.run_log import RunFolder, atomic_folder, write_json, write_jsonl
from r1.tasks.miniature.general import exchanges, sft_rows, write_talk
from r1.tasks.miniature.text import (
    LANGUAGES,
    PHRASES,
    TextMix,
    draw_sum,
    word_question,
    write_reply,
)
from r1.text.chat_template import R1_CHAT_TEMPLATE
from r1.text.prompts import R1_ZERO_PROMPT
from r1.text.reasoning import REASONING_TAGS
from r1.text.special_tokens import SpecialTokens
from r1.text.tokenizer import Tokenizer

# The names of the released R1 tokenizers.
_BOS, _EOS, _PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
_TURNS = ("<｜User｜>", "<｜Assistant｜>")
_MAX_POSITIONS = 1024
_NUM_TOKENIZER_ROWS = 6000


class MiniatureBaseConfig(Config):
    """The size of the model and the text that it is to read.

    `mix` is the text of the shares that `recipes/pretrain_tiny.toml` trains on last;
    `first_mix` is read before it: mostly long, correct steps, because a model this
    small learns to add from them sooner than from guesses.
    """

    output: Path
    seed: int = 0
    num_first_rows: int = Field(default=100_000, ge=1)
    num_rows: int = Field(default=30_000, ge=1)
    first_mix: TextMix = TextMix(modes=(0.1, 0.1, 0.8))
    mix: TextMix = TextMix()
    vocabulary_size: int = Field(default=1024, ge=300)
    hidden_size: int = 128
    intermediate_size: int = 384
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2


def write_base(config: MiniatureBaseConfig) -> Path:
    """Write `model/` (config, tokenizer), `first.jsonl` and `rows.jsonl`; returns their folder."""
    with RunFolder.open(config.output, config=config) as run:
        tokenizer = train_tokenizer(config.seed, config.vocabulary_size)
        with atomic_folder(run.path / "model") as folder:
            tokenizer.save(folder)
            write_json(folder / "config.json", model_config(config, tokenizer))
        texts = (("first", config.first_mix, config.num_first_rows),
                 ("rows", config.mix, config.num_rows))  # fmt: skip
        for offset, (name, mix, num_rows) in enumerate(texts):
            rows = pretraining_rows(config.seed + offset, mix)
            write_jsonl(run.path / f"{name}.jsonl", itertools.islice(rows, num_rows))
        return run.path


def pretraining_rows(seed: int, mix: TextMix) -> Iterator[dict[str, str]]:
    """Endless rows of prompt and completion in R1-Zero's plain form: what the base model reads.

    A share of them is general talk (`mix.talk`), the rest are sums that no test holds.
    """
    rng = random.Random(seed)
    talk = exchanges()
    while True:
        if rng.random() < mix.talk:
            exchange = rng.choice(talk)
            question, reply = exchange.prompt, write_talk(rng, exchange)
        else:
            drawn = draw_sum(rng, mix, held_out=False)
            language = rng.choice(LANGUAGES)
            question = word_question(rng, drawn, language)
            reply = write_reply(rng, drawn, language, mix)
        yield {"prompt": question, "completion": reply, "style": "r1_zero"}


def train_tokenizer(seed: int, vocabulary_size: int) -> Tokenizer:
    """A byte-level BPE of the miniature's own text, with R1's special tokens.

    Digits stay single, as in the released tokenizers; all else may merge across spaces
    (SuperBPE, arXiv 2503.13423), which makes replies a third as long.
    """
    rows = itertools.islice(pretraining_rows(seed, TextMix(modes=(1, 1, 1))), _NUM_TOKENIZER_ROWS)
    texts = [R1_ZERO_PROMPT] * 50
    texts += [part for row in rows for part in (row["prompt"], row["completion"])]
    texts += [part for row in sft_rows() for part in (row["prompt"], row["completion"])] * 5
    for phrases in PHRASES.values():
        texts += [text.format(sum="1 + 2", answer=3) for text in phrases.summaries] * 200
    backend = tokenizers.Tokenizer(models.BPE())
    # A tag is a token of its own, so no merge may hold a part of one.
    apart = "|".join((*REASONING_TAGS, r"\d", r"\n+"))
    split = pre_tokenizers.Split(Regex(apart), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    backend.decoder = decoders.ByteLevel()
    specials = [_BOS, _EOS, _PAD, *_TURNS]
    num_added = len(specials) + len(REASONING_TAGS)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - num_added,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    backend.add_tokens([AddedToken(t, special=False, normalized=False) for t in REASONING_TAGS])
    names = SpecialTokens(eos=_EOS, bos=_BOS, pad=_PAD)
    return Tokenizer(backend, names, chat_template=R1_CHAT_TEMPLATE)


def model_config(config: MiniatureBaseConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """The Hugging Face config of a Qwen2 model of this size."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "max_position_embeddings": _MAX_POSITIONS,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }

"""A tiny byte-level tokenizer with R1's special tokens."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from r1.text.special_tokens import SpecialTokens
from r1.text.tokenizer import Tokenizer

EOS, BOS = "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"
MARKUP = [EOS, BOS, "<｜User｜>", "<｜Assistant｜>"]


@pytest.fixture(scope="session")
def tiny_backend() -> Backend:
    """A byte-level BPE with R1's special tokens; ids 0-3 control, 4-5 the thought's tags."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[*MARKUP, "<think>", "</think>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["what is three plus four? User thinks of it"] * 3, trainer)
    backend.add_tokens([AddedToken(tag, special=False) for tag in ("<think>", "</think>")])
    return backend


@pytest.fixture(scope="session")
def tiny(tiny_backend: Backend) -> Tokenizer:
    return Tokenizer(tiny_backend, SpecialTokens(eos=EOS, bos=BOS))

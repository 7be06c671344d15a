"""Supervised fine-tuning and pretraining: next-token prediction on packed rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from r1.atomic_files import atomic_folder
from r1.engine.open_model import check_vocabulary, choose_device, choose_dtype
from r1.models.architectures import build_model
from r1.models.catalogue import resolve_model
from r1.models.hf_checkpoint import load_config, load_language_model, save_model
from r1.models.language_model import LanguageModel
from r1.models.presets import R1_GENERATION
from r1.run_log import RunFolder, write_json
from r1.text.prompts import PromptStyle
from r1.text.tokenizer import load_tokenizer
from r1.training.expert_balance import ExpertBalance, ExpertConfig
from r1.training.logprobs import token_loss
from r1.training.loop import (
    EncodedRow,
    LoopConfig,
    MicroLoss,
    Training,
    run_steps,
)
from r1.training.losses import sft_loss
from r1.training.memory import fit_memory
from r1.training.packing import PackedTargets, pack_targets
from r1.training.sft_data import (
    EncodedRows,
    TrainOn,
    data_summary,
    encode_sft_row,
    load_train_and_held_out,
)


class SftConfig(LoopConfig):
    """Supervised training of `model` on `data`; see `sft_data` for what a row may be.

    Loss is on the assistant's tokens, or on every token with `train_on = "all"` and for
    rows of plain text. `init = "random"` takes config.json and the tokenizer from
    `model` and draws new weights from `seed`: pretraining from scratch.
    """

    init: Literal["checkpoint", "random"] = "checkpoint"
    style: PromptStyle = "chat"
    """Of rows that name none: how a text prompt is put to the model."""
    train_on: TrainOn = "assistant"
    experts: ExpertConfig = ExpertConfig()
    mtp_loss_weight: float = Field(default=0.0, ge=0)
    """Of the loss of predicting the token after the next (DeepSeek-V3: 0.3, later 0.1)."""


def run_sft(config: SftConfig, rows: Iterable[Mapping[str, Any]] | None = None) -> Path:
    """Train and return the folder of the final checkpoint, in Hugging Face form.

    `rows` replaces `config.data` (text that the caller generates; the same on every
    start). Killed and started again, it continues and ends with the same weights, bit
    for bit. Raises ValueError for data that cannot be used, before training starts, and
    RunError when the run cannot go on.
    """
    with RunFolder.open(config.output, config=config) as run:
        if (run.checkpoint_path / "config.json").exists():
            return run.checkpoint_path
        source = resolve_model(config.model)
        tokenizer = load_tokenizer(source)
        encode = partial(encode_sft_row, tokenizer, style=config.style, train_on=config.train_on)
        train, held_out = load_train_and_held_out(config, rows, encode)
        write_json(run.path / "data.json", data_summary(train, held_out))
        model = _start_model(config, source)
        check_vocabulary(tokenizer, model.config, source)
        longest = max(
            len(sequence) for row in (*train.rows, *held_out.rows) for sequence in row.sequences
        )
        config = fit_memory(config, model, longest)
        balance = ExpertBalance(model, config.experts, mtp_loss_weight=config.mtp_loss_weight)
        training = Training(
            "sft",
            train.rows,
            partial(sft_losses, balance, train.rows, config.micro_batch_tokens),
            partial(_held_out_loss, balance, held_out, config) if held_out.rows else None,
            balance.after_step,
        )
        run_steps(run, config, model, training)
        with atomic_folder(run.checkpoint_path) as folder:
            generation = {**R1_GENERATION, **tokenizer.token_ids}
            save_model(model, folder, generation_config=generation)
            tokenizer.save(folder)
        return run.checkpoint_path


def sft_losses(
    balance: ExpertBalance,
    rows: Sequence[EncodedRow],
    micro_batch_tokens: int,
    indices: Sequence[int],
) -> Iterator[MicroLoss]:
    """The losses of these rows' micro-batches: together the mean over their target tokens.

    One forward pass each, of at most `micro_batch_tokens` (or the longest sequence).
    """
    sequences = [sequence for index in indices for sequence in rows[index].sequences]
    num_batch_tokens = sum(sequence.num_targets for sequence in sequences)
    num_sequences = sum(sequence.num_targets > 0 for sequence in sequences)
    model = balance.model
    max_tokens = max(micro_batch_tokens, *map(len, sequences))

    def loss_of(row: PackedTargets) -> Tensor:
        hidden_BTD, added_loss = balance.forward(
            row, num_sequences=num_sequences, num_targets=num_batch_tokens
        )
        hidden_PD = row.at_targets(hidden_BTD)
        loss = token_loss(
            model, hidden_PD, row.targets_P, lambda part, _: sft_loss(part, num_batch_tokens)
        ).loss
        return loss if added_loss is None else loss + added_loss

    for row in pack_targets(sequences, max_tokens, device=model.head_weight.device):
        yield MicroLoss(loss_of(row), row.input_ids_BT.numel())


@torch.no_grad()
def _held_out_loss(
    balance: ExpertBalance, held_out: EncodedRows, config: SftConfig
) -> dict[str, float]:
    indices = range(len(held_out.rows))
    losses = sft_losses(balance, held_out.rows, config.micro_batch_tokens, indices)
    return {"eval_loss": sum(micro.loss.item() for micro in losses)}


def _start_model(config: SftConfig, source: Path) -> LanguageModel:
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    if config.init == "checkpoint":
        return load_language_model(source, dtype=dtype, device=device)
    model = build_model(load_config(source), dtype or torch.float32, device, seed=config.seed)
    if not isinstance(model, LanguageModel):
        raise ValueError(f"{source}: a reward model's config, where a language model is needed")
    return model

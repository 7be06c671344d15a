"""Reward models: a scalar head on the same decoder, pairwise or pointwise.

Pairwise (helpfulness) learns which of two replies is better; pointwise (safety) learns
a yes or no for one. R1 scores helpfulness on the final summary only and safety on the
whole response (arXiv 2501.12948, 2.3.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from r1.atomic_files import atomic_folder
from r1.config import Config, save_config
from r1.config import load_config as load_settings
from r1.engine.open_model import check_vocabulary, choose_device, choose_dtype
from r1.models.architectures import build_scorer
from r1.models.catalogue import resolve_model
from r1.models.hf_checkpoint import load_model, save_model
from r1.models.language_model import SequenceScorer
from r1.run_log import RunFolder, write_json
from r1.text.prompts import PromptStyle, encode_completion
from r1.text.reasoning import split_reasoning
from r1.text.tokenizer import Tokenizer, load_tokenizer
from r1.training.loop import (
    EncodedRow,
    LoopConfig,
    MicroLoss,
    Training,
    run_steps,
)
from r1.training.losses import pointwise_loss, preference_loss
from r1.training.memory import fit_memory
from r1.training.packing import PackedRow, TokenSequence, lay_out, pack_whole, plan_packs
from r1.training.sft_data import (
    data_summary,
    encode_prompt,
    load_train_and_held_out,
    text_field,
)

_SETTINGS_FILE = "reward_model.json"


class ScoringSettings(Config):
    """How a trained reward model reads what it scores; kept beside its weights."""

    kind: Literal["pairwise", "pointwise"]
    score_on: Literal["summary", "response"]
    style: PromptStyle
    max_length: int


class RewardModelConfig(LoopConfig):
    """Training of a reward model that starts from the language model `model`.

    Rows: `{"prompt", "chosen", "rejected"}` for "pairwise", `{"prompt", "response",
    "label"}` with a label of 0 or 1 for "pointwise". `score_on` None is the summary for
    pairwise and the whole response for pointwise, as in R1. Defaults are R1's.
    """

    kind: Literal["pairwise", "pointwise"] = "pairwise"
    score_on: Literal["summary", "response"] | None = None
    style: PromptStyle = "chat"
    max_length: int = 8_192
    batch_size: int = 256
    learning_rate: float = 6e-6

    @model_validator(mode="after")
    def _check_style(self) -> Self:
        if self.style == "r1_zero" and self.settings.score_on == "summary":
            raise ValueError('score_on = "summary" needs the style "chat" or "plain"')
        return self

    @property
    def settings(self) -> ScoringSettings:
        """What is kept beside the weights, with the default of `score_on` resolved."""
        by_kind: dict[str, Literal["summary", "response"]]
        by_kind = {"pairwise": "summary", "pointwise": "response"}
        return ScoringSettings(
            kind=self.kind,
            score_on=self.score_on or by_kind[self.kind],
            style=self.style,
            max_length=self.max_length,
        )


def run_reward_model(
    config: RewardModelConfig, rows: Iterable[Mapping[str, Any]] | None = None
) -> Path:
    """Train a reward model and return the folder of its checkpoint, for `load_reward_model`.

    Logs loss and accuracy, and `eval_accuracy` on what is held out. Resumes bit for bit.
    Raises ValueError for data that cannot be used, before training starts, and RunError
    when the run cannot go on.
    """
    with RunFolder.open(config.output, config=config) as run:
        if (run.checkpoint_path / "config.json").exists():
            return run.checkpoint_path
        source = resolve_model(config.model)
        tokenizer = load_tokenizer(source)
        settings = config.settings
        encode_row = {"pairwise": _encode_pair, "pointwise": _encode_labelled}[config.kind]
        train, held_out = load_train_and_held_out(
            config, rows, partial(encode_row, tokenizer, settings)
        )
        write_json(run.path / "data.json", data_summary(train, held_out))
        model = _start_model(config, source)
        check_vocabulary(tokenizer, model.config, source)
        longest = max(row.num_tokens for row in (*train.rows, *held_out.rows))
        config = fit_memory(config, model, longest)
        losses = {"pairwise": pairwise_losses, "pointwise": pointwise_losses}[config.kind]
        evaluate = partial(losses, model, held_out.rows, config.micro_batch_tokens)
        training = Training(
            "reward",
            train.rows,
            partial(losses, model, train.rows, config.micro_batch_tokens),
            partial(_measure, evaluate, len(held_out.rows)) if held_out.rows else None,
        )
        run_steps(run, config, model, training)
        with atomic_folder(run.checkpoint_path) as folder:
            save_model(model, folder)
            tokenizer.save(folder)
            save_config(settings, folder / _SETTINGS_FILE)
        return run.checkpoint_path


def pairwise_losses(
    model: SequenceScorer,
    rows: Sequence[EncodedRow],
    micro_batch_tokens: int,
    indices: Sequence[int],
) -> Iterator[MicroLoss]:
    """Bradley-Terry losses of these pairs; both replies of a pair lie in one forward pass.

    Metrics: `accuracy`, the share of pairs in the right order (a tie counts half), and
    `margin`, the mean difference of scores.
    """
    pairs = [rows[index] for index in indices]
    max_tokens = max(micro_batch_tokens, *(pair.num_tokens for pair in pairs))
    for pack in plan_packs([pair.num_tokens for pair in pairs], max_tokens):
        token_ids = [s.token_ids for place in pack for s in pairs[place].sequences]
        row = lay_out(token_ids, range(len(token_ids)), model.score.weight.device)
        chosen_B, rejected_B = _scores(model, row).view(-1, 2).unbind(1)
        margin_B = (chosen_B - rejected_B).detach()
        right = (margin_B > 0).sum() + 0.5 * (margin_B == 0).sum()
        metrics = {
            "accuracy": right.item() / len(pairs),
            "margin": margin_B.sum().item() / len(pairs),
        }
        loss = preference_loss(chosen_B, rejected_B, len(pairs))
        yield MicroLoss(loss, row.input_ids_BT.numel(), metrics)


def pointwise_losses(
    model: SequenceScorer,
    rows: Sequence[EncodedRow],
    micro_batch_tokens: int,
    indices: Sequence[int],
) -> Iterator[MicroLoss]:
    """Binary cross-entropy of these rows; metrics: `accuracy` at a probability of 1/2."""
    chosen = [rows[index] for index in indices]
    sequences = [row.sequences[0] for row in chosen]
    max_tokens = max(micro_batch_tokens, *map(len, sequences))
    for row in pack_whole(sequences, max_tokens, device=model.score.weight.device):
        scores_B = _scores(model, row)
        labels_B = scores_B.new_tensor([chosen[i].label for i in row.sequence_indices])
        num_right = ((scores_B > 0) == (labels_B > 0.5)).sum().item()
        loss = pointwise_loss(scores_B, labels_B, len(chosen))
        metrics = {"accuracy": num_right / len(chosen)}
        yield MicroLoss(loss, row.input_ids_BT.numel(), metrics)


def _scores(model: SequenceScorer, row: PackedRow) -> Tensor:
    """fp32 scores [S] of a row's sequences, each read at its last token."""
    hidden_BTD = model(row.input_ids_BT, row.positions_BT)
    lasts = torch.tensor(row.ends, device=hidden_BTD.device) - 1
    return model.compute_scores(hidden_BTD[0].index_select(0, lasts)).float()


@torch.no_grad()
def _measure(
    losses: Callable[[Sequence[int]], Iterator[MicroLoss]], num_rows: int
) -> dict[str, float]:
    totals = {"eval_loss": 0.0}
    for micro in losses(range(num_rows)):
        totals["eval_loss"] += micro.loss.item()
        for name, value in micro.metrics.items():
            totals[f"eval_{name}"] = totals.get(f"eval_{name}", 0.0) + value
    return totals


def _start_model(config: RewardModelConfig, source: Path) -> SequenceScorer:
    device = choose_device(config.device)
    model = load_model(source, dtype=choose_dtype(config.dtype, device), device=device)
    # A reward model can be trained further; a language model gets a new head.
    return model if isinstance(model, SequenceScorer) else build_scorer(model, seed=config.seed)


@dataclass(frozen=True)
class RewardModel:
    """A trained reward model, ready to score.

    Called with (question, response) pairs it returns one float each: a pairwise model's
    score has no scale of its own (only differences count), a pointwise model's is the
    probability of label 1.
    """

    model: SequenceScorer
    tokenizer: Tokenizer
    settings: ScoringSettings
    micro_batch_tokens: int = 8_192

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return self.score(pairs)

    @torch.no_grad()
    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Scores in the order of `pairs`; a response is cut at the training length.

        With `score_on = "summary"` a response's thought is left out first; a response
        whose thought never ends is scored as an empty summary.
        """
        sequences = [
            _encode_scored(self.tokenizer, self.settings, question, response)
            for question, response in pairs
        ]
        sequences = [_cut(sequence, self.settings.max_length) for sequence in sequences]
        scores = np.zeros(len(sequences))
        max_tokens = max([self.micro_batch_tokens, *map(len, sequences)])
        for row in pack_whole(sequences, max_tokens, device=self.model.score.weight.device):
            scores_B = _scores(self.model, row)
            if self.settings.kind == "pointwise":
                scores_B = scores_B.sigmoid()
            scores[list(row.sequence_indices)] = scores_B.cpu().numpy()
        return scores.tolist()


def load_reward_model(path: Path | str, *, device: str = "auto") -> RewardModel:
    """Open a folder that `run_reward_model` made.

    Raises ValueError when it is not one.
    """
    folder = Path(path)
    if not (folder / _SETTINGS_FILE).is_file():
        raise ValueError(f"{folder}: no {_SETTINGS_FILE}; train one with `r1 reward`")
    model = load_model(folder, device=choose_device(device))
    if not isinstance(model, SequenceScorer):
        raise ValueError(f"{folder}: holds a language model without a scalar head")
    settings = load_settings(ScoringSettings, folder / _SETTINGS_FILE)
    return RewardModel(model.eval(), load_tokenizer(folder), settings)


def _encode_scored(
    tokenizer: Tokenizer, settings: ScoringSettings, prompt: Any, response: str
) -> TokenSequence:
    """A prompt and the part of its response that is scored, ended by EOS."""
    scored = split_reasoning(response).answer if settings.score_on == "summary" else response
    encoded = encode_prompt(tokenizer, prompt, settings.style, scored)
    return TokenSequence.of(encoded.ids, encode_completion(tokenizer, encoded, scored))


def _encode_pair(
    tokenizer: Tokenizer, settings: ScoringSettings, row: Mapping[str, Any]
) -> EncodedRow:
    chosen, rejected = text_field(row, "chosen"), text_field(row, "rejected")
    sequences = tuple(
        _encode_scored(tokenizer, settings, row.get("prompt"), response)
        for response in (chosen, rejected)
    )
    if np.array_equal(sequences[0].token_ids, sequences[1].token_ids):
        raise ValueError('"chosen" and "rejected" are the same where they are scored')
    return EncodedRow(sequences)


def _encode_labelled(
    tokenizer: Tokenizer, settings: ScoringSettings, row: Mapping[str, Any]
) -> EncodedRow:
    response = text_field(row, "response")
    label = row.get("label")
    if not isinstance(label, (int, float)) or not 0 <= label <= 1:
        raise ValueError(f'"label" must be a number from 0 to 1, not {label!r}')
    sequence = _encode_scored(tokenizer, settings, row.get("prompt"), response)
    return EncodedRow((sequence,), float(label))


def _cut(sequence: TokenSequence, max_length: int) -> TokenSequence:
    """The first tokens and the final EOS, where the score is read."""
    if len(sequence) <= max_length:
        return sequence
    kept = np.r_[0 : max_length - 1, len(sequence) - 1]
    return TokenSequence(sequence.token_ids[kept], sequence.is_target[kept])

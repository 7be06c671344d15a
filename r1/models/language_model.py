"""What stands on a decoder: a head over the vocabulary, or a scalar one for scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from r1.kernels.fused import kernels_for
from r1.models.attention import KVCache
from r1.models.layers import Embedding, KernelChoice, Linear, RMSNorm, linear
from r1.models.model_config import ModelConfig
from r1.models.recompute import run_recomputed


class Decoder(nn.Module):
    """Embedding, layers and final norm of an architecture: ids to hidden states."""

    embed_tokens: Embedding
    layers: nn.ModuleList
    norm: RMSNorm
    is_exact = False
    is_checkpointed = False
    """Whether layers are computed again in the backward pass, rather than kept: the same bits."""

    def run_layer(self, layer: nn.Module, hidden_BTD: Tensor, *context: Any) -> Tensor:
        """[B, T, D] to [B, T, D] by one of the layers."""
        if self.is_checkpointed and torch.is_grad_enabled():
            return run_recomputed(layer, hidden_BTD, *context)
        return layer(hidden_BTD, *context)


class _Headed(nn.Module):
    """A decoder that waits for a head: what both kinds of model share."""

    def __init__(self, config: ModelConfig, decoder: Decoder) -> None:
        super().__init__()
        self.config = config
        self.generation_config: Mapping[str, Any] | None = None
        self.notices: Mapping[str, str] = {}
        self.model = decoder

    @property
    def embedding_weight(self) -> Tensor:
        """The input embedding [V, D]."""
        return self.model.embed_tokens.weight

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype."""
        return self.embedding_weight.dtype

    @property
    def device(self) -> torch.device:
        """The weights' device."""
        return self.embedding_weight.device

    def forward(
        self, input_ids_BT: Tensor, positions_BT: Tensor, kv_cache: KVCache | None = None
    ) -> Tensor:
        """Hidden states [B, T, D] after the final norm; the head is the caller's next call.

        Without a cache, positions that restart at 0 separate the texts of a packed
        row; padding has position 0 and touches nothing. With one, `kv_cache.attend`
        is called once a layer with rotated queries and keys.
        """
        return self.model(input_ids_BT, positions_BT, kv_cache)

    def checkpoint_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The weights under a checkpoint's names, in the model's own memory."""
        return ((name, parameter.detach()) for name, parameter in self.named_parameters())


class LanguageModel(_Headed):
    """A decoder of any architecture and a head over the vocabulary.

    Made by `build_model` (random weights) or `load_model`; the bare constructor
    leaves the weights uninitialised. With tied embeddings there is no `lm_head`
    parameter: the head is `model.embed_tokens.weight`, as in the checkpoint.
    """

    kernels_for: KernelChoice = staticmethod(kernels_for)

    def __init__(self, config: ModelConfig, decoder: Decoder) -> None:
        super().__init__(config, decoder)
        self.lm_head = (
            None
            if config.tie_word_embeddings
            else Linear(config.hidden_size, config.vocab_size, bias=False)
        )

    @property
    def is_exact(self) -> bool:
        """Whether `exact.make_exact` was called on it."""
        return self.model.is_exact

    @property
    def head_weight(self) -> Tensor:
        """The output matrix [V, D], tied or not."""
        return self.embedding_weight if self.lm_head is None else self.lm_head.weight

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D], in the model's dtype (vLLM's split).

        Apart from `forward`, so that callers can take only the tokens they need.
        """
        return linear(hidden, self.head_weight, None, self.kernels_for(hidden))


class SequenceScorer(_Headed):
    """A decoder with a scalar head, for reward models.

    Opens in transformers as the `...ForSequenceClassification` of its family with one
    label; the score of a text is that of its last token.
    """

    def __init__(self, config: ModelConfig, decoder: Decoder) -> None:
        super().__init__(config, decoder)
        self.score = Linear(config.hidden_size, 1, bias=False)

    def compute_scores(self, hidden: Tensor) -> Tensor:
        """Scores [...] of hidden states [..., D]; pick each text's last token first."""
        return self.score(hidden).squeeze(-1)

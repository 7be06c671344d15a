"""DeepSeek-V3, one definition for training and generation (arXiv:2412.19437).

Names are those of the released checkpoints and of transformers' DeepseekV3ForCausalLM,
save that the routed experts of a layer are stacked; `checkpoint_tensors` takes them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from r1.models.attention import AttentionPlan, KVCache
from r1.models.deepseek_layer import DeepseekDecoderLayer
from r1.models.fp8 import SCALE_SUFFIX
from r1.models.language_model import Decoder, LanguageModel, SequenceScorer
from r1.models.layers import Embedding, RMSNorm, RotaryEmbedding
from r1.models.model_config import ModelConfig
from r1.models.moe import MixtureOfExperts, RoutingTrace
from r1.models.mtp import MultiTokenPredictor


class DeepseekV3Model(Decoder):
    """Embedding, decoder layers, multi-token predictor and final norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_layers = config.num_hidden_layers
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        layers = [DeepseekDecoderLayer(config, layer) for layer in range(self.num_layers)]
        predictors = [
            MultiTokenPredictor(config, self.num_layers + depth)
            for depth in range(config.num_nextn_predict_layers or 0)
        ]
        self.layers = nn.ModuleList([*layers, *predictors])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary = RotaryEmbedding(config)

    @property
    def predictor(self) -> MultiTokenPredictor | None:
        """The first multi-token-prediction layer, if there is one."""
        if len(self.layers) == self.num_layers:
            return None
        predictor = self.layers[self.num_layers]
        assert isinstance(predictor, MultiTokenPredictor)
        return predictor

    def forward(
        self,
        input_ids_BT: Tensor,
        positions_BT: Tensor,
        kv_cache: KVCache | None = None,
        trace: RoutingTrace | None = None,
    ) -> Tensor:
        """Token ids and positions [B, T] to hidden states [B, T, D] after the final norm."""
        context = AttentionPlan.from_positions(positions_BT) if kv_cache is None else kv_cache
        hidden_BTD = self.embed_tokens(input_ids_BT)
        rotation = self.rotary(positions_BT, hidden_BTD.dtype)
        for layer in self.layers[: self.num_layers]:
            hidden_BTD = self.run_layer(layer, hidden_BTD, rotation, context, trace)
        return self.norm(hidden_BTD)


class DeepseekV3ForCausalLM(LanguageModel):
    """DeepSeek-V3 (and so R1-Zero and R1) with a head over the vocabulary."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, DeepseekV3Model(config))

    def forward(
        self,
        input_ids_BT: Tensor,
        positions_BT: Tensor,
        kv_cache: KVCache | None = None,
        trace: RoutingTrace | None = None,
    ) -> Tensor:
        """As every language model's; `trace` records the routing, or repeats a given one."""
        return self.model(input_ids_BT, positions_BT, kv_cache, trace)

    def draft(
        self,
        hidden_BTD: Tensor,
        next_ids_BT: Tensor,
        positions_BT: Tensor,
        kv_cache: KVCache | None = None,
        trace: RoutingTrace | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D] whose logits predict the token after `next_ids_BT`.

        `hidden_BTD` is what `forward` gave for the same positions. A cache is used under
        the layer number `num_hidden_layers`. Raises ValueError for a model without a
        multi-token-prediction layer.
        """
        decoder = self.model
        assert isinstance(decoder, DeepseekV3Model)
        predictor = decoder.predictor
        if predictor is None:
            raise ValueError("this model has no multi-token-prediction layer")
        context = AttentionPlan.from_positions(positions_BT) if kv_cache is None else kv_cache
        states = (hidden_BTD, decoder.embed_tokens(next_ids_BT))
        rotation = decoder.rotary(positions_BT, hidden_BTD.dtype)
        return predictor.predict(states, rotation, context, trace)

    def moe_layers(self) -> Iterator[MixtureOfExperts]:
        """The mixtures of experts, those of multi-token prediction included."""
        return (module for module in self.modules() if isinstance(module, MixtureOfExperts))

    def checkpoint_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The release's names: each expert by itself, embedding and head again in the MTP layer."""
        yield from _split_experts(super().checkpoint_tensors())
        for depth in range(self.config.num_nextn_predict_layers or 0):
            prefix = f"model.layers.{self.config.num_hidden_layers + depth}"
            yield f"{prefix}.embed_tokens.weight", self.embedding_weight.detach()
            yield f"{prefix}.shared_head.head.weight", self.head_weight.detach()


class DeepseekV3ForSequenceClassification(SequenceScorer):
    """DeepSeek-V3 with a scalar head: a reward model."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, DeepseekV3Model(config))

    def checkpoint_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The release's names: each expert by itself."""
        yield from _split_experts(super().checkpoint_tensors())


def _split_experts(named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Stacks of experts taken apart, as views; everything else as it is."""
    for name, tensor in named:
        prefix, is_stack, projection = name.partition(".experts.")
        if not is_stack:
            yield name, tensor
            continue
        projection, scale, _ = projection.partition(SCALE_SUFFIX)
        names = ("gate_proj", "up_proj") if projection == "gate_up_proj" else (projection,)
        for index, expert in enumerate(tensor):
            for part_name, part in zip(names, expert.chunk(len(names)), strict=True):
                yield f"{prefix}.experts.{index}.{part_name}.weight{scale}", part

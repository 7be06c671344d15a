"""transformers: `generate`, and a plain training loop.

Its continuous batching (`generate_batch`) took 3.3 times as long as `generate` on a CPU
(32 x 128 tokens in, 33 out, transformers 5.23) and 14 GB, so it is not the one to beat.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, StoppingCriteria
from worker import serve, synchronize


class FirstTokenTime(StoppingCriteria):
    """Never stops; notes when the first token was there."""

    def __init__(self) -> None:
        self.first: float | None = None

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if self.first is None:
            synchronize()
            self.first = time.perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


class Peer:
    """One model, opened once."""

    def open(self, model: str, dtype: str, device: str, shape: Any = None) -> dict[str, Any]:
        chosen = getattr(torch, dtype)
        if shape is None:
            self.model = AutoModelForCausalLM.from_pretrained(model, dtype=chosen)
        else:
            config = AutoConfig.for_model(**shape)
            self.model = AutoModelForCausalLM.from_config(config, dtype=chosen)
        self.model.to(device).eval()
        self.optimizer: torch.optim.Optimizer | None = None
        return {"version": f"transformers {transformers.__version__}, torch {torch.__version__}"}

    def _generation(self, num_tokens: int) -> GenerationConfig:
        return GenerationConfig(
            max_new_tokens=num_tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            eos_token_id=None, pad_token_id=0, bos_token_id=None,
        )  # fmt: skip

    def generate(
        self, prompts: Sequence[Sequence[int]], num_tokens: Sequence[int]
    ) -> dict[str, Any]:
        """Padded on the left, for as long as the longest reply takes."""
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        timer = FirstTokenTime()
        self.model.generation_config = self._generation(max(num_tokens))
        started = time.perf_counter()
        with torch.inference_mode():
            output = self.model.generate(
                ids.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                stopping_criteria=[timer],
            )
        synchronize()
        seconds = time.perf_counter() - started
        assert output.shape[1] == longest + max(num_tokens) and timer.first is not None
        return {"seconds": seconds, "first_seconds": timer.first - started, "num_first": len(ids)}

    def train(self, samples: Sequence[Sequence[int]], micro_batch_tokens: int) -> dict[str, Any]:
        """One step of next-token prediction: equal lengths, no padding, fused AdamW."""
        if self.optimizer is None:
            self.model.train()
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, fused=True)
        ids = torch.tensor(samples, device=self.model.device)
        num_rows = max(1, micro_batch_tokens // ids.shape[1])
        for rows in ids.split(num_rows):
            loss = self.model(input_ids=rows, labels=rows, use_cache=False).loss
            (loss * len(rows) / len(ids)).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {}


if __name__ == "__main__":
    peer = Peer()
    serve({
        "open": peer.open, "generate": peer.generate, "train": peer.train,
    })  # fmt: skip

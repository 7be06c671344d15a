"""TRL: the steps of its GRPOTrainer, one at a time."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import datasets
import torch
import trl
from transformers import TrainerCallback
from worker import SteppedRun, serve


class Gate(TrainerCallback):
    """Waits for its turn where a step begins."""

    def __init__(self, begin_step: Callable[[], None]) -> None:
        self.begin_step = begin_step

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.begin_step()


def reward(completions: Sequence[str], **columns: Any) -> list[float]:
    """Half of all replies, by a checksum of their text."""
    return [float(zlib.crc32(text.encode()) % 2) for text in completions]


class Peer:
    """One training run."""

    def open(self, model: str, dtype: str, device: str, **settings: Any) -> dict[str, Any]:
        """`settings`: prompts, group_size, num_tokens, micro_batch."""
        self.settings = settings
        self.run = SteppedRun(lambda begin: self._train(begin, model, dtype, device, **settings))
        return {"version": f"TRL {trl.__version__}, torch {torch.__version__}"}

    def _train(
        self, begin_step: Callable[[], None], model: str, dtype: str, device: str,
        prompts: Sequence[str], group_size: int, num_tokens: int, micro_batch: int,
    ) -> None:  # fmt: skip
        num_samples = len(prompts) * group_size
        config = trl.GRPOConfig(
            output_dir=tempfile.mkdtemp(), use_cpu=device == "cpu", bf16=dtype == "bfloat16",
            model_init_kwargs={"dtype": dtype}, per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=num_samples // micro_batch, num_generations=group_size,
            max_completion_length=num_tokens, learning_rate=1e-6, beta=0.0, temperature=1.0,
            generation_kwargs={"min_new_tokens": num_tokens}, gradient_checkpointing=False,
            max_steps=10_000, logging_strategy="no", save_strategy="no", report_to="none",
        )  # fmt: skip
        trainer = trl.GRPOTrainer(
            model=model,
            reward_funcs=reward,
            args=config,
            train_dataset=datasets.Dataset.from_dict({"prompt": list(prompts)}),
            callbacks=[Gate(begin_step)],
        )
        trainer.train()

    def step(self) -> dict[str, Any]:
        """Generation, rewards and the update."""
        self.run.step()
        return {}


if __name__ == "__main__":
    peer = Peer()
    serve({"open": peer.open, "step": peer.step})

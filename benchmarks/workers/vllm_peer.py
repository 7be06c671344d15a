"""vLLM: `LLM.generate` on token ids, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import vllm
from worker import serve


class Peer:
    """One model, opened once."""

    def open(self, model: str, dtype: str, device: str, **options: Any) -> dict[str, Any]:
        self.llm = vllm.LLM(
            model=model, dtype=dtype, enable_prefix_caching=True, max_num_seqs=256,
            max_model_len=4096, seed=0, disable_log_stats=False, **options,
        )  # fmt: skip
        return {"version": f"vLLM {vllm.__version__}"}

    def generate(
        self, prompts: Sequence[Sequence[int]], num_tokens: Sequence[int], num_samples: int = 1
    ) -> dict[str, Any]:
        """`first_seconds` is when the last request had its first token.

        By then earlier ones had one more for each step in between; those are `num_first`.
        """
        sampling = [
            vllm.SamplingParams(
                temperature=1.0, max_tokens=n, ignore_eos=True, n=num_samples, detokenize=False
            )
            for n in num_tokens
        ]
        requests = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        begun, started = time.monotonic(), time.perf_counter()
        outputs = self.llm.generate(requests, sampling, use_tqdm=False)
        seconds = time.perf_counter() - started
        for output, wanted in zip(outputs, num_tokens, strict=True):
            assert [len(reply.token_ids) for reply in output.outputs] == [wanted] * num_samples
        if num_samples > 1:  # its metrics are those of one sample only
            return {"seconds": seconds}
        firsts = [output.metrics.first_token_ts for output in outputs]
        steps = sorted(set(firsts))
        num_first = sum(len(steps) - steps.index(first) for first in firsts)
        return {"seconds": seconds, "first_seconds": steps[-1] - begun, "num_first": num_first}


if __name__ == "__main__":
    peer = Peer()
    serve({"open": peer.open, "generate": peer.generate})

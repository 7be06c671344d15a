"""The process in which reasoning-gym's symbolic scorers run, so that they can be killed:
`python -m r1.tasks.reasoning_gym.scorer_worker SECONDS`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from typing import Any

from reasoning_gym.dataset import ProceduralDataset

from r1.rewards.verifier_pool import WorkerPool, python_module_command
from r1.rewards.worker_process import serve


@cache
def shared_scorer_pool(num_workers: int, timeout_seconds: float) -> WorkerPool:
    """This process's one pool of scorers with these settings; started when first asked."""
    command = python_module_command("r1.tasks.reasoning_gym.scorer_worker", str(timeout_seconds))
    return WorkerPool(command, num_workers=num_workers, timeout_seconds=timeout_seconds)


def scorer_request(
    family: str, options: Mapping[str, Any], answer: str, entry: Mapping[str, Any]
) -> dict[str, Any]:
    """What to ask a worker; its reply has `score`, or None there and why in `reason`."""
    # Python literals, since JSON would turn the tuples that scorers rely on into lists.
    return {
        "family": family,
        "options": repr(dict(options)),
        "answer": answer,
        "entry": repr(dict(entry)),
    }


def _reply(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        dataset = _dataset(request["family"], request["options"])
        entry = ast.literal_eval(request["entry"])
        return {"score": float(dataset.score_answer(request["answer"], entry)), "reason": ""}
    # Other people's code on any text: whatever it raises is its failure, not a score.
    except Exception as error:
        return {"score": None, "reason": f"raised {type(error).__name__}: {error}"}


@cache
def _dataset(family: str, options: str) -> ProceduralDataset:
    from r1.tasks.reasoning_gym.reasoning_gym import make_dataset

    return make_dataset(family, ast.literal_eval(options), seed=0, size=1)


if __name__ == "__main__":
    serve(_reply)

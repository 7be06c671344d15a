"""The process in which reasoning-gym's symbolic scorers run: `python -m r1.tasks.scorer_worker`.

sympy may take for ever on an expression of ten characters, so these scorers run where
they can be killed. Requests and replies are JSON lines on the standard streams.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from reasoning_gym.dataset import ProceduralDataset

from r1.rewards.verifier_pool import WorkerPool, cpu_time_limit, python_module_command

_MEMORY_LIMIT_BYTES = 2 << 30


@cache
def shared_scorer_pool(num_workers: int, timeout_seconds: float) -> WorkerPool:
    """This process's one pool of scorers with these settings; started when first asked."""
    command = python_module_command("r1.tasks.scorer_worker", str(timeout_seconds))
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


def main() -> None:
    """Serve until the standard input ends; the argument limits the CPU seconds of a job."""
    timeout_seconds = float(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    # The protocol keeps the real standard output; a library's prints go to stderr.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        with cpu_time_limit(timeout_seconds):
            reply = _reply(json.loads(line))
        print(json.dumps(reply), file=replies, flush=True)


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
    from r1.tasks.reasoning_gym import make_dataset

    return make_dataset(family, ast.literal_eval(options), seed=0, size=1)


if __name__ == "__main__":
    main()

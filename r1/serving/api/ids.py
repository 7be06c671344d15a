"""Names and seeds of requests, for which the system is not asked.

A call of the system gives the interpreter away to the engine's thread, and waiting for its
return takes a request far longer than the call.
"""

from __future__ import annotations

import random

# Begins with the system's own randomness.
_random = random.Random()


def new_id() -> str:
    """32 hexadecimal digits that nothing else is named by; no secret."""
    return f"{_random.getrandbits(128):032x}"


def new_seed() -> int:
    """For a request that names none."""
    return _random.getrandbits(32)

"""A judge that says what it is told, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from r1.tasks.judged.judged import JudgeFailure


@dataclass
class ScriptedJudge:
    """Replies one after the other, the last one for ever; None is a failure."""

    replies: list[str | None]
    tokens: Mapping[str, float] = field(default_factory=dict)
    name: str = "told"
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    def ask(self, prompt: str, system: str = "", attempt: int = 0) -> str:
        self.asked.append((prompt, system, attempt))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply is None:
            raise JudgeFailure("the server is gone")
        return reply

    def first_token(self, prompt: str, system: str = "", attempt: int = 0) -> Mapping[str, float]:
        self.asked.append((prompt, system, attempt))
        return self.tokens

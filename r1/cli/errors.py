"""How a verb fails: mistakes of the user in one line, a stop with the way to go on."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

import typer
from typer.core import TyperGroup

USER_ERROR = 2
INTERRUPTED = 130
RESUMABLE = ("run", "sft", "grpo", "reward", "sample", "evaluate")


class OneLineErrors(TyperGroup):
    """Mistakes of the user end in one line on stderr; R1_DEBUG=1 shows where they arose."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            print(f"\n{str(interrupt) or 'stopped'}", file=sys.stderr)
            if ctx.invoked_subcommand in RESUMABLE and "r1 " not in str(interrupt):
                print(f"to resume: {shlex.join(['r1', *sys.argv[1:]])}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise
        except (ValueError, OSError) as error:
            if os.environ.get("R1_DEBUG"):
                raise
            print(f"r1: error: {one_line(error)}", file=sys.stderr)
            raise typer.Exit(USER_ERROR) from None


def one_line(error: Exception) -> str:
    """An error's text for a person: several mistakes are several lines, each whole."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        details = error.errors(include_url=False)
        parts = [f"{'.'.join(map(str, d['loc'])) or error.title}: {d['msg']}" for d in details]
        return "; ".join(parts)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__

"""`r1 chat` and `r1 generate`: a model in the terminal, or between two pipes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from rich.console import Console
from rich.text import Text

from r1.engine.engine import Engine, EngineConfig
from r1.engine.open_model import open_model
from r1.serving.chosen_model import ChosenModel, choose_model
from r1.serving.conversation import Conversation, ConversationSettings
from r1.text.reasoning import THINK_CLOSE, THINK_OPEN, Piece

HELP = "/clear forgets the conversation, /quit ends it; Ctrl-C stops a reply"


class ReplyWriter(Protocol):
    """Where a reply's pieces go."""

    def write(self, kind: str, text: str) -> None: ...
    def end(self) -> None: ...


def chat(model: str, settings: ConversationSettings) -> None:
    """Talk to a model; without a terminal, answer the one line that a pipe brings."""
    is_interactive = sys.stdin.isatty()
    question = "" if is_interactive else read_question()
    engine, settings = open_engine(model, settings)
    conversation = Conversation(engine, settings)
    console = Console(highlight=False)
    if is_interactive:
        console.print(Text(HELP, style="dim"))
        converse(conversation, console, read_line=_line_reader())
    else:
        write_reply(conversation.stream(question), make_writer(console))


def generate(
    model: str, question: str, settings: ConversationSettings, num_samples: int = 1
) -> None:
    """Write one reply to a question, or several under headings."""
    engine, settings = open_engine(model, settings)
    console = Console(highlight=False)
    for index in range(num_samples):
        if num_samples > 1:
            console.print(Text(f"--- sample {index + 1}"))
        sample_settings = replace(settings, seed=settings.seed + index)
        reply = Conversation(engine, sample_settings).stream(question)
        write_reply(reply, make_writer(console))


def open_engine(model: str, settings: ConversationSettings) -> tuple[Engine, ConversationSettings]:
    """Load a model for one conversation, prompted as its training prompted it."""
    chosen: ChosenModel = choose_model(model)
    loaded, tokenizer = open_model(str(chosen.path), is_trained=False)
    engine = Engine(loaded, tokenizer, EngineConfig(max_num_seqs=1, kv_cache_bytes=2**30))
    style = settings.prompt_style or chosen.prompt_style
    return engine, replace(settings, prompt_style=style)


def read_question() -> str:
    """The first line of standard input; ValueError when there is none."""
    try:
        question = sys.stdin.readline().strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not UTF-8 text (byte {error.start})") from None
    if not question:
        raise ValueError('no question: type one in a terminal, or pipe one: echo "2+2?" | r1 chat')
    return question


def converse(conversation: Conversation, console: Console, read_line: Callable[[], str]) -> None:
    """The loop: read a line, stream the reply; Ctrl-C stops a reply, Ctrl-D the loop."""
    while True:
        try:
            line = read_line().strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            console.print(Text("\n/quit or Ctrl-D ends the conversation", style="dim"))
            continue
        except UnicodeDecodeError:
            console.print(Text("error: that line is not UTF-8 text", style="red"))
            continue
        if line in ("/quit", "/exit"):
            return
        if line == "/clear":
            conversation.clear()
            console.print(Text("the conversation is forgotten", style="dim"))
        elif line.startswith("/"):
            console.print(Text(HELP, style="dim"))
        elif line:
            _take_turn(conversation, console, line)


def _take_turn(conversation: Conversation, console: Console, line: str) -> None:
    with contextlib.closing(conversation.stream(line)) as pieces:
        try:
            has_answer = write_reply(pieces, make_writer(console))
        except KeyboardInterrupt:
            console.print(Text("\n(stopped)", style="dim"))
            return
        except ValueError as error:
            console.print(Text(f"error: {error}", style="red"))
            return
    if not has_answer:
        note = "(no answer within --max-tokens; this turn is not remembered)"
        console.print(Text(note, style="dim"))


def write_reply(pieces: Iterable[Piece], writer: ReplyWriter) -> bool:
    """Write the pieces as they come; returns whether there was an answer."""
    has_answer = False
    try:
        for kind, text in pieces:
            has_answer = has_answer or kind == "answer"
            writer.write(kind, printable(text))
    finally:
        writer.end()
    return has_answer


def make_writer(console: Console) -> ReplyWriter:
    """Thoughts dimmed on a terminal, between their tags elsewhere."""
    return TerminalWriter(console) if console.is_terminal else TaggedWriter(console)


class TerminalWriter:
    """Thought dimmed, then an empty line, then the answer."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._kind = ""

    def write(self, kind: str, text: str) -> None:
        if self._kind and kind != self._kind:
            self._console.print("\n")
        self._kind = kind
        style = "dim" if kind == "thought" else ""
        self._console.print(Text(text, style=style), end="", soft_wrap=True)

    def end(self) -> None:
        if self._kind:
            self._console.print()


class TaggedWriter:
    """The model's own form, for files and pipes: `<think>` ... `</think>`, then the answer."""

    def __init__(self, console: Console) -> None:
        self._file = console.file
        self._kind = ""

    def write(self, kind: str, text: str) -> None:
        if kind != self._kind:
            opening = f"{THINK_OPEN}\n" if kind == "thought" else ""
            closing = f"\n{THINK_CLOSE}\n\n" if self._kind == "thought" else ""
            text = closing + opening + text
        self._kind = kind
        self._file.write(text)
        self._file.flush()

    def end(self) -> None:
        if self._kind:
            self._file.write("\n")
            self._file.flush()


def printable(text: str) -> str:
    """Text without control characters: a model could move the cursor or retitle the window."""
    return "".join(char for char in text if char in "\n\t" or char.isprintable())


def _line_reader() -> Callable[[], str]:
    """`input` with editing and history where the system has readline."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - importing it is what gives input() its editing
    return lambda: input("> ")

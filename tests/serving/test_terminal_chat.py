from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from r1.cli.app import app
from r1.serving import terminal_chat
from r1.serving.chosen_model import choose_model
from r1.serving.conversation import Conversation, ConversationSettings


def typed(*lines: str | BaseException) -> Callable[[], str]:
    """A keyboard: the lines, then Ctrl-D."""
    remaining = [*lines, EOFError()]

    def read_line() -> str:
        line = remaining.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line

    return read_line


def talk(engine, *lines: str | BaseException, is_terminal: bool = False) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=is_terminal, highlight=False, width=200)
    terminal_chat.converse(Conversation(engine, ConversationSettings()), console, typed(*lines))
    return output.getvalue()


def test_thoughts_stand_between_tags_in_a_pipe(reciting_engine) -> None:
    shown = talk(
        reciting_engine([["so", "so</think>an", "swer"]]), "hi", "", "/quit", "never asked"
    )
    assert shown == "<think>\nsoso\n</think>\n\nanswer\n"


def test_thoughts_are_dimmed_on_a_terminal(reciting_engine) -> None:
    shown = talk(reciting_engine([["so</think>yes"]]), "hi", is_terminal=True)
    assert "\x1b[2mso\x1b[0m" in shown
    assert shown.endswith("yes\n")


def test_commands_and_interrupts(reciting_engine) -> None:
    engine = reciting_engine([["</think>one"], ["</think>two", KeyboardInterrupt()], ["thought"]])
    shown = talk(engine, "a", KeyboardInterrupt(), "b", "/clear", "/help", "c", is_terminal=False)
    assert "/quit or Ctrl-D ends the conversation" in shown
    assert "two\n\n(stopped)" in shown
    assert "the conversation is forgotten" in shown
    assert terminal_chat.HELP in shown
    assert "<think>\nthought\n" in shown
    assert "no answer within --max-tokens" in shown
    assert "one" in engine.prompt_text(1)
    assert "one" not in engine.prompt_text(2)


def test_a_question_too_long_is_told_and_the_chat_goes_on(reciting_engine) -> None:
    engine = reciting_engine([[ValueError("a prompt of 999 tokens can never fit")], ["</think>ok"]])
    shown = talk(engine, "long", "short")
    assert "error: a prompt of 999 tokens can never fit" in shown
    assert shown.endswith("ok\n")


def test_a_reply_cannot_steer_the_terminal() -> None:
    assert terminal_chat.printable("a\x1b[2J\x07b\r\n\t中😀") == "a[2Jb\n\t中😀"


def test_generate_repeats_by_seed(checkpoint: Path) -> None:
    command = ["generate", str(checkpoint), "1+1?", "--max-tokens", "8", "--num-samples", "2"]
    first, again, other = (
        CliRunner().invoke(app, [*command, "--seed", seed]) for seed in ("1", "1", "7")
    )
    assert first.exit_code == 0, first.output
    assert first.output == again.output != other.output
    assert "--- sample 2" in first.output


def test_chat_answers_the_one_line_of_a_pipe(checkpoint: Path) -> None:
    command = ["chat", str(checkpoint), "--max-tokens", "4", "--seed", "1"]
    result = CliRunner().invoke(app, command, input="1+1?\nnever read\n")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("<think>\n")
    empty = CliRunner().invoke(app, command, input="")
    assert empty.exit_code == 2
    assert "r1: error: no question" in empty.stderr


def test_a_run_folder_means_its_final_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("base", "r1_zero", "scorer", "student"):
        stage = run / "stages" / name
        (stage / "checkpoint").mkdir(parents=True)
        kind = "SequenceClassification" if name == "scorer" else "CausalLM"
        config = {"architectures": [f"Qwen2For{kind}"]}
        (stage / "checkpoint" / "config.json").write_text(json.dumps(config))
        (stage / "config.json").write_text(json.dumps({"prompt_style": "r1_zero"}))
    names = ["base", "r1_zero", "student", "scorer"]
    (run / "run.json").write_text(json.dumps({"stages": [{"name": name} for name in names]}))
    assert choose_model(str(run)).path == run / "stages" / "student" / "checkpoint"
    assert choose_model(str(run)).prompt_style == "r1_zero"
    (run / "run.json").write_text(json.dumps({"stages": names, "final": "r1_zero"}))
    assert choose_model(str(run)).path == run / "stages" / "r1_zero" / "checkpoint"
    assert choose_model(str(run / "stages" / "base")).path.parent.name == "base"
    assert choose_model(str(checkpoint)).path == checkpoint
    assert choose_model(str(checkpoint)).prompt_style is None


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    with pytest.raises(ValueError, match="no stage has a checkpoint yet"):
        choose_model(str(tmp_path))
    with pytest.raises(ValueError, match="no such model folder"):
        choose_model(str(tmp_path / "nowhere"))


def test_text_that_is_not_utf8_is_told(reciting_engine, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    shown = talk(reciting_engine([["</think>one"]]), broken, "a")
    assert shown.startswith("error: that line is not UTF-8 text\n")
    assert shown.endswith("one\n")
    pipe = io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", pipe)
    with pytest.raises(ValueError, match=r"standard input is not UTF-8 text \(byte 3\)"):
        terminal_chat.read_question()

"""`r1 serve`: what is told before a server starts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from r1.cli.app import app
from r1.serving.api.run_server import bind, warn_if_open
from r1.serving.api.settings import ServerSettings


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["serve", *words])
    return result.exit_code, result.output


def test_the_launch_commands_of_bigger_engines() -> None:
    code, text = run("deepseek-ai/DeepSeek-R1", "--print-command", "vllm")
    assert code == 0
    assert text.startswith("vllm serve deepseek-ai/DeepSeek-R1 --tensor-parallel-size 16")
    code, text = run("deepseek-ai/DeepSeek-R1", "--print-command", "sglang")
    assert "--reasoning-parser deepseek-r1" in text
    code, text = run("tiny", "--print-command", "ollama")
    assert (code, text) == (2, "r1: error: --print-command ollama: choose from vllm, sglang\n")


def test_a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, text = run("tiny", "--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "choose another with --port" in text


def test_a_second_server_on_a_port_is_told_before_its_model_is_read() -> None:
    with bind(ServerSettings(port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(ValueError, match=f"{port}: .*; choose another with --port"):
            bind(ServerSettings(port=port))


@pytest.mark.parametrize("host", ["nosuch.invalid", "192.0.2.1"])
def test_a_wrong_host_is_one_line(host: str) -> None:
    code, text = run("tiny", "--host", host, "--port", "0")
    assert code == 2
    assert text.startswith(f"r1: error: {host}:0: ")
    assert text.endswith("; choose another with --host\n")


@pytest.mark.parametrize("size", ["inf", "nan", "0", "-1"])
def test_a_cache_has_a_size(size: str) -> None:
    code, text = run("tiny", "--kv-cache-gb", size, "--port", "0")
    assert code == 2
    assert "--kv-cache-gb" in text


def test_a_cache_that_does_not_fit_names_its_option() -> None:
    code, text = run("tiny", "--kv-cache-gb", "900000", "--device", "cpu", "--port", "0")
    assert code == 2
    assert text.endswith(" GiB does not fit the memory of cpu; lower --kv-cache-gb\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing-here",), "nothing-here"),
        (("m", "--backend", "gpu:8000"), "is not a server's address"),
        (("m", "--backend", "http://h/v1", "--backend-key-env", "R1_UNSET"), "$R1_UNSET"),
        (("tiny", "--database-url", "nothing"), "write sqlite:///FILE"),
        (("tiny", "--search", "bing"), "--search bing: choose from"),
        (("tiny", "smollm2", "--name", "m"), "--name is for one model; 2 go by their own names"),
        (("tiny", "tiny"), "tiny: there is a model tiny already (tiny)"),
        (("runs/a", "other/a"), "other/a: there is a model a already (runs/a); each needs a name"),
        (("o/m", "m", "--backend", "http://h/v1"), "m: there is a model m already (o/m)"),
        (("tiny", "nothing-here"), "nothing-here"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], message: str) -> None:
    code, text = run(*words, "--port", "0")
    assert code == 2
    assert message in text


def test_one_model_under_two_names_is_given_once(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    (stage / "checkpoint").mkdir(parents=True)
    (stage / "checkpoint/config.json").write_text("{}")
    code, text = run(str(stage / "checkpoint"), str(stage), "--port", "0")
    assert code == 2
    assert text == f"r1: error: {stage}: the same model as {stage / 'checkpoint'}; give it once\n"


def test_a_key_file_without_a_key_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("\n \n")
    code, text = run("tiny", "--api-key-file", str(file))
    assert (code, text) == (2, f"r1: error: {file}: holds no key; write one a line\n")
    file.write_bytes(b"key\xff\n")
    code, text = run("tiny", "--api-key-file", str(file))
    assert (code, text) == (2, f"r1: error: --api-key-file {file}: not UTF-8 text\n")


def test_listening_beyond_this_machine_warns(capsys: pytest.CaptureFixture[str]) -> None:
    warn_if_open(ServerSettings())
    assert capsys.readouterr().err == ""
    warn_if_open(ServerSettings(host="0.0.0.0"))
    assert "WITHOUT A KEY" in capsys.readouterr().err
    warn_if_open(ServerSettings(host="0.0.0.0", api_keys=("k",)))
    assert "with a key" in capsys.readouterr().err

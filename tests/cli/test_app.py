from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from r1.cli import settings, training
from r1.cli.app import app
from r1.run_log import RunError

VERBS = ("run", "sft", "grpo", "reward", "sample", "evaluate")
VERBS += ("generate", "chat", "models", "report")


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def raises(error: BaseException) -> Any:
    def function(*arguments: object, **options: object) -> None:
        raise error

    return function


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder with a config and no weights: a dry run needs no more."""
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "vocab_size": 1000,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    }
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_help_lists_every_verb_and_teaches() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    for verb in VERBS:
        assert f" {verb} " in result.output
        help_text = invoke(verb, "--help").output
        assert f"r1 {verb}" in help_text, verb
    assert invoke("--version").output.startswith("r1 ")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom r1.cli.app import app\nfrom typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'numpy', 'transformers', 'pydantic', 'tokenizers', 'sympy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sft", "outptu=x"], "override outptu=x: outptu: unknown key; did you mean output?"),
        (["grpo", "nowhere.toml"], "nowhere.toml: no such file"),
        (["grpo", "a.toml", "b.toml"], "one config file, not 2: a.toml, b.toml"),
        (["run", "output=x"], "r1 run needs a recipe"),
        (["report", "nowhere"], "nowhere: not a run folder"),
        (["chat", "nonesuch"], "no question"),
        (["generate", "tiny", "hi", "--style", "odd"], "--style odd: choose from r1_zero, chat"),
        (["generate", "tiny", "hi", "--top-p", "0"], "top_p must be above 0"),
        (
            ["generate", "nonesuch", "hi"],
            "model 'nonesuch' is not known; `r1 models` lists the names",
        ),
        (["models", "get", "gpt"], "model 'gpt' is not known"),
        (["models", "gpt"], "model 'gpt' is not known"),
        (["models", "get"], "r1 models get: expected nothing, NAME, or: get NAME"),
        (["models", "tiny", "--dtype", "int3"], "--dtype int3: choose from float32"),
        (["models", "tiny", "--device", "tpu"], "device 'tpu' is not supported"),
        (["models", "get", "tiny"], "tiny comes with the package"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "r1: error: " in result.stderr
    assert "Traceback" not in result.output + result.stderr


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_DEBUG", "1")
    result = invoke("report", "nowhere")
    assert isinstance(result.exception, RunError)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RunError("runs/x: disk full"), "r1: error: runs/x: disk full\n"),
        (FileNotFoundError(2, "No such file or directory", "x.json"), "x.json: No such file"),
        (PermissionError(13, "Permission denied", "y"), "r1: error: y: Permission denied"),
    ],
)
def test_errors_of_a_running_verb(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    monkeypatch.setattr(training, "run_verb", raises(error))
    result = invoke("sft", "output=x")
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "run_verb", raises(AssertionError("ours")))
    assert isinstance(invoke("sft", "output=x").exception, AssertionError)


def test_ctrl_c_says_how_to_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["r1", "grpo", "my recipe.toml", "steps=3"])
    monkeypatch.setattr(training, "run_verb", raises(KeyboardInterrupt("stopped at step 2")))
    result = invoke("grpo", "my recipe.toml", "steps=3")
    assert result.exit_code == 130
    assert "stopped at step 2\nto resume: r1 grpo 'my recipe.toml' steps=3\n" in result.stderr
    monkeypatch.setattr(training, "run_verb", raises(KeyboardInterrupt()))
    assert "\nstopped\nto resume: r1 " in invoke("grpo", "my recipe.toml", "steps=3").stderr


def test_a_verb_gets_its_resolved_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from r1.training.sft import SftConfig

    recipe = tmp_path / "sft.toml"
    recipe.write_text('model = "tiny"\noutput = "runs/a"\nseed = 1\n')
    seen = []

    def function(config: SftConfig) -> Path:
        seen.append(config)
        return config.output / "checkpoint"

    settings.run_verb("sft", SftConfig, function, ["seed=2", str(recipe), "data=x.jsonl"], False)
    assert (seen[0].model, seen[0].seed, seen[0].data) == ("tiny", 2, Path("x.jsonl"))
    assert capsys.readouterr().out == "runs/a/checkpoint\n"


def test_a_dry_run_shows_config_and_memory_and_starts_nothing(tmp_path: Path, model: Path) -> None:
    output = tmp_path / "out"
    result = invoke(
        "grpo",
        f"model={model}",
        "task.name=gsm8k",
        f"output={output}",
        "group_size=4",
        "questions_per_step=2",
        "updates_per_rollout=1",
        "max_tokens=100",
        "micro_batch_tokens=512",
        "--dry-run",
    )
    assert result.exit_code == 0, result.output + result.stderr
    assert "group_size = 4" in result.output
    assert '[task]\nname = "gsm8k"' in result.output
    assert f" 1. out: grpo, {model} -> {output}" in result.output
    assert "138,304 parameters, memory about " in result.output
    assert "moments 1.1 MB" in result.output
    assert not output.exists()


def test_a_dry_run_without_the_model_says_why(tmp_path: Path) -> None:
    result = invoke("sft", "model=./nowhere", "data=x", f"output={tmp_path}/o", "--dry-run")
    assert result.exit_code == 0
    assert "memory unknown: nowhere: no such model folder or file" in result.output


def test_models_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("R1_HOME", str(tmp_path))
    lines = invoke("models").output.splitlines()
    smollm2 = next(line for line in lines if line.startswith("smollm2"))
    assert smollm2.split() == ["smollm2", "Llama", "135M", "8,192", "46", "kB", "Apache-2.0", "no"]
    r1 = next(line for line in lines if line.startswith("DeepSeek-R1 "))
    assert r1.split()[2:5] == ["671B", "37B", "163,840"]


def test_a_model_is_explained() -> None:
    tiny = invoke("models", "tiny", "--device", "cpu").output
    assert "919,168" in tiny and "r1 chat tiny" in tiny and "fits" in tiny
    released = invoke("models", "deepseek-r1-distill-qwen-32b", "--device", "cpu").output
    assert "32,763,876,352" in released and "recipes/distill/qwen_32b.toml" in released
    assert "--tensor-parallel-size 2 --max-model-len 32768 --enforce-eager" in released


def test_numbers_of_an_evaluation_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    class Result:
        def to_json(self) -> dict[str, Any]:
            return {"pass_at_1": 0.51234567, "pass_at_1_ci95": [0.5, 0.6], "gone": None, "n": 300}

    settings.print_result(Result())
    assert capsys.readouterr().out.split() == (
        ["pass_at_1", "0.5123", "pass_at_1_ci95", "0.5,", "0.6", "n", "300"]
    )

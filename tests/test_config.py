from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from r1.config import (
    Config,
    ConfigError,
    config_fingerprint,
    dump_config,
    load_config,
    save_config,
)
from r1.config_errors import nearest_name


class Policy(Config):
    group_size: Annotated[int, Field(ge=2)] = 4
    learning_rate: float = 1e-6
    normalize_by: Literal["sequence", "token", "constant"] = "sequence"
    clip: float | tuple[float, float] = 0.2


class Recipe(Config):
    model: str
    output: Path = Path("runs/x")
    max_steps: int | None = None
    is_packed: bool = True
    stop: tuple[str, ...] = ()
    grpo: Policy = Policy()
    stages: list[Policy] = []
    by_name: dict[str, Policy] = {}
    options: dict[str, int | str] = {}

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.model == "impossible":
            raise ValueError("model 'impossible' cannot be trained; choose tiny")
        return self


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def error_of(path: Path | None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(Recipe, path, overrides)
    return str(caught.value)


def test_file_and_overrides_resolve_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'model = "tiny"\nstop = ["a", "b"]\n'
        "[grpo]\nlearning_rate = 1\n[by_name.one]\nclip = [0.1, 0.3]",
    )
    config = load_config(
        Recipe, path, ["grpo.group_size=8", "max_steps=3", "output=runs/y", 'options={a=1, b="x"}']
    )
    assert config.grpo == Policy(group_size=8, learning_rate=1.0)
    assert config.by_name["one"].clip == (0.1, 0.3)
    assert (config.max_steps, config.output, config.stop) == (3, Path("runs/y"), ("a", "b"))
    assert config.options == {"a": 1, "b": "x"}
    with pytest.raises(ValidationError):
        config.model = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("model=tiny", "tiny"),
        ("model=a b=c", "a b=c"),
        ('model="quoted"', "quoted"),
        ("model=runs/a.b/checkpoint", "runs/a.b/checkpoint"),
        ("model=", ""),
        ("model=x\ny = 2", "x\ny = 2"),
        (" model = spaced", " spaced"),
    ],
)
def test_override_values(override: str, value: str) -> None:
    assert load_config(Recipe, None, [override]).model == value


def test_an_override_reaches_into_lists_and_dicts(tmp_path: Path) -> None:
    path = write(tmp_path, 'model = "m"\n[[stages]]\ngroup_size = 2\n[[stages]]\ngroup_size = 3')
    config = load_config(Recipe, path, ["stages.1.group_size=9", "by_name.new.group_size=5"])
    assert [stage.group_size for stage in config.stages] == [2, 9]
    assert config.by_name["new"].group_size == 5
    assert "stages is a list of 2 items" in error_of(path, "stages.2.group_size=1")
    assert "stages is a list of 2 items" in error_of(path, "stages.last.group_size=1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grop = 1", "grop: unknown key; did you mean grpo?"),
        ("[grpo]\ngroupsize = 1", "grpo.groupsize: unknown key; did you mean grpo.group_size?"),
        ("group_size = 1", "group_size: unknown key; did you mean grpo.group_size?"),
        ("[[stages]]\ngrupsize = 1", "stages.0.grupsize: unknown key; did you mean stages.0.group"),
        ("[by_name.a]\nclipp = 1", "by_name.a.clipp: unknown key; did you mean by_name.a.clip?"),
        ("zzz = 1", "zzz: unknown key; valid keys: by_name, grpo, is_packed, max_steps"),
        ('max_steps = "3"', 'max_steps: expected a whole number, got "3" (text)'),
        ("max_steps = 1.5", "max_steps: expected a whole number, got 1.5 (a number)"),
        ("max_steps = true", "max_steps: expected a whole number, got true (true or false)"),
        ("is_packed = 1", "is_packed: expected true or false, got 1 (a whole number)"),
        ("output = 3", "output: expected text in quotes, got 3 (a whole number)"),
        ("stop = 3", "stop: expected a list, got 3 (a whole number)"),
        ("stop = [1]", "stop.0: expected text in quotes, got 1 (a whole number)"),
        ("grpo = 3", "grpo: expected a table, got 3 (a whole number)"),
        ("by_name = [1]", "by_name: expected a table, got [1] (a list)"),
        ("[grpo]\ngroup_size = 1", "grpo.group_size: expected greater than or equal to 2, got 1"),
        ('[grpo]\nclip = "x"', 'grpo.clip: expected a number or a list, got "x" (text)'),
        ('[grpo]\nnormalize_by = "tokens"', "did you mean 'token'?"),
        ("[options]\na = 1.5", "options.a: expected a whole number or text in quotes, got 1.5"),
    ],
)
def test_a_mistake_is_one_line_that_teaches(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, text + "\n" if text.startswith("[") else f'model = "m"\n{text}\n')
    lines = error_of(path, *(["model=m"] if text.startswith("[") else [])).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{path}: ")
    assert expected in lines[0]


def test_each_mistake_has_its_line_and_its_source(tmp_path: Path) -> None:
    path = write(tmp_path, "grop = 1")
    assert error_of(path, "grpo.group_size=many").splitlines() == [
        f"{path}: model: is required",
        "override grpo.group_size=many: grpo.group_size: "
        'expected a whole number, got "many" (text)',
        f"{path}: grop: unknown key; did you mean grpo?",
    ]
    assert error_of(None, "model=impossible") == (
        "config: the whole config: model 'impossible' cannot be trained; choose tiny"
    )


@pytest.mark.parametrize("override", ["model", "=3", "a..b=3", "grpo.=3"])
def test_malformed_override(override: str) -> None:
    assert f"override {override}: expected key=value" in error_of(None, override)


def test_an_override_through_a_value_is_told(tmp_path: Path) -> None:
    assert 'model is "m" (text), not a table' in error_of(write(tmp_path, 'model="m"'), "model.a=1")


def test_unreadable_files(tmp_path: Path) -> None:
    path = write(tmp_path, 'model = "m"\ngrpo = = 3\n')
    assert error_of(path).startswith(f"{path}: not valid TOML:")
    assert "line 2" in error_of(path)
    assert error_of(tmp_path / "recipes.toml") == (
        f"{tmp_path}/recipes.toml: no such file; did you mean {path}?"
    )
    path.write_bytes(b'model = "\xff"')
    assert error_of(path) == f"{path}: not UTF-8 text (byte 9)"
    path.with_suffix(".json").write_text("[1]")
    assert "expected a table of keys" in error_of(path.with_suffix(".json"))
    assert "cannot be read" in error_of(tmp_path)


def test_a_file_extends_another_and_is_extended(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        'model = "tiny"\nmax_steps = 5\n[grpo]\ngroup_size = 8\nlearning_rate = 1e-3\n'
    )
    (tmp_path / "more").mkdir()
    middle = tmp_path / "more" / "middle.toml"
    middle.write_text('extends = "../base.toml"\n[grpo]\nlearning_rate = 1e-4\n')
    path = write(tmp_path, 'extends = "more/middle.toml"\nmodel = "other"\n')
    config = load_config(Recipe, path, ["grpo.clip=0.5"])
    assert (config.model, config.max_steps) == ("other", 5)
    assert config.grpo == Policy(group_size=8, learning_rate=1e-4, clip=0.5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('extends = "nowhere.toml"', "nowhere.toml: no such file"),
        ('extends = "recipe.toml"', "extends 'recipe.toml', which extends this file in turn"),
        ("extends = 3", "extends must name a file, not"),
    ],
)
def test_an_extension_that_cannot_be(tmp_path: Path, line: str, message: str) -> None:
    assert message in error_of(write(tmp_path, f"{line}\n"))


def test_paths_expand_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    config = load_config(Recipe, None, ["model=m", "output=~/runs"])
    assert config.output == Path("/home/someone/runs")


@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
def test_numbers_are_finite(number: str) -> None:
    with pytest.raises(ConfigError, match=r"grpo\.learning_rate: expected a finite number, got"):
        load_config(Recipe, None, ["model=m", f"grpo.learning_rate={number}"])


def test_an_empty_path_is_not_the_current_directory() -> None:
    with pytest.raises(ConfigError, match="override output=: output: is empty; write a folder"):
        load_config(Recipe, None, ["model=m", "output="])
    assert load_config(Recipe, None, ["model=m", "output=."]).output == Path()


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_saved_config_loads_the_same(tmp_path: Path, suffix: str) -> None:
    config = Recipe(
        model='quoted "\\ \n 模型 \x7f \U0001f600',
        stop=("a", "\t"),
        grpo=Policy(learning_rate=1e300, clip=(0.1, 0.2)),
        stages=[Policy(), Policy(group_size=7)],
        by_name={"odd name": Policy(), "plain": Policy()},
        options={"x.y": 1},
    )
    path = tmp_path / f"config{suffix}"
    save_config(config, path)
    assert load_config(Recipe, path) == config
    assert "# max_steps is not set" in dump_config(config)


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_text_and_number_round_trips(text: str, number: float) -> None:
    config = Recipe(model=text, grpo=Policy(learning_rate=number), options={text: text})
    assert Recipe.model_validate_json(config.model_dump_json()) == config
    assert tomllib.loads(dump_config(config))["model"] == text
    assert tomllib.loads(dump_config(config))["grpo"]["learning_rate"] == number
    assert tomllib.loads(dump_config(config))["options"] == {text: text}


def test_the_fingerprint_follows_the_values() -> None:
    config = Recipe(model="m", options={"a": 1, "b": 2})
    same = Recipe(model="m", options={"b": 2, "a": 1})
    other = config.model_copy(update={"output": Path("elsewhere")})
    assert config_fingerprint(config) == config_fingerprint(same)
    assert config_fingerprint(config) != config_fingerprint(other)
    assert config_fingerprint(config, ["output"]) == config_fingerprint(other, ["output"])
    assert len(config_fingerprint(config)) == 16


def test_nearest_name_ignores_case_and_gives_up_on_strangers() -> None:
    assert nearest_name("QUICKSTART", ["quickstart", "r1"]) == "quickstart"
    assert nearest_name("completely-else", ["quickstart", "r1"]) is None

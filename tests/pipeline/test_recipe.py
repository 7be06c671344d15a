from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1.config import ConfigError
from r1.pipeline.recipe import Plan, plan_recipe

WriteRecipe = Callable[[str], Path]

TWO_STAGES = """
seed = 7
[stages.first]
verb = "sft"
model = "tiny"
data = "rows.jsonl"
[stages.second]
verb = "grpo"
model = "@first"
task.name = "miniature"
seed = 8
"""


def stage(plan: Plan, name: str) -> Any:
    return next(stage for stage in plan.stages if stage.name == name)


def test_stages_get_folders_seeds_and_the_results_before_them(
    write_recipe: WriteRecipe, tmp_path: Path
) -> None:
    plan = plan_recipe(write_recipe(TWO_STAGES))
    first, second = plan.stages
    stages = tmp_path / "run" / "stages"
    assert (first.name, first.kind, first.inputs) == ("first", "sft", ())
    assert first.config.output == stages / "first"
    assert first.evaluation is None
    assert second.inputs == ("first",)
    assert second.config.model == str(stages / "first" / "checkpoint")
    assert (first.config.seed, second.config.seed) == (7, 8)


def test_references_lead_into_lists_tables_and_files(
    write_recipe: WriteRecipe, tmp_path: Path
) -> None:
    text = """
    [stages.data]
    verb = "miniature_data"
    [stages.judge]
    verb = "reward"
    model = "tiny"
    data = "@data/preferences.jsonl"
    [stages.kept]
    verb = "sample"
    model = "tiny"
    task.name = "miniature"
    general_data = ["@data/talk.jsonl"]
    [stages.policy]
    verb = "grpo"
    model = "tiny"
    task.name = "miniature"
    reward_models.preference = "@judge"
    reward_weights = { accuracy = 1.0, preference = 1.0 }
    """
    plan = plan_recipe(write_recipe(text))
    stages = tmp_path / "run" / "stages"
    assert stage(plan, "judge").config.data == stages / "data" / "preferences.jsonl"
    assert stage(plan, "kept").config.general_data == (stages / "data" / "talk.jsonl",)
    judge = str(stages / "judge" / "checkpoint")
    assert stage(plan, "policy").config.reward_models == {"preference": judge}
    assert stage(plan, "policy").inputs == ("judge",)


EVALUATED = """
[evaluate]
task.name = "miniature"
num_problems = 5
sampling.max_tokens = 9
[stages.base]
verb = "evaluate"
model = "tiny"
num_problems = 3
[stages.trained]
verb = "sft"
model = "tiny"
data = "rows.jsonl"
evaluate.sampling.temperature = 0.0
[stages.judge]
verb = "reward"
model = "@trained"
data = "rows.jsonl"
[stages.quiet]
verb = "sft"
model = "tiny"
data = "rows.jsonl"
evaluate = false
"""


def test_language_models_are_measured_as_the_recipe_says(
    write_recipe: WriteRecipe, tmp_path: Path
) -> None:
    plan = plan_recipe(write_recipe(EVALUATED))
    base = stage(plan, "base")
    assert (base.config.num_problems, base.config.sampling.max_tokens) == (3, 9)
    assert base.evaluation is None
    measured = stage(plan, "trained").evaluation
    assert measured is not None
    assert measured.model == str(tmp_path / "run/stages/trained/checkpoint")
    assert measured.output == tmp_path / "run/stages/trained/evaluation"
    assert (measured.sampling.max_tokens, measured.sampling.temperature) == (9, 0.0)
    assert stage(plan, "judge").evaluation is None
    assert stage(plan, "quiet").evaluation is None


def test_one_override_of_an_input_changes_every_use(write_recipe: WriteRecipe) -> None:
    text = """
    [inputs]
    base = "tiny"
    [evaluate]
    task = { name = "jsonl", test_path = "@held_out/test.jsonl" }
    [stages.a]
    verb = "sft"
    model = "@base"
    data = "@rows"
    [stages.b]
    verb = "sft"
    model = "@base"
    data = "@rows"
    """
    overrides = ["inputs.base=/models/x", "inputs.rows=rows.jsonl", "inputs.held_out=/data"]
    plan = plan_recipe(write_recipe(text), overrides)
    for planned in plan.stages:
        assert (planned.config.model, planned.config.data) == ("/models/x", Path("rows.jsonl"))
        assert planned.inputs == ()
        assert planned.evaluation is not None
        assert planned.evaluation.task.test_path == "/data/test.jsonl"


def test_stages_that_are_not_enabled_are_left_out(write_recipe: WriteRecipe) -> None:
    path = write_recipe(TWO_STAGES)
    assert [s.name for s in plan_recipe(path, ["stages.second.enabled=false"]).stages] == ["first"]
    assert [s.name for s in plan_recipe(path, ["stages.second.enabled=true"]).stages] == (
        ["first", "second"]
    )
    with pytest.raises(ConfigError, match=r"stages\.second: @first is not enabled"):
        plan_recipe(path, ["stages.first.enabled=false"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stages.first.verb=sfd"], r"stages\.first: verb is 'sfd'; did you mean 'sft'\? known: "),
        (["stages.third.model=tiny"], r"stages\.third: the stage has no verb; choose from sft, "),
        (
            ["stages.first.learning_rat=1"],
            r"stages\.first: learning_rat: unknown key; did you mean learning_rate\?",
        ),
        (["stages.first.epochs=two"], r"stages\.first: epochs: expected a whole number"),
        (
            ["stages.second.model=@frist"],
            r"@frist is no input and no stage; did you mean 'first'\?",
        ),
        (["stages.second.model=@x"], r"@x is no input and no stage; known: first, second"),
        (["stages.first.model=@second"], r"stages\.first: @second comes later"),
        (["stages.first.model=@first"], r"stages\.first: @first comes later"),
        (["stages.a/b.verb=sft"], r"stages\.a/b: a stage is named in letters, digits, _ and -"),
        (["stages.first.output=x"], r"stages\.first\.output: a stage's folder follows from"),
        (["stages.first.enabled=1"], r"stages\.first\.enabled: expected true or false, got 1"),
        (["final=secnd"], r"final names no stage: 'secnd'; did you mean 'second'\?"),
        (["final=second", "stages.second.enabled=false"], r"final .* is not enabled: 'second'"),
        (["inputs.first=x"], r"@first would be both an input and a stage; rename one"),
        (['claims=["r1_keeps_acuracy"]'], r"r1_keeps_acuracy.*r1_keeps_accuracy"),
        (["stagse.first.verb=sft"], r"stagse: unknown key; did you mean stages\?"),
        (
            ["evaluate.task.name=miniature", "evaluate.num_sample=1"],
            r"first\.evaluate: num_sample: ",
        ),
        (["num_threads=0"], r"num_threads: "),
    ],
)
def test_mistakes_are_told(write_recipe: WriteRecipe, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        plan_recipe(write_recipe(TWO_STAGES), overrides)
    assert "\n" not in str(caught.value)


def test_a_recipe_without_stages_is_refused(write_recipe: WriteRecipe) -> None:
    with pytest.raises(ConfigError, match="stages: is required"):
        plan_recipe(write_recipe(""))
    with pytest.raises(ConfigError, match="stages: "):
        plan_recipe(write_recipe("[stages]"))


def test_kinds_come_from_the_table(write_recipe: WriteRecipe, notes: Any) -> None:
    plan = plan_recipe(write_recipe('[stages.a]\nverb = "note"\ntext = "hello"'))
    assert plan.stages[0].config.text == "hello"
    assert notes.ran == []

from __future__ import annotations

import pytest
from pydantic import ValidationError

from r1.evaluation.run_report.claim_expressions import NotMeasuredError, evaluate_expression
from r1.evaluation.run_report.claims import CLAIMS, Claim, check_claim, find_claims

RESULTS = {
    "base": {"pass_at_1": 0.2, "cons_at_8": 0.3, "mean_response_tokens": 20.0},
    "r1_zero": {
        "pass_at_1": 0.80,
        "cons_at_8": 0.81,
        "mean_response_tokens": 50.0,
        "language_consistency": 0.7,
    },
    "r1": {"pass_at_1": 0.77, "cons_at_8": 0.9, "language_consistency": 0.96},
    "student_rl": {"pass_at_1": 0.97, "cons_at_8": 0.96},
    "student_distilled": {"pass_at_1": None},
    "run": {"logprob_gap_mean_abs": 6e-7},
}


@pytest.mark.parametrize(
    ("name", "value", "holds"),
    [
        ("base_rarely_right", 0.2, True),
        ("r1_zero_learns_by_rl_alone", 0.80, True),
        ("r1_zero_thinks_longer", 2.5, True),
        ("majority_beats_single", 0.01, True),  # student_rl is above 95%, so it does not count
        ("r1_zero_mixes_languages", 0.7, True),
        ("r1_keeps_one_language", 0.96, True),
        ("r1_keeps_accuracy", -0.03, True),  # the bound itself, whatever binary fractions say
        ("distillation_beats_rl", None, None),
        ("logprob_gap_is_small", 6e-7, True),
    ],
)
def test_quickstart_claims(name: str, value: float | None, holds: bool | None) -> None:
    (claim,) = find_claims([name])
    result = check_claim(claim, RESULTS)
    assert result.value == (None if value is None else pytest.approx(value))
    assert result.holds is holds


def test_every_claim_of_the_table_is_tested() -> None:
    assert len(CLAIMS) == 9


def test_the_worst_stage_decides() -> None:
    results = {**RESULTS, "cold_start": {"pass_at_1": 0.5, "cons_at_8": 0.4}}
    result = check_claim(find_claims(["majority_beats_single"])[0], results)
    assert (result.holds, result.worst_stage) == (False, "cold_start")
    assert result.value == pytest.approx(-0.1)


def test_bounds_that_exclude_their_own_value() -> None:
    above = Claim(name="a", statement="", value="base.pass_at_1", above=0.2)
    below = Claim(name="b", statement="", value="base.pass_at_1", below=0.2)
    assert check_claim(above, RESULTS).holds is False
    assert check_claim(below, RESULTS).holds is False


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("(base.pass_at_1 + 1) * 2", 2.4),
        ("-base.pass_at_1 / 2", -0.1),
        ("r1.pass_at_1 > 0.5", 1.0),
        ("1 - 2 - 3", -4.0),
    ],
)
def test_arithmetic(expression: str, value: float) -> None:
    assert evaluate_expression(expression, RESULTS) == pytest.approx(value)


@pytest.mark.parametrize("expression", ["base.seconds", "absent.pass_at_1", "1 / 0"])
def test_what_is_absent_is_not_measured(expression: str) -> None:
    with pytest.raises(NotMeasuredError):
        evaluate_expression(expression, RESULTS)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("r1.pass_at_one", "unknown metric 'pass_at_one'; did you mean 'pass_at_1'"),
        ("r1.__class__", "unknown metric '__class__'"),
        ("open('x')", "may only hold numbers"),
        ("r1.pass_at_1 ** 9", "may only hold numbers"),
        ("r1.pass_at_1 if 1 else 2", "may only hold numbers"),
        ("r1.pass_at_1 -", "is not an expression"),
        ("'text'", "may only hold numbers"),
    ],
)
def test_expressions_that_are_refused(value: str, message: str) -> None:
    with pytest.raises(ValidationError, match=f"claim 'mine': value: .*{message}|{message}"):
        Claim(name="mine", statement="", value=value, at_least=0)


def test_a_claim_has_exactly_one_bound() -> None:
    for bounds in ({}, {"above": 0.0, "at_least": 0.0}):
        with pytest.raises(ValidationError, match="exactly one of at_least"):
            Claim.model_validate({"name": "c", "statement": "", "value": "r1.pass_at_1", **bounds})


def test_recipes_name_claims_or_state_their_own() -> None:
    own = {"name": "fast", "statement": "it is fast", "value": "run.seconds", "at_most": 600.0}
    named, stated = find_claims(["base_rarely_right", own])
    assert (named.name, stated.name, stated.bound) == ("base_rarely_right", "fast", 600.0)
    with pytest.raises(ValueError, match="unknown claim 'base_rarely'; did you mean"):
        find_claims(["base_rarely"])

"""Claims about a run, stated as data and checked against its measured numbers.

A claim is a few fields: what is said in words, an expression over the stages'
results, and one bound. Recipes can name claims of this table or state their own.
A claim whose numbers have not been measured neither holds nor fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import model_validator

from r1.config import Config
from r1.config_errors import nearest_name
from r1.evaluation.run_report.claim_expressions import (
    COMPARISONS,
    NotMeasuredError,
    Results,
    check_expression,
    evaluate_expression,
    speaks_of_every_stage,
)


class Claim(Config):
    """One statement that a run can prove or fail.

    `value` is arithmetic over `<stage>.<metric>` (`r1.pass_at_1 - r1_zero.pass_at_1`),
    and exactly one of the four bounds says what it must be. When `value` speaks of
    `stage.<metric>`, it is taken for every stage for which `where` (such as
    `stage.pass_at_1 < 0.95`) is true, and the worst of them counts.
    Raises ValueError for an expression or metric that does not exist.
    """

    name: str
    statement: str
    value: str
    where: str = ""
    unit: Literal["share", "points", "ratio", "number"] = "number"
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(bound is not None for _, bound in self._bounds()) != 1:
            raise ValueError(
                f"claim {self.name!r} needs exactly one of at_least, at_most, above, below"
            )
        check_expression(self.value, f"claim {self.name!r}: value")
        if self.where:
            check_expression(self.where, f"claim {self.name!r}: where")
        return self

    def _bounds(self) -> list[tuple[str, float | None]]:
        return [(">=", self.at_least), ("<=", self.at_most), (">", self.above), ("<", self.below)]

    @property
    def comparison(self) -> str:
        """One of >=, <=, >, <."""
        return next(sign for sign, bound in self._bounds() if bound is not None)

    @property
    def bound(self) -> float:
        """The number that the value is compared with."""
        return next(bound for _, bound in self._bounds() if bound is not None)


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """A claim with its measured value; `holds` and `value` are None when not measured.

    `worst_stage` names the stage that decided a claim about every stage.
    """

    claim: Claim
    value: float | None
    holds: bool | None
    worst_stage: str = ""

    def to_json(self) -> dict[str, object]:
        """The claim as it stands in report.json."""
        return {
            "holds": self.holds,
            "value": self.value,
            "bound": self.claim.bound,
            "comparison": self.claim.comparison,
            "unit": self.claim.unit,
            "statement": self.claim.statement,
            "worst_stage": self.worst_stage or None,
        }


CLAIMS: tuple[Claim, ...] = (
    Claim(
        name="base_rarely_right",
        statement="The base model rarely solves the held-out problems",
        value="base.pass_at_1",
        unit="share",
        at_most=0.25,
    ),
    Claim(
        name="r1_zero_learns_by_rl_alone",
        statement="R1-Zero, by reinforcement learning alone, solves most of them",
        value="r1_zero.pass_at_1",
        unit="share",
        at_least=0.80,
    ),
    Claim(
        name="r1_zero_thinks_longer",
        statement="R1-Zero's responses are longer than the base model's (ratio of mean tokens)",
        value="r1_zero.mean_response_tokens / base.mean_response_tokens",
        unit="ratio",
        at_least=1.5,
    ),
    Claim(
        name="majority_beats_single",
        statement="A majority of 8 beats a single sample at every stage below 95% "
        "(smallest cons@8 - pass@1)",
        value="stage.cons_at_8 - stage.pass_at_1",
        unit="points",
        where="stage.pass_at_1 < 0.95",
        above=0.0,
    ),
    Claim(
        name="r1_zero_mixes_languages",
        statement="R1-Zero mixes languages in its thoughts (language consistency)",
        value="r1_zero.language_consistency",
        unit="share",
        below=0.90,
    ),
    Claim(
        name="r1_keeps_one_language",
        statement="R1 keeps to the question's language (language consistency)",
        value="r1.language_consistency",
        unit="share",
        at_least=0.95,
    ),
    Claim(
        name="r1_keeps_accuracy",
        statement="R1 solves as many as R1-Zero, to within three points (difference in pass@1)",
        value="r1.pass_at_1 - r1_zero.pass_at_1",
        unit="points",
        at_least=-0.03,
    ),
    Claim(
        name="distillation_beats_rl",
        statement="The distilled student beats the same student trained by RL alone "
        "(difference in pass@1)",
        value="student_distilled.pass_at_1 - student_rl.pass_at_1",
        unit="points",
        at_least=0.10,
    ),
    Claim(
        name="logprob_gap_is_small",
        statement="Sampler and trainer agree on the log-probs (mean absolute difference)",
        value="run.logprob_gap_mean_abs",
        at_most=1e-5,
    ),
)


def find_claims(listed: list[object]) -> tuple[Claim, ...]:
    """Claims by name from the table, or in full as mappings.

    Raises ValueError for an unknown name, with the nearest one.
    """
    by_name = {claim.name: claim for claim in CLAIMS}
    found: list[Claim] = []
    for item in listed:
        if isinstance(item, Mapping):
            found.append(Claim.model_validate(dict(item)))
        elif item in by_name:
            found.append(by_name[str(item)])
        else:
            near = nearest_name(str(item), by_name)
            hint = f"did you mean {near!r}? " if near else ""
            raise ValueError(f"unknown claim {item!r}; {hint}known: {', '.join(by_name)}")
    return tuple(found)


def check_claims(claims: tuple[Claim, ...], results: Results) -> list[ClaimResult]:
    """Measure every claim on the results of a run's stages, in the order given."""
    return [check_claim(claim, results) for claim in claims]


def check_claim(claim: Claim, results: Results) -> ClaimResult:
    """Measure one claim; not measured is an answer, not an error."""
    values: list[tuple[float, str]] = []
    for stage in _stages_of(claim, results):
        try:
            values.append((evaluate_expression(claim.value, results, stage), stage))
        except NotMeasuredError:
            continue
    if not values:
        return ClaimResult(claim, value=None, holds=None)
    worst = min if claim.comparison in (">", ">=") else max
    value, stage = worst(values)
    # Without rounding, .77 - .80 would miss a bound of -.03 by the noise of binary fractions.
    holds = COMPARISONS[claim.comparison](round(value, 12), claim.bound)
    return ClaimResult(claim, value, holds, stage)


def _stages_of(claim: Claim, results: Results) -> list[str]:
    if not speaks_of_every_stage(claim.value):
        return [""]
    stages: list[str] = []
    for name in results:
        try:
            if name != "run" and (not claim.where or _is_true(claim.where, results, name)):
                stages.append(name)
        except NotMeasuredError:
            continue
    return stages


def _is_true(condition: str, results: Results, stage: str) -> bool:
    return evaluate_expression(condition, results, stage) != 0.0

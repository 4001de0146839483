"""What a published claim asks of our runs: its operational form, as validated data of `published.yaml`.

A check names two sides, or a side and a printed number, and one or more cells (settings, adaptation steps) in which
they are compared. It is formed from one number per training seed (of the study `estimators`: per MDP), and from nothing
else. An identity asks no runs at all.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from reports.papers.printed import Scalar, Strict

Better = Literal["higher", "lower"]
Reading = Literal["our_spread", "ci_over_seeds", "ci_over_values", "sd_over_seeds", "tasks"]
"""What stands for the paper's own uncertainty: `our_spread`: its training seeds scatter as ours do; `ci_over_seeds`:
its 95 % interval is Student's over its seeds; `ci_over_values`: a normal interval over all n values; `sd_over_seeds`:
its SD is over its seeds; `tasks`: its SD is over n test tasks of one model, and ours is read in the same way,
conditional on these models."""


class Margin(Strict):
    """How far two values may lie apart and still count as the same.

    value:    in the units of what is compared, or
    fraction: of the distance between `upper` and `lower`, each a printed method of the same table and setting, or a
              number.
    rationale: why this much; it rests on the paper, never on our runs.
    """

    rationale: str = Field(min_length=1)
    value: float | None = Field(default=None, gt=0)
    fraction: float | None = Field(default=None, gt=0, lt=1)
    upper: str | float | None = None
    lower: str | float | None = None
    table: str | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Margin:
        parts = (self.fraction, self.upper, self.lower)
        if (self.value is not None) == any(part is not None for part in parts):
            raise ValueError("a margin has either a value, or a fraction with upper and lower")
        if self.value is None and any(part is None for part in parts):
            raise ValueError("a margin that is a fraction needs upper and lower, between which it is taken")
        if self.value is None and self.upper == self.lower:
            raise ValueError(f"upper and lower of a margin are both {self.upper}; there is nothing between them")
        return self


def _as_side(given: Any) -> Any:
    return {"method": given} if isinstance(given, str) else given


class Side(Strict):
    """The runs on one side: a method, by default of the check's study and in its settings and steps."""

    method: str
    study: str | None = None
    setting: str | None = None
    step: int | None = Field(default=None, ge=0)


AnySide = Annotated[Side, BeforeValidator(_as_side)]


class Check(Strict):
    """What every kind has that asks runs.

    study, scale: whose runs are asked; the study `estimators` is the audit of meta-gradient estimators, whose numbers
              are in `reports.estimators.numbers`.
    protocol: the meta-test protocol; empty for numbers that a run has once.
    settings: of a grid, None: all. steps: adaptation steps, None: the last one.
    column:   the number per run: `mean_return`, a measure of the suite, `score_during` and `score_adapted` of a grid
              study, or a number that an exhibit makes of a run's training curves.
    better:   whether more of it is better.
    """

    study: str
    scale: str = "paper"
    protocol: str = ""
    settings: list[str] | None = None
    steps: list[int] | None = None
    column: str = "mean_return"
    better: Better = "higher"

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.better == "higher" else -1


class Ordering(Check):
    """`first` is better than `second` in every cell. With a margin, the reason says where neither is better.

    statistic: what of the seeds is compared: their `mean`; their `ratio`, as a logarithm, of sizes that differ by
               factors from one seed to the next; or their `spread`, the mean distance from their median (Brown &
               Forsythe 1974): where `better` is `higher`, the side that spreads more is the better one.
    """

    kind: Literal["ordering"]
    first: AnySide
    second: AnySide
    statistic: Literal["mean", "ratio", "spread"] = "mean"
    margin: Margin | None = None

    @model_validator(mode="after")
    def _margin_of_means(self) -> Ordering:
        if self.margin is not None and self.statistic != "mean":
            raise ValueError("only an ordering of means has a margin")
        return self


class NotWorse(Check):
    """`first` is worse than `second` by no more than the margin, in every cell."""

    kind: Literal["not_worse"]
    first: AnySide
    second: AnySide
    margin: Margin


class Equal(Check):
    """`first` and `second` are the same within the margin, in every cell."""

    kind: Literal["equal"]
    first: AnySide
    second: AnySide
    margin: Margin


class Rising(Check):
    """`method` gets better from each of `steps` to the next."""

    kind: Literal["rising"]
    method: str
    steps: list[int] = Field(min_length=2)


class Jump(Check):
    """Of all that `method` gains from the first to the last of `steps`, more than `share` comes by the second.

    x_2 - x_1 > share (x_last - x_1),   by seed
    """

    kind: Literal["jump"]
    method: str
    steps: list[int] = Field(min_length=3)
    share: float = Field(gt=0, lt=1)


class AgainstPrinted(Check):
    """Ours beside printed numbers, in every cell: the same within the margin, or better (worse) than they are.

    table, printed: the results table and its method; a cell's coordinates find the row.
    coordinates:    of the printed row, beside those of the setting; `iteration` is the adaptation step.
    printed_seeds:  training seeds behind a printed mean; None where nothing was trained or it is not known.
    reading:        what stands for the paper's own uncertainty, as in a comparison.
    same_tasks:     the printed number was measured on our meta-test tasks, so that their luck is in both.
    printed_tasks:  test tasks behind a printed mean; None where it is not known: as many as ours are assumed.
    """

    kind: Literal["printed"]
    first: AnySide
    table: str
    printed: str
    relation: Literal["equal", "better", "worse"]
    margin: Margin | None = None
    coordinates: dict[str, Scalar] = Field(default_factory=dict)
    printed_seeds: int | None = Field(default=None, gt=0)
    reading: Reading = "our_spread"
    same_tasks: bool = False
    printed_tasks: int | None = Field(default=None, gt=1)

    @model_validator(mode="after")
    def _margin_where_equal(self) -> AgainstPrinted:
        if self.relation == "equal" and self.margin is None:
            raise ValueError("a check for equality with a printed number needs a margin")
        return self


class Ratio(Check):
    """`first` divided by `second`, paired by seed, is the printed `value`, within a margin of that ratio."""

    kind: Literal["ratio"]
    first: AnySide
    second: AnySide
    value: float = Field(gt=0)
    margin: Margin

    @model_validator(mode="after")
    def _absolute(self) -> Ratio:
        if self.margin.value is None:
            raise ValueError("the margin of a ratio is a value")
        return self


class AtMost(Check):
    """`first` is less than the value of the margin, in every cell: a size that is meant to be next to nothing."""

    kind: Literal["at_most"]
    first: AnySide
    margin: Margin

    @model_validator(mode="after")
    def _absolute(self) -> AtMost:
        if self.margin.value is None:
            raise ValueError("the margin of at_most is a value")
        return self


class SingleSeeds(Check):
    """There are training seeds with which the papers' own test finds `first` better than `second` in none of the cells.

    The test is over the meta-test tasks of two trained models; so the claim is about what one seed can show.
    """

    kind: Literal["single_seeds"]
    first: AnySide
    second: AnySide


class Headroom(Check):
    """A printed number is possible: below the best that any method could reach on average, in every cell.

    first:  whose runs know the tasks and how far single tasks scatter. bound: the column with the best possible value,
    in the units of `column`, which is exact. table, printed: the printed method.
    printed_seeds, printed_tasks: behind a printed mean; its interval is read as Student's over its seeds.
    """

    kind: Literal["headroom"]
    first: AnySide
    bound: str
    table: str
    printed: str
    printed_seeds: int = Field(gt=1)
    printed_tasks: int = Field(gt=1)


class Identity(Strict):
    """Algebra decides it, and no run: `test` is the test function that states it exactly, as pytest names it."""

    kind: Literal["identity"]
    test: str = Field(pattern=r"^tests/\w+\.py::test_\w+$")


AnyCheck = Annotated[
    Ordering | NotWorse | Equal | Rising | Jump | AgainstPrinted | Ratio | AtMost | SingleSeeds | Headroom | Identity,
    Field(discriminator="kind"),
]


class Claim(Strict):
    """One statement of a paper, with the check that decides it or the reason why none can.

    id:     `<paper>.<words>`. statement: in our words. where: section, table or figure.
    notes:  how the check relates to the statement: what it adds, leaves out or assumes.
    family: tests that are adjusted together; by default all of one paper on one study.
    """

    id: str = Field(pattern=r"^[a-z0-9]+\.[A-Za-z0-9_]+$")
    paper: str
    statement: str = Field(min_length=1)
    where: str = Field(min_length=1)
    check: AnyCheck | None = None
    not_testable: str | None = Field(default=None, min_length=1)
    notes: list[str] = Field(default_factory=list)
    family: str | None = None

    @model_validator(mode="after")
    def _check_or_reason(self) -> Claim:
        if (self.check is None) == (self.not_testable is None):
            raise ValueError(f"claim {self.id} needs either a check or not_testable with the reason")
        return self

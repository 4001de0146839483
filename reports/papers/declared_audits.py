"""Facts about a paper that are computed and not asserted: what to compute, as validated data of `published.yaml`.

An audit states what a reader has to know before comparing with a printed number, and names the numbers that bear it out
or do not. The conclusion is never part of the declaration: `reports.audits.evaluation` forms it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reports.papers.beside import Accounting, TableRef
from reports.papers.printed import Scalar, Strict


class Audit(Strict):
    """What every kind has.

    id:        `<paper>.<words>`. statement: what a reader has to know, in our words; source: where it comes from.
    concerns:  ids of tables and claims of the same paper on which it bears.
    """

    id: str = Field(pattern=r"^[a-z0-9]+\.[A-Za-z0-9_]+$")
    paper: str
    title: str = Field(min_length=1)
    statement: str = Field(min_length=1)
    source: str = Field(min_length=1)
    concerns: list[str] = Field(default_factory=list)


class PrintedTests(Audit):
    """The printed t-tests of a comparison, computed again from the printed means and SDs.

    Holds where every printed t, df and p is what the paper's own formula gives, at the printed digits.
    family: comparisons of the paper whose tests are adjusted together, beside the adjustment within the one table.
    """

    kind: Literal["printed_tests"]
    comparison: str
    family: list[str] = Field(default_factory=list)


class CellsDiffer(Audit):
    """The cells of one results table against those of another that they should repeat.

    Holds where at least one cell differs, and every one that does is explained by `explanation` if there is one.
    tolerance: share of the second table's value within which a cell agrees; None: it rounds to what is printed.
    """

    kind: Literal["cells_differ"]
    table: TableRef
    against: TableRef
    methods: list[str] = Field(min_length=1)
    tolerance: float | None = Field(default=None, gt=0, lt=1)
    explanation: Literal["swapped_digits"] | None = None


class DrawnBand(Strict):
    """The ends of a band in a figure, as measured in the picture, around the mean of one row of a table."""

    method: str
    setting: dict[str, Scalar]
    low: float
    high: float

    @model_validator(mode="after")
    def _ends_in_order(self) -> DrawnBand:
        if not self.low < self.high:
            raise ValueError(f"the band of {self.method} has no height: low {self.low}, high {self.high}")
        return self


class IntervalLevel(Audit):
    """Which interval of the mean a drawn band is, judging by the SDs and counts of a table.

    Holds where every band is nearer, as a ratio, to the interval of `level` than to that of `claimed`.
    """

    kind: Literal["interval_level"]
    table: TableRef
    level: float = Field(gt=0, lt=1)
    claimed: float = Field(gt=0, lt=1)
    drawn: list[DrawnBand] = Field(min_length=1)


class RecordedSetting(Strict):
    """A setting as recorded elsewhere; printed: as printed, None: what the audit's table has for `name` and `scope`."""

    name: str
    scope: str = ""
    recorded: float
    printed: float | None = None


class SettingsDiffer(Audit):
    """Printed settings against what a log or the released code has.

    Holds where at least one printed value is not the recorded one, rounded to `decimals`.
    """

    kind: Literal["settings_differ"]
    table: TableRef | None = None
    recorded_in: str = Field(min_length=1)
    decimals: int = Field(ge=0)
    settings: list[RecordedSetting] = Field(min_length=1)


class PrintedProduct(Strict):
    what: str
    factors: list[float] = Field(min_length=2)
    printed: float


class Products(Audit):
    """Printed products against their printed factors. Holds where at least one is not their product."""

    kind: Literal["products"]
    products: list[PrintedProduct] = Field(min_length=1)


class Stand(Strict):
    """The learner of ours whose SD over test tasks stands for that of a printed column."""

    method: str
    accounting: Accounting


class BesideRuns(Audit):
    """What the kinds have that need runs of ours: the grid comparison whose study is asked, and the scale."""

    comparison: str
    scale: str = "paper"

    @property
    def named(self) -> set[str]:
        """The printed columns that it names."""
        return set()


class AgainstBound(BesideRuns):
    """Printed totals against the most that is possible in expectation.

    bound: a reference of the study, per episode. says: what the statement says of the columns: `above` holds where at
    least one printed mean is above its bound by more than chance, `within` where none is.
    """

    kind: Literal["against_bound"]
    columns: list[str] = Field(min_length=1)
    bound: str
    says: Literal["above", "within"]
    spread: Stand

    @property
    def named(self) -> set[str]:
        return set(self.columns)


class KnownMean(BesideRuns):
    """A printed column of totals whose expectation per episode is known exactly.

    Holds where no mean is off by more than chance.
    """

    kind: Literal["known_mean"]
    column: str
    per_episode: float
    spread: Stand

    @property
    def named(self) -> set[str]:
        return {self.column}


class ImpliedNormaliser(BesideRuns):
    """By which of several returns a paper must have divided, judging by the column that its `normaliser` names.

    divisors: reference of the study -> words; divisor: the one that the statement names. exact: the expectation of the
    return per episode of which the column is a fraction, over all tasks, where it is known. Holds where the column is,
    within chance, what that divisor gives and what none of the others gives.
    """

    kind: Literal["implied_normaliser"]
    divisors: dict[str, str] = Field(min_length=2)
    divisor: str
    exact: float | None = None
    spread: Stand

    @model_validator(mode="after")
    def _divisor_is_one_of_them(self) -> ImpliedNormaliser:
        if self.divisor not in self.divisors:
            raise ValueError(f"audit {self.id}: divisor {self.divisor} is not among the divisors")
        return self


class IntervalWidth(BesideRuns):
    """Printed 95 % half-widths against what the choice of test tasks gives by itself.

    says: `narrow` holds where at least one is too narrow for an interval over all its values, were every one of another
    task; `wide` where at least one is too wide for an interval over the test tasks, were there no more than one seed's.
    beside: a printed column whose intervals over seeds stand beside.
    """

    kind: Literal["interval_width"]
    columns: list[str] = Field(min_length=1)
    says: Literal["narrow", "wide"]
    beside: str | None = None

    @property
    def named(self) -> set[str]:
        return {*self.columns, *([self.beside] if self.beside else [])}


AnyAudit = Annotated[
    PrintedTests
    | CellsDiffer
    | IntervalLevel
    | SettingsDiffer
    | Products
    | AgainstBound
    | KnownMean
    | ImpliedNormaliser
    | IntervalWidth,
    Field(discriminator="kind"),
]

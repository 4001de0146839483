"""What a page shows of a study beside its returns: blocks that `published.yaml` declares, as validated data.

A kind of exhibit is a schema here and a module that draws it; which study has one, and what it names, is data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reports.papers.printed import Strict

Point = tuple[float, float]


class Quantity(Strict):
    """How a measure, or the return, is shown.

    limits: the possible range, null where it has no end; intervals are shown up to it, and an axis has it where both
            ends are given. log: a logarithmic axis.
    """

    title: str
    digits: int = Field(default=2, ge=0)
    limits: tuple[float | None, float | None] = (None, None)
    log: bool = False


class Exhibit(Strict):
    """What every kind has.

    settings: those of a grid that are shown, the first one open, the others folded; None: all of the study.
    methods:  which are shown, in this order; None: all, in the order of the study.
    claims:   ids in a claims table of `paper`, set beside what was measured.
    notes:    what a reader has to know; words between backticks are code.
    """

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    study: str
    paper: str
    settings: list[str] | None = None
    methods: list[str] | None = None
    claims: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    def labels(self, known: Sequence[str]) -> list[str]:
        """The methods that are shown, of those that the study has."""
        return [label for label in (self.methods if self.methods is not None else known) if label in known]

    @property
    def curves(self) -> tuple[str, ...]:
        """Training metrics that the exhibit needs."""
        return ()

    @property
    def claim_ids(self) -> tuple[str, ...]:
        """Every claim that the exhibit refers to."""
        return tuple(self.claims)

    @property
    def result_tables(self) -> tuple[str, ...]:
        """Every results table of `paper` that the exhibit refers to."""
        return ()

    @property
    def together(self) -> bool:
        """Whether all settings are shown side by side, and not each by itself."""
        return False


class MeasuresExhibit(Exhibit):
    """Numbers after every adaptation step: a table, a figure, and tests between methods after the last step.

    quantities: measures of the suite, or `mean_return` -> how they are shown.
    baseline:   the method that is not trained; what it does is no achievement.
    contrasts:  pairs a, b that are tested on every quantity of `tested`, a minus b; one family.
    gains:      whether every method is also tested against itself before adaptation, on every quantity of `tested`.
    elsewhere:  method -> the protocol in which it is measured, where that is another one, such as an oracle's.
    printed:    setting -> the results table of `paper` whose means stand beside our `mean_return`, step by step.
    printed_as: what these are, as the head of their column.
    beside_claims: the quantities that stand beside the paper's claims; empty: all.
    """

    kind: Literal["measures"]
    protocol: str
    quantities: Annotated[dict[str, Quantity], Field(min_length=1)]
    baseline: str | None = None
    contrasts: list[tuple[str, str]] = Field(default_factory=list)
    tested: list[str] = Field(default_factory=list)
    gains: bool = False
    elsewhere: dict[str, str] = Field(default_factory=dict)
    printed: dict[str, str] = Field(default_factory=dict)
    printed_as: str = "printed"
    beside_claims: list[str] = Field(default_factory=list)

    @property
    def result_tables(self) -> tuple[str, ...]:
        return tuple(self.printed.values())

    def protocol_of(self, method: str) -> str:
        """The protocol in which a method is measured."""
        return self.elsewhere.get(method, self.protocol)

    @model_validator(mode="after")
    def _named_is_shown(self) -> MeasuresExhibit:
        unknown = sorted({*self.tested, *self.beside_claims} - set(self.quantities))
        if unknown:
            raise ValueError(f"exhibit {self.id}: {unknown[0]} is not among its quantities")
        if self.printed and "mean_return" not in self.quantities:
            raise ValueError(f"exhibit {self.id}: printed means stand beside mean_return, which it does not show")
        return self


class PathsExhibit(Exhibit):
    """Where the agent went before and after adaptation.

    goals: of the drawn test tasks, in order. radii: what a disc around a goal means -> its radius, in suite units.
    window: the plane is drawn from -window to window.
    """

    kind: Literal["paths"]
    protocol: str
    goals: Annotated[list[Point], Field(min_length=1)]
    radii: dict[str, Annotated[float, Field(gt=0)]]
    window: Annotated[float, Field(gt=0)]


class SpreadExhibit(Exhibit):
    """How much the meta-gradients of two methods scatter while they train, and what they reach.

    spreads: training metrics -> their titles. outcome: the training metric that says how good the policy is.
    over, under: the ratio is the spread of `over` divided by that of `under`. ratio: the claim that prints it.
    """

    kind: Literal["gradient_spread"]
    spreads: Annotated[dict[str, str], Field(min_length=1)]
    outcome: str = "post_update_return"
    outcome_title: str = "return after adaptation"
    over: str
    under: str
    ratio: str

    @property
    def curves(self) -> tuple[str, ...]:
        return (*self.spreads, self.outcome)

    @property
    def claim_ids(self) -> tuple[str, ...]:
        return (*self.claims, self.ratio)


class LearningExhibit(Exhibit):
    """What the methods reach while they train, over environment steps: a panel per setting.

    outcome: the training metric that is drawn with its interval. before: the one that is drawn thinly, dashed.
    """

    kind: Literal["learning_curves"]
    outcome: str = "post_update_return"
    before: str = "pre_update_return"
    length: str = "post_update_length"

    @property
    def curves(self) -> tuple[str, ...]:
        return (self.outcome, self.before, self.length)

    @property
    def together(self) -> bool:
        return True


class SecondsExhibit(Exhibit):
    """How long a meta-iteration takes, and what of it: sampling, adaptation, outer update. From the runs' manifests."""

    kind: Literal["seconds"]

    @property
    def together(self) -> bool:
        return True


class PlaneExhibit(Exhibit):
    """The path of two parameters through training, and how straight it is.

    x, y: training metrics, the parameters after each update. start: before the first. optimum: where the path should
    end. window: x from, to; y from, to. updates, every: the first so many updates count, an arrow every so many.
    drawn: the settings whose paths are drawn; None: all. not_drawn: why those of the others are not.
    highlighted: the seed that is drawn with arrows.
    beside_claims: the methods that stand beside the paper's claims; empty: all.
    """

    kind: Literal["parameter_plane"]
    x: str
    y: str
    start: Point
    optimum: Point
    window: tuple[float, float, float, float]
    updates: Annotated[int, Field(gt=0)]
    every: Annotated[int, Field(gt=0)]
    drawn: list[str] | None = None
    not_drawn: str = ""
    highlighted: int = 0
    beside_claims: list[str] = Field(default_factory=list)

    @property
    def curves(self) -> tuple[str, ...]:
        return (self.x, self.y)


class Rung(Strict):
    """Runs of one method under one meta-test protocol; `factor`: what sets them apart from what they stand beside."""

    factor: str
    method: str
    protocol: str


class PrintedEnd(Strict):
    """The printed row of an end of a ladder."""

    paper: str
    table: str
    method: str


class LadderExhibit(Exhibit):
    """From one set-up to another, one factor at a time, and the full set-up without each.

    rungs: from the lower end upwards, each with the factor that it adds to the one before. full: the set-up of which
    `dropped` takes one factor out. step: the adaptation step at which effects are measured.
    """

    kind: Literal["ladder"]
    rungs: Annotated[list[Rung], Field(min_length=2)]
    full: Rung
    dropped: list[Rung] = Field(default_factory=list)
    step: Annotated[int, Field(ge=0)]
    printed_lower: PrintedEnd | None = None
    printed_upper: PrintedEnd | None = None


class SingleSeedsExhibit(Exhibit):
    """What one training seed alone would have concluded: the paper's own test of `first` against `second` on each.

    steps: the adaptation steps at which the paper's conclusion is drawn.
    """

    kind: Literal["single_seeds"]
    protocol: str
    first: str
    second: str
    steps: Annotated[list[int], Field(min_length=1)]
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05


AnyExhibit = Annotated[
    MeasuresExhibit
    | PathsExhibit
    | SpreadExhibit
    | LearningExhibit
    | SecondsExhibit
    | PlaneExhibit
    | LadderExhibit
    | SingleSeedsExhibit,
    Field(discriminator="kind"),
]

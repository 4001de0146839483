"""Which printed table stands beside which of our studies, as validated data of `published.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reports.papers.checks import Margin, Reading
from reports.papers.printed import Scalar, Strict


class TableRef(Strict):
    paper: str
    table: str


class BesidePrinted(Strict):
    """A printed table that stands beside a study of ours, measured by one of its meta-test protocols.

    margin:   within which a printed mean and ours count as the same; without one the table is shown, and not judged.
    readings: what a printed spread may have been computed over, where the verdict rests on the first and the others are
              shown for comparison.
    """

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    paper: str
    table: str
    study: str
    protocol: str
    notes: list[str] = Field(default_factory=list)
    margin: Margin | None = None
    readings: list[Reading] = Field(default_factory=list)


class Comparison(BesidePrinted):
    """Which printed table stands beside which of our runs; `contrasts` is a declared family of tests, a minus b."""

    tests_table: str | None = None
    reference: TableRef | None = None
    setting: str
    methods: dict[str, list[str]]
    contrasts: list[tuple[str, str]] = Field(default_factory=list)
    figure: str | None = None

    def printed_name(self, label: str) -> str | None:
        """The name under which the paper prints our method `label`; None where it prints nothing comparable."""
        return next((printed for printed, labels in self.methods.items() if label in labels), None)


Accounting = Literal["during", "adapted"]


class PrintedColumn(Strict):
    """What a printed column of a grid counts, and which of our methods stand beside it.

    accounting: `during`: the reward of the episodes in which the method learns; `adapted`: of the adapted policy.
    seeds, tasks: training seeds and meta-test tasks behind a printed mean; null where there is no training, or where
                  the number of tasks is not known.
    """

    accounting: Accounting | Literal["unknown"]
    labels: list[str] = Field(default_factory=list)
    seeds: int | None = Field(default=None, gt=0)
    tasks: int | None = Field(default=None, gt=1)


class Normaliser(Strict):
    """A printed column, and the exactly known return that it must be a fraction of the paper's normaliser of."""

    printed: str
    reference: str


class GridComparison(BesidePrinted):
    """Which printed grid of settings stands beside which of our studies.

    value:           what a printed number is: the `total` reward of N episodes, or the `fraction_of_optimum`.
    episodes_column: the column, of the study or of `where`, that holds N.
    where:           coordinates of the printed table that are the same for all settings of the study.
    normaliser:      which printed column tells what the paper divided by, where it does not say.
    ours:            our methods that no column prints -> the accounting in which a compact table shows them.
    """

    value: Literal["total", "fraction_of_optimum"]
    episodes_column: str
    where: dict[str, Scalar] = Field(default_factory=dict)
    methods: dict[str, PrintedColumn]
    ours: dict[str, Accounting] = Field(default_factory=dict)
    normaliser: Normaliser | None = None

    def printed_name(self, label: str) -> str | None:
        """The name under which the paper prints our method `label`; None where it prints nothing comparable."""
        return next((printed for printed, column in self.methods.items() if label in column.labels), None)

    def accounting(self, label: str) -> Accounting:
        """The accounting in which a compact table shows our method: the printed column's, else as `ours` says."""
        printed = self.printed_name(label)
        declared = self.methods[printed].accounting if printed else self.ours.get(label, "adapted")
        return "adapted" if declared == "unknown" else declared

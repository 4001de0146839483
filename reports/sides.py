"""The two sides of a comparison: which runs a check asks for in each of its cells, and the difference between them.

Book: the numbers of every study that was run, by (study, scale).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from reports.beside_print import margin_of, ours_text
from reports.decisions import Cell
from reports.estimates import Estimate, of_mean, paired, welch, welch_from_summaries
from reports.papers.checks import Check, Claim, Side
from reports.papers.printed import ResultsTable, Scalar
from reports.papers.published import Published
from reports.quantities import StudyNumbers
from reports.statistics import conservative_t
from reports.verdicts import ALPHA, Row

Book = Mapping[tuple[str, str], StudyNumbers]
ONE_MODEL = "meta-test task, conditional on these models"
NO_RUNS = "no finished run"
FROM_MEDIAN = "the mean distance from the median"
"""What the `spread` of an ordering is in."""


@dataclass(frozen=True)
class Place:
    """A cell of a check: a setting, an adaptation step, and how they are called."""

    setting: str
    step: int
    where: str


@dataclass(frozen=True)
class Asked:
    """A claim with its check, and where its answer comes from."""

    claim: Claim
    check: Check
    book: Book
    scale: str
    published: Published

    @property
    def numbers(self) -> StudyNumbers:
        return self.book[self.check.study, self.scale]

    def places(self) -> list[Place]:
        """Every cell that the check asks for."""
        info, check = self.numbers.info, self.check
        steps = check.steps if check.steps is not None else [self.numbers.last_step(check.protocol)]
        settings = [s for s in info.settings if check.settings is None or s.name in check.settings]
        made = []
        for setting in settings:
            for step in steps:
                parts = [setting.describe()] if len(settings) > 1 else []
                if check.protocol and (len(steps) > 1 or check.steps is not None):
                    parts.append(after(step))
                made.append(Place(setting.name, step, ", ".join(parts)))
        return made

    def side(self, side: Side, place: Place, column: str | None = None) -> pd.DataFrame:
        """value, sd and tasks of one side by training seed."""
        check = self.check
        numbers = self.book.get((side.study or check.study, self.scale))
        if numbers is None:
            return self.numbers.table.iloc[:0].set_index("seed")[["value", "sd", "tasks"]]
        names = [setting.name for setting in numbers.info.settings]
        setting = side.setting or (place.setting if place.setting in names or len(names) > 1 else names[0])
        step = side.step if side.step is not None else place.step
        return numbers.of(side.method, setting, column or check.column, check.protocol, step if check.protocol else 0)

    def margin(self, place: Place) -> float | None:
        """The margin of the check in a cell; None where none is declared, or its ends are not printed there."""
        margin = getattr(self.check, "margin", None)
        if margin is None or margin.value is not None:
            return margin.value if margin else None
        table = self.published.results(self.claim.paper, margin.table or getattr(self.check, "table", ""))
        return margin_of(margin, table, self.coordinates(place, table))

    def coordinates(self, place: Place, table: ResultsTable) -> dict[str, Scalar]:
        """Where in a printed table a cell stands."""
        columns = next(s.columns for s in self.numbers.info.settings if s.name == place.setting)
        step: dict[str, Scalar] = {"iteration": place.step} if "iteration" in table.columns else {}
        return {**columns, **step, **getattr(self.check, "coordinates", {})}


def after(step: int) -> str:
    """An adaptation step in words."""
    return f"after {step} update{'s' if step != 1 else ''}" if step else "before any update"


def between(
    first: pd.DataFrame,
    second: pd.DataFrame,
    sign: int,
    margin: float | None,
    where: str,
    bound: float,
    counted: str = "seed",
) -> Cell:
    """First minus second, so that positive is better: paired by seed wherever both were trained with the same seeds.

    counted: what is counted as a seed.
    """
    text = f"{ours_text(first, counted)} against {ours_text(second, counted)}"
    seeds = min(len(first), len(second))
    if not seeds:
        return Cell(Row(where, "", text, 0, None, margin, note=f"{NO_RUNS} on one side"))
    try:
        estimate, variance, count = difference(first, second, sign)
    except ValueError as error:
        return Cell(Row(where, "", text, seeds, None, margin, note=f"{where}: {error}" if where else str(error)))
    row = Row(where, "", text, count, over(estimate, counted), margin, each_seed(first, second, sign))
    return Cell(row, variance, bound=bound)


def over(estimate: Estimate, counted: str) -> Estimate:
    """The estimate with its unit of analysis, where that is not the training seed."""
    return estimate if counted == "seed" else replace(estimate, unit=counted)


def difference(first: pd.DataFrame, second: pd.DataFrame, sign: int) -> tuple[Estimate, float, int]:
    """The difference, its variance per seed, and how many seeds are behind it."""
    common = first.index.intersection(second.index)
    a, b = first["value"] * sign, second["value"] * sign
    if len(common) > 1:
        found = paired(a.loc[common], b.loc[common])
        return found, found.se**2 * len(common), len(common)
    if len(a) > 1 and len(b) > 1:
        found = welch(a, b)
        return found, found.se**2 * min(len(a), len(b)), min(len(a), len(b))
    if len(a) > 1 or len(b) > 1:  # one side has nothing to train: its one run is the same for every seed
        found = of_mean(a - b.iloc[0] if len(a) > 1 else a.iloc[0] - b)
        return found, found.se**2 * max(len(a), len(b)), max(len(a), len(b))
    one, other = first.iloc[0], second.iloc[0]
    if not (one["tasks"] > 1 and one["sd"] >= 0 and other["sd"] >= 0):
        raise ValueError("one run on either side: nothing to test with")
    found = welch_from_summaries(a.iloc[0], one["sd"], int(one["tasks"]), b.iloc[0], other["sd"], int(other["tasks"]))
    return replace(found, unit=ONE_MODEL), float("nan"), 1


def each_seed(first: pd.DataFrame, second: pd.DataFrame, sign: int) -> dict[int, str]:
    """What each seed alone would have said, by the test that papers make over the test tasks of two trained models."""
    said = {}
    for seed in first.index.intersection(second.index):
        a, b = first.loc[seed], second.loc[seed]
        if not (a["tasks"] > 1 and a["sd"] + b["sd"] > 0):
            continue
        test = conservative_t(a["value"], a["sd"], int(a["tasks"]), b["value"], b["sd"], int(b["tasks"]))
        said[int(seed)] = "–" if test.p >= ALPHA else "yes" if test.difference * sign > 0 else "no"
    return said


def deviations(side: pd.DataFrame) -> pd.DataFrame:
    """How far each seed is from the median of all: compared by Welch's test, the test of Brown & Forsythe (1974) for
    unequal spread. Of an odd number of seeds one is the median; its zero says nothing and is left out (Hines & Hines
    2000). A distance says nothing about the seed's test tasks either.
    """
    values = (side["value"] - side["value"].median()).abs()
    if len(side) % 2 and len(side) > 1:
        side, values = side.drop(index=values.idxmin()), values.drop(index=values.idxmin())
    return side.assign(value=values, sd=float("nan"), tasks=float("nan"))


def logarithms(side: pd.DataFrame) -> pd.DataFrame:
    """The logarithm of each seed's number, NaN where it has none; of its test tasks nothing is known then."""
    values = np.log(side["value"].where(side["value"] > 0))
    return side.assign(value=values, sd=float("nan"), tasks=float("nan"))


def together(cells: Sequence[Cell]) -> dict[int, str]:
    """Of every seed that all cells have: "no" if any says so, "yes" if all do."""
    each = [cell.row.alone for cell in cells]
    if not each or not all(each):
        return {}
    made = {}
    for seed in sorted(set.intersection(*(set(alone) for alone in each))):
        words = {alone[seed] for alone in each}
        made[seed] = "no" if "no" in words else "yes" if words == {"yes"} else "–"
    return made

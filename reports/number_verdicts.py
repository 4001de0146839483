"""Every printed number that stands beside runs of ours, with what is needed to judge it.

    difference = x̄ - m,   se² = v_seeds + v_tasks + v_rounding,   df by Satterthwaite (1946)

x̄: mean over our n training seeds with SD s; m: the printed mean over M seeds. What stands for the paper's own
uncertainty is a reading of what it prints (`reports.papers.checks.Reading`):

    our_spread:      v_seeds = s²/n + s²/M, n-1 degrees of freedom: its seeds scatter as ours do
    ci_over_seeds:   v_seeds = s²/n + (h / t_{.975, M-1})², with n-1 and M-1: its half-width h is Student's over seeds
    ci_over_values:  v_seeds = s²/n + (h / 1.96)²: a normal interval over all its values
    sd_over_seeds:   v_seeds = s²/n + s_p²/M, with n-1 and M-1: its SD s_p is over its seeds (Welch 1947)
    tasks:           Welch on the printed SD over test tasks and ours, conditional on these models

v_tasks = σ² (1/T + 1/T'): the luck of the test tasks, σ their SD, where the paper's are other draws than ours.
v_rounding = d²/12: a printed number stands for all that round to it, d wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from scipy import stats

from reports.decisions import Cell, Draft
from reports.estimates import Estimate, from_components, welch_from_summaries
from reports.grids.tables import Grid, grid_of, scores
from reports.papers.beside import Comparison, GridComparison
from reports.papers.checks import Margin, Reading
from reports.papers.printed import ResultRow, ResultsTable, Scalar
from reports.papers.published import Published
from reports.quantities import StudyNumbers
from reports.reasons import compact
from reports.verdicts import ALPHA, Judgement, Outcome, Row, Verdict

SEED, TASK = "training seed", "meta-test task, conditional on these models"
NORMAL = float(stats.norm.ppf(0.975))
READ_OFF = 0.05
"""How far, as a share of its size, a value read off a figure may be from what was drawn."""
READINGS: Mapping[Reading, str] = {
    "our_spread": "its seeds scatter as ours",
    "ci_over_seeds": "its interval is over its seeds",
    "ci_over_values": "its interval is over all its values",
    "sd_over_seeds": "its SD is over its seeds",
    "tasks": "over test tasks of one model each",
}


@dataclass(frozen=True)
class Printed:
    """A printed mean, and how it was made: training seeds, and test tasks if they are other draws than ours."""

    row: ResultRow
    half_unit: float
    seeds: int | None
    tasks: int | None = None
    other_tasks: bool = False

    @property
    def mean(self) -> float:
        assert self.row.mean is not None
        return self.row.mean

    @property
    def sd(self) -> float | None:
        """The printed spread as a standard deviation: over tasks as printed, or of the seeds behind a 95 % interval."""
        if self.row.ci95 is not None and self.seeds and self.seeds > 1:
            return self.row.ci95 * self.seeds**0.5 / _quantile(self.seeds)
        return self.row.std

    def text(self) -> str:
        """The number as printed, with the kind of its spread and what it was computed over."""
        spread = f" ± {self.row.std} (SD)" if self.row.std is not None else ""
        spread = f" ± {self.row.ci95} (95 % interval)" if self.row.ci95 is not None else spread
        count = f", n = {self.row.n}" if self.row.n else ""
        return f"{self.mean:g}{spread}{count}".replace("-", "−")


def _quantile(seeds: int) -> float:
    return float(stats.t.ppf(0.975, seeds - 1))


def margin_of(margin: Margin | None, table: ResultsTable, setting: Mapping[str, Scalar]) -> float | None:
    """The margin in the units of the table, in one of its settings; None where the paper prints no end of it there."""
    if margin is None or margin.value is not None:
        return margin.value if margin else None
    ends = []
    for end in (margin.upper, margin.lower):
        cell = table.cell(end, setting) if isinstance(end, str) else None
        ends.append(end if isinstance(end, int | float) else cell.mean if cell else None)
    upper, lower = ends
    if upper is None or lower is None or margin.fraction is None:
        return None
    return margin.fraction * abs(upper - lower)


def half_unit(table: ResultsTable) -> float:
    """Half of the last printed decimal."""
    digits = max((len(repr(row.mean).partition(".")[2]) for row in table.rows if row.mean is not None), default=0)
    return 0.5 * 10.0**-digits


def rounding(table: ResultsTable, row: ResultRow) -> float:
    """Half of the last printed decimal; of a value that was read off a figure READ_OFF of its size."""
    return max(half_unit(table), READ_OFF * abs(row.mean or 0.0)) if row.approximate else half_unit(table)


def against(ours: pd.DataFrame, printed: Printed, reading: Reading) -> Cell | str:
    """Ours minus the printed mean under a reading, without margin and words; text where it cannot be formed.

    ours: value, sd (over tasks), tasks, by training seed.
    """
    n, mean = len(ours), float(ours["value"].mean())
    if n == 0:
        return "no finished run of ours"
    variance = float(ours["value"].var(ddof=1)) if n > 1 else 0.0
    sigma, tasks = float(ours["sd"].mean()), float(ours["tasks"].mean())
    if reading == "tasks":
        if printed.row.std is None or not printed.row.n or not tasks > 1:
            return "the paper prints no SD over tasks"
        return _cell(
            welch_from_summaries(mean, sigma, int(tasks), printed.mean, printed.row.std, printed.row.n), n, float("nan")
        )
    if n == 1 and printed.seeds:
        return "one seed of ours: no spread over seeds"
    own = [(variance / n, float(n - 1))] if n > 1 else []
    theirs = _theirs(printed, reading, variance, n)
    if isinstance(theirs, str):
        return theirs
    luck = [((2 * printed.half_unit) ** 2 / 12, float("inf"))]
    if printed.other_tasks and tasks > 1:
        luck.append((sigma**2 * (1 / tasks + (1 / printed.tasks if printed.tasks else 0.0)), tasks - 1))
    seeds = [*own, *theirs]
    if reading == "our_spread" and seeds:  # one and the same s² stands on both sides: its degrees of freedom count once
        seeds = [(sum(part for part, _ in seeds), float(n - 1))]
    try:
        estimate = from_components(mean - printed.mean, [*seeds, *luck], "Welch–Satterthwaite")
    except ValueError as error:
        return str(error)
    if reading == "our_spread":
        return _cell(estimate, n, variance, luck, printed.seeds)
    return _cell(estimate, n, variance, [*theirs, *luck])


def uncertainty(printed: Printed, reading: Reading, sigma: float, tasks: int) -> list[tuple[float, float]]:
    """The variance of a printed mean by itself, and its degrees of freedom: its spread, its test tasks, its rounding.

    Errors: ValueError where the paper prints no spread of that reading.
    """
    theirs = _theirs(printed, reading, 0.0, 0)
    if isinstance(theirs, str):
        raise ValueError(theirs)
    return [*theirs, (sigma**2 / tasks, tasks - 1.0), ((2 * printed.half_unit) ** 2 / 12, float("inf"))]


def _theirs(printed: Printed, reading: Reading, variance: float, n: int) -> list[tuple[float, float]] | str:
    """What the paper's own mean contributes; of an interval over nobody knows how many seeds, that interval."""
    if printed.seeds is None and printed.row.ci95 is not None:
        return [((printed.row.ci95 / NORMAL) ** 2, float("inf"))]
    if reading == "our_spread" or printed.seeds is None:
        return [(variance / printed.seeds, float(n - 1))] if printed.seeds and n > 1 else []
    if reading == "sd_over_seeds":
        if printed.row.std is None:
            return "the paper prints no SD"
        return [(printed.row.std**2 / printed.seeds, float(printed.seeds - 1))]
    if printed.row.ci95 is None:
        return "the paper prints no interval"
    if reading == "ci_over_values":
        return [((printed.row.ci95 / NORMAL) ** 2, float("inf"))]
    return [((printed.row.ci95 / _quantile(printed.seeds)) ** 2, float(printed.seeds - 1))]


def _cell(
    estimate: Estimate,
    n: int,
    variance: float,
    fixed: Sequence[tuple[float, float]] = (),
    other_seeds: int | None = None,
) -> Cell:
    return Cell(Row("", "", "", n, estimate, None), variance, tuple(fixed), other_seeds=other_seeds)


def drafts(numbers: StudyNumbers, published: Published) -> Iterator[Draft]:
    """Every printed number that the study's comparisons judge: one draft per method of ours beside it."""
    info = numbers.info
    for comparison in published.comparisons_of(info.name, info.settings[0].name):
        if comparison.margin:
            yield from _of_steps(numbers, published, comparison)
    for grid in published.grids_of(info.name):
        if grid.margin:
            yield from _of_grid(numbers, published, grid)


def _of_steps(numbers: StudyNumbers, published: Published, comparison: Comparison) -> Iterator[Draft]:
    table = published.results(comparison.paper, comparison.table)
    setting = numbers.info.settings[0].name
    for printed_name, labels in comparison.methods.items():
        for row in (row for row in table.rows if row.method == printed_name and row.mean is not None):
            step = int(row.setting["iteration"])
            printed = Printed(row, rounding(table, row), seeds=1)
            for label in (label for label in labels if label in numbers.info.labels):
                ours = numbers.of(label, setting, "mean_return", comparison.protocol, step)
                after = f"after {step} update{'s' if step != 1 else ''}"
                yield _draft(numbers, published, comparison, table, printed, ours, (label, labels[0], f"{step}", after))


def _of_grid(numbers: StudyNumbers, published: Published, comparison: GridComparison) -> Iterator[Draft]:
    info = numbers.info
    grid: Grid = grid_of(numbers.evidence, info.settings, info.labels, published, info.name, comparison)
    found = scores(grid)
    table = published.results(comparison.paper, comparison.table)
    for printed_name, column in comparison.methods.items():
        for label in (label for label in column.labels if label in info.labels and column.accounting != "unknown"):
            for setting in info.settings:
                row = grid.cell(printed_name, setting)
                if row is None or row.mean is None:
                    continue
                mine = found[found["setting"].eq(setting.name) & found["method"].eq(label)]
                mine = mine[mine["accounting"].eq(column.accounting)].set_index("seed").sort_index()
                ours = mine.assign(value=mine["score"], sd=mine["sd_score"])[["value", "sd", "tasks"]].astype("float64")
                printed = Printed(row, rounding(table, row), column.seeds, column.tasks, other_tasks=True)
                names = (label, column.labels[0], setting.name, setting.describe())
                yield _draft(numbers, published, comparison, table, printed, ours, names)


def _draft(
    numbers: StudyNumbers,
    published: Published,
    comparison: Comparison | GridComparison,
    table: ResultsTable,
    printed: Printed,
    ours: pd.DataFrame,
    names: tuple[str, str, str, str],
) -> Draft:
    """names: our label, the first label beside this number, the cell as part of an id, and in words."""
    label, first, cell_id, where = names
    ends = published.results(comparison.paper, (comparison.margin and comparison.margin.table) or comparison.table)
    margin = margin_of(comparison.margin, ends, printed.row.setting)
    first_reading, *others = comparison.readings or ["our_spread"]
    cell = _finished(against(ours, printed, first_reading), ours, printed, margin)
    sign = 1 if table.metric.better == "higher" else -1
    judgement = Judgement(
        id=f"{comparison.id}.{label}.{cell_id}",
        kind="number" if label == first else "variant",
        paper=published.paper(comparison.paper).short,
        statement=f"{printed.row.method}, {where}" + (f", beside our {label}" if label != printed.row.method else ""),
        where=comparison.title,
        verdict=Verdict.NOT_TESTABLE,
        outcome=Outcome.UNTESTED,
        reason="",
        study=numbers.info.name,
        scale=numbers.info.scale,
        family=f"{comparison.id} ({numbers.info.scale})",
        rows=(cell.row,),
        alone=cell.row.alone,
        readings=_readings(ours, printed, others, cell, margin, sign),
        methods=(label,),
        table=comparison.table,
        settings=(cell_id if isinstance(comparison, GridComparison) else numbers.info.settings[0].name,),
    )
    return Draft(judgement, "same", (cell,), sign, _limit(printed))


def _limit(printed: Printed) -> str:
    """What stands in the way of a verdict where more seeds of ours do not help."""
    if printed.seeds is None:
        return "only more test tasks would decide it: nothing is trained"
    if printed.seeds == 1:
        return "no number of our seeds decides it: the paper has one"
    return f"no number of our seeds decides it: the paper has {printed.seeds} and its own test tasks"


def _finished(cell: Cell | str, ours: pd.DataFrame, printed: Printed, margin: float | None) -> Cell:
    """The cell with its words and its margin."""
    values: dict[str, Any] = {"printed": printed.text(), "ours": ours_text(ours), "margin": margin}
    values |= {"printed_sd": printed.sd, "alone": _each_seed(ours, printed)}
    if isinstance(cell, str):
        return Cell(Row("", seeds=len(ours), estimate=None, note=cell, **values))
    row = Row("", seeds=len(ours), estimate=cell.row.estimate, **values)
    return replace(cell, row=row)


def ours_text(ours: pd.DataFrame, unit: str = "seed") -> str:
    """Mean ± SD over seeds, with the numbers of seeds and tasks. unit: what is counted as a seed."""
    if ours.empty:
        return "–"
    spread = f" ± {compact(float(ours['value'].std(ddof=1)))}" if len(ours) > 1 else ""
    tasks = ours["tasks"].dropna()
    counted = f"{len(ours)} {unit}{'s' if len(ours) != 1 else ''}"
    tested = f" × {int(tasks.min())} tasks" if len(tasks) else ""
    return f"{compact(float(ours['value'].mean()))}{spread} ({counted}{tested})"


def _each_seed(ours: pd.DataFrame, printed: Printed) -> dict[int, str]:
    """Whether each seed alone, by its test tasks, could be told from the printed number: "no" where it could."""
    if printed.row.std is None or not printed.row.n:
        return {}
    said = {}
    for seed, row in ours.iterrows():
        if row["sd"] > 0 and row["tasks"] > 1:
            test = welch_from_summaries(
                row["value"], row["sd"], int(row["tasks"]), printed.mean, printed.row.std, printed.row.n
            )
            said[int(str(seed))] = "no" if test.p < ALPHA else "yes"
    return said


def _readings(
    ours: pd.DataFrame, printed: Printed, names: Sequence[Reading], cell: Cell, margin: float | None, sign: int
) -> dict[str, Verdict]:
    """The verdict under every other reading that gives another estimate."""
    found = {}
    for name in names:
        other = against(ours, printed, name)
        if isinstance(other, str) or other.row.estimate != cell.row.estimate:
            found[READINGS[name]] = _alone(other, margin, sign)
    return found


def _alone(cell: Cell | str, margin: float | None, sign: int) -> Verdict:
    """The verdict under another reading, by itself: without a family."""
    if isinstance(cell, str) or cell.row.estimate is None:
        return Verdict.NOT_TESTABLE
    estimate = cell.row.estimate
    equal, different = margin is not None and estimate.tost(margin) < ALPHA, estimate.p < ALPHA
    if equal:
        return Verdict.DIFFERENT_WITHIN_MARGIN if different else Verdict.EQUIVALENT
    if not different:
        return Verdict.INCONCLUSIVE
    return Verdict.DIFFERENT_BETTER if estimate.difference * sign > 0 else Verdict.DIFFERENT_WORSE

"""Every printed number that stands beside runs of ours, as a draft of its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from reports.beside_print import READINGS, Printed, against, margin_of, ours_text, rounding
from reports.decisions import Cell, Draft
from reports.estimates import welch_from_summaries
from reports.grids.tables import Grid, grid_of, scores
from reports.papers.beside import Comparison, GridComparison
from reports.papers.checks import Reading
from reports.papers.printed import ResultsTable
from reports.papers.published import Published
from reports.quantities import StudyNumbers
from reports.verdicts import ALPHA, Judgement, Outcome, Row, Verdict


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

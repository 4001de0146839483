"""Audits that hold a printed grid against what is known exactly about its tasks, or against our spread over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from scipy import stats

from reports.audits.of_print import YES_NO, Finding, Line, p_text, significant
from reports.estimates import Component, Estimate, from_components
from reports.grids.tables import Grid, grid_of, scores, settings_of
from reports.papers.beside import GridComparison, Normaliser, PrintedColumn
from reports.papers.declared_audits import AgainstBound, BesideRuns, ImpliedNormaliser, KnownMean, Stand
from reports.papers.printed import ResultRow
from reports.papers.published import Published
from reports.reasons import compact
from reports.statistics import holm
from reports.study_info import SettingInfo
from reports.tables import done, number
from reports.verdicts import ALPHA

Evidence = Mapping[tuple[str, str], pd.DataFrame]
KNOWN = float("inf")  # degrees of freedom of a variance that is not estimated


@dataclass(frozen=True)
class Beside:
    """A printed grid and the finished runs beside it; scores: those of `grid_tables.scores`."""

    comparison: GridComparison
    scale: str
    grid: Grid
    scores: pd.DataFrame

    @property
    def digits(self) -> int:
        """Decimals of the printed numbers."""
        return self.grid.printed_digits

    def spread(self, setting: SettingInfo, stand: Stand) -> tuple[float, int] | None:
        """SD over test tasks of the learner that stands for a column, mean over its seeds, and the number of tasks."""
        rows = self.scores[self.scores["setting"].eq(setting.name) & self.scores["sd_score"].notna()]
        rows = rows[rows["method"].eq(stand.method) & rows["accounting"].eq(stand.accounting)]
        return (float(rows["sd_score"].mean()), int(rows["tasks"].min())) if len(rows) else None

    def lacks(self, what: str) -> Finding:
        """The finding where the runs did not record what is needed."""
        return Finding(f"The runs of `{self.comparison.study}` at scale `{self.scale}` record no {what}.", None)


@dataclass(frozen=True)
class Cell:
    """A printed mean, and the return with which it is compared, in the same units.

    estimate: of the printed mean minus that return.
    """

    setting: SettingInfo
    printed_as: str
    row: ResultRow
    mean: float
    known: float
    estimate: Estimate


def beside_runs(audit: BesideRuns, published: Published, evidence: Evidence) -> Beside | Finding:
    """The runs that the audit asks, beside their printed table; a finding that says so where there are none."""
    comparison = next(c for c in published.grid_comparisons if (c.id, c.paper) == (audit.comparison, audit.paper))
    frame = evidence.get((comparison.study, audit.scale))
    if frame is None or done(frame, comparison.protocol).empty:
        return Finding(f"No finished run of `{comparison.study}` at scale `{audit.scale}` is recorded.", None)
    grid = grid_of(frame, settings_of(frame), (), published, comparison.study, comparison)
    return Beside(comparison, audit.scale, grid, scores(grid))


def against_bound(audit: AgainstBound, published: Published, evidence: Evidence) -> Finding:
    """Printed totals minus N times the largest expectation per episode, one-sided.

        x̄ - N·b,   se² = v_printed + σ²/T + d²/12,   H1: above 0;   p adjusted over all cells (Holm 1979)

    The parts of se² are those of `_components`. A bound holds in expectation: a mean above it may be luck of T tasks.
    """
    beside = beside_runs(audit, published, evidence)
    if isinstance(beside, Finding):
        return beside
    grid = beside.grid
    cells = list(_cells(beside, audit.columns, audit.spread, lambda s: grid.reference(s.name, audit.bound)))
    if not cells:
        return beside.lacks(f"`{audit.bound}`, or no spread of `{audit.spread.method}` over tasks")
    raw = [cell.estimate.p_above() for cell in cells]
    adjusted = holm(raw)
    higher = [cell for cell in cells if cell.estimate.difference > 0]
    beyond = [cell for cell, p in zip(cells, adjusted, strict=True) if p < ALPHA]
    text = (
        f"The bound is known in {len({cell.setting.name for cell in cells})} of {len(grid.settings)} settings. "
        f"{len(higher)} of {len(cells)} printed means are above it{_told(higher, beside)}. Allowing for the printed "
        f"intervals{_luck(beside, audit.columns)} and rounding, {len(beyond)} of {len(cells)} are above it by more "
        f"than chance (Holm){_told(beyond, beside)}."
    )
    lines = [_line(*row, "most possible") for row in zip(cells, raw, adjusted, strict=True)]
    return Finding(text, bool(beyond) == (audit.says == "above"), lines)


def known_mean(audit: KnownMean, published: Published, evidence: Evidence) -> Finding:
    """Printed totals minus N times an exactly known expectation per episode, two-sided; else as `against_bound`."""
    beside = beside_runs(audit, published, evidence)
    if isinstance(beside, Finding):
        return beside
    cells = list(_cells(beside, [audit.column], audit.spread, lambda _: audit.per_episode))
    if not cells:
        return beside.lacks(f"spread of `{audit.spread.method}` over tasks")
    raw = [cell.estimate.p for cell in cells]
    adjusted = holm(raw)
    off = [cell for cell, p in zip(cells, adjusted, strict=True) if p < ALPHA]
    furthest = max(cells, key=lambda cell: abs(cell.estimate.t))
    text = (
        f"{len(cells) - len(off)} of {len(cells)} printed means are the expectation within chance (Holm). Furthest off"
        f"{_told([furthest], beside)}, {abs(furthest.estimate.t):.1f} standard errors."
    )
    return Finding(text, not off, [_line(*row, "expected") for row in zip(cells, raw, adjusted, strict=True)])


def implied_normaliser(audit: ImpliedNormaliser, published: Published, evidence: Evidence) -> Finding:
    """What the printed column must have been divided by.

        printed fraction minus R/D_j,   se² = σ_j²/T + σ_j²/T' + d²/12,   σ_j = σ* · R*/D_j

    R: the column's return on our T test tasks, D_j the j-th divisor on the same tasks, σ* our SD over tasks of its
    fraction of the optimum R*, in the setting with the least noise. T': the paper's tasks; as many as ours where it
    does not say. The printed fractions are averaged over the settings, which differ in nothing that R or D_j depend on.
    """
    beside = beside_runs(audit, published, evidence)
    if isinstance(beside, Finding):
        return beside
    grid, declared = beside.grid, beside.comparison.normaliser or Normaliser(printed="", reference="")
    cells = [grid.cell(declared.printed, setting) for setting in grid.settings]
    printed = [cell.mean for cell in cells if cell and cell.mean is not None]
    stands = [spread for setting in grid.settings if (spread := beside.spread(setting, audit.spread))]
    names = [declared.reference, "optimal_return", *audit.divisors]
    known = {name: grid.reference(grid.settings[0].name, name) for name in names}
    missing = [f"`{name}`" for name, value in known.items() if pd.isna(value)]
    if missing or not printed or not stands:
        return beside.lacks(missing[0] if missing else "spread over tasks beside a printed number")
    sd, tasks = min(stands)
    theirs = beside.comparison.methods[declared.printed].tasks or tasks
    tests = {}
    for name in audit.divisors:
        scaled = (sd * known["optimal_return"] / known[name]) ** 2
        parts: list[Component] = [(scaled * (1 / tasks + 1 / theirs), tasks - 1), (_rounding(beside.digits), KNOWN)]
        difference = sum(printed) / len(printed) - known[declared.reference] / known[name]
        tests[name] = from_components(difference, parts, "against a divisor")
    return _which_divisor(audit, known, known[declared.reference], (min(printed), max(printed)), beside.digits, tests)


def _which_divisor(
    audit: ImpliedNormaliser,
    known: Mapping[str, float],
    reference: float,
    printed: tuple[float, float],
    digits: int,
    tests: Mapping[str, Estimate],
) -> Finding:
    shown = " to ".join(dict.fromkeys(number(value, digits) for value in printed))
    lines: list[Line] = []
    told = []
    for name, words in audit.divisors.items():
        gives, p = reference / known[name], p_text(tests[name].p)
        lines.append(
            {
                "divided by": words, "on our tasks": significant(known[name]), "gives": significant(gives, 3),
                "printed": shown, "p": p, "fits": YES_NO[tests[name].p >= ALPHA],
            }
        )  # fmt: skip
        told.append(f"{words} ({compact(known[name])}) would give {number(gives, digits)} (p {p})")
    fits = [name for name in audit.divisors if tests[name].p >= ALPHA]
    text = f"The column prints {shown}"
    if audit.exact is not None:
        ends = " to ".join(dict.fromkeys(compact(audit.exact / value) for value in reversed(printed)))
        text += f" of an expected {audit.exact:g} per episode, which makes the divisor {ends}"
    text += f". On our test tasks {'; '.join(told)}. Within chance of the printed column: "
    text += f"{', '.join(audit.divisors[name] for name in fits) or 'none'}."
    return Finding(text, fits == [audit.divisor], lines)


def _cells(
    beside: Beside, columns: Sequence[str], stand: Stand, per_episode: Callable[[SettingInfo], float]
) -> Iterator[Cell]:
    for setting in beside.grid.settings:
        known = per_episode(setting) * beside.grid.factor(setting.name)
        spread = beside.spread(setting, stand)
        for name in columns:
            row = beside.grid.cell(name, setting)
            if row is None or row.mean is None or spread is None or pd.isna(known):
                continue
            parts = _components(row, beside.comparison.methods[name], spread, beside.digits)
            estimate = from_components(row.mean - known, parts, "printed mean against a known one")
            yield Cell(setting, name, row, row.mean, known, estimate)


def _components(row: ResultRow, column: PrintedColumn, spread: tuple[float, int], digits: int) -> list[Component]:
    """The variance of a printed mean about the expectation over all tasks, in parts.

        (h / t_{.975, M-1})²   its half-width h, read as Student's over M training seeds; z_.975 where M is not known
        σ² / T'                the luck of T' test tasks that all seeds share; left out where T' is not known
        d² / 12                rounding to multiples of d

    Were h over tasks, these would count twice: it errs towards too wide.
    """
    parts: list[Component] = [(_rounding(digits), KNOWN)]
    if row.ci95 is not None:
        df = float(column.seeds - 1) if column.seeds and column.seeds > 1 else KNOWN
        parts.append(((row.ci95 / quantile(df)) ** 2, df))
    if column.tasks:
        parts.append((spread[0] ** 2 / column.tasks, spread[1] - 1))
    return parts


def _rounding(digits: int) -> float:
    return float((10.0**-digits) ** 2 / 12)


def quantile(df: float) -> float:
    """t_{.975, df}."""
    return float(stats.t.ppf(0.975, df))


def _line(cell: Cell, p: float, p_holm: float, what: str) -> Line:
    return {
        "setting": cell.setting.describe(), "printed as": cell.printed_as, "printed": cell.mean,
        "±": "" if cell.row.ci95 is None else cell.row.ci95, what: significant(cell.known),
        "difference": significant(cell.estimate.difference, 3), "SE": significant(cell.estimate.se, 3),
        "p": p_text(p), "p Holm": p_text(p_holm),
    }  # fmt: skip


def _told(cells: Sequence[Cell], beside: Beside) -> str:
    """The cells in words, the furthest from their known value first, no more than four; empty for none."""
    words = [
        f"{cell.printed_as} {number(cell.mean, beside.digits)}"
        + ("" if cell.row.ci95 is None else f" ± {number(cell.row.ci95, beside.digits)}")
        + f" against {compact(cell.known)} at {cell.setting.describe()}"
        for cell in sorted(cells, key=lambda cell: -abs(cell.estimate.t))
    ]
    more = [f"and {len(words) - 4} more"] if len(words) > 4 else []
    return f": {'; '.join([*words[:4], *more])}" if words else ""


def _luck(beside: Beside, columns: Sequence[str]) -> str:
    tasks = sorted({beside.comparison.methods[name].tasks or 0 for name in columns} - {0})
    return f", the choice of {' or '.join(map(str, tasks))} test tasks" if tasks else ""

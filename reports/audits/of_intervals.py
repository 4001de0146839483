"""Audits of printed intervals: what they can have been computed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from reports.audits.beside_runs import KNOWN, Beside, Evidence, beside_runs, quantile
from reports.audits.of_print import Finding, Line, p_text, significant
from reports.papers.beside import PrintedColumn
from reports.papers.declared_audits import IntervalWidth
from reports.papers.published import Published
from reports.reasons import compact
from reports.statistics import holm
from reports.study_info import SettingInfo
from reports.tables import number
from reports.verdicts import ALPHA


@dataclass(frozen=True)
class Width:
    """A printed 95 % half-width, and what it would be or mean.

    sd:           over the test tasks of one of our runs.
    over_values:  half-width of an interval over all n printed values, were each of another task: z σ / √n.
    over_tasks:   half-width of one over the T' test tasks of a seed: t σ / √T'.
    sd_of_seeds:  the SD over M training seeds that the printed half-width h means, if it is Student's: h √M / t.
    p:            of the printed half-width under the reading that the audit refutes.
    """

    setting: SettingInfo
    printed_as: str
    half: float
    sd: float
    over_values: float
    over_tasks: float
    sd_of_seeds: float
    p: float


def interval_width(audit: IntervalWidth, published: Published, evidence: Evidence) -> Finding:
    """Printed half-widths h against what test tasks give by themselves.

        narrow:  (h √n / z)² / σ²  ~  F_{n-1, T-1}  if all n values are of different tasks; p = P(F ≤ ...)
        wide:    (h √T' / t)² / σ²  ~  F_{T'-1, T-1}  if the interval is over the T' tasks of a seed; p = P(F ≥ ...)

    σ: the smallest SD over T test tasks of any finished run of ours in that setting for `narrow`, the largest for
    `wide`, so that both err towards "possible"; h is taken half a unit of its last digit wider or narrower. p is
    adjusted over all half-widths (Holm 1979). Valid for roughly normal values; bounded ones make it err towards
    "possible" too.
    """
    beside = beside_runs(audit, published, evidence)
    if isinstance(beside, Finding):
        return beside
    widths = _widths(beside, audit)
    if not widths:
        return beside.lacks("spread over tasks beside a printed interval of known size")
    adjusted = holm([width.p for width in widths])
    impossible = [width for width, p in zip(widths, adjusted, strict=True) if p < ALPHA]
    lines = [_line(width, p) for width, p in zip(widths, adjusted, strict=True)]
    text = _what(audit, widths, impossible, beside.digits)
    if audit.beside:
        text += f" {_against_another(beside, audit.columns, audit.beside)}"
    return Finding(text, bool(impossible), lines)


def _widths(beside: Beside, audit: IntervalWidth) -> list[Width]:
    found = []
    narrow = audit.says == "narrow"
    half_unit = 0.5 * 10.0**-beside.digits
    for setting in beside.grid.settings:
        runs = beside.scores[beside.scores["setting"].eq(setting.name) & beside.scores["sd_score"].gt(0)]
        known = sorted(zip(runs["sd_score"].tolist(), runs["tasks"].tolist(), strict=True))
        for name in audit.columns if known else ():
            column, cell = beside.comparison.methods[name], beside.grid.cell(name, setting)
            if cell is None or cell.ci95 is None or cell.n is None or column.tasks is None:
                continue
            sd, tasks = known[0] if narrow else known[-1]
            over_values = quantile(KNOWN) * sd / cell.n**0.5
            over_tasks = quantile(column.tasks - 1) * sd / column.tasks**0.5
            if narrow:
                p = stats.f.cdf(((cell.ci95 + half_unit) / over_values) ** 2, cell.n - 1, tasks - 1)
            else:
                lowest = max(cell.ci95 - half_unit, 0.0)
                p = stats.f.sf((lowest / over_tasks) ** 2, column.tasks - 1, tasks - 1)
            seeds = sd_of_seeds(cell.ci95, column)
            found.append(Width(setting, name, cell.ci95, sd, over_values, over_tasks, seeds, float(p)))
    return found


def sd_of_seeds(half: float, column: PrintedColumn) -> float:
    """s = h √M / t_{.975, M-1}, the SD over M training seeds behind a half-width; NaN where M is not known."""
    seeds = column.seeds or 0
    return half * seeds**0.5 / quantile(seeds - 1) if seeds > 1 else float("nan")


def _line(width: Width, p: float) -> Line:
    return {
        "setting": width.setting.describe(), "printed as": width.printed_as, "± printed": width.half,
        "SD over tasks, ours": significant(width.sd, 3), "± over all values": significant(width.over_values, 3),
        "± over the tasks": significant(width.over_tasks, 3),
        "SD over seeds it would mean": significant(width.sd_of_seeds, 3), "p Holm": p_text(p),
    }  # fmt: skip


def _what(audit: IntervalWidth, widths: Sequence[Width], impossible: Sequence[Width], digits: int) -> str:
    if audit.says == "narrow":
        most, ours, over = "narrow", "smallest", "all its values, were each of another task"
    else:
        most, ours, over = "wide", "largest", "the test tasks of one seed"
    text = f"{len(impossible)} of {len(widths)} printed half-widths are too {most} for an interval over {over} (Holm)."
    if not impossible:
        return text
    by_ratio = sorted(impossible, key=lambda width: width.half / width.over_values)
    first = by_ratio[0] if audit.says == "narrow" else by_ratio[-1]
    return (
        f"{text} Furthest: {first.printed_as} at {first.setting.describe()} prints ±{number(first.half, digits)}, "
        f"where the {ours} spread over tasks in our runs gives ±{compact(first.over_values)} over all values and "
        f"±{compact(first.over_tasks)} over the tasks of one seed. Read as Student’s over the training seeds, it means "
        f"that these scatter with an SD of {compact(first.sd_of_seeds)}."
    )


def _against_another(beside: Beside, columns: Sequence[str], other: str) -> str:
    """In which settings the columns' intervals are wider than another column's, and whether that is more than chance.

    (s_a / s_b)²  ~  F_{M_a-1, M_b-1}  for equal spreads over seeds; two-sided p, Holm (1979); s as in `sd_of_seeds`
    """
    found = []
    b = beside.comparison.methods[other]
    for name in columns:
        a = beside.comparison.methods[name]
        for setting in beside.grid.settings:
            mine, theirs = beside.grid.cell(name, setting), beside.grid.cell(other, setting)
            if mine and theirs and mine.ci95 and theirs.ci95 and (a.seeds or 0) > 1 and (b.seeds or 0) > 1:
                ratio = sd_of_seeds(mine.ci95, a) / sd_of_seeds(theirs.ci95, b)
                equal = stats.f((a.seeds or 0) - 1, (b.seeds or 0) - 1)
                p = 2 * min(float(equal.sf(ratio**2)), float(equal.cdf(ratio**2)))
                found.append((f"{name} at {setting.describe()}, {ratio:.1f} times", ratio, p))
    adjusted = holm([p for *_, p in found])
    wider = [where for where, ratio, _ in found if ratio > 1]
    certain = [p for (_, ratio, _), p in zip(found, adjusted, strict=True) if ratio > 1 and p < ALPHA]
    return (
        f"Beside {other}, and read in the same way, the spread over seeds is larger in {len(wider)} of {len(found)} "
        f"settings{': ' if wider else ''}{'; '.join(wider)}. By more than chance (Holm) it is in {len(certain)}."
    )

"""Headline tables for a README, in Markdown, from the committed evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.errors import UserError
from reports.display import mean_text
from reports.exhibits.ladder import dropped, rungs
from reports.export import own_columns
from reports.grids.tables import Grid, beside_printed, grid_of, settings_of
from reports.papers.exhibits import LadderExhibit, MeasuresExhibit
from reports.papers.published import Published
from reports.tables import done, markdown_table, mean_and_sd, number, updates


def markdown(evidence: pd.DataFrame, published: Published, study: str, labels: Sequence[str]) -> str:
    """The headline table of a study: beside the printed table that `published` declares for it, or of what it exhibits.

    Where neither is declared, the returns after every update. Errors: UserError where the evidence has no paper-scale
    run of the study.
    """
    if grids := published.grids_of(study):
        return grid_markdown(evidence, published, grids[0].id, labels)
    for comparison in published.comparisons:
        if comparison.study == study:
            return markdown_table(evidence, published, labels, comparison.id)
    for exhibit in published.exhibits:
        if isinstance(exhibit, MeasuresExhibit) and exhibit.study == study:
            return measures_markdown(evidence, exhibit, labels)
        if isinstance(exhibit, LadderExhibit) and exhibit.study == study:
            return ladder_markdown(evidence[evidence["study"].eq(study)], exhibit)
    return returns_markdown(evidence, study, labels)


def ladder_markdown(evidence: pd.DataFrame, exhibit: LadderExhibit) -> str:
    """A line per rung: its effect over the one before. A line per factor: its worth in the full set-up."""
    full = f"without … (from {exhibit.full.factor})"
    parts = [
        ("rung", "effect", rungs(evidence, exhibit.rungs, exhibit.step)),
        (full, "worth", dropped(evidence, exhibit)),
    ]
    return "\n".join(
        _effects_markdown(head, effect, table, exhibit.step) for head, effect, table in parts if len(table)
    )


def _effects_markdown(head: str, effect: str, table: pd.DataFrame, step: int) -> str:
    lines = [
        f"| {head} | seeds | return after {step} updates | {effect} [95 %] | p, Holm |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in table.to_dict("records"):
        p = "–" if pd.isna(row["p_holm"]) else f"{row['p_holm']:.2g}"
        level = mean_and_sd(row["level_mean"], row["level_sd"])
        lines.append(f"| {row['factor']} | {row['seeds']} | {level} | {mean_text(row, 'effect_')} | {p} |")
    return "\n".join(lines) + "\n"


def returns_markdown(evidence: pd.DataFrame, study: str, labels: Sequence[str]) -> str:
    """A line per setting, method and protocol: return after every update, ± SD over seeds that finished, "of" all."""
    mine = evidence[evidence["study"].eq(study) & evidence["scale"].eq("paper")]
    if mine.empty:
        raise UserError(f"the evidence has no paper-scale run of study {study}")
    settings = [name for name in own_columns(mine) if mine[name].notna().any()]
    steps = sorted(done(mine)["step"].unique())
    heads = [*settings, "method", "protocol", "seeds", *map(updates, steps)]
    lines = [heads, ["---"] * (len(settings) + 2) + ["---:"] * (len(steps) + 1)]
    for setting in mine["setting"].drop_duplicates():
        for label in labels:
            own = mine[mine["setting"].eq(setting) & mine["method"].eq(label)]
            asked, finished = own["seed"].nunique(), done(own)
            place = [str(own[name].iloc[0]) for name in settings] if asked else []
            if asked and finished.empty:
                lines.append([*place, label, "–", f"0 of {asked}", *("–" for _ in steps)])
            for protocol, group in finished.groupby("protocol", sort=False):
                by_step = [group.loc[group["step"].eq(step), "mean_return"] for step in steps]
                cells = [mean_and_sd(values.mean(), values.std()) for values in by_step]
                seeds = group["seed"].nunique()
                lines.append(
                    [*place, label, str(protocol), f"{seeds} of {asked}" if seeds < asked else str(seeds), *cells]
                )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def measures_markdown(evidence: pd.DataFrame, exhibit: MeasuresExhibit, labels: Sequence[str]) -> str:
    """A line per setting and method: every quantity before adaptation → after it, the latter ± SD over seeds."""
    mine = done(evidence[evidence["study"].eq(exhibit.study)], exhibit.protocol)
    settings = [name for name in own_columns(mine) if mine[name].notna().any()]
    heads = [*settings, "method", "seeds", *(quantity.title for quantity in exhibit.quantities.values())]
    aligned = ["---"] * (len(settings) + 1) + ["---:"] * (len(heads) - len(settings) - 1)
    lines = [heads, aligned]
    for setting in mine["setting"].drop_duplicates():
        for label in exhibit.labels(labels):
            group = mine[mine["setting"].eq(setting) & mine["method"].eq(label)]
            if len(group):
                place = [str(group[name].iloc[0]) for name in settings]
                lines.append([*place, label, str(group["seed"].nunique()), *_before_and_after(group, exhibit)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _before_and_after(group: pd.DataFrame, exhibit: MeasuresExhibit) -> list[str]:
    first, last = (group[group["step"].eq(step)] for step in (group["step"].min(), group["step"].max()))
    cells = []
    for name, quantity in exhibit.quantities.items():
        numbers = (first[name].mean(), last[name].mean(), last[name].std())
        before, after, spread = (number(one, quantity.digits) for one in numbers)
        cells.append(f"{before} → {after}" + (f" ± {spread}" if len(last) > 1 else ""))
    return cells


def grid_markdown(evidence: pd.DataFrame, published: Published, comparison_id: str, labels: Sequence[str]) -> str:
    """A line per setting, a column per method in its printed accounting; ours ± SD over seeds (paper's mean).

    Methods without a printed column are shown in the accounting that the comparison names for them. A printed mean
    outside the 95 % prediction interval of the mean of as many further seeds and fresh tasks is marked with *.
    """
    comparison = next(c for c in published.grid_comparisons if c.id == comparison_id)
    mine = evidence[evidence["study"].eq(comparison.study) & evidence["scale"].eq("paper")]
    if mine.empty:
        raise UserError(
            f"the evidence has no paper-scale run of study {comparison.study}, which is what {comparison.title} is set "
            "beside"
        )
    grid = grid_of(mine, settings_of(mine), labels, published, comparison.study, comparison)
    table = beside_printed(grid)
    columns = list(grid.settings[0].columns)
    heads = [*columns, *(f"{label}, {comparison.accounting(label)}" for label in labels)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]
    for setting in grid.settings:
        rows = {row["method"]: row for row in table[table["setting"].eq(setting.name)].to_dict("records")}
        cells = [_cell(grid, rows[label], comparison.accounting(label)) for label in labels]
        lines.append("| " + " | ".join([*(str(setting.columns[name]) for name in columns), *cells]) + " |")
    return "\n".join(lines) + "\n"


def _cell(grid: Grid, row: dict[Any, Any], accounting: str) -> str:
    mine = number(row[f"{accounting}_mean"], grid.digits)
    if row["seeds"] > 1:
        mine += f" ± {number(row[f'{accounting}_sd_over_seeds'], grid.digits)}"
    if not row["printed_as"] or (pd.isna(row["paper_mean"]) and not row["paper_note"]):
        return mine
    outside = "*" if row["paper_inside"] == "no" else ""
    return f"{mine} ({number(row['paper_mean'], grid.printed_digits)}{outside})"

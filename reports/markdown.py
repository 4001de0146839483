"""Headline tables for a README, in Markdown, from the committed evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.errors import UserError
from reports.grid_tables import Grid, beside_printed, grid_of, settings_of
from reports.published import Published
from reports.tables import markdown_table, number


def markdown(evidence: pd.DataFrame, published: Published, study: str, labels: Sequence[str]) -> str:
    """The headline table of a study, beside the printed table that `published` declares for it.

    Errors: UserError where none is declared, or the evidence has no paper-scale run of the study.
    """
    if grids := published.grids_of(study):
        return grid_markdown(evidence, published, grids[0].id, labels)
    for comparison in published.comparisons:
        if comparison.study == study:
            return markdown_table(evidence, published, labels, comparison.id)
    raise UserError(f"no printed table is declared for study {study}, so there is no headline table")


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

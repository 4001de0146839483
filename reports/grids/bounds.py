"""What is known exactly about the test tasks of a grid study, and what it says about the printed numbers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.grids.tables import NAN, Grid
from reports.statistics import task_interval

CLAIRVOYANT = "expected_optimal_return"  # what the best policy that knows its task has, over all tasks of the family
BAYES_OPTIMAL = "bayes_optimal_return"  # the most that any learner can collect while it learns
BALANCED = "balanced_exploration_return"  # the most that is left after exploration that does not react to rewards
OPTIMUM = "optimal_return"


def bounds(references: pd.DataFrame, runs: pd.DataFrame, grid: Grid) -> pd.DataFrame:
    """One row per setting: the mean of every reference over the test tasks, and how much the choice of tasks matters.

        half_width_of_tasks = t_{.975, T'-1} · σ* / √T',   implied_normaliser = reference / printed fraction

    References of a `total` are multiplied by N; of a fraction they are per episode. σ*: SD of the optimum over our
    test tasks, in the same units; T': tasks behind a printed mean. printed_half_width: the smallest that the paper
    prints for a column of its own in that setting. implied_normaliser: what the paper must have divided by, if the
    column that the comparison names is measured as ours.

    references, runs: as in `reports.records.Records`.
    """
    known = references.merge(runs[["run_id", "setting"]], on="run_id")
    rows = []
    for setting in grid.settings:
        mine = known[known["setting"].eq(setting.name)]
        mine = mine[mine["run_id"].eq(mine["run_id"].min())]  # all runs of a setting have the same test tasks
        factor = grid.factor(setting.name)
        groups = mine.groupby("name")["value"]
        row: dict[str, Any] = {"setting": setting.name, **setting.columns}
        row |= {str(name): values.mean() * factor for name, values in groups}
        row["tasks"] = int(mine["task"].nunique())
        optimum = mine.loc[mine["name"].eq(OPTIMUM), "value"]
        row["sd_of_optimum"] = optimum.std(ddof=1) * factor if len(optimum) > 1 else NAN
        rows.append(row | _printed_widths(grid, setting.name, row["sd_of_optimum"]) | _normaliser(grid, row))
    return pd.DataFrame(rows)


def reference_names(table: pd.DataFrame, grid: Grid) -> list[str]:
    """The columns of `bounds` that are references, the optimum first."""
    first = len(["setting", *(grid.settings[0].columns if grid.settings else ())])
    own = {"tasks", "sd_of_optimum", "printed_tasks", "half_width_of_tasks", "printed_half_width", "implied_normaliser"}
    names = [name for name in table.columns[first:] if name not in own]
    order = [OPTIMUM, CLAIRVOYANT, BAYES_OPTIMAL, BALANCED]
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def _printed_widths(grid: Grid, setting: str, sd: float) -> dict[str, Any]:
    """Half-widths that the choice of tasks gives to the optimum itself, and that the paper prints; totals only."""
    if grid.comparison is None or grid.printed is None or grid.value != "total":
        return {}
    info = next(s for s in grid.settings if s.name == setting)
    own = [name for name in grid.comparison.methods if grid.printed.origin(name) == "own"]
    tasks = max((grid.comparison.methods[name].tasks or 0 for name in own), default=0)
    cells = [grid.cell(name, info) for name in own]
    widths = [cell.ci95 for cell in cells if cell and cell.ci95 is not None]
    low, high = task_interval(0.0, sd, tasks)
    return {
        "printed_tasks": tasks,
        "half_width_of_tasks": (high - low) / 2,
        "printed_half_width": min(widths, default=NAN),
    }


def _normaliser(grid: Grid, row: dict[str, Any]) -> dict[str, Any]:
    declared = grid.comparison.normaliser if grid.comparison else None
    if declared is None:
        return {}
    info = next(s for s in grid.settings if s.name == row["setting"])
    cell = grid.cell(declared.printed, info)
    printed = cell.mean if cell and cell.mean else NAN
    return {"implied_normaliser": row.get(declared.reference, NAN) / printed}


def above_bounds(table: pd.DataFrame, grid: Grid) -> pd.DataFrame:
    """Printed totals above what is possible in expectation: one row per setting, printed column and bound exceeded.

    bound: `bayes_optimal_return` limits what is collected during learning, `balanced_exploration_return` what is left
    after exploration that does not react to rewards, `expected_optimal_return` everything. Every column is held
    against the first and the third; against the second where it counts the adapted policy. beyond: "yes" where even
    the lower end of the printed interval, less half a unit of its last digit, is above the bound.

    table: the frame of `bounds`. value: of the bound, in the units of the table.
    """
    rows = []
    if grid.value == "total" and grid.comparison:
        for setting, row in zip(grid.settings, table.to_dict("records"), strict=True):
            for printed, column in grid.comparison.methods.items():
                cell = grid.cell(printed, setting)
                if cell is None or cell.mean is None:
                    continue
                low = cell.mean - (cell.ci95 or 0.0) - 0.5 * 10**-grid.printed_digits
                for bound in (BAYES_OPTIMAL, BALANCED, CLAIRVOYANT):
                    value = row.get(bound, NAN)
                    if cell.mean > value and (bound != BALANCED or column.accounting == "adapted"):
                        part: dict[str, Any] = {
                            "setting": setting.name,
                            "printed_as": printed,
                            "accounting": column.accounting,
                        }
                        part |= {"paper_mean": cell.mean, "paper_ci95": NAN if cell.ci95 is None else cell.ci95}
                        rows.append(part | {"bound": bound, "value": value, "beyond": "yes" if low > value else "no"})
    columns = ["setting", "printed_as", "accounting", "paper_mean", "paper_ci95", "bound", "value", "beyond"]
    return pd.DataFrame(rows, columns=columns)

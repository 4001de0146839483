"""Figures of a grid study: all methods in all settings at a glance, and small training curves."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from scipy import stats

from reports.canvas import (
    INK,
    drawing,
    legend,
    literal,
    lowest,
    method_dashes,
    method_style,
    side_label,
    subplots,
    svg_text,
)
from reports.grids.tables import Grid
from reports.papers.beside import Accounting

COLOURS = {"during": "#0072B2", "adapted": "#D55E00", "unknown": "#999999"}
WORDS: dict[Accounting, str] = {"during": "ours, during adaptation", "adapted": "ours, adapted policy"}
TITLE_WIDTH = 28  # characters over a small panel
POINTS = 50  # of a training curve: more cannot be told apart in a small panel


def overview(grid: Grid, table: pd.DataFrame) -> str:
    """Every method in every setting as a fraction of the optimum of the same test tasks.

    Circles: ours in both accountings, with the 95 % t interval over seeds; diamonds: as printed, in the colour of what
    the column counts, with the printed interval. One panel per setting; for a study of one method, one panel with a
    line per setting. A setting without a known optimum is left out; where none has one, the units are the table's.

    table: the frame of `reports.grids.tables.beside_printed`.
    """
    known = bool(table["optimum"].notna().any())
    rows = table.assign(unit=table["optimum"] if known else 1.0)
    panels = _panels(grid, rows)
    columns = min(5 if len(grid.labels) > 1 else 1, max(1, len(panels)))
    lines = -(-max(1, len(panels)) // columns)
    tallest = max((len(names) for _, names, _ in panels), default=1)
    with drawing():
        size = (1.9 * columns + 1.2 if columns > 1 else 7.5, (0.19 * tallest + 0.55) * lines + 0.8)
        figure, axes = subplots(lines, columns, size, sharex=True, sharey=True)
        for axis, (title, names, part) in zip(axes.flat, panels, strict=False):
            _dots(axis, part, known)
            axis.set_title(fill(title, TITLE_WIDTH), loc="left", fontsize=9)
            axis.set_yticks(range(len(names)), names, fontsize=8)
            axis.set_ylim(len(names) - 0.5, -0.5)
        lowest(axes, len(panels), "fraction of optimum" if known else "as in the table")
        legend(figure, *axes.flat)
        return svg_text(figure)


def _panels(grid: Grid, rows: pd.DataFrame) -> list[tuple[str, list[str], pd.DataFrame]]:
    """Title, names of the lines and rows of every panel."""
    if len(grid.labels) == 1:
        mine = rows[rows["method"].eq(grid.labels[0])]
        return [(grid.labels[0], [literal(setting.describe()) for setting in grid.settings], mine)]
    panels = []
    for setting in grid.settings:
        mine = rows[rows["setting"].eq(setting.name)]
        names = [
            label or f"{printed} (printed)" for label, printed in zip(mine["method"], mine["printed_as"], strict=True)
        ]
        panels.append((literal(setting.describe()), names, mine))
    return panels


def _dots(axis: Any, rows: pd.DataFrame, known: bool) -> None:
    """The markers of one panel, a line of it per row."""
    unit = rows["unit"].to_numpy(dtype=float)
    y = np.arange(len(rows))
    if known:
        axis.axvline(1.0, color=INK, linewidth=0.8)
    for shift, (accounting, words) in zip((-0.18, 0.18), WORDS.items(), strict=True):
        mean, low, high = (
            rows[f"{accounting}_{part}"].to_numpy(dtype=float) / unit for part in ("mean", "low", "high")
        )
        colour = COLOURS[accounting]
        axis.hlines(y + shift, low, high, color=colour, linewidth=1.2)
        axis.plot(mean, y + shift, "o", color=colour, markersize=4, label=words)
    for counted, colour in COLOURS.items():
        chosen = rows["accounting"].eq(counted).to_numpy() & rows["paper_mean"].notna().to_numpy()
        if chosen.any():
            mean = rows["paper_mean"].to_numpy(dtype=float)[chosen] / unit[chosen]
            half = np.nan_to_num(rows["paper_ci95"].to_numpy(dtype=float)[chosen]) / unit[chosen]
            axis.hlines(y[chosen], mean - half, mean + half, color=colour, linewidth=0.8)
            words = {"during": "during adaptation", "adapted": "adapted policy"}.get(counted, "not known which")
            axis.plot(
                mean, y[chosen], "D", color=colour, markersize=5, markerfacecolor="none", label=f"printed, {words}"
            )


def training(grid: Grid, curves: pd.DataFrame, runs: pd.DataFrame, metric: str, title: str) -> str:
    """A training metric over meta-iterations: a panel per setting; per method a thin line for every finished seed, the
    mean of these, and its 95 % t interval.

    Lines are means over blocks of meta-iterations, at most POINTS per line.
    """
    data = curves[curves["metric"].eq(metric)].merge(
        runs[["run_id", "setting", "method", "seed", "status"]], on="run_id"
    )
    data = data[data["status"].eq("done")]
    cells = dict(iter(data.groupby(["setting", "method"])))
    style, dashes = method_style(grid.labels), method_dashes(grid.labels)
    columns = min(4, max(1, len(grid.settings)))
    lines = -(-max(1, len(grid.settings)) // columns)
    with drawing():
        figure, axes = subplots(lines, columns, (max(4.4, 2.2 * columns), 1.7 * lines + 0.7), sharex=True, sharey=True)
        for axis, setting in zip(axes.flat, grid.settings, strict=False):
            for label in grid.labels:
                mine = thinned(cells.get((setting.name, label), data.iloc[:0]))
                if len(mine):
                    _seeds_and_mean(axis, mine, style[label][0], dashes[label], label)
            axis.set_title(fill(literal(setting.describe()), TITLE_WIDTH), loc="left", fontsize=8)
            axis.tick_params(labelsize=8)
        lowest(axes, len(grid.settings), "meta-iteration")
        side_label(figure, title, below=legend(figure, *axes.flat))
        return svg_text(figure)


def _seeds_and_mean(axis: Any, seeds: pd.DataFrame, colour: str, dash: str, label: str) -> None:
    """Thin lines of single seeds, their mean, and with two seeds or more its interval."""
    x, values = seeds.index.to_numpy(), seeds.to_numpy(dtype=float)
    count, mean = values.shape[1], values.mean(axis=1)
    if count > 1:
        lines = [np.column_stack([x, values[:, column]]) for column in range(count)]
        axis.add_collection(LineCollection(lines, colors=colour, linewidths=0.4, alpha=0.35), autolim=False)
        axis.update_datalim([(x[0], values.min()), (x[-1], values.max())])
        half = float(stats.t.ppf(0.975, count - 1)) * values.std(axis=1, ddof=1) / count**0.5
        axis.fill_between(x, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
    axis.plot(x, mean, color=colour, linestyle=dash, linewidth=1.2, label=label)


def thinned(curves: pd.DataFrame, points: int = POINTS) -> pd.DataFrame:
    """Every seed's means over blocks of the meta-iterations that all of them reached: at most `points` values.

    Shapes: rows iteration, seed, value -> [blocks, seeds], indexed by the mean iteration of the block.
    """
    if curves.empty:
        return pd.DataFrame(dtype="float64")
    wide = curves.pivot(index="iteration", columns="seed", values="value").dropna()
    size = max(1, -(-len(wide) // points))
    block = np.arange(len(wide)) // size
    return wide.groupby(block).mean().set_index(wide.index.to_series().groupby(block).mean().rename("iteration"))

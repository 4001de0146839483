"""Figures as SVG text. The same evidence gives the same bytes: fixed hash salt, no date, no random jitter.

Intervals are our own t intervals over training seeds; seaborn's default would be a percentile bootstrap, which covers
.76 instead of .95 with three seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from reports.canvas import (
    INK,
    MARKERS,
    SHIFT,
    _drawable,
    drawing,
    legend,
    lowest,
    method_style,
    side_label,
    subplots,
    svg_text,
)
from reports.papers.beside import Comparison
from reports.papers.published import Published
from reports.statistics import t_interval
from reports.tables import beside_paper, done


def figure_3_2(
    evidence: pd.DataFrame, published: Published, comparison: Comparison, labels: Sequence[str], band: str, log: bool
) -> str:
    """Figure 3.2: return over adaptation steps, ours (filled, solid) and the paper's points (hollow, dashed).

    band="sd":  mean ± SD over the meta-test tasks, for both.
    band="interval": 95 % t interval; ours over training seeds, the paper's over the tasks of its one model.
    log: the vertical axis is logarithmic in the negated return, better still upwards; band ends above -0.1 are cut off.
    """
    table = beside_paper(evidence, published, comparison, labels)
    table = table[table["protocol"].eq(comparison.protocol)]
    table = table.assign(**_bands(table, band))
    style = method_style(labels)
    with drawing():
        figure, axes = subplots(1, 2, (8.2, 3.6), sharey=True)
        for axis, side, title in ((axes.flat[0], "ours", "this replication"), (axes.flat[1], "paper", "as printed")):
            for label in labels:
                rows = table[table["method"].eq(label)].dropna(subset=[f"{side}_y"])
                if rows.empty or (side == "paper" and label != rows["printed_as"].iloc[0]):
                    continue  # a printed row that stands beside two of our methods is drawn once
                _line_with_band(axis, rows, side, label, style[label], log)
            axis.set_title(title, loc="left")
            axis.set_xlabel("adaptation updates")
            axis.set_xticks(sorted(int(step) for step in table["step"].unique()))
        if log:
            _log_axis(axes.flat[0])
        axes.flat[0].set_ylabel("return (axis logarithmic in −return)" if log else "return")
        legend(figure, *axes.flat)
        return svg_text(figure)


def _bands(table: pd.DataFrame, band: str) -> dict[str, pd.Series]:
    """Centre and ends of the bands of both sides."""
    if band == "sd":
        own = (table["mean"] - table["sd_over_tasks"], table["mean"] + table["sd_over_tasks"])
        half = table["paper_sd"]
    else:
        from scipy import stats

        own = (table["low"], table["high"])
        n = table["paper_n"].astype("float64")
        half = table["paper_sd"] / np.sqrt(n) * stats.t.ppf(0.975, n - 1)
    paper = table["paper_mean"]
    return {
        "ours_y": table["mean"], "ours_low": own[0], "ours_high": own[1],
        "paper_y": paper, "paper_low": paper - half, "paper_high": paper + half,
    }  # fmt: skip


def _line_with_band(axis: Any, rows: pd.DataFrame, side: str, label: str, style: tuple[str, str], log: bool) -> None:
    colour, marker = style
    x = rows["step"].to_numpy(dtype=float) + SHIFT * (MARKERS.index(marker) - 2.5)
    y, low, high = (_drawable(rows[f"{side}_{part}"], log) for part in ("y", "low", "high"))
    fill = "none" if side == "paper" else colour
    line = "--" if side == "paper" else "-"
    axis.plot(x, y, line, color=colour, marker=marker, markersize=5, markerfacecolor=fill, linewidth=1.5, label=label)
    axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _log_axis(axis: Any) -> None:
    """Logarithmic in −return, upside down so that better is up, with the returns themselves as tick labels."""
    axis.set_yscale("log")
    axis.invert_yaxis()
    low, high = sorted(axis.get_ylim())
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low <= tick <= high]
    axis.yaxis.set_major_locator(mpl.ticker.FixedLocator(ticks))
    axis.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    axis.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"−{value:g}"))


def training_curves(curves: pd.DataFrame, runs: pd.DataFrame, labels: Sequence[str], metric: str, title: str) -> str:
    """A training metric over meta-iterations: a panel per method, thin lines per seed, the mean with its t interval."""
    import seaborn as sns

    data = curves[curves["metric"].eq(metric)].merge(runs[["run_id", "method", "seed", "status"]], on="run_id")
    shown = [label for label in labels if data["method"].eq(label).any()]
    style = method_style(labels)
    with drawing():
        columns = min(3, max(1, len(shown)))
        lines = -(-max(1, len(shown)) // columns)
        figure, axes = subplots(lines, columns, (2.75 * columns, 2.1 * lines + 0.3), sharex=True, sharey=True)
        for axis, label in zip(axes.flat, shown, strict=False):
            mine = data[data["method"].eq(label)]
            colour = style[label][0]
            sns.lineplot(
                mine.dropna(subset=["value"]), x="iteration", y="value", units="seed", estimator=None, ax=axis,
                color=colour, linewidth=0.5, alpha=0.45, legend=False,
            )  # fmt: skip
            mean = mean_curve(mine[mine["status"].eq("done")])
            axis.plot(mean["iteration"], mean["mean"], color=colour, linewidth=1.8)
            axis.fill_between(mean["iteration"], mean["low"], mean["high"], color=colour, alpha=0.2, linewidth=0)
            axis.set(title=label, xlabel="", ylabel="")
        lowest(axes, len(shown))
        figure.supxlabel("meta-iteration", fontsize=10, color=INK)
        side_label(figure, title)
        return svg_text(figure)


def mean_curve(curves: pd.DataFrame) -> pd.DataFrame:
    """Seed mean and 95 % t interval at every meta-iteration that all of these runs reached with finite values."""
    wide = curves.pivot_table(index="iteration", columns="seed", values="value", dropna=False).dropna()
    rows = [(int(step), t_interval(values)) for step, values in zip(wide.index, wide.to_numpy(), strict=True)]
    table = pd.DataFrame(
        [(step, i.mean, i.low, i.high) for step, i in rows], columns=["iteration", "mean", "low", "high"]
    )
    return table.astype("float64")


def seed_dots(evidence: pd.DataFrame, labels: Sequence[str], protocol: str) -> str:
    """Mean return of every single training seed after the last adaptation step."""
    import seaborn as sns

    rows = done(evidence, protocol)
    rows = rows[rows["step"].eq(rows["step"].max())]
    shown = [label for label in labels if rows["method"].eq(label).any()]
    palette = {label: style[0] for label, style in method_style(labels).items()}
    with drawing():
        figure, axes = subplots(1, 1, (7.0, 0.45 * max(2, len(shown)) + 0.9))
        axis = axes.flat[0]
        sns.stripplot(
            rows[rows["method"].isin(shown)], x="mean_return", y="method", hue="method", order=shown, hue_order=shown,
            palette={label: palette[label] for label in shown}, jitter=False, size=7, alpha=0.6, linewidth=0.5,
            edgecolor=INK, legend=False, ax=axis,
        )  # fmt: skip
        axis.set(xlabel=f"return after {rows['step'].max()} updates, one point per training seed", ylabel="")
        return svg_text(figure)


def protocol_curves(table: pd.DataFrame, labels: Sequence[str], names: Sequence[str]) -> str:
    """Adaptation under every meta-test protocol: one panel per protocol, mean and 95 % t interval over seeds.

    table: the frame of `reports.tables.ours`. names: the protocols, in order.
    """
    style = method_style(labels)
    with drawing():
        figure, axes = subplots(1, max(1, len(names)), (4.1 * max(1, len(names)), 3.6), sharey=True)
        for axis, name in zip(axes.flat, names, strict=False):
            for label in labels:
                rows = table[table["protocol"].eq(name) & table["method"].eq(label)]
                rows = rows.assign(ours_y=rows["mean"], ours_low=rows["low"], ours_high=rows["high"])
                if len(rows):
                    _line_with_band(axis, rows, "ours", label, style[label], log=False)
            axis.set_title(f"protocol {name}", loc="left")
            axis.set_xlabel("adaptation updates")
            axis.set_xticks(sorted(int(step) for step in table["step"].unique()))
        axes.flat[0].set_ylabel("return")
        legend(figure, axes.flat[0])
        return svg_text(figure)

"""Figures of the audit of meta-gradient estimators; colours belong to estimators, columns to stages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter

from reports.canvas import INK, PALETTE, drawing, legend, line_with_band, method_style, plain_log, subplots, svg_text
from reports.estimators.audit import ESTIMATORS, STATISTICS, names

LOGARITHMIC = ("bias", "sd", "rmse")
DECADES = 5
ZERO = 1e-6
"""Below this a relative error is not drawn: the first-order estimate of the curvature has no spread at all."""


def estimator_style(audit: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Colour and marker of every estimator, the same on every page."""
    return method_style([*ESTIMATORS, *(name for name in names(audit, "estimator") if name not in ESTIMATORS)])


def errors(table: pd.DataFrame, style: dict[str, tuple[str, str]]) -> str:
    """Rows: bias, SD, RMSE, cosine; columns: stages; over the number of episodes, a line per estimator.

    table: rows of `over_mdps`, one case. A hollow marker: no bias can be told from the noise of its estimate.
    """
    stages = names(table, "stage")
    with drawing():
        size = (max(4.2, 2.15 * len(stages) + 0.6), 1.75 * len(STATISTICS) + 0.9)
        figure, axes = subplots(len(STATISTICS), len(stages), size, sharex=True, sharey="row")
        for row, (statistic, title) in zip(axes, STATISTICS.items(), strict=True):
            for axis, stage in zip(row, stages, strict=True):
                for name, mine in table[table["stage"].eq(stage)].groupby("estimator", sort=False):
                    _line(axis, mine, statistic, str(name), style[str(name)])
                axis.tick_params(labelsize=8)
            _scale(row[0], statistic, table[f"{statistic}_mean"].to_numpy(dtype=float))
            row[0].set_ylabel(f"{title} ÷ true length" if statistic in LOGARITHMIC else title, fontsize=9)
        for axis, stage in zip(axes[0], stages, strict=True):
            axis.set_title(stage, fontsize=9)
        for axis in axes[-1]:
            _episodes(axis)
        legend(figure, *axes.flat)
        return svg_text(figure)


def _line(axis: Any, rows: pd.DataFrame, statistic: str, name: str, style: tuple[str, str]) -> None:
    x = rows["episodes"].to_numpy(dtype=float)
    band = [rows[f"{statistic}_{part}"].to_numpy(dtype=float) for part in ("mean", "low", "high")]
    if statistic in LOGARITHMIC:
        drawn = band[0] > ZERO
        band = [np.where(drawn, np.maximum(values, ZERO), np.nan) for values in band]
    line_with_band(axis, x, band, name, style)
    if statistic == "bias":
        noise = rows["bias_clear"].eq("no").to_numpy()
        axis.plot(x[noise], band[0][noise], style[1], color=style[0], markersize=4, markerfacecolor="white", zorder=3)


def _scale(axis: Any, statistic: str, means: np.ndarray) -> None:
    """The vertical axis of a row: whole decades around the means, at most DECADES, whatever the bands need."""
    if statistic not in LOGARITHMIC:
        axis.set_ylim(min(0.0, float(np.floor(np.nanmin(means) * 10) / 10)) - 0.05, 1.05)
        return
    means = means[means > ZERO]
    if means.size:
        axis.set_yscale("log")
        top = np.ceil(np.log10(means.max()))
        bottom = max(np.floor(np.log10(means.min())), top - DECADES)
        axis.set_ylim(10.0**bottom, 10.0 ** max(top, bottom + 1))
        axis.minorticks_off()
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _episodes(axis: Any) -> None:
    axis.set_xscale("log")
    plain_log(axis.xaxis)
    axis.set_xlabel("episodes per estimate", fontsize=9)


def ratio_lines(table: pd.DataFrame, printed: float | None) -> str:
    """Ratio of spreads over the number of episodes: a line per stage, a column of panels per inner step and baseline.

    Above: SD of the vector; below: the statistic of Rothfuss et al. 2019. table: rows of `ratios`, one quantity.
    """
    stages = names(table, "stage")
    style = method_style(stages)
    cases = table[["alpha", "baseline"]].drop_duplicates().to_dict("records")
    titles = {("norm", "mean"): "ratio of SDs", ("coordinates", "median"): "by the paper’s statistic"}
    with drawing():
        size = (max(4.2, 2.15 * len(cases) + 0.6), 2.0 * len(titles) + 0.9)
        figure, axes = subplots(len(titles), len(cases), size, sharex=True, sharey="row")
        for row, ((prefix, centre), title) in zip(axes, titles.items(), strict=True):
            for axis, case in zip(row, cases, strict=True):
                mine = table[table["alpha"].eq(case["alpha"]) & table["baseline"].eq(case["baseline"])]
                for name, rows in mine.groupby("stage", sort=False):
                    band = [rows[f"{prefix}_{part}"].to_numpy(dtype=float) for part in (centre, "low", "high")]
                    line_with_band(axis, rows["episodes"].to_numpy(dtype=float), band, str(name), style[str(name)])
                axis.axhline(1.0, color=INK, linewidth=0.8)
                if printed is not None:
                    axis.axhline(printed, color=INK, linewidth=1.0, linestyle="--", label=f"the paper: {printed:g}")
                axis.tick_params(labelsize=8)
            means = [*table[f"{prefix}_{centre}"], printed or 1.0, 1.0]
            row[0].set_ylim(0.8 * min(means), 1.15 * max(means))
            row[0].set_ylabel(title, fontsize=9)
        for axis, case in zip(axes[0], cases, strict=True):
            axis.set_title(f"α = {case['alpha']:g}, {case['baseline']}", fontsize=9)
        for axis in axes[-1]:
            _episodes(axis)
        legend(figure, *axes.flat)
        return svg_text(figure)


def bias_against_exact(rows: pd.DataFrame) -> str:
    """Measured against exact relative bias of the curvature, a point per MDP; on the line the two agree.

    rows: those of `curvature_bias`. Below the dotted line the unbiased estimate of the squared bias is negative.
    """
    stages = names(rows, "stage")
    cases = rows[["alpha", "baseline"]].drop_duplicates().to_dict("records")
    with drawing():
        figure, axes = subplots(1, len(cases), (max(4.2, 2.6 * len(cases) + 0.6), 3.1), sharex=True, sharey=True)
        top = float(max(rows["h12_share"].max(), rows["bias"].max())) * 1.05
        bottom = min(0.0, float(rows["bias"].min()) * 1.05)
        for axis, case in zip(axes.flat, cases, strict=True):
            mine = rows[rows["alpha"].eq(case["alpha"]) & rows["baseline"].eq(case["baseline"])]
            axis.plot([0, top], [0, top], color=INK, linewidth=0.8)
            for place, stage in enumerate(stages):
                points = mine[mine["stage"].eq(stage)]
                marker = "osD^vPX"[place % 7]
                colour = PALETTE[place % len(PALETTE)]
                axis.plot(
                    points["h12_share"], points["bias"], marker, color=colour, markersize=4.5, alpha=0.8, label=stage
                )
            axis.set_title(f"α = {case['alpha']:g}, {case['baseline']}", loc="left", fontsize=9)
            axis.axhline(0.0, color=INK, linewidth=0.5, linestyle=":")
            axis.set_ylim(bottom - 0.02 * top, top)
            axis.set_xlabel("exact", fontsize=9)
            axis.tick_params(labelsize=8)
        axes.flat[0].set_ylabel("measured")
        legend(figure, *axes.flat)
        return svg_text(figure)

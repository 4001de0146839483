"""Figures of a tuning: the search over time, its trials in all parameters, and the objective over the rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from reports.canvas import INK, PALETTE, drawing, legend, plain_log, subplots, svg_text
from reports.tuning.landscape import landscape, positive, printed_point
from reports.tuning.summary import StageFound
from reports.tuning.trials import complete

LEVELS = 8
BELOW = 2.0
"""Spreads below the best trial at which colours and axes end: returns explode where a rate is too large."""
SHADES = (0.2, 1.0)
"""The part of the colour map that can be seen on white and on black."""
FOUND, PRINTED, PRUNED, FAILED = "#D55E00", "#CC79A7", "#999999", "#D55E00"
GRID_POINTS = 44


def floor_of(one: StageFound) -> float:
    """The value at which colours and axes end; what is below has the last colour, or stands on the edge."""
    assert one.scale is not None
    worst = float(complete(one.trials)["value"].min())
    low = one.scale.best - BELOW * max(one.scale.spread, 2 * one.scale.tolerance)
    return max(worst, low) if worst < one.scale.best else one.scale.best - 1.0


def search(one: StageFound) -> str:
    """Left: the value of every trial and the best so far. Right: a line per complete trial through its parameters."""
    with drawing():
        figure, axes = subplots(1, 2, (8.6, 3.4))
        _history(axes.flat[0], one)
        _parallel(axes.flat[1], one)
        legend(figure, *axes.flat)
        return svg_text(figure)


def _history(axis: Any, one: StageFound) -> None:
    trials = one.trials
    axis.set(xlabel="trial", ylabel="value")
    axis.set_title("history", loc="left")
    floor, best = (floor_of(one), one.scale.best) if one.scale else (0.0, 1.0)
    bottom = floor - 0.06 * (best - floor)
    axis.set_ylim(bottom, best + 0.06 * (best - floor))
    axis.set_xlim(-0.5 - 0.02 * len(trials), float(trials["trial"].max()) + 0.5 + 0.02 * len(trials))
    finished = complete(trials)
    inside = finished[finished["value"].ge(floor)]
    axis.plot(inside["trial"], inside["value"], "o", color=PALETTE[0], markersize=3.5, alpha=0.7, label="complete")
    edge = bottom + 0.02 * (best - floor)
    for rows, marker, colour, label in (
        (finished[finished["value"].lt(floor)], "v", PALETTE[0], "complete, below the axis"),
        (trials[trials["state"].eq("fail")], "X", FAILED, "failed"),
    ):
        if len(rows):
            axis.plot(
                rows["trial"],
                np.full(len(rows), edge),
                marker,
                color=colour,
                markersize=5,
                clip_on=False,
                linestyle="",
                label=label,
            )
    pruned = trials[trials["state"].eq("pruned")]
    if len(pruned):
        at = pruned["value"].fillna(edge).clip(lower=edge)
        axis.plot(pruned["trial"], at, "x", color=PRUNED, markersize=5, label="pruned, after fewer seeds")
    if len(finished):
        axis.step(
            finished["trial"], finished["value"].cummax(), where="post", color=INK, linewidth=1.2, label="best so far"
        )
    if not one.scale:
        axis.set_yticks([])


def _parallel(axis: Any, one: StageFound) -> None:
    """Every parameter on an axis of its own, from one end of its range to the other; the value on the last."""
    names = list(one.info.space)
    axis.set_title("parameters of every complete trial", loc="left")
    axis.set_xticks(range(len(names) + 1), [*names, "value"])
    axis.set_yticks([])
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.set_xlim(-0.35, len(names) + 0.35)
    axis.set_ylim(-0.12, 1.12)
    axis.grid(False)
    for place, name in enumerate(names):
        _ends(axis, place, *_end_texts(one.info.space[name]))
    finished = complete(one.trials).sort_values("value", kind="stable")
    if one.scale is None or one.best is None:
        return
    floor = floor_of(one)
    _ends(axis, len(names), _short(floor), _short(one.scale.best))
    columns = [_height(finished[name], one.info.space[name]) for name in names]
    value = ((finished["value"] - floor) / (one.scale.best - floor)).clip(lower=0.0).to_numpy()
    lines, colours = np.column_stack([*columns, value]), _colours(one)
    best = finished["trial"].to_numpy() == one.best["trial"]
    for line, colour, is_best in zip(lines, colours(finished["value"]), best, strict=True):
        axis.plot(
            line, color=FOUND if is_best else colour, linewidth=2.0 if is_best else 0.8, alpha=1 if is_best else 0.6
        )
    axis.plot([], [], color=FOUND, linewidth=2.0, label="the best trial")
    printed = printed_point(one.info) or {}
    shown = {names.index(name): _height(pd.Series([at]), one.info.space[name])[0] for name, at in printed.items()}
    if shown:
        axis.plot(
            *_columns(shown), "D", color=PRINTED, markeredgecolor=INK, markersize=6, linestyle="", label="printed"
        )


def _columns(points: dict[int, float]) -> tuple[list[int], list[float]]:
    return list(points), list(points.values())


def _ends(axis: Any, place: int, low: str, high: str) -> None:
    axis.axvline(place, 0.097, 0.903, color=INK, linewidth=0.8)
    axis.text(place, -0.03, low, ha="center", va="top", fontsize=8, color=INK)
    axis.text(place, 1.03, high, ha="center", va="bottom", fontsize=8, color=INK)


def _end_texts(entry: Any) -> tuple[str, str]:
    if "choices" in entry:
        return str(entry["choices"][0]), str(entry["choices"][-1])
    return f"{entry['low']:.2g}", f"{entry['high']:.2g}"


def _short(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _height(values: pd.Series, entry: Any) -> np.ndarray:
    """Where values lie between the ends of a range, from 0 to 1; choices evenly, in their order."""
    if "choices" in entry:
        known = [str(one) for one in entry["choices"]]
        return np.array([known.index(str(one)) / (len(known) - 1) if str(one) in known else np.nan for one in values])
    low, high, at = entry["low"], entry["high"], values.to_numpy(dtype=float)
    return np.log(at / low) / np.log(high / low) if entry["log"] else (at - low) / (high - low)


def _levels(one: StageFound) -> np.ndarray:
    assert one.scale is not None
    return np.linspace(floor_of(one), one.scale.best, LEVELS + 1)


def _norm(one: StageFound) -> tuple[Any, Any]:
    shades = mpl.colormaps["viridis"](np.linspace(*SHADES, LEVELS + 1))
    cmap = mpl.colors.ListedColormap(shades)
    return cmap, mpl.colors.BoundaryNorm(_levels(one), cmap.N, extend="min")


def _colours(one: StageFound) -> Any:
    cmap, norm = _norm(one)
    return lambda values: cmap(norm(np.asarray(values)))


def over_rates(one: StageFound) -> str | None:
    """Left: the local estimate over the first two parameters. Right: every trial over the first two rates.

    With one parameter: the value over it. None where no trial is complete, or no parameter has a logarithm.
    """
    names = positive(one.info)
    if one.scale is None or not names:
        return None
    numbers = [rate for rate, factors in one.info.assign.items() if set(factors) <= set(names)]
    with drawing():
        if len(names) < 2:
            figure, axes = subplots(1, 1, (5.2, 3.4))
            _line(axes.flat[0], one, names[0])
        else:
            figure, axes = subplots(1, 2 if len(numbers) > 1 else 1, (8.6 if len(numbers) > 1 else 5.2, 3.9))
            _contour(axes.flat[0], one, names[:2])
            if len(numbers) > 1:
                _dots(axes.flat[1], one, numbers[:2])
            _colour_bar(figure, axes, one)
        legend(figure, axes.flat[0])
        return svg_text(figure)


def _grid(one: StageFound, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The estimate over the whole range of two parameters: x [n], y [m], values [m, n]."""
    land = landscape(one.trials, names)
    ends = [[float(np.log(one.info.space[name][end])) for end in ("low", "high")] for name in names]
    x, y = (np.linspace(low, high, GRID_POINTS) for low, high in ends)
    values = np.array([[land.estimate(np.array([a, b])) for a in x] for b in y])
    return np.exp(x), np.exp(y), values


def _contour(axis: Any, one: StageFound, names: Sequence[str]) -> None:
    cmap, norm = _norm(one)
    x, y, values = _grid(one, names)
    if np.isfinite(values).any():
        shown = np.ma.masked_invalid(values)
        axis.contourf(x, y, shown, levels=_levels(one), cmap=cmap, norm=norm, extend="min", alpha=0.85)
    finished = complete(one.trials)
    axis.plot(finished[names[0]], finished[names[1]], ".", color=INK, markersize=2.5, alpha=0.6)
    printed = printed_point(one.info) or {}
    _marks(axis, one, [printed.get(name) for name in names], names)
    _scales(axis, one, names)
    axis.set_title("estimate between the trials", loc="left")


def _dots(axis: Any, one: StageFound, rates: Sequence[str]) -> None:
    finished = complete(one.trials).sort_values("value", kind="stable")
    cmap, norm = _norm(one)
    at = [finished[rate] for rate in rates]
    axis.scatter(*at, c=finished["value"], cmap=cmap, norm=norm, s=22, edgecolors=INK, linewidths=0.3)
    _marks(axis, one, [one.info.printed.get(rate) for rate in rates], rates)
    axis.set(xlabel=one.info.name(rates[0]), ylabel=one.info.name(rates[1]))
    for scale, side in ((axis.set_xscale, axis.xaxis), (axis.set_yscale, axis.yaxis)):
        scale("log")
        plain_log(side)
    axis.tick_params(labelsize=8)
    axis.set_title("every trial", loc="left")


def _marks(axis: Any, one: StageFound, printed: Sequence[float | None], names: Sequence[str]) -> None:
    """The found and the printed point."""
    assert one.best is not None
    style: dict[str, Any] = {"markeredgecolor": INK, "linestyle": "", "zorder": 4}
    axis.plot([one.best[names[0]]], [one.best[names[1]]], "*", color=FOUND, markersize=13, label="found", **style)
    if None not in printed:
        axis.plot([printed[0]], [printed[1]], "D", color=PRINTED, markersize=7, label="printed", **style)


def _scales(axis: Any, one: StageFound, names: Sequence[str]) -> None:
    """The searched ranges, logarithmic where the search was."""
    sides = ((axis.set_xscale, axis.set_xlim, axis.xaxis), (axis.set_yscale, axis.set_ylim, axis.yaxis))
    for name, (scale, limit, side) in zip(names, sides, strict=True):
        entry = one.info.space[name]
        if entry["log"]:
            scale("log")
        limit(entry["low"], entry["high"])
        if entry["log"]:
            plain_log(side)
    axis.set(xlabel=names[0], ylabel=names[1])
    axis.tick_params(labelsize=8)


def _line(axis: Any, one: StageFound, name: str) -> None:
    """With one parameter: the value of every trial over it, and the estimate between them."""
    assert one.best is not None
    assert one.scale is not None
    finished, entry, floor = complete(one.trials), one.info.space[name], floor_of(one)
    axis.plot(
        finished[name], finished["value"].clip(lower=floor), "o", color=PALETTE[0], markersize=4, label="complete"
    )
    land = landscape(one.trials, [name])
    x = np.linspace(np.log(entry["low"]), np.log(entry["high"]), 4 * GRID_POINTS)
    y = np.array([land.estimate(np.array([at])) for at in x])
    axis.plot(np.exp(x), np.maximum(y, floor), color=PALETTE[0], linewidth=1.2, label="estimate")
    axis.plot(
        [one.best[name]], [one.best["value"]], "*", color=FOUND, markeredgecolor=INK, markersize=13, label="found"
    )
    at = (printed_point(one.info) or {}).get(name)
    if at is not None:
        axis.axvline(at, color=PRINTED, linewidth=1.5, label="printed")
    if entry["log"]:
        axis.set_xscale("log")
        plain_log(axis.xaxis)
    axis.set(xlabel=name, ylabel="value")


def _colour_bar(figure: Any, axes: Any, one: StageFound) -> None:
    cmap, norm = _norm(one)
    mappable = mpl.cm.ScalarMappable(norm=norm, cmap=cmap)
    bar = figure.colorbar(mappable, ax=list(axes.flat), extend="min", ticks=_levels(one)[::2], aspect=28, pad=0.02)
    bar.ax.set_yticklabels([f"{level:.{one.digits}f}".replace("-", "−") for level in _levels(one)[::2]])
    bar.ax.tick_params(labelsize=8)
    bar.ax.minorticks_off()


def importance_bars(stages: Sequence[StageFound]) -> str | None:
    """A bar per stage and parameter; None where no stage has enough complete trials."""
    known = [(one.name, one.importances) for one in stages if one.importances]
    if not known:
        return None
    names = list(dict.fromkeys(name for _, shares in known for name in shares))
    height = 0.8 / len(names)
    with drawing():
        figure, axes = subplots(1, 1, (6.4, 0.34 * len(known) + 1.2))
        axis = axes.flat[0]
        for place, name in enumerate(names):
            at = [row + (place - (len(names) - 1) / 2) * height for row in range(len(known))]
            axis.barh(at, [shares.get(name, 0.0) for _, shares in known], height, color=PALETTE[place % 7], label=name)
        axis.set_yticks(range(len(known)), [name for name, _ in known])
        axis.invert_yaxis()
        axis.set_xlim(0, 1)
        axis.set_xlabel("share of the importance")
        axis.grid(axis="y", visible=False)
        legend(figure, axis)
        return svg_text(figure)

"""Figures as SVG text. The same evidence gives the same bytes: fixed hash salt, no date, no random jitter.

Intervals are our own t intervals over training seeds; seaborn's default would be a percentile bootstrap, which covers
.76 instead of .95 with three seeds.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from textwrap import fill
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd

from reports.published import Comparison, Published
from reports.statistics import t_interval
from reports.tables import beside_paper, done

INK = "#1a1b1c"  # text and axes: the page replaces it by the colour of its text, for light and dark
GRID = "#c9cacb"
# Okabe & Ito 2008: distinguishable with every common colour vision. Each method also has its own marker.
PALETTE = ("#0072B2", "#E69F00", "#56B4E9", "#009E73", "#999999", "#D55E00", "#CC79A7")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
UNTRAINED, GREY = "random", PALETTE[4]  # the method that is not trained is grey in every figure
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
INCHES_PER_CHARACTER = 0.085  # of text in points of 10, generously: browsers have other fonts than matplotlib
LONG_NUMBER = re.compile(r"(?<=[ \"(,-])(\d+\.\d{3,})")
HANDLE_INCHES, LEGEND_ROW_INCHES = 0.75, 0.22
SHIFT = 0.025  # sideways, so that methods with equal returns stay visible
STYLE: dict[str, Any] = {
    "svg.hashsalt": "metarepro", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "grid.color": GRID, "grid.linewidth": 0.6, "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "path.simplify": True, "path.simplify_threshold": 0.5,
    "figure.constrained_layout.use": True, "axes.titlesize": 10, "axes.titleweight": "bold",
}  # fmt: skip


def method_style(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of every method, by its place in the study, so that they agree in all figures.

    UNTRAINED is grey wherever it stands, and then nothing else is. Up to 42 methods have a pair of their own.
    """
    others = [label for label in labels if label != UNTRAINED]
    colours = PALETTE if len(others) == len(labels) else [colour for colour in PALETTE if colour != GREY]
    size = len(colours)
    style = {label: (colours[i % size], MARKERS[(i + i // size) % len(MARKERS)]) for i, label in enumerate(others)}
    return {label: style.get(label, (GREY, "v")) for label in labels}


def method_dashes(labels: Sequence[str]) -> dict[str, Any]:
    """The line of every method where there are no markers: methods of one colour have different ones."""
    style, seen = method_style(labels), dict.fromkeys(PALETTE, 0)
    dashes = {}
    for label in labels:
        dashes[label] = DASHES[seen[style[label][0]] % len(DASHES)]
        seen[style[label][0]] += 1
    return dashes


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


def line_with_band(
    axis: Any,
    x: np.ndarray,
    band: Sequence[np.ndarray],
    label: str,
    style: tuple[str, str],
    dash: str = "-",
    marked: bool = True,
) -> None:
    """A mean with its interval (band: mean, low, high), in the colour and marker of its method; a gap where NaN."""
    colour, marker = style
    mean, low, high = band
    axis.plot(x, mean, dash, color=colour, marker=marker if marked else None, markersize=4, linewidth=1.4, label=label)
    axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _drawable(values: pd.Series, log: bool) -> np.ndarray:
    """Negate for the logarithmic axis; what is not negative ends at -0.1, where the axis ends as well."""
    returns = values.to_numpy(dtype=float)
    return np.where(np.isnan(returns), np.nan, np.maximum(-returns, 0.1)) if log else returns


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


def lowest(axes: Any, used: int, label: str = "") -> None:
    """Hide the panels that are not used; `label` below the lowest visible panel of every column.

    Where the last line of panels is not full, every panel has its own tick labels: not some of a line, others not.
    """
    columns, full = axes.shape[1], used == axes.size
    for index, axis in enumerate(axes.flat):
        last = index < used <= index + columns
        axis.set_visible(index < used)
        axis.tick_params(labelbottom=last or not full)
        if last and label:
            axis.set_xlabel(label, fontsize=9)


def side_label(figure: Any, title: str, below: float = 0.0) -> None:
    """A label for all vertical axes, in as many lines as their height asks for. below: inches under them."""
    height = figure.get_figheight()
    characters = int((height - below) / INCHES_PER_CHARACTER)
    figure.supylabel(fill(title, max(12, characters)), y=0.5 + below / (2 * height), fontsize=10, color=INK)


def plain_log(axis: Any) -> None:
    """Plain numbers on an axis (`Axes.xaxis` or `Axes.yaxis`) that is logarithmic: 20, not 2 × 10¹."""
    low, high = sorted(axis.get_view_interval())
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks: list[float] = []
    for parts in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7), range(1, 10)):
        ticks = [part * 10.0**power for power in powers for part in parts]
        ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(ticks) > 2:
            break
    axis.set_major_locator(mpl.ticker.FixedLocator(ticks))
    axis.set_minor_locator(mpl.ticker.NullLocator())
    axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:.6g}"))


def legend(figure: Any, *axes: Any) -> float:
    """One legend below the panels; of lines with the same label in two panels, the first.

    In as many columns as fit; the figure grows where one column does not fit, and by every row beyond the second.
    Returns its height in inches.
    """
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    rows = 0
    if entries:
        width, height = figure.get_size_inches()
        column = HANDLE_INCHES + INCHES_PER_CHARACTER * max(len(label) for label in entries)
        columns = int(max(1, min(len(entries), 5, width / column)))
        rows = -(-len(entries) // columns)
        figure.set_size_inches(max(width, column), height + LEGEND_ROW_INCHES * max(0, rows - 2))
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, handlelength=2.4)
    return LEGEND_ROW_INCHES * rows


def drawing() -> Any:
    """The style of all figures, on a fresh default so that a user's own matplotlibrc changes nothing."""
    mpl.use("Agg")
    return mpl.rc_context(_settings())


def _settings() -> Any:
    return {**dict(mpl.rcParamsDefault.items()), "backend": "Agg", **STYLE}


def subplots(
    rows: int, columns: int, size: tuple[float, float], sharex: bool = False, sharey: bool | Literal["row"] = False
) -> tuple[Any, Any]:
    """A figure of rows x columns panels, size in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)


def svg_text(figure: Any) -> str:
    """The figure as SVG text with coordinates of two decimals (a hundredth of a point), which halves the size.

    What a reader reads, between the tags, stays as it is.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode("utf-8")
    return re.sub(r"<[^<>]*>", lambda tag: LONG_NUMBER.sub(_shorter, tag[0]), text)


def _shorter(match: re.Match[str]) -> str:
    return f"{float(match[1]):.2f}".rstrip("0").rstrip(".")

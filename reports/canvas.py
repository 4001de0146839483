"""What every figure is drawn with: styles, legends that fit, plain ticks, and SVG of the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from textwrap import fill
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd

INK = "#1a1b1c"  # text and axes: the page replaces it by the colour of its text, for light and dark
GRID = "#c9cacb"
# Okabe & Ito 2008: distinguishable with every common colour vision. Each method also has its own marker.
PALETTE = ("#0072B2", "#E69F00", "#56B4E9", "#009E73", "#999999", "#D55E00", "#CC79A7")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
UNTRAINED, GREY = "random", PALETTE[4]  # the method that is not trained is grey in every figure
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
INCHES_PER_CHARACTER = 0.085  # of text in points of 10, generously: browsers have other fonts than matplotlib
LONG_NUMBER = re.compile(r"(?<=[ \"(,-])(\d+\.\d{3,})")
POINTS_PER_INCH = 72
HANDLE_INCHES, LEGEND_ROW_INCHES = 0.75, 0.22
SHIFT = 0.025  # sideways, so that methods with equal returns stay visible
STYLE: dict[str, Any] = {
    "svg.hashsalt": "metarepro", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "grid.color": GRID, "grid.linewidth": 0.6, "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "path.simplify": True, "path.simplify_threshold": 0.5,
    "axes.titlesize": 10, "axes.titleweight": "bold",
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


def literal(text: str) -> str:
    """Text of a study file as a label: what stands between two dollar signs is no mathematics."""
    return text.replace("$", r"\$")


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

    What a reader reads, between the tags, stays as it is. The layout is made here, once: a figure that has a layout
    engine of its own is drawn twice when it is saved.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    FigureCanvasSVG(figure)  # is the figure's canvas from now on: text is as wide as in the file
    figure.dpi = POINTS_PER_INCH
    ConstrainedLayoutEngine().execute(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode("utf-8")
    return re.sub(r"<[^<>]*>", lambda tag: LONG_NUMBER.sub(_shorter, tag[0]), text)


def _shorter(match: re.Match[str]) -> str:
    return f"{float(match[1]):.2f}".rstrip("0").rstrip(".")

"""Figures of verdicts: a forest plot of printed numbers against ours, and what each training seed alone would say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np

from reports.canvas import GRID, INK, drawing, legend, subplots, svg_text
from reports.verdicts import Judgement, Outcome, Row

COLOURS = {
    Outcome.REPLICATES: ("#009E73", "o", "replicates"),
    Outcome.FAILS: ("#D55E00", "X", "does not replicate"),
    Outcome.UNDECIDED: ("#0072B2", "D", "undecided"),
    Outcome.UNTESTED: ("#999999", "v", "not testable"),
}
"""Colour and marker of every outcome: never the colour alone."""
SAID = {"yes": ("#009E73", "✓"), "no": ("#D55E00", "✗")}
WIDEST = 12.0  # units to either side: what lies beyond is drawn at the edge, with an arrow
LINE_INCHES = 0.21


@dataclass(frozen=True)
class Forest:
    """A drawn forest plot; unit: what a length of 1 means, in words."""

    svg: str
    unit: str
    caption: str


@dataclass(frozen=True)
class _Bar:
    label: str
    difference: float
    low: float
    high: float
    margin: float
    outcome: Outcome


def forest(judgements: Sequence[Judgement]) -> Forest | None:
    """A line per printed number: ours minus the paper's with its 95 % interval, and the margin as a band.

    In units of the printed SD where every number has one, else of the margin, so that all lines share one axis. None
    where no number has an estimate and a unit.
    """
    found = [(one, row) for one in judgements for row in one.rows[:1] if row.estimate]
    by_sd = bool(found) and all(row.printed_sd for _, row in found)
    bars = [bar for one, row in found if (bar := _bar(one, row, row.printed_sd if by_sd else row.margin))]
    if not bars:
        return None
    unit = "the paper’s SD" if by_sd else "the declared margin"
    low, high = _limits(bars)
    with drawing():
        figure, axes = subplots(1, 1, (9.2, LINE_INCHES * len(bars) + 1.1))
        axis = axes.flat[0]
        for y, bar in enumerate(bars):
            _draw(axis, y, bar, low, high)
        axis.axvline(0.0, color=INK, linewidth=0.9, zorder=1)
        axis.set_yticks(range(len(bars)), [bar.label for bar in bars], fontsize=8)
        axis.set(ylim=(len(bars) - 0.4, -0.6), xlim=(low, high), xlabel=f"ours − paper, in units of {unit}")
        axis.grid(axis="y", visible=False)
        legend(figure, axis)
        svg = svg_text(figure)
    caption = f"ours minus the paper’s number in units of {unit}"
    if not by_sd:
        caption += " (the paper prints no SD of all of these)"
    caption += "; line: 95 % interval; shaded: within the declared margin"
    beyond = sum(not low <= bar.difference <= high for bar in bars)
    return Forest(svg, unit, caption + (f"; arrow: beyond the axis ({beyond})" if beyond else ""))


def _bar(one: Judgement, row: Row, unit: float | None) -> _Bar | None:
    if row.estimate is None or not unit:
        return None
    low, high = (end / unit for end in row.estimate.interval(0.95))
    margin = row.margin / unit if row.margin is not None else float("nan")
    label = shorten(one.statement, 60, placeholder=" …")
    return _Bar(label, row.estimate.difference / unit, low, high, margin, one.outcome)


def _limits(bars: Sequence[_Bar]) -> tuple[float, float]:
    """The ends of the axis: all intervals and most margins with some room, no farther than WIDEST units from 0."""
    margins = [bar.margin for bar in bars if np.isfinite(bar.margin)]
    room = 1.6 * float(np.median(margins)) if margins else 0.0
    low = min(-room, 1.08 * min(bar.low for bar in bars))
    high = max(room, 1.08 * max(bar.high for bar in bars))
    return max(low, -max(WIDEST, room)), min(high, max(WIDEST, room))


def _draw(axis: Any, y: int, bar: _Bar, low: float, high: float) -> None:
    """One line: the band of its margin, its interval, its marker; an arrow and the number where it is off the axis."""
    colour, marker, words = COLOURS[bar.outcome]
    if np.isfinite(bar.margin):
        axis.fill_betweenx([y - 0.5, y + 0.5], -bar.margin, bar.margin, color=GRID, alpha=0.45, linewidth=0)
    if bar.high > low and bar.low < high:
        axis.hlines(y, max(bar.low, low), min(bar.high, high), color=colour, linewidth=1.4)
    for end, cut, arrow in ((low, bar.low < low < bar.high, "<"), (high, bar.low < high < bar.high, ">")):
        if cut:
            axis.plot(end, y, arrow, color=colour, markersize=4, clip_on=False)
    if low <= bar.difference <= high:
        axis.plot(bar.difference, y, marker, color=colour, markersize=5.5, markeredgewidth=0, label=words, zorder=3)
        return
    right = bar.difference > high
    edge = high if right else low
    axis.plot(edge, y, ">" if right else "<", color=colour, markersize=6, clip_on=False)
    axis.annotate(
        f"{bar.difference:+.0f}".replace("-", "−"), (edge, y), (-7 if right else 7, 0),
        textcoords="offset points", ha="right" if right else "left", va="center", fontsize=7, color=INK,
    )  # fmt: skip


def seed_sensitivity(judgements: Sequence[Judgement]) -> str:
    """A line per statement, a column per training seed: what this seed alone would have said; the outcome of all."""
    seeds = sorted({seed for one in judgements for seed in one.alone})
    with drawing():
        width = min(9.5, 3.6 + 0.34 * (len(seeds) + 4))
        figure, axes = subplots(1, 1, (width, 0.25 * len(judgements) + 0.8))
        axis = axes.flat[0]
        for y, one in enumerate(judgements):
            for x, seed in enumerate(seeds):
                if seed in one.alone:
                    colour, symbol = SAID.get(one.alone[seed], (GRID, "–"))
                    axis.add_patch(_square(x, y, colour))
                    axis.text(x, y, symbol, ha="center", va="center", fontsize=9)
            colour, _, words = COLOURS[one.outcome]
            axis.text(len(seeds) - 0.2, y, words, ha="left", va="center", fontsize=8)
        axis.set_xticks(range(len(seeds)), [str(seed) for seed in seeds], fontsize=8)
        axis.xaxis.tick_top()
        axis.xaxis.set_label_position("top")
        axis.set_xlabel("training seed, alone", fontsize=9, loc="left")
        axis.set_yticks(range(len(judgements)), [one.id for one in judgements], fontsize=8)
        axis.set(xlim=(-0.6, len(seeds) + 3.4), ylim=(len(judgements) - 0.4, -0.6))
        axis.grid(visible=False)
        axis.tick_params(length=0)
        for side in ("left", "bottom"):
            axis.spines[side].set_visible(False)
        return svg_text(figure)


def _square(x: int, y: int, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.45, y - 0.42), 0.9, 0.84, facecolor=colour, alpha=0.45, linewidth=0)

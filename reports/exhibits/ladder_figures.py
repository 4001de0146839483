"""The figures of a ladder: a waterfall of effects, and what every factor is worth in the full set-up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reports.canvas import GREY, INK, PALETTE, drawing, subplots, svg_text

UP, DOWN = PALETTE[3], PALETTE[5]
ROW_INCHES = 0.34


def waterfall(up: pd.DataFrame, ends: tuple[float | None, float | None], title: str) -> str:
    """A bar per rung: its paired effect, from the mean of the rung before over the same seeds; both ends in grey.

    Its whisker is the 95 % interval of the effect, drawn from where the bar begins. ends: the printed returns of the
    lower and the upper end, as dotted lines.
    """
    levels, places = up["level_mean"].to_numpy(dtype=float), np.arange(len(up))
    starts = up["before_mean"].fillna(0.0).to_numpy(dtype=float)
    lengths = up["effect_mean"].fillna(up["level_mean"]).to_numpy(dtype=float)
    with drawing():
        drawn, axes = subplots(1, 1, (6.6, ROW_INCHES * (len(up) + 2) + 0.9))
        axis = axes[0, 0]
        for place, start, length in zip(places, starts, lengths, strict=True):
            colour = GREY if place == 0 else UP if length >= 0 else DOWN
            axis.barh(place, length, left=start, color=colour, height=0.6)
            _whisker(axis, up.iloc[place], place, start)
            axis.annotate(
                _text(up.iloc[place]), (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8
            )
        axis.barh(len(up), levels[-1], color=GREY, height=0.6)
        axis.annotate(
            _minus(f"{levels[-1]:.1f}"), (1.01, len(up)), xycoords=("axes fraction", "data"), va="center", fontsize=8
        )
        for printed, name, line in zip(ends, ("lower", "upper"), (-0.7, -1.1), strict=True):
            if printed is not None:
                axis.axvline(printed, color=INK, linewidth=0.9, linestyle=":")
                axis.annotate(
                    f"{_minus(f'printed, {name} end: {printed:.2f}')} ", (printed, line), fontsize=7, ha="right"
                )
        names = [f"+ {factor}" if place else str(factor) for place, factor in enumerate(up["factor"])]
        axis.set_yticks([*places, len(up)], [*names, "all of it"])
        axis.set_ylim(len(up) + 0.6, -1.5)
        axis.set_xlim(_lowest(up) * 1.04, 0.0)
        axis.set_xlabel(title, fontsize=9)
        axis.grid(visible=False, axis="y")
        return svg_text(drawn)


def worth(out: pd.DataFrame, title: str) -> str:
    """A dot per factor with its interval; to the right of zero the full set-up is better for it."""
    with drawing():
        drawn, axes = subplots(1, 1, (6.6, ROW_INCHES * len(out) + 0.9))
        axis = axes[0, 0]
        for place, row in enumerate(out.to_dict("records")):
            colour = UP if row["effect_mean"] >= 0 else DOWN
            if not pd.isna(row["effect_low"]):
                axis.plot([row["effect_low"], row["effect_high"]], [place, place], color=colour, linewidth=1.6)
            axis.plot(row["effect_mean"], place, "o", color=colour, markersize=5)
        axis.axvline(0.0, color=INK, linewidth=0.9)
        axis.set_yticks(np.arange(len(out)), [str(factor) for factor in out["factor"]])
        axis.set_ylim(len(out) - 0.4, -0.6)
        axis.set_xlabel(title, fontsize=9)
        axis.grid(visible=False, axis="y")
        return svg_text(drawn)


def _whisker(axis: Any, row: Any, place: Any, start: float) -> None:
    if place and not pd.isna(row["effect_low"]):
        ends = [start + row["effect_low"], start + row["effect_high"]]
        axis.plot(ends, [place, place], color=INK, linewidth=1.1, solid_capstyle="butt")
    elif not place and not pd.isna(row["level_low"]):
        axis.plot([row["level_low"], row["level_high"]], [place, place], color=INK, linewidth=1.1)


def _text(row: Any) -> str:
    return _minus(f"{row['level_mean']:.1f}" if pd.isna(row["effect_mean"]) else f"{row['effect_mean']:+.1f}")


def _minus(text: str) -> str:
    """The sign as it is set."""
    return text.replace("-", "−")


def _lowest(up: pd.DataFrame) -> float:
    """How far to the left anything reaches."""
    begins = up["before_mean"]
    reach = pd.concat([up["level_mean"], up["level_low"].head(1), begins, begins + up["effect_low"]])
    return float(reach.min())

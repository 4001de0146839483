"""Where the agent went before and after adaptation, in a few test tasks of one trained model per method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from reports.attachments import Attachments
from reports.canvas import INK, PALETTE, drawing, subplots, svg_text
from reports.exhibits.source import Part, Source
from reports.papers.exhibits import PathsExhibit
from reports.records import Records

EPISODES = 2
EVERY = 4
"""One position in so many is drawn, and the last: a path of 100 steps loses nothing that a small panel could show."""
DECIMALS = 3
COLUMNS = ["setting", "method", "seed", "step", "task", "episode", "time", "x", "y"]
COLOURS = (PALETTE[0], PALETTE[1], PALETTE[3], PALETTE[6])  # of the tasks; PALETTE[2] is too near to PALETTE[0]


def part(files: Attachments, exhibit: PathsExhibit, source: Source) -> Part:
    """The figure of one setting; none where no path was recorded."""
    labels = source.labels(exhibit)
    table = drawn(source.records, exhibit.protocol, labels)
    if table.empty:
        return Part()
    shown = [label for label in labels if table["method"].eq(label).any()]
    seeds = sorted(int(seed) for seed in table["seed"].unique())
    steps = sorted(int(step) for step in table["step"].unique())
    alt = (
        f"A column of panels per method ({', '.join(shown)}): above, the paths before adaptation, below, after step "
        f"{steps[-1]}. A colour per task; discs of that colour around the task's own goal."
    )
    seed = f"training seed {seeds[0]}" if len(seeds) == 1 else f"training seeds {', '.join(map(str, seeds))}"
    discs = " and ".join(f"{radius:g} ({meaning})" for meaning, radius in exhibit.radii.items())
    caption = (
        f"{seed}; {EPISODES} episodes of each of the first {table['task'].nunique()} test tasks, start at the ring, "
        f"end at the dot; a colour per task, its own goal in the same colour, with discs of radius {discs}"
    )
    figure = files.figure(source.name, paths_figure(table, exhibit, shown), alt) | {"caption": caption}
    return Part(figures=[figure])


def drawn(records: Records, protocol: str, labels: Sequence[str]) -> pd.DataFrame:
    """What is drawn, and what is kept as evidence of it: COLUMNS, one row per position.

    Per setting and method the finished run with the lowest seed; the first and the last adaptation step; every task;
    the first EPISODES episodes.
    """
    runs = records.runs[records.runs["status"].eq("done") & records.runs["method"].isin(list(labels))]
    runs = runs.sort_values(["setting", "method", "seed"]).drop_duplicates(["setting", "method"])
    paths = records.paths[records.paths["protocol"].eq(protocol)]
    table = paths.merge(runs[["run_id", "setting", "method", "seed"]], on="run_id", validate="many_to_one")
    if table.empty:
        return pd.DataFrame(columns=COLUMNS)
    last_time = table.groupby("run_id")["time"].transform("max")
    kept = table[
        (table["step"].eq(table["step"].min()) | table["step"].eq(table["step"].max()))
        & table["episode"].lt(EPISODES)
        & (table["time"].mod(EVERY).eq(0) | table["time"].eq(last_time))
    ]
    kept = kept.astype(dict.fromkeys(COLUMNS[2:7], "int64") | {"x": "float64", "y": "float64"})
    return kept.round({"x": DECIMALS, "y": DECIMALS})[COLUMNS].sort_values(COLUMNS[:7], ignore_index=True)


def paths_figure(table: pd.DataFrame, exhibit: PathsExhibit, labels: Sequence[str]) -> str:
    """A column per method; above before, below after adaptation.

    table: the frame of `drawn`, one setting.
    """
    steps = sorted(int(step) for step in table["step"].unique())
    with drawing():
        size = (1.75 * len(labels) + 0.5, 1.75 * len(steps) + 0.4)
        figure, axes = subplots(len(steps), len(labels), size, sharex=True, sharey=True)
        for row, step in zip(axes, steps, strict=True):
            for axis, label in zip(row, labels, strict=True):
                _panel(axis, table[table["method"].eq(label) & table["step"].eq(step)], exhibit)
            row[0].set_ylabel("before adaptation" if step == steps[0] else f"after step {step}", fontsize=9)
        for axis, label in zip(axes[0], labels, strict=True):
            axis.set_title(label, fontsize=9)
        return svg_text(figure)


def _panel(axis: Any, rows: pd.DataFrame, exhibit: PathsExhibit) -> None:
    from matplotlib.patches import Circle

    for task, goal in enumerate(exhibit.goals):
        colour = COLOURS[task % len(COLOURS)]
        for radius in exhibit.radii.values():
            axis.add_patch(Circle(goal, radius, facecolor=colour, alpha=0.13, linewidth=0))
        axis.plot(*goal, "+", color=colour, markersize=7, markeredgewidth=1.4)
    for _, path in rows.groupby(["task", "episode"], sort=True):
        colour = COLOURS[int(path["task"].iloc[0]) % len(COLOURS)]
        x, y = path["x"].to_numpy(), path["y"].to_numpy()
        axis.plot(x, y, color=colour, linewidth=0.9, alpha=0.9)
        axis.plot(x[0], y[0], "o", color=colour, markersize=3, markerfacecolor="none", markeredgewidth=0.7)
        axis.plot(x[-1], y[-1], "o", color=colour, markersize=3.5, markeredgecolor=INK, markeredgewidth=0.5)
    axis.set(xlim=(-exhibit.window, exhibit.window), ylim=(-exhibit.window, exhibit.window), aspect="equal")
    axis.tick_params(labelsize=7)
    axis.grid(False)

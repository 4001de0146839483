"""The path of two parameters through training: its picture, where it ends, and how straight it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from reports.attachments import Attachments
from reports.canvas import INK, PALETTE, drawing, lowest, subplots, svg_text
from reports.display import Column, Limits, interval_note, mean_text, shown
from reports.exhibits.source import Part, Source, interval_columns
from reports.papers.exhibits import PlaneExhibit
from reports.records import Records

KEYS = ["setting", "method", "seed"]
NUMBERS = {
    "final_distance": "final distance to the optimum",
    "mean_distance": "mean distance over all updates",
    "half_way": "updates to half of the first distance",
    "path_length": "length of the path",
    "straightness": "straightness: displacement ÷ length",
}
TABLES = (("final_distance", "mean_distance", "half_way"), ("path_length", "straightness"))
DIGITS = {"final_distance": 4, "mean_distance": 4, "straightness": 3, "half_way": 1, "path_length": 3}
AWAY = "†"
AWAY_NOTE = f"{AWAY}: in so many seeds the path ends farther from the optimum than it began, however straight it is."
HIGHLIGHT, OTHERS = PALETTE[5], PALETTE[4]


def part(files: Attachments, exhibit: PlaneExhibit, source: Source) -> Part:
    """The blocks of one setting; none where no run has finished."""
    labels = source.labels(exhibit)
    numbers = directions(source.records, exhibit, labels)
    if numbers.empty:
        return Part()
    made = Part()
    if exhibit.drawn is None or source.setting.name in exhibit.drawn:
        table = drawn(source.records, exhibit, labels)
        names = [label for label in labels if table["method"].eq(label).any()]
        alt = (
            f"A panel per method: the path of ({exhibit.x}, {exhibit.y}) through {_span(numbers)}. "
            "The values after the last update are in the table below."
        )
        seeds = table["seed"].nunique()
        caption = (
            f"seed {exhibit.highlighted} with an arrow every {exhibit.every} updates, the other {seeds - 1} of {seeds} "
            f"seeds in grey; ring: start, cross: optimum; {_span(numbers)}. What leaves the window "
            "is cut off"
        )
        figure = files.figure(source.name, plane_figure(table, exhibit, names), alt)
        made.figures.append(figure | {"caption": caption})
    frame = over_seeds(numbers, labels)
    made.tables += _tables(files, exhibit, source, frame, _span(numbers))
    made.measured[""] = [
        f"{row['method']}: updates to half of the way {cell(row, 'half_way')}, final distance "
        f"{cell(row, 'final_distance')}, straightness {cell(row, 'straightness')}"
        for row in frame.to_dict("records")
        if row["seeds"] and row["method"] in (exhibit.beside_claims or labels)
    ]
    if any(AWAY in line for line in made.measured[""]):
        made.measured[""].append(AWAY_NOTE)
    return made


def _span(numbers: pd.DataFrame) -> str:
    """Which updates count, in words."""
    longest = int(numbers["updates"].max())
    return f"the first {longest} updates" if longest > 1 else "the first update"


def _paths(records: Records, exhibit: PlaneExhibit, labels: Sequence[str]) -> pd.DataFrame:
    """KEYS, update (0: the start), x, y, of finished runs."""
    runs = records.runs[records.runs["status"].eq("done") & records.runs["method"].isin(list(labels))]
    mine = records.curves[records.curves["metric"].isin([exhibit.x, exhibit.y])]
    mine = mine.merge(runs[["run_id", *KEYS]], on="run_id")
    mine = mine[mine["iteration"].lt(exhibit.updates)]
    wide = mine.pivot_table(index=[*KEYS, "iteration"], columns="metric", values="value").dropna()
    if wide.empty or not {exhibit.x, exhibit.y} <= set(wide.columns):
        return pd.DataFrame(columns=[*KEYS, "update", exhibit.x, exhibit.y])
    moved = wide.reset_index().rename_axis(columns=None)
    moved = moved.assign(update=moved["iteration"] + 1)
    start = moved[KEYS].drop_duplicates().assign(update=0, **{exhibit.x: exhibit.start[0], exhibit.y: exhibit.start[1]})
    table = pd.concat([start, moved], ignore_index=True)[[*KEYS, "update", exhibit.x, exhibit.y]]
    return table.sort_values([*KEYS, "update"], ignore_index=True)


def drawn(records: Records, exhibit: PlaneExhibit, labels: Sequence[str]) -> pd.DataFrame:
    """Every so many updates, of the settings that are drawn: KEYS, update, x, y."""
    table = _paths(records, exhibit, labels)
    kept = table["update"].mod(exhibit.every).eq(0)
    if exhibit.drawn is not None:
        kept &= table["setting"].isin(exhibit.drawn)
    return table[kept].reset_index(drop=True)


def directions(records: Records, exhibit: PlaneExhibit, labels: Sequence[str]) -> pd.DataFrame:
    """One row per run: KEYS, updates and NUMBERS, from every update.

        path_length = Σ_i |θ_i - θ_{i-1}|,   straightness = |θ_n - θ_0| / path_length,   1 on a straight line
        final_distance = |θ_n - θ*|,   mean_distance = 1/n Σ_{i ≥ 1} |θ_i - θ*|

    half_way: the first i with |θ_i - θ*| ≤ |θ_0 - θ*| / 2; NaN for a path that never comes so near.
    away: 1 where |θ_n - θ*| > |θ_0 - θ*|, else 0.
    """
    rows = []
    for key, path in _paths(records, exhibit, labels).groupby(KEYS, sort=True):
        theta = path[[exhibit.x, exhibit.y]].to_numpy(dtype=float)
        distances = np.linalg.norm(theta - np.array(exhibit.optimum), axis=1)
        length = float(np.linalg.norm(np.diff(theta, axis=0), axis=1).sum())
        row: dict[str, Any] = dict(zip(KEYS, key, strict=True)) | {"updates": len(theta) - 1}
        row |= {"final_distance": distances[-1], "mean_distance": distances[1:].mean(), "path_length": length}
        near = np.flatnonzero(distances <= distances[0] / 2)
        row["half_way"] = float(near[0]) if near.size else float("nan")
        row["straightness"] = float(np.linalg.norm(theta[-1] - theta[0])) / length if length else float("nan")
        row["away"] = int(distances[-1] > distances[0])
        rows.append(row)
    return pd.DataFrame(rows, columns=[*KEYS, "updates", *NUMBERS, "away"])


def over_seeds(numbers: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """A row per method: every number with its 95 % t interval over the finished seeds.

    half_way_seeds: how many of them came half of the way; that number is over these only. away_seeds: how many ended
    farther from the optimum than they began.
    """
    rows = []
    for label in labels:
        mine = numbers[numbers["method"].eq(label)]
        row: dict[str, Any] = {"method": label, "seeds": len(mine), "updates": mine["updates"].max()}
        row |= {"half_way_seeds": int(mine["half_way"].count()), "away_seeds": int(mine["away"].sum())}
        for name in NUMBERS:
            if len(values := mine[name].dropna()):
                row |= interval_columns(values, f"{name}_")
        rows.append(row)
    return pd.DataFrame(rows)


def plane_figure(table: pd.DataFrame, exhibit: PlaneExhibit, labels: Sequence[str]) -> str:
    """A panel per method. table: the frame of `drawn`, one setting."""
    columns = min(4, max(1, len(labels)))
    lines = -(-max(1, len(labels)) // columns)
    with drawing():
        figure, axes = subplots(lines, columns, (2.4 * columns, 1.75 * lines + 0.3), sharex=True, sharey=True)
        for axis, label in zip(axes.flat, labels, strict=False):
            _panel(axis, table[table["method"].eq(label)], exhibit)
            axis.set_title(label, fontsize=9, loc="left")
        lowest(axes, len(labels))
        figure.supxlabel(exhibit.x, fontsize=10, color=INK)
        figure.supylabel(exhibit.y, fontsize=10, color=INK)
        return svg_text(figure)


def _panel(axis: Any, rows: pd.DataFrame, exhibit: PlaneExhibit) -> None:
    for seed, path in sorted(rows.groupby("seed"), key=lambda item: item[0] == exhibit.highlighted):
        x, y = path[exhibit.x].to_numpy(dtype=float), path[exhibit.y].to_numpy(dtype=float)
        if seed != exhibit.highlighted:
            axis.plot(x, y, color=OTHERS, linewidth=0.7, alpha=0.8)
        else:
            move = (x[:-1], y[:-1], np.diff(x), np.diff(y))
            axis.quiver(*move, angles="xy", scale_units="xy", scale=1, color=HIGHLIGHT, width=0.007, zorder=3)
    axis.plot(*exhibit.start, "o", color=INK, markersize=5, markerfacecolor="none", zorder=4)
    axis.plot(*exhibit.optimum, "x", color=INK, markersize=7, markeredgewidth=1.6, zorder=4)
    left, right, bottom, top = exhibit.window
    axis.set(xlim=(left, right), ylim=(bottom, top))
    axis.tick_params(labelsize=8)


def _limits(name: str, updates: float) -> Limits:
    """The possible range of a number: what counts updates ends with the last one."""
    most = {"straightness": 1.0, "half_way": float(updates)}
    return 0.0, most.get(name)


def cell(row: Mapping[Any, Any], name: str) -> str:
    """A number of `over_seeds` as text: fewer decimals for large means, and what holds for a part of the seeds only."""
    mean = row.get(f"{name}_mean", float("nan"))
    large = len(f"{abs(mean):.0f}") - 1 if np.isfinite(mean) else 0
    text = mean_text(row, f"{name}_", max(0, DIGITS[name] - large), _limits(name, row["updates"]))
    if name == "half_way" and row["half_way_seeds"] < row["seeds"]:
        return f"{text} ({row['half_way_seeds']} of {row['seeds']} seeds)"
    if name == "straightness" and row["away_seeds"]:
        return f"{text} {AWAY} {row['away_seeds']} of {row['seeds']}"
    return text


def _tables(
    files: Attachments, exhibit: PlaneExhibit, source: Source, frame: pd.DataFrame, span: str
) -> list[dict[str, Any]]:
    """The numbers in two tables that are narrow enough for a page; one CSV."""
    title = f"{span[0].upper()}{span[1:]}: mean over the finished seeds and 95 % t interval"
    made: list[dict[str, Any]] = []
    for names in TABLES:
        columns = [Column(NUMBERS[name], partial(cell, name=name)) for name in names]
        columns.append(Column("finished seeds", lambda row: str(row["seeds"])))
        kept = files if not made else Attachments()
        made.append(shown(kept, f"{source.name}_directions", frame, "method", columns, "" if made else title))
    notes = [interval_note(frame, {f"{name}_": _limits(name, frame["updates"].max()) for name in NUMBERS})]
    if frame["half_way_seeds"].lt(frame["seeds"]).any():
        notes.append(
            "Updates to half of the way: over those seeds that came so far; how many is said where not all did."
        )
    if frame["away_seeds"].any():
        notes.append(AWAY_NOTE)
    if exhibit.drawn is not None and source.setting.name not in exhibit.drawn and exhibit.not_drawn:
        notes.insert(0, exhibit.not_drawn)
    made[-1]["note"] = " ".join(note for note in notes if note)
    return made

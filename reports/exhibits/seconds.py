"""How long a meta-iteration takes, and what of it, from what the runs' manifests recorded.

Wall-clock of runs that share a machine depends on what else runs there: the page says on which machines they were, and
how much of a processor they had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import pandas as pd

from reports.attachments import Attachments
from reports.canvas import PALETTE, drawing, legend, literal, lowest, subplots, svg_text
from reports.display import Limits, count, interval, interval_note, mean_lines, shown, text, value
from reports.exhibits.source import Part, Source, interval_columns
from reports.papers.exhibits import SecondsExhibit
from reports.records import CURVE_METRICS, Records

PHASES = {"sampling": "sampling", "adaptation": "adaptation", "outer": "outer update"}
TOTAL, UPDATES = "seconds_per_iteration", "seconds_of_updates"
COLOURS = dict(zip(PHASES, (PALETTE[0], PALETTE[1], PALETTE[3]), strict=True))
TITLE_WIDTH = 28  # characters over a panel
ACROSS = 3  # panels in a line
NO_LESS: Limits = (0.0, None)


def part(files: Attachments, exhibit: SecondsExhibit, source: Source) -> Part:
    """Figure and table over all settings; none where no finished run has trained."""
    labels = source.labels(exhibit)
    runs = seconds(source.records, labels)
    if runs.empty:
        return Part()
    titles = {setting.name: setting.describe() for setting in source.info.settings}
    frame = over_seeds(runs, labels, list(titles))
    svg = figure(frame, titles)
    alt = "A panel per setting, a stacked bar per method: seconds of a meta-iteration, by what they were spent on."
    made = Part(
        figures=[files.figure(source.name, svg, alt) | {"caption": f"mean over seeds; {_machines(source.records)}"}]
    )
    columns = [
        text("method", "method"),
        *(value(title, f"{phase}_mean", 3) for phase, title in PHASES.items()),
        interval("together [95 % interval]", "total_", 3, strong=True, limits=NO_LESS),
        value("environment steps per second", "rate", 0),
        count("seeds", "seeds"),
    ]
    title = "Seconds per meta-iteration, mean over seeds"
    shown_as = shown(files, source.name, frame.assign(where=frame["setting"].map(titles)), "where", columns, title)
    made.tables.append(shown_as | {"head": "setting", "note": interval_note(frame, {"total_": NO_LESS})})
    made.measured = {"": mean_lines(frame, titles, "seconds per meta-iteration", "total_", 3, NO_LESS)}
    return made


def seconds(records: Records, labels: Sequence[str]) -> pd.DataFrame:
    """A row per finished run that trained by itself: seconds of a meta-iteration, by phase.

    setting, method, seed, iterations, environment_steps, a column per phase, TOTAL, UPDATES (all but sampling).
    A run that took its training from another one has no time of its own.
    """
    lengths = records.curves[records.curves["metric"].isin(CURVE_METRICS)].groupby("run_id")["iteration"].max() + 1
    rows = []
    for run in records.runs.to_dict("records"):
        told, iterations = run["manifest"] or {}, int(lengths.get(run["run_id"], 0))
        spent = told.get("seconds") or {}
        if run["status"] != "done" or run["method"] not in labels or "training_of" in told:
            continue
        if iterations and "sampling" in spent:
            each = {phase: float(spent.get(phase, 0.0)) / iterations for phase in PHASES}
            total = sum(each.values())
            rows.append(
                {"setting": run["setting"], "method": run["method"], "seed": run["seed"], "iterations": iterations}
                | {"environment_steps": told.get("environment_steps")}
                | each
                | {TOTAL: total, UPDATES: total - each["sampling"]}
            )
    return pd.DataFrame(rows)


def over_seeds(runs: pd.DataFrame, labels: Sequence[str], settings: Sequence[str]) -> pd.DataFrame:
    """A row per setting and method: `<phase>_mean`, `total_*` with its 95 % t interval, and steps per second."""
    rows: list[dict[str, Any]] = []
    for setting in settings:
        for label in labels:
            mine = runs[runs["setting"].eq(setting) & runs["method"].eq(label)]
            if len(mine):
                row: dict[str, Any] = {"setting": setting, "method": label, "seeds": len(mine)}
                row |= {f"{phase}_mean": float(mine[phase].mean()) for phase in PHASES}
                row |= interval_columns(mine[TOTAL], "total_")
                steps = mine["environment_steps"].astype("float64") / mine["iterations"]
                rows.append(row | {"rate": float((steps / mine[TOTAL]).mean())})
    return pd.DataFrame(rows)


def figure(frame: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """A panel per setting, a stacked bar per method."""
    settings = [name for name in titles if frame["setting"].eq(name).any()]
    most = int(frame.groupby("setting").size().max())
    columns = min(ACROSS, len(settings))
    lines = -(-len(settings) // columns)
    with drawing():
        drawn, axes = subplots(lines, columns, (max(4.2, 3.1 * columns), (0.26 * most + 0.75) * lines + 0.5))
        for axis, setting in zip(axes.flat, settings, strict=False):
            rows = frame[frame["setting"].eq(setting)]
            left = [0.0] * len(rows)
            for phase, title in PHASES.items():
                widths = rows[f"{phase}_mean"].astype(float).tolist()
                axis.barh(range(len(rows)), widths, left=left, color=COLOURS[phase], height=0.62, label=title)
                left = [start + width for start, width in zip(left, widths, strict=True)]
            axis.set_yticks(range(len(rows)), rows["method"])
            axis.set_ylim(len(rows) - 0.45, -0.55)
            axis.tick_params(labelsize=8)
            axis.set_title(fill(literal(titles[setting]), TITLE_WIDTH), loc="left", fontsize=9)
            axis.grid(visible=False, axis="y")
        lowest(axes, len(settings), "seconds per meta-iteration")
        for axis in axes.flat:
            axis.tick_params(labelbottom=True)
        legend(drawn, *axes.flat)
        return svg_text(drawn)


def _machines(records: Records) -> str:
    """On which processors the runs were, and how much of one they had."""
    told = [manifest for manifest in records.runs["manifest"] if manifest and manifest.get("seconds")]
    cpus = sorted({str(manifest["cpu"]) for manifest in told if manifest.get("cpu")})
    where = f"measured on {', '.join(cpus) or 'a machine that is not known'}"
    wall = sum(float(manifest.get("wall_clock_s") or 0.0) for manifest in told)
    used = sum(float(manifest.get("cpu_s") or 0.0) for manifest in told)
    if not (wall and used):
        return f"{where}, which runs shared"
    return (
        f"{where}, which runs shared with each other and with whatever else ran: on average a run had "
        f"{100 * used / wall:.0f} % of a processor, so that seconds compare only roughly"
    )

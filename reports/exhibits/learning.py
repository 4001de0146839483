"""What the methods reach while they train, over environment steps: a panel per setting, a table, what claims ask.

    steps after meta-iteration i:   E Σ_{j≤i} L_j / Σ_j L_j

E: the environment steps that the run counted; L_j: mean length of an episode after adaptation. So the axis ends where
the run does, and is exact where no episode ends early.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd

from reports.attachments import Attachments
from reports.canvas import (
    drawing,
    legend,
    line_with_band,
    literal,
    lowest,
    method_style,
    side_label,
    subplots,
    svg_text,
)
from reports.display import Column, count, interval, mean_lines, shown, text
from reports.exhibits.source import Part, Source, interval_columns
from reports.exhibits.training import LAST, band, late, thinned
from reports.papers.exhibits import LearningExhibit
from reports.records import Records
from reports.tables import number

STEPS = "environment_steps"
MILLION = 1e6
TITLE_WIDTH = 28  # characters over a panel
ACROSS = 3  # panels in a line


def part(files: Attachments, exhibit: LearningExhibit, source: Source) -> Part:
    """Figure and table over all settings; none where no run has finished."""
    labels = source.labels(exhibit)
    curves = drawn(source.records, exhibit, labels)
    if curves.empty or exhibit.outcome not in curves:
        return Part()
    titles = {setting.name: setting.describe() for setting in source.info.settings}
    alt = "A panel per setting, a line per method: mean return in training over environment steps."
    caption = (
        "solid: return after adaptation, mean over seeds and 95 % t interval; dashed: before it; blocks of "
        "meta-iterations, finished runs only. Environment steps are those before and after adaptation together, spread "
        "over training as the lengths of episodes are"
    )
    svg = figure(curves, exhibit, labels, titles)
    reached = outcomes(curves, exhibit, labels, list(titles))
    made = Part(figures=[files.figure(source.name, svg, alt) | {"caption": caption}])
    made.tables.append(_table(files, source, reached.assign(where=reached["setting"].map(titles))))
    made.measured = {"": mean_lines(reached, titles, "return after adaptation, last tenth of training", "last_", 1)}
    return made


def drawn(records: Records, exhibit: LearningExhibit, labels: Sequence[str]) -> pd.DataFrame:
    """Blocks of meta-iterations of finished runs: training.KEYS, the outcome, what was before, and the steps."""
    steps = _steps(records, exhibit)
    whole = dataclasses.replace(records, curves=pd.concat([records.curves, steps], ignore_index=True))
    return thinned(whole, (exhibit.outcome, exhibit.before, STEPS), labels)


def _steps(records: Records, exhibit: LearningExhibit) -> pd.DataFrame:
    """Environment steps after every meta-iteration of every run that counted them, as curves."""
    total = {run["run_id"]: (run["manifest"] or {}).get(STEPS) for run in records.runs.to_dict("records")}
    curves = records.curves[records.curves["metric"].isin(exhibit.curves)]
    parts = []
    for run_id, mine in curves.groupby("run_id", sort=True):
        wide = mine.pivot_table(index="iteration", columns="metric", values="value").sort_index()
        lengths = wide[exhibit.length] if exhibit.length in wide else pd.Series(1.0, index=wide.index)
        values = float(total.get(run_id) or np.nan) * lengths.cumsum() / lengths.sum()
        parts.append(
            pd.DataFrame({"run_id": run_id, "metric": STEPS, "iteration": wide.index, "value": values.to_numpy()})
        )
    return pd.concat(parts, ignore_index=True) if parts else curves.iloc[:0]


def outcomes(
    curves: pd.DataFrame, exhibit: LearningExhibit, labels: Sequence[str], settings: Sequence[str]
) -> pd.DataFrame:
    """A row per setting and method: the outcome over all of training and over its last tenth, what was before, steps.

    all_*, last_*, before_*: mean, SD and 95 % t interval over seeds.
    """
    rows: list[dict[str, Any]] = []
    for setting in settings:
        for label in labels:
            mine = curves[curves["setting"].eq(setting) & curves["method"].eq(label)].dropna(subset=[exhibit.outcome])
            if mine.empty:
                continue
            row: dict[str, Any] = {"setting": setting, "method": label, "seeds": mine["seed"].nunique()}
            row["steps"] = mine.groupby("seed")[STEPS].max().mean() / MILLION if STEPS in mine else np.nan
            for prefix, frame, name in (
                ("all_", mine, exhibit.outcome),
                ("last_", late(mine), exhibit.outcome),
                ("before_", late(mine), exhibit.before),
            ):
                if name in frame and frame[name].notna().any():
                    row |= interval_columns(frame.groupby("seed")[name].mean(), prefix)
            rows.append(row)
    return pd.DataFrame(rows)


def figure(curves: pd.DataFrame, exhibit: LearningExhibit, labels: Sequence[str], titles: dict[str, str]) -> str:
    """A panel per setting in which any of the methods trained."""
    settings = [name for name in titles if curves["setting"].eq(name).any()]
    style = method_style(labels)
    columns = min(ACROSS, len(settings))
    lines = -(-len(settings) // columns)
    with drawing():
        drawn_, axes = subplots(lines, columns, (max(4.2, 3.0 * columns), 2.5 * lines + 0.5))
        for axis, setting in zip(axes.flat, settings, strict=False):
            for label in labels:
                _lines(axis, curves[curves["setting"].eq(setting) & curves["method"].eq(label)], exhibit, label, style)
            axis.set_title(fill(literal(titles[setting]), TITLE_WIDTH), loc="left", fontsize=9)
            axis.locator_params(axis="x", nbins=4)
        lowest(axes, len(settings), "million environment steps")
        side_label(drawn_, "mean return in training", below=legend(drawn_, *axes.flat))
        return svg_text(drawn_)


def _lines(axis: Any, curves: pd.DataFrame, exhibit: LearningExhibit, label: str, style: Any) -> None:
    """One method in one panel; seeds of which no steps are known are not drawn."""
    known = curves.dropna(subset=[name for name in (STEPS, exhibit.outcome) if name in curves])
    if known.empty or STEPS not in known:
        return
    after = band(known, exhibit.outcome)
    x = known.groupby("iteration")[STEPS].mean().reindex(after.index) / MILLION
    parts = [after[part].to_numpy() for part in ("mean", "low", "high")]
    line_with_band(axis, x.to_numpy(), parts, label, style[label], marked=False)
    if exhibit.before in known:
        before = known.groupby("iteration")[exhibit.before].mean().reindex(after.index)
        axis.plot(x, before, "--", color=style[label][0], linewidth=0.7)


def _table(files: Attachments, source: Source, frame: pd.DataFrame) -> dict[str, Any]:
    share = f"{LAST:.0%}".replace("%", " %")
    columns = [
        text("method", "method"),
        Column("million environment steps", lambda row: number(row["steps"], 2)),
        interval("after adaptation, over all of training", "all_", 1),
        interval(f"over its last {share}", "last_", 1, strong=True),
        interval(f"before adaptation, over its last {share}", "before_", 1),
        count("seeds", "seeds"),
    ]
    title = "Mean return in training: mean over seeds and 95 % t interval"
    return shown(files, f"{source.name}_outcome", frame, "where", columns, title) | {"head": "setting"}

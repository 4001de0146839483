"""How much the meta-gradients of two methods scatter while they train, and what the methods reach.

Everything here is computed from blocks of meta-iterations; see :mod:`reports.exhibits.training`.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd

from reports.attachments import Attachments
from reports.canvas import drawing, legend, line_with_band, method_style, plain_log, subplots, svg_text
from reports.display import count, interval, mean_text, shown, text, value
from reports.exhibits.source import Part, Source, interval_columns
from reports.exhibits.training import LAST, band, late, thinned
from reports.papers.exhibits import SpreadExhibit
from reports.records import Records
from reports.statistics import t_interval

TITLE_WIDTH = 36  # characters over a panel


def part(files: Attachments, exhibit: SpreadExhibit, source: Source) -> Part:
    """The blocks of one setting; none where no run has finished."""
    labels = source.labels(exhibit)
    curves = thinned_curves(source.records, exhibit, labels)
    if curves.empty:
        return Part()
    names = [name for name in exhibit.curves if name in curves]
    titles = {**exhibit.spreads, exhibit.outcome: exhibit.outcome_title}
    alt = f"Over meta-iterations, a line per method: {', then '.join(titles[name] for name in names)}."
    caption = (
        "mean over seeds and 95 % t interval; on the logarithmic axes both are taken of the logarithm. Blocks of "
        "meta-iterations, finished runs only"
    )
    svg = figure(curves, exhibit, labels)
    made = Part(figures=[files.figure(source.name, svg, alt) | {"caption": caption}])
    found, outcomes = ratios(curves, exhibit), outcome(curves, exhibit, labels)
    if len(found):
        made.tables.append(_ratio_table(files, exhibit, source, found))
    if len(outcomes):
        made.tables.append(_outcome_table(files, exhibit, source, outcomes))
    made.measured = _measured(found, outcomes, exhibit)
    return made


def thinned_curves(records: Records, exhibit: SpreadExhibit, labels: Sequence[str]) -> pd.DataFrame:
    """The blocks of the metrics that the exhibit shows; see :func:`reports.exhibits.training.thinned`."""
    return thinned(records, exhibit.curves, labels)


def ratios(curves: pd.DataFrame, exhibit: SpreadExhibit) -> pd.DataFrame:
    """Spread of `over` divided by that of `under`, paired by seed: one row per statistic and way of averaging.

    means:   ratio of the means over training.
    typical: geometric mean over training of the ratio at the same iteration; single blocks with a huge spread, as where
             a gradient is near zero, weigh less.
    mean, low, high: of the logarithm over seeds, with its 95 % t interval, and back.
    """
    rows = []
    for name, title in exhibit.spreads.items():
        if name not in curves:
            continue
        sides = [
            curves[curves["method"].eq(label)].pivot_table(index="seed", columns="iteration", values=name)
            for label in (exhibit.over, exhibit.under)
        ]
        over, under = (side.reindex(sides[0].index.intersection(sides[1].index)) for side in sides)
        if over.empty:
            continue
        columns = over.columns.intersection(under.columns)
        by_seed = {
            "means": np.log(over.mean(axis=1)) - np.log(under.mean(axis=1)),
            "typical": (np.log(over[columns]) - np.log(under[columns])).mean(axis=1),
        }
        for way, logs in by_seed.items():
            found = t_interval(logs)
            row: dict[str, Any] = {"statistic": name, "title": title, "average": way, "pairs": found.n}
            row |= {part: float(np.exp(getattr(found, part))) for part in ("mean", "low", "high")}
            for label, side in ((exhibit.over, over), (exhibit.under, under)):
                typical = float(np.exp(np.log(side.to_numpy(dtype=float)).mean()))
                row[label] = float(side.mean(axis=1).mean()) if way == "means" else typical
            rows.append(row)
    return pd.DataFrame(rows)


def outcome(curves: pd.DataFrame, exhibit: SpreadExhibit, labels: Sequence[str]) -> pd.DataFrame:
    """Per method the outcome over all of training, and over its last tenth: mean and 95 % t interval over seeds."""
    if exhibit.outcome not in curves:
        return pd.DataFrame()
    rows = []
    for label in labels:
        mine = curves[curves["method"].eq(label)].dropna(subset=[exhibit.outcome])
        if len(mine):
            means = {"all_": mine, "last_": late(mine)}
            row: dict[str, Any] = {"method": label, "seeds": mine["seed"].nunique()}
            for prefix, frame in means.items():
                row |= interval_columns(frame.groupby("seed")[exhibit.outcome].mean(), prefix)
            rows.append(row)
    return pd.DataFrame(rows)


def figure(curves: pd.DataFrame, exhibit: SpreadExhibit, labels: Sequence[str]) -> str:
    """A panel per statistic, logarithmic, and one for the outcome."""
    names = [name for name in exhibit.curves if name in curves]
    titles = {**exhibit.spreads, exhibit.outcome: exhibit.outcome_title}
    style = method_style(labels)
    with drawing():
        drawn, axes = subplots(1, len(names), (3.3 * len(names), 2.9))
        for axis, name in zip(axes.flat, names, strict=True):
            log = name in exhibit.spreads
            for label in labels:
                found = band(curves[curves["method"].eq(label)], name, log)
                if len(found):
                    parts = [found[part].to_numpy() for part in ("mean", "low", "high")]
                    line_with_band(axis, found.index.to_numpy(), parts, label, style[label], marked=False)
            if log:
                axis.set_yscale("log")
                plain_log(axis.yaxis)
            axis.set_title(fill(titles[name], TITLE_WIDTH), loc="left", fontsize=9)
            axis.set_xlabel("meta-iteration")
        legend(drawn, *axes.flat)
        return svg_text(drawn)


def _ratio_table(files: Attachments, exhibit: SpreadExhibit, source: Source, found: pd.DataFrame) -> dict[str, Any]:
    words = {"means": "ratio of the means over training", "typical": "geometric mean over training"}
    frame = found.assign(how=found["average"].map(words), printed=source.claims[exhibit.ratio].value)
    columns = [
        text("average", "how"),
        value(exhibit.over, exhibit.over, 3),
        value(exhibit.under, exhibit.under, 3),
        interval(f"{exhibit.over} ÷ {exhibit.under} [95 % interval]", "", 2, strong=True),
        value("paper", "printed", 1),
        count("pairs of seeds", "pairs"),
    ]
    made = shown(files, f"{source.name}_ratios", frame, "title", columns, "Ratio of the spreads")
    return made | {"head": "statistic", "note": "Paired by training seed; interval of the logarithm, and back."}


def _outcome_table(files: Attachments, exhibit: SpreadExhibit, source: Source, frame: pd.DataFrame) -> dict[str, Any]:
    columns = [
        interval("over all of training", "all_"),
        interval(f"over its last {LAST:.0%}".replace("%", " %"), "last_", strong=True),
        count("seeds", "seeds"),
    ]
    title = f"{exhibit.outcome_title[0].upper()}{exhibit.outcome_title[1:]}: mean over seeds and 95 % t interval"
    return shown(files, f"{source.name}_outcome", frame, "method", columns, title)


def _measured(found: pd.DataFrame, outcomes: pd.DataFrame, exhibit: SpreadExhibit) -> dict[str, list[str]]:
    words = {"means": "ratio of means", "typical": "geometric mean"}
    spread = [
        f"{row['title']}, {exhibit.over} ÷ {exhibit.under}, {words[row['average']]}: {mean_text(row)}"
        for row in found.to_dict("records")
    ]
    cells = [f"{row['method']} {mean_text(row, 'last_')}" for row in outcomes.to_dict("records")]
    reached = [f"{exhibit.outcome_title}, last tenth of training: {'; '.join(cells)}"] if cells else []
    return {exhibit.ratio: spread, "": reached}

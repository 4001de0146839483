"""What a suite measures beyond the return, after every adaptation step: a table, a figure, tests between methods."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import pandas as pd

from reports.attachments import Attachments
from reports.canvas import drawing, legend, line_with_band, lowest, method_style, plain_log, subplots, svg_text
from reports.comparisons import gains, paired_tests
from reports.display import Column, count, interval, interval_note, mean_text, p, shown, text, value
from reports.exhibits.source import Part, Source, interval_columns
from reports.papers.exhibits import MeasuresExhibit, Quantity
from reports.tables import done, number

BASELINE = "not trained"
TITLE_WIDTH = 34  # characters over a panel


def part(files: Attachments, exhibit: MeasuresExhibit, source: Source) -> Part:
    """The blocks of one setting; without any number, none."""
    labels = source.labels(exhibit)
    frame = over_seeds(source.evidence, exhibit, labels)
    if frame.empty:
        return Part()
    svg = figure(frame, exhibit, labels)
    alt = "A panel per quantity, a line per method over adaptation steps: mean and 95 % interval over training seeds."
    made = Part(
        figures=[files.figure(f"{source.name}_steps", svg, alt) | {"caption": _caption(source, exhibit)}],
        tables=[_table(files, exhibit, source, frame)],
        measured={"": _measured(frame, exhibit, labels)},
    )
    tests = paired_tests(source.evidence, exhibit.contrasts, exhibit.protocol, exhibit.tested)
    if len(tests):
        made.tables.append(_tests(files, exhibit, source, tests))
    changes = gains(source.evidence, labels, exhibit.protocol, exhibit.tested) if exhibit.gains else tests.iloc[:0]
    if len(changes):
        made.tables.append(_gains(files, exhibit, source, changes))
    return made


def over_seeds(evidence: pd.DataFrame, exhibit: MeasuresExhibit, labels: Sequence[str]) -> pd.DataFrame:
    """A row per method and step, for every quantity `<quantity>_mean`, `_sd`, `_low`, `_high`: 95 % t over seeds.

    A seed's number is its mean over the meta-test tasks. Quantities that no run recorded have no columns.
    """
    rows: list[dict[str, Any]] = []
    mine = done(evidence)
    mine = mine[mine["protocol"].eq(mine["method"].map(exhibit.protocol_of))]
    names = [name for name in exhibit.quantities if name in mine and mine[name].notna().any()]
    for label in labels:
        for step, group in mine[mine["method"].eq(label)].groupby("step", sort=True):
            row: dict[str, Any] = {
                "method": label,
                "step": step,
                "seeds": len(group),
                "tasks": int(group["tasks"].min()),
            }
            for name in names:
                if len(values := group[name].dropna()):
                    row |= interval_columns(values, f"{name}_")
            rows.append(row)
    return pd.DataFrame(rows)


def figure(frame: pd.DataFrame, exhibit: MeasuresExhibit, labels: Sequence[str]) -> str:
    """A panel per quantity over adaptation steps; the untrained method is dashed."""
    names = [name for name in exhibit.quantities if f"{name}_mean" in frame]
    style = method_style(labels)
    columns = min(3, max(1, len(names)))
    every = sorted(int(step) for step in frame["step"].unique())
    with drawing():
        lines = -(-max(1, len(names)) // columns)
        drawn, axes = subplots(lines, columns, (2.9 * columns, 2.5 * lines + 0.5), sharex=True)
        for axis, name in zip(axes.flat, names, strict=False):
            for label in labels:
                rows = frame[frame["method"].eq(label)]
                if len(rows):
                    dash = "--" if label == exhibit.baseline else "-"
                    if label in exhibit.elsewhere and len(rows) == 1:  # measured once: the same after every step
                        rows = pd.concat([rows] * len(every)).assign(step=every)
                    band = [rows[f"{name}_{part}"].to_numpy(dtype=float) for part in ("mean", "low", "high")]
                    line_with_band(axis, rows["step"].to_numpy(dtype=float), band, label, style[label], dash)
            _axis(axis, exhibit.quantities[name], frame[f"{name}_mean"])
            axis.set_xticks(every)
        lowest(axes, len(names), "adaptation steps")
        legend(drawn, *axes.flat)
        return svg_text(drawn)


def _axis(axis: Any, quantity: Quantity, means: pd.Series) -> None:
    """Title and scale; a logarithmic axis holds the means, and of the bands what fits."""
    axis.set_title(fill(quantity.title, TITLE_WIDTH), loc="left", fontsize=9)
    if quantity.log and means.gt(0).all():
        axis.set_yscale("log")
        axis.set_ylim(means.min() / 2, means.max() * 2)
        plain_log(axis.yaxis)
        return
    low, high = quantity.limits
    if low is not None and high is not None:
        room = 0.04 * (high - low)
        axis.set_ylim(low - room, high + room)


def _caption(source: Source, exhibit: MeasuresExhibit) -> str:
    words = "mean over seeds and 95 % t interval"
    if exhibit.baseline:
        words += f"; dashed: {exhibit.baseline}, which is {BASELINE}"
    known = [label for label in exhibit.elsewhere if source.evidence["method"].eq(label).any()]
    if known:
        words += f"; not adapted, and measured once: {', '.join(known)}"
    if "optimal_return" in source.evidence:
        bounds = source.evidence["optimal_return"].dropna()
        if len(bounds):
            words += f"; the optimal return of these tasks, as far as it is known, is {bounds.mean():.2f} on average"
    return words


def _table(files: Attachments, exhibit: MeasuresExhibit, source: Source, frame: pd.DataFrame) -> dict[str, Any]:
    columns = [count("steps", "step")]
    columns += [
        interval(quantity.title, f"{name}_", quantity.digits, limits=quantity.limits)
        for name, quantity in exhibit.quantities.items()
        if f"{name}_mean" in frame
    ]
    if source.setting.name in exhibit.printed and source.published is not None:
        frame = frame.assign(printed=_printed(exhibit, source, frame))
        columns.append(value(exhibit.printed_as, "printed", exhibit.quantities["mean_return"].digits))
    made = shown(files, source.name, frame, "method", [*columns, count("seeds", "seeds")])
    heads = [(f"{head} ({BASELINE})" if head == exhibit.baseline else head, rows) for head, rows in made["groups"]]
    made |= {"groups": heads, "title": "After every adaptation step: mean over seeds and 95 % t interval"}
    note = interval_note(frame, {f"{name}_": one.limits for name, one in exhibit.quantities.items()})
    return made | ({"note": note} if note else {})


def _printed(exhibit: MeasuresExhibit, source: Source, frame: pd.DataFrame) -> list[float]:
    """The printed mean of every method and step; NaN where there is none."""
    assert source.published is not None
    table = source.published.results(exhibit.paper, exhibit.printed[source.setting.name])
    rows = [table.row(row["method"], int(row["step"])) for row in frame.to_dict("records")]
    return [float("nan") if row is None or row.mean is None else row.mean for row in rows]


def _gains(files: Attachments, exhibit: MeasuresExhibit, source: Source, changes: pd.DataFrame) -> dict[str, Any]:
    """What adaptation changes, method by method."""

    def digits(row: Any) -> int:
        return exhibit.quantities[row["quantity"]].digits

    columns = [
        Column("quantity", lambda row: exhibit.quantities[row["quantity"]].title, text=True),
        Column("before", lambda row: number(row["before"], digits(row))),
        Column("after", lambda row: number(row["after"], digits(row))),
        Column("change", lambda row: mean_text({**row, "mean": row["difference"]}, "", digits(row)), strong=True),
        count("seeds", "pairs"),
        p("p", "p"),
        p("p, Holm", "p_holm"),
    ]
    title = f"What adaptation changes: after step {int(changes['step'].max())} minus before it [95 % interval]"
    note = "Paired t-tests by training seed; Holm’s adjustment is over this table."
    return shown(files, f"{source.name}_gains", changes, "method", columns, title) | {"note": note}


def _tests(files: Attachments, exhibit: MeasuresExhibit, source: Source, tests: pd.DataFrame) -> dict[str, Any]:
    named = tests.assign(
        contrast=tests["a"] + " − " + tests["b"],
        title=[exhibit.quantities[name].title for name in tests["quantity"]],
    )

    def difference(row: Any) -> str:
        return mean_text({"mean": row["difference"], "low": row["low"], "high": row["high"]}, "", digits(row))

    def digits(row: Any) -> int:
        return exhibit.quantities[row["quantity"]].digits

    columns = [
        text("quantity", "title"),
        count("pairs", "pairs"),
        Column("difference", difference, strong=True),
        value("t", "t"),
        value("df", "df", 0),
        p("p", "p"),
        p("p, Holm", "p_holm"),
    ]
    title = (
        f"After step {int(tests['step'].max())}: differences between methods [95 % interval], paired by training seed"
    )
    made = int(tests["p"].notna().sum())
    note = "Paired t-tests. "
    if made > 1:
        note += f"Holm’s adjustment is over the {made} tests of this table that could be made. "
    for why, rows in named[named["why"].ne("")].groupby("why", sort=False):
        note += f"No test of {'; '.join(rows['contrast'] + ', ' + rows['title'])}: {why}. "
    note = note.strip()
    return shown(files, f"{source.name}_tests", named, "contrast", columns, title) | {"note": note}


def _measured(frame: pd.DataFrame, exhibit: MeasuresExhibit, labels: Sequence[str]) -> list[str]:
    """A line per quantity that stands beside claims, with every method after its last step."""
    last = frame.sort_values("step", kind="stable").drop_duplicates("method", keep="last").set_index("method")
    lines = []
    for name, quantity in exhibit.quantities.items():
        if f"{name}_mean" in frame and name in (exhibit.beside_claims or exhibit.quantities):
            cells = [
                f"{label} {mean_text(last.loc[label].to_dict(), f'{name}_', quantity.digits, quantity.limits)}"
                for label in labels
                if label in last.index
            ]
            lines.append(f"{quantity.title}, after step {int(frame['step'].max())}: {'; '.join(cells)}")
    return lines

"""Tables as the page shows them: cells as text, lines in groups, and the frame itself as CSV beside the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.attachments import Attachments, grouped
from reports.markup import p_value
from reports.tables import NO_NUMBER, number

Row = Mapping[Any, Any]
Limits = tuple[float | None, float | None]
UNLIMITED: Limits = (None, None)
ALL_AGREE = f"[{NO_NUMBER}]"


@dataclass(frozen=True)
class Column:
    """A column of a shown table: its head, and the text of its cell in a row of the frame.

    strong: the number that matters in the row.
    """

    head: str
    cell: Callable[[Row], str]
    text: bool = False
    strong: bool = False


def shown(
    files: Attachments, name: str, frame: pd.DataFrame, group: str, columns: Sequence[Column], title: str = ""
) -> dict[str, Any]:
    """What the template needs to show a frame; rows with the same `group` stand under one head. Leaves the CSV."""
    kept = files.table(name, frame)
    groups = [
        (str(head), [[column.cell(row) for column in columns] for row in rows])
        for head, rows in grouped(kept["rows"], group)
    ]
    return {"title": title, "head": group, "columns": list(columns), "groups": groups, "file": kept["file"]}


def text(head: str, key: str) -> Column:
    """Text as it is; whole numbers are text."""
    return Column(head, lambda row: str(row[key]), text=True)


def count(head: str, key: str) -> Column:
    """A whole number."""
    return Column(head, lambda row: NO_NUMBER if pd.isna(row[key]) else str(int(row[key])))


def value(head: str, key: str, digits: int = 2, strong: bool = False) -> Column:
    """A number."""
    return Column(head, lambda row: number(row[key], digits), strong=strong)


def p(head: str, key: str) -> Column:
    """A p value."""
    return Column(head, lambda row: p_value(row[key]))


def interval(head: str, prefix: str = "", digits: int = 2, strong: bool = False, limits: Limits = UNLIMITED) -> Column:
    """A mean with its interval: `<prefix>mean [<prefix>low, <prefix>high]`."""
    return Column(head, lambda row: mean_text(row, prefix, digits, limits), strong=strong)


def mean_text(row: Row, prefix: str = "", digits: int = 2, limits: Limits = UNLIMITED) -> str:
    """The text of a mean with its interval; the mean alone where one number leaves the interval undefined.

    limits: an interval ends where no number is possible. An interval without width is ALL_AGREE.
    """
    mean, low, high = (row.get(f"{prefix}{part}") for part in ("mean", "low", "high"))
    if mean is None or pd.isna(mean):
        return NO_NUMBER
    if low is None or high is None or pd.isna(low):
        return number(mean, digits)
    if no_width(low, high):
        return f"{number(mean, digits)} {ALL_AGREE}"
    least, most = limits
    low, high = low if least is None else max(low, least), high if most is None else min(high, most)
    return f"{number(mean, digits)} [{number(low, digits)}, {number(high, digits)}]"


def mean_lines(
    frame: pd.DataFrame, titles: Mapping[str, str], what: str, prefix: str, digits: int, limits: Limits = UNLIMITED
) -> list[str]:
    """A line per setting: ``what``, and the mean of every method with its interval."""
    lines = []
    for setting, rows in frame.groupby("setting", sort=False):
        cells = [f"{row['method']} {mean_text(row, prefix, digits, limits)}" for row in rows.to_dict("records")]
        lines.append(f"{titles[str(setting)]}, {what}: {'; '.join(cells)}")
    return lines


def interval_note(frame: pd.DataFrame, shown_limits: Mapping[str, Limits]) -> str:
    """What a reader has to know of the intervals of this frame, prefix -> limits; empty where nothing is special."""
    cut = agree = False
    for prefix, (least, most) in shown_limits.items():
        if f"{prefix}low" in frame:
            ends = frame[[f"{prefix}low", f"{prefix}high"]].dropna()
            for low, high in zip(ends[f"{prefix}low"], ends[f"{prefix}high"], strict=True):
                agree |= no_width(low, high)
                cut |= not no_width(low, high) and (
                    (least is not None and low < least) or (most is not None and high > most)
                )
    words = "A t interval that reaches beyond the possible range is shown up to its end." if cut else ""
    if agree:
        words += f" {ALL_AGREE}: all seeds agree, so that there is no interval."
    return words.strip()


def no_width(low: float, high: float) -> bool:
    """Whether an interval has no width, up to rounding."""
    return bool(high - low <= 1e-12 * max(1.0, abs(high)))


def facts(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The provenance as lines of text."""

    def line(value: Any) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{key} {one}" for key, one in value.items())
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    return [(key.replace("_", " "), line(value)) for key, value in provenance.items()]

"""Why a verdict was given, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from reports.estimates import Estimate
from reports.tables import number
from reports.verdicts import ALPHA, Row, Verdict

LOG_RATIO = "log ratio"
"""The unit of a row whose difference is told as a factor."""


class Known(NamedTuple):
    """A row that has an estimate, and the bound that it is asked to exceed or to be below."""

    row: Row
    estimate: Estimate
    bound: float


def compact(value: float) -> str:
    """A number with about three significant digits and a true minus sign."""
    size = abs(value)
    if size == 0:
        return "0"
    return number(value, 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 1 else 3)


def between(estimate: Estimate, level: float = 0.95) -> str:
    """The interval of a difference."""
    low, high = estimate.interval(level)
    return f"[{compact(low)}, {compact(high)}]"


def spread(estimate: Estimate) -> str:
    """A difference with its 95 % interval."""
    return f"{compact(estimate.difference)} {between(estimate)}"


def reason_of(verdict: Verdict, relation: str, rows: Sequence[Row], bounds: Sequence[float], more: str) -> str:
    """One sentence on why this verdict was given.

    relation: "same", "better" or "below". bounds: what a difference has to exceed, or a difference or a size to be
    below. more: what would decide where nothing is decided.
    """
    known = [Known(row, row.estimate, bound) for row, bound in zip(rows, bounds, strict=True) if row.estimate]
    if verdict in (Verdict.EQUIVALENT, Verdict.DIFFERENT_WITHIN_MARGIN):
        said = _within(known, real=verdict is Verdict.DIFFERENT_WITHIN_MARGIN)
        return f"{said}."
    if verdict in (Verdict.DIFFERENT_BETTER, Verdict.DIFFERENT_WORSE):
        return _off(known)
    if verdict is Verdict.DIRECTION_REPLICATED:
        return _below(known) if relation == "below" else _holds(known)
    if verdict is Verdict.REVERSED:
        return _above(known) if relation == "below" else _opposite(known)
    unclear = {"same": _neither, "better": _unclear_order, "below": _unclear_size}
    return f"{unclear[relation](known)}; {more}."


def _place(one: Known, known: Sequence[Known], what: str) -> str:
    """Which of several cells is told of."""
    return f" ({one.row.where}, the {what} of {len(known)})" if len(known) > 1 else ""


def _told(one: Known, noun: str = "") -> str:
    """A difference with its 95 % interval, and in what, where that is not the number itself. noun: what it is."""
    if one.row.unit == LOG_RATIO:
        low, high = one.estimate.interval()
        numbers = f"{_factor(one.estimate.difference)} [{_factor(low)}, {_factor(high)}]"
        return f"the factor {numbers}" if noun else f"a factor of {numbers}"
    return f"{noun} {spread(one.estimate)}".strip() + (f" in {one.row.unit}" if one.row.unit else "")


def _factor(log: float) -> str:
    return compact(math.exp(log))


def _bound(one: Known) -> str:
    return "1" if one.row.unit == LOG_RATIO else compact(one.bound)


def _cells(count: int, known: Sequence[Known]) -> str:
    """In how many of several cells."""
    if count == len(known):
        return "in both cells" if count == 2 else f"in all {count} cells"
    return f"in {count if count else 'none'} of {len(known)} cells"


def _inner(one: Known) -> str:
    """The interval that equivalence is judged by."""
    if one.row.unit == LOG_RATIO:
        low, high = one.estimate.interval(1 - 2 * ALPHA)
        return f"[{_factor(low)}, {_factor(high)}] of the factor"
    return between(one.estimate, 1 - 2 * ALPHA)


def _margin(row: Row) -> str:
    margin = row.margin or 0.0
    if row.unit == LOG_RATIO:
        return f"{_factor(-margin)} to {_factor(margin)}"
    return f"±{compact(margin)}"


def _unclear(weakest: Known, known: Sequence[Known], clear: int, what: str, noun: str) -> str:
    """Where an order or a size is not shown. clear: in how many cells it would be by itself. what: is clear there."""
    low, high = weakest.estimate.interval()
    inside = low <= weakest.bound <= high
    ending = f"includes {_bound(weakest)}" if inside else "is not clear enough after adjustment for the family"
    told = f"{_told(weakest, noun)}{_place(weakest, known, 'least clear')} {ending}"
    if len(known) == 1:
        return f"{told[0].upper()}{told[1:]}"
    if clear == len(known):
        return f"{what} {_cells(clear, known)}, each by itself, but {told}"
    return f"{what} {_cells(clear, known)}{' only' if clear else ''}: {told}"


def _within(known: Sequence[Known], real: bool) -> str:
    worst = max(known, key=lambda one: one.estimate.tost(one.row.margin) if one.row.margin else 0.0)
    start = "There is a real difference, but its" if real else "The"
    place = _place(worst, known, "least certain")
    return f"{start} 90 % interval {_inner(worst)} lies within {_margin(worst.row)}{place}"


def _off(known: Sequence[Known]) -> str:
    clearest = min(known, key=lambda one: one.estimate.p)
    count = sum(one.estimate.p < ALPHA for one in known)
    cells = f" {_cells(count, known)}, most clearly" if len(known) > 1 else ""
    margin = f", against a margin of {_margin(clearest.row)}" if clearest.row.margin else ""
    where = f" {clearest.row.where}:" if len(known) > 1 and clearest.row.where else ""
    return f"Ours is off{cells}{where} by {_told(clearest)}{margin}."


def _holds(known: Sequence[Known]) -> str:
    weakest = max(known, key=lambda one: one.estimate.p_above(one.bound))
    cells = f" {_cells(len(known), known)}; weakest {weakest.row.where}" if len(known) > 1 else ""
    beyond = f", clear of the margin, {compact(weakest.bound)}" if weakest.bound else ""
    return f"It holds{cells}: {_told(weakest)}{beyond}."


def _opposite(known: Sequence[Known]) -> str:
    clearest = min(known, key=lambda one: one.estimate.p_below(one.bound))
    count = sum(one.estimate.p_below(one.bound) < ALPHA / 2 for one in known)
    cells = f" {_cells(count, known)}; most clearly {clearest.row.where}" if len(known) > 1 else ""
    holds = sum(one.estimate.p_above(one.bound) < ALPHA / 2 for one in known)
    others = f"; in {holds} it holds, each by itself" if holds else ""
    return f"The opposite holds{cells}: {_told(clearest)}{others}."


def _unclear_order(known: Sequence[Known]) -> str:
    if all(one.row.margin and one.estimate.tost(one.row.margin) < ALPHA for one in known) and not known[0].bound:
        return f"{_within(known, real=False)}: neither is better by more than that"
    weakest = max(known, key=lambda one: one.estimate.p_above(one.bound))
    clear = sum(one.estimate.p_above(one.bound) < ALPHA / 2 for one in known)
    return _unclear(weakest, known, clear, "It is clear", "the difference")


def _below(known: Sequence[Known]) -> str:
    weakest = max(known, key=lambda one: one.estimate.p_below(one.bound))
    cells = f" {_cells(len(known), known)}; least clearly {weakest.row.where}" if len(known) > 1 else ""
    return f"It is {_side(weakest, 'below')}{cells}: {_told(weakest)}."


def _above(known: Sequence[Known]) -> str:
    clearest = min(known, key=lambda one: one.estimate.p_above(one.bound))
    count = sum(one.estimate.p_above(one.bound) < ALPHA / 2 for one in known)
    cells = f" {_cells(count, known)}; most clearly {clearest.row.where}" if len(known) > 1 else ""
    return f"It is {_side(clearest, 'above')}{cells}: {_told(clearest)}."


def _unclear_size(known: Sequence[Known]) -> str:
    weakest = max(known, key=lambda one: one.estimate.p_below(one.bound))
    clear = sum(one.estimate.p_below(one.bound) < ALPHA / 2 for one in known)
    noun = "the size" if weakest.bound else "the difference"
    return _unclear(weakest, known, clear, f"It is clearly {_side(weakest, 'below')}", noun)


def _side(one: Known, side: str) -> str:
    """On which side of its bound a size is, or of 0 a difference."""
    return f"{side} {compact(one.bound)}" if one.bound else {"below": "lower", "above": "higher"}[side]


def _neither(known: Sequence[Known]) -> str:
    worst = max(known, key=lambda one: one.estimate.tost(one.row.margin) if one.row.margin else one.estimate.se)
    place = _place(worst, known, "least certain")
    if not worst.row.margin:
        return f"The difference {spread(worst.estimate)}{place} is not clear of 0, and no margin is declared"
    start = f"Neither the same nor different: the 90 % interval {_inner(worst)}"
    return f"{start}{place} reaches beyond {_margin(worst.row)}"

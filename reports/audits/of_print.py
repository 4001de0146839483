"""Audits that need nothing but what is printed: a table against another, its own arithmetic, a figure or a log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from scipy import stats

from reports.markup import p_value
from reports.papers.audit_references import printed_setting
from reports.papers.declared_audits import CellsDiffer, IntervalLevel, Products, SettingsDiffer
from reports.papers.printed import ResultRow, Scalar
from reports.papers.published import Published
from reports.tables import number

Line = Mapping[str, str | float | int]
YES_NO = {True: "yes", False: "no"}


class Finding(NamedTuple):
    """What was computed, in words; whether it bears the statement out, None where data are missing; its numbers."""

    text: str
    holds: bool | None
    lines: Sequence[Line] = ()


def settings_differ(audit: SettingsDiffer, published: Published) -> Finding:
    """Printed settings beside the recorded ones.

    printed p agrees with recorded r   where   |p - r| ≤ 10^-d / 2,   d = `decimals`
    """
    lines: list[Line] = []
    off = []
    for setting in audit.settings:
        printed = printed_setting(published, audit, setting)
        if printed is None:
            raise ValueError(f"audit {audit.id}: nothing is printed for {setting.name}")
        agrees = abs(printed - setting.recorded) <= half_unit(audit.decimals)
        name = f"{setting.name} ({setting.scope})" if setting.scope else setting.name
        shown, rounded = (_at_most(value, audit.decimals) for value in (printed, setting.recorded))
        lines.append({"setting": name, "printed": shown, "recorded": f"{setting.recorded:g}", "agrees": YES_NO[agrees]})
        if not agrees:
            off.append(f"{name}, printed {shown}, recorded {rounded}")
    what = f"printed values are those of {audit.recorded_in}"
    what += f" at {audit.decimals} decimals" if audit.decimals else ""
    return Finding(tally(len(lines), what, off), bool(off), lines)


def products(audit: Products) -> Finding:
    """Printed products beside what their printed factors give."""
    lines: list[Line] = []
    off = []
    for item in audit.products:
        product = math.prod(item.factors)
        factors = " × ".join(f"{factor:g}" for factor in item.factors)
        agrees = abs(product - item.printed) <= half_unit(decimals([item.printed]))
        shown, right = (_at_most(value, decimals([value])) for value in (item.printed, product))
        lines.append(
            {"what": item.what, "factors": factors, "printed": shown, "product": right, "agrees": YES_NO[agrees]}
        )
        if not agrees:
            off.append(f"{item.what}, printed {shown}, where {factors} = {right}")
    return Finding(tally(len(lines), "printed products are right", off), bool(off), lines)


def cells_differ(audit: CellsDiffer, published: Published) -> Finding:
    """The cells of a table beside those of another that they should repeat.

        x agrees with y   where   |x - y| ≤ 10^-d / 2,  d the decimals of the table,   or   |x - y| ≤ tolerance · |y|

    "in SE" is the difference in standard errors of y, s / √n, where its SD is known.
    """
    table = published.results(audit.table.paper, audit.table.table)
    against = published.results(audit.against.paper, audit.against.table)
    digits = decimals(row.mean for row in table.rows)
    lines: list[Line] = []
    off, swapped, alone = [], 0, 0
    for row in (row for row in table.rows if row.method in audit.methods and row.mean is not None):
        other = against.cell(row.method, row.setting)
        if row.mean is None or other is None or other.mean is None:
            alone += 1
            continue
        room = half_unit(digits) if audit.tolerance is None else audit.tolerance * abs(other.mean)
        agrees = abs(row.mean - other.mean) <= room
        swap = not agrees and digits_swapped(row.mean, other.mean, digits)
        se = standard_error(other)
        difference = row.mean - other.mean
        lines.append(
            {"method": row.method, **place(row.setting), "printed": row.mean, "against": other.mean}
            | {"difference": significant(difference), "in SE": significant(difference / se) if se else ""}
            | {"agrees": "two digits swapped" if swap else YES_NO[agrees]}
        )
        if not agrees:
            swapped += swap
            off.append(_off(row, other.mean, digits, swap, None if se is None else difference / se))
    how = f"at {digits} decimals" if audit.tolerance is None else f"within {100 * audit.tolerance:g} %"
    text = tally(len(lines), f"cells of table {table.id} are those of {against.id} {how}", off)
    text += f" {alone} more have no counterpart there." if alone else ""
    return Finding(text, bool(off) and (audit.explanation is None or swapped == len(off)), lines)


def _off(row: ResultRow, other: float, digits: int, swap: bool, in_se: float | None) -> str:
    assert row.mean is not None
    where = ", ".join(f"{name} {value}" for name, value in place(row.setting).items())
    far = f", {abs(in_se):.1f} standard errors off" if in_se is not None and not swap else ""
    why = ", with two digits swapped" if swap else far
    return f"{row.method} at {where}, {number(row.mean, digits)} for {number(other, decimals([other]))}{why}"


def digits_swapped(printed: float, other: float, digits: int) -> bool:
    """Whether two neighbouring digits of the other number, rounded likewise, trade places in the printed one."""
    a, b = f"{printed:.{digits}f}", f"{other:.{digits}f}"
    marks = [i for i, sign in enumerate(b) if sign.isdigit()]
    swaps = {b[:i] + b[j] + b[i + 1 : j] + b[i] + b[j + 1 :] for i, j in pairwise(marks)}
    return a != b and a in swaps


def interval_level(audit: IntervalLevel, published: Published) -> Finding:
    """Drawn bands beside the intervals of the mean that their SDs give.

        standard error s / √n;   level L: z_{(1+L)/2} · s / √n   (a bootstrap interval of the mean, for large n)
        claimed level C: t_{(1+C)/2, n-1} · s / √n                                              (Student 1908)

    A band of half-height h is nearer to a than to b where |log(h / a)| < |log(h / b)|.
    """
    table = published.results(audit.table.paper, audit.table.table)
    z = float(stats.norm.ppf((1 + audit.level) / 2))
    lines: list[Line] = []
    ratios, nearer, claimed = [], [], []
    level, other = f"± at {100 * audit.level:g} %", f"± at {100 * audit.claimed:g} %"
    for band in audit.drawn:
        row = table.cell(band.method, band.setting)
        se = standard_error(row) if row else None
        if row is None or se is None or row.n is None:
            raise ValueError(f"audit {audit.id}: table {table.id} has no SD of {band.method} at {band.setting}")
        half = (band.high - band.low) / 2
        wide = float(stats.t.ppf((1 + audit.claimed) / 2, row.n - 1))
        ratios.append(half / se)
        claimed.append(wide)
        nearer.append(abs(math.log(half / (z * se))) < abs(math.log(half / (wide * se))))
        lines.append(
            {"method": band.method, **place(band.setting), "± drawn": significant(half), "SE": significant(se)}
            | {level: significant(z * se), other: significant(wide * se), "drawn in SE": significant(half / se, 3)}
        )
    text = (
        f"The drawn bands reach {min(ratios):.2f} to {max(ratios):.2f} standard errors to each side. An interval of "
        f"{100 * audit.level:g} % reaches {z:.2f}, one of {100 * audit.claimed:g} % {max(claimed):.2f}; "
        f"{sum(nearer)} of {len(nearer)} bands are nearer to the former."
    )
    return Finding(text, all(nearer), lines)


def tally(whole: int, what: str, off: Sequence[str]) -> str:
    """ "5 of 6 printed values are right. Not: ..."; of the exceptions, the first four."""
    more = f"; and {len(off) - 4} more" if len(off) > 4 else ""
    return f"{whole - len(off)} of {whole} {what}." + (f" Not: {'; '.join(off[:4])}{more}." if off else "")


def _at_most(value: float, digits: int) -> str:
    """The number with so many decimals, without any where it is whole."""
    return number(value, 0 if value == int(value) else digits)


def p_text(p: float) -> str:
    """A p value; what is below 10⁻¹² is no more than that."""
    return "< 10⁻¹²" if p < 1e-12 else p_value(p)


def decimals(values: Iterable[float | None]) -> int:
    """Decimals of printed numbers: the most that any of them has, since a file keeps no trailing zeros."""
    return max((len(f"{v:.10f}".rstrip("0").partition(".")[2]) for v in values if v is not None), default=0)


def half_unit(digits: int) -> float:
    """Half a unit of the last printed digit, with room for the binary form of a decimal number."""
    return float(0.5 * 10.0**-digits * (1 + 1e-9))


def significant(value: float, digits: int = 4) -> float:
    """The number with so many significant digits, as it stands in a line."""
    return float(f"{value:.{digits}g}")


def standard_error(row: ResultRow) -> float | None:
    """s / √n of a printed mean; None where either is not printed."""
    return None if row.std is None or row.n is None else row.std / row.n**0.5


def place(setting: Mapping[str, Scalar]) -> dict[str, str | float | int]:
    """The coordinates of a cell, as columns of a line; an adaptation step is an update."""
    return {"update" if name == "iteration" else name: value for name, value in setting.items()}

"""Printed t-tests, computed again from the printed means and SDs; and what is left of them under Holm's adjustment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.audits.of_print import YES_NO, Finding, Line, decimals, half_unit, p_text, significant, tally
from reports.estimates import Estimate, welch_from_summaries
from reports.papers.beside import Comparison
from reports.papers.declared_audits import PrintedTests
from reports.papers.printed import ResultRow, TestRow
from reports.papers.published import Published
from reports.statistics import TTest, conservative_t, holm, pooled_t_from_summaries
from reports.verdicts import ALPHA


@dataclass(frozen=True)
class Recomputed:
    """A printed test and the same numbers tested again.

    own:    Welch's t with df = min(n) - 1, as the textbook has it that the papers cite.
    pooled: the test that is usually meant by an independent-samples t-test, df = n1 + n2 - 2.
    slack:  how far |t| may lie from the paper's because its means and SDs are rounded.
    """

    table: str
    printed: TestRow
    own: TTest
    pooled: TTest
    welch: Estimate
    slack: float

    @property
    def label(self) -> str:
        """The two sides."""
        return " − ".join(self.printed.comparison)

    @property
    def shown_p(self) -> str:
        """p as the paper prints it."""
        return self.printed.p_printed or f"{self.printed.p:g}"

    def t_agrees(self, digits: int) -> bool:
        """Whether |t| rounds to the printed t, given the rounding of means and SDs."""
        return abs(abs(self.own.t) - abs(self.printed.t)) <= half_unit(digits) + self.slack

    def p_agrees(self) -> bool:
        """Whether p, which the same slack moves by a factor of about 1 ± slack · |t|, rounds to the printed p."""
        room = half_unit(len(self.shown_p.partition(".")[2])) + self.own.p * self.slack * max(1.0, abs(self.own.t))
        return abs(self.own.p - self.printed.p) <= room


def printed_tests(audit: PrintedTests, published: Published) -> Finding:
    """The printed tests of one table beside the same tests computed again.

        own:    t = (ā - b̄) / √(s_a²/n_a + s_b²/n_b),  df = min(n_a, n_b) - 1      (Bluman 2009)
        pooled: the same t where n_a = n_b, with df = n_a + n_b - 2                 (Fisher 1925)
        Welch:  the same t with Satterthwaite's df                                 (Welch 1947)

    Holm (1979) adjusts the paper's own p: over the table, over the tests of the same two methods, over the family.
    """
    chosen = {c.id: c for c in published.comparisons if c.id in (audit.comparison, *audit.family)}
    everything = {name: recomputed(published, comparison) for name, comparison in chosen.items()}
    tests = everything[audit.comparison]
    if not tests:
        return Finding("The table of means lacks what these tests need.", None)
    digits = decimals(test.printed.t for test in tests)
    in_table = adjusted(tests)
    in_family = adjusted([test for name in everything for test in everything[name]])
    lines = [_line(test, digits, in_table, in_family) for test in tests]
    agree = [test.t_agrees(digits) and test.p_agrees() and abs(test.own.df - test.printed.df) < 0.5 for test in tests]
    off = [f"{test.label}, update {_update(test)}" for test, right in zip(tests, agree, strict=True) if not right]
    dfs = {int(test.pooled.df) for test in tests}
    text = tally(len(tests), "printed t, df and p follow from the printed means and SDs with df = min(n) − 1", off)
    text += f" The pooled test, which usually has this name, has df = {', '.join(map(str, sorted(dfs)))}"
    text += f"; {_changed(tests)}. {_survivors(tests, in_table, in_family)}"
    return Finding(f"{text} Each is conditional on one trained model per method.", all(agree), lines)


def recomputed(published: Published, comparison: Comparison) -> list[Recomputed]:
    """The printed tests of a comparison whose means, SDs and counts are printed."""
    table = published.results(comparison.paper, comparison.table)
    half = half_unit(decimals(value for row in table.rows for value in (row.mean, row.std)))
    found = []
    for test in published.tests(comparison.paper, comparison.tests_table or ""):
        a, b = (table.cell(name, test.setting) for name in test.comparison)
        sides = (_summary(a), _summary(b))
        if sides[0] and sides[1]:
            numbers = (*sides[0], *sides[1])
            own = conservative_t(*numbers)
            found.append(
                Recomputed(
                    table=comparison.tests_table or "",
                    printed=test,
                    own=own,
                    pooled=pooled_t_from_summaries(*numbers),
                    welch=welch_from_summaries(*numbers),
                    slack=_slack(own, sides[0], sides[1], half),
                )
            )
    return found


def _summary(row: ResultRow | None) -> tuple[float, float, int] | None:
    if row is None or row.mean is None or row.std is None or row.n is None:
        return None
    return row.mean, row.std, row.n


def _slack(own: TTest, a: tuple[float, float, int], b: tuple[float, float, int], half: float) -> float:
    """How far |t| can move where each mean and SD moves by half a unit h of its last digit, to first order.

    Δt = (2h + |t| Δse) / se,   Δse = h (s_a/n_a + s_b/n_b) / se
    """
    se = (a[1] ** 2 / a[2] + b[1] ** 2 / b[2]) ** 0.5
    return (2 * half + abs(own.t) * half * (a[1] / a[2] + b[1] / b[2]) / se) / se


def adjusted(tests: Sequence[Recomputed]) -> dict[int, float]:
    """Identity of a test -> its p after Holm over these tests."""
    return dict(zip(map(id, tests), holm([test.own.p for test in tests]), strict=True))


def _line(test: Recomputed, digits: int, in_table: Mapping[int, float], in_family: Mapping[int, float]) -> Line:
    return {
        "test": test.label, "update": _update(test), "printed t": test.printed.t, "t": significant(abs(test.own.t)),
        "t agrees": YES_NO[test.t_agrees(digits)], "printed df": int(test.printed.df), "df pooled": int(test.pooled.df),
        "Welch df": significant(test.welch.df, 3), "printed p": test.shown_p, "p": p_text(test.own.p),
        "p agrees": YES_NO[test.p_agrees()], "p pooled": p_text(test.pooled.p), "p Welch": p_text(test.welch.p),
        "p Holm, table": p_text(in_table[id(test)]), f"p Holm, {len(in_family)} tests": p_text(in_family[id(test)]),
    }  # fmt: skip


def _update(test: Recomputed) -> str:
    return str(test.printed.setting.get("iteration", ""))


def _changed(tests: Sequence[Recomputed]) -> str:
    """How often the pooled test, or Welch's df, would decide otherwise at level .05."""
    pooled = sum((test.own.p < ALPHA) != (test.pooled.p < ALPHA) for test in tests)
    welch = sum((test.own.p < ALPHA) != (test.welch.p < ALPHA) for test in tests)
    if not pooled and not welch:
        return "neither that nor Welch’s df changes a decision at .05"
    return f"it changes {pooled} decisions at .05, Welch’s df {welch}"


def _survivors(tests: Sequence[Recomputed], in_table: Mapping[int, float], in_family: Mapping[int, float]) -> str:
    """Which of the conclusions that are printed as significant are left after Holm."""
    claimed = [test for test in tests if test.printed.p < ALPHA]
    if not claimed:
        return "None is printed with p below .05."
    here = [test for test in claimed if in_table[id(test)] < ALPHA]
    everywhere = [test for test in claimed if in_family[id(test)] < ALPHA]
    text = (
        f"Of {len(claimed)} printed with p below .05, {len(here)} stay there under Holm over the table’s {len(tests)}"
    )
    if len(in_family) > len(tests):
        text += f" and {len(everywhere)} over all {len(in_family)}"
    lost = [test for test in claimed if in_table[id(test)] >= ALPHA or in_family[id(test)] >= ALPHA]
    return f"{text}." + "".join(f" {_lost(test, tests, in_table, in_family)}" for test in lost)


def _lost(
    test: Recomputed, tests: Sequence[Recomputed], in_table: Mapping[int, float], in_family: Mapping[int, float]
) -> str:
    alike = [other for other in tests if set(other.printed.comparison) == set(test.printed.comparison)]
    alone = adjusted(alike)[id(test)]
    return (
        f"{test.label} after update {_update(test)}: p = {p_text(test.own.p)} becomes {p_text(in_table[id(test)])} "
        f"over the table and {p_text(in_family[id(test)])} over all {len(in_family)}; over the {len(alike)} tests of "
        f"these two methods alone it is {p_text(alone)}."
    )

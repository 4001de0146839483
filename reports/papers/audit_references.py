"""Whether what the audits of a `published.yaml` name is in that file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from reports.papers.beside import Comparison, GridComparison, TableRef
from reports.papers.declared_audits import (
    AgainstBound,
    AnyAudit,
    Audit,
    BesideRuns,
    CellsDiffer,
    ImpliedNormaliser,
    IntervalLevel,
    KnownMean,
    PrintedTests,
    RecordedSetting,
    SettingsDiffer,
)
from reports.papers.printed import AnyTable, ResultsTable, Scalar, SettingsTable

if TYPE_CHECKING:
    from reports.papers.published import Published

AnyComparison = TypeVar("AnyComparison", Comparison, GridComparison)


def check_audits(published: Published) -> None:
    """Whether all that the audits of a file name is in that file.

    Errors: ValueError for the first thing that is not, or for an id that occurs twice.
    """
    for audit in published.audits:
        place = f"audit {audit.id}"
        if sum(audit.id == other.id for other in published.audits) > 1:
            raise ValueError(f"{place} occurs twice")
        paper = next((paper for paper in published.papers if paper.id == audit.paper), None)
        if paper is None:
            raise ValueError(f"{place}: the file has no paper {audit.paper}")
        known = {table.id for table in paper.tables} | {c.id for c in published.claims if c.paper == audit.paper}
        unknown = [name for name in audit.concerns if name not in known]
        if unknown:
            raise ValueError(f"{place}: {audit.paper} has no table or claim {unknown[0]}")
        _check_what_it_reads(published, audit, place)


def _check_what_it_reads(published: Published, audit: AnyAudit, place: str) -> None:
    if isinstance(audit, PrintedTests):
        for name in (audit.comparison, *audit.family):
            if _comparison(published.comparisons, name, audit, place).tests_table is None:
                raise ValueError(f"{place}: comparison {name} has no tests_table")
    elif isinstance(audit, BesideRuns):
        _check_grid(published, audit, place)
    elif isinstance(audit, CellsDiffer):
        for reference in (audit.table, audit.against):
            _check_rows(published, reference, [(method, None) for method in audit.methods], place)
    elif isinstance(audit, IntervalLevel):
        _check_rows(published, audit.table, [(band.method, band.setting) for band in audit.drawn], place)
    elif isinstance(audit, SettingsDiffer):
        for setting in audit.settings:
            if printed_setting(published, audit, setting) is None:
                table = audit.table.table if audit.table else "(none named)"
                raise ValueError(f"{place}: table {table} prints no number {setting.name} of scope {setting.scope!r}")


def _check_grid(published: Published, audit: BesideRuns, place: str) -> None:
    comparison = _comparison(published.grid_comparisons, audit.comparison, audit, place)
    unknown = sorted(audit.named - set(comparison.methods))
    if unknown:
        raise ValueError(f"{place}: comparison {comparison.id} has no column {unknown[0]}")
    if isinstance(audit, AgainstBound | KnownMean) and comparison.value != "total":
        raise ValueError(f"{place}: comparison {comparison.id} is not one of totals")
    if isinstance(audit, ImpliedNormaliser) and comparison.normaliser is None:
        raise ValueError(f"{place}: comparison {comparison.id} declares no normaliser")


def _check_rows(
    published: Published, reference: TableRef, rows: list[tuple[str, dict[str, Scalar] | None]], place: str
) -> None:
    table = _table(published, reference)
    if not isinstance(table, ResultsTable):
        raise ValueError(f"{place}: no results table {reference.table} of paper {reference.paper}")
    for method, setting in rows:
        if method not in {row.method for row in table.rows}:
            raise ValueError(f"{place}: table {table.id} prints no method {method}")
        if setting is not None:
            cell = table.cell(method, setting)
            if cell is None or cell.mean is None or not cell.std or not cell.n:
                raise ValueError(f"{place}: table {table.id} has no SD of {method} at {setting}")


def printed_setting(published: Published, audit: SettingsDiffer, setting: RecordedSetting) -> float | None:
    """What is printed for a setting; None where the audit's table has no number for it."""
    table = _table(published, audit.table) if audit.table else None
    if setting.printed is not None or not isinstance(table, SettingsTable):
        return setting.printed
    found = (row.value for row in table.rows if (row.name, row.scope) == (setting.name, setting.scope))
    value = next(found, None)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _table(published: Published, reference: TableRef) -> AnyTable | None:
    tables = (table for paper in published.papers if paper.id == reference.paper for table in paper.tables)
    return next((table for table in tables if table.id == reference.table), None)


def _comparison(all_of_them: Sequence[AnyComparison], name: str, audit: Audit, place: str) -> AnyComparison:
    for comparison in all_of_them:
        if comparison.id == name and comparison.paper == audit.paper:
            return comparison
    raise ValueError(f"{place}: {audit.paper} has no comparison {name}")

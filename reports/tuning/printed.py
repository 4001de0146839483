"""The values that a paper prints as found by its own tuning, out of the suite's published numbers."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import UserError
from reports.papers.printed import SettingRow, SettingsTable
from reports.papers.published import Paper, Published

BEST = "_best_objective"
"""What ends the name of the row with the objective that the paper's own search reached; its scope is the protocol."""


@dataclass(frozen=True)
class Printed:
    """A printed table of tuned values.

    notes: what the suite's data say of its rows, each with the row that it is about.
    """

    table: str
    citation: str
    caption: str
    notes: tuple[str, ...]
    rows: tuple[SettingRow, ...]
    beside: tuple[SettingRow, ...]

    def values(self, name: str | None, scopes: dict[str, str]) -> dict[str, float]:
        """Rate -> its printed value, for rate -> scope. Errors: UserError where the table has no such number."""
        return {rate: self._value(name, scope) for rate, scope in scopes.items()}

    def _value(self, name: str | None, scope: str) -> float:
        for row in self.rows:
            if (row.name, row.scope) == (name, scope) and isinstance(row.value, int | float):
                return float(row.value)
        raise UserError(f"table {self.table} prints no number {name} of scope {scope}")

    def best(self, name: str | None, protocol: str) -> float | None:
        """The objective of the paper's own search, where a protocol of ours has the same one."""
        for row in self.beside:
            if (row.name, row.scope) == (f"{name}{BEST}", protocol) and isinstance(row.value, int | float):
                return float(row.value)
        return None


def printed_of(published: Published, table: str) -> Printed:
    """The settings table of this id. Errors: UserError where no paper of the suite has it."""
    for paper in published.papers:
        for one in _settings(paper):
            if one.id == table:
                notes = tuple(f"`{row.name}`, {row.scope}: {row.note}" for row in one.rows if row.note)
                rows = tuple(row for other in _settings(paper) for row in other.rows if row.name.endswith(BEST))
                return Printed(one.id, paper.citation, one.caption, notes, tuple(one.rows), rows)
    raise UserError(f"no paper of the suite has a table of settings {table!r}")


def _settings(paper: Paper) -> list[SettingsTable]:
    return [table for table in paper.tables if isinstance(table, SettingsTable)]

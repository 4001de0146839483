"""What one printed table holds, as validated data: means, tests, settings or claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scalar = bool | int | float | str
Origin = Literal["own", "quoted"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class ResultRow(Strict):
    """One printed mean. Exactly one of `std` and `ci95`, or neither; `n` counts what that spread was computed over.

    A dash is `mean: null`, with a `note` that says so.
    """

    method: str
    setting: dict[str, Scalar]
    mean: float | None = Field(allow_inf_nan=False)
    std: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    ci95: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    n: int | None = Field(gt=1)
    approximate: bool
    note: str | None = None

    @model_validator(mode="after")
    def _spread_is_complete(self) -> ResultRow:
        if self.std is not None and self.ci95 is not None:
            raise ValueError("has both std and ci95; a printed row has one of them")
        if self.mean is None and (self.std is not None or self.ci95 is not None or not self.note):
            raise ValueError("has no mean; a dash has neither std nor ci95, and a note that says what is printed")
        return self


class TestRow(Strict):
    """One printed test of comparison[0] against comparison[1]."""

    __test__ = False  # not a pytest class

    comparison: tuple[str, str]
    setting: dict[str, Scalar]
    t: float
    df: float = Field(gt=0)
    p: float = Field(ge=0, le=1)
    p_printed: str | None = None


class SettingRow(Strict):
    """One printed hyperparameter."""

    name: str
    value: Scalar | list[Scalar]
    scope: str
    note: str | None = None


class ClaimRow(Strict):
    """One statement of a paper."""

    id: str
    value: Scalar
    statement: str
    where: str
    unit: str | None = None


class Metric(Strict):
    name: str
    better: Literal["higher", "lower"]
    unit: str | None = None
    note: str | None = None


class _Table(Strict):
    id: str
    caption: str
    source: Literal["printed", "quoted", "author_repo"]


class ResultsTable(_Table):
    """A printed table of means.

    column_origin: method -> whether the paper measured it or quotes it from another paper; a quoted column may print no
    interval, and none of them says what n is.
    """

    kind: Literal["results"]
    metric: Metric
    uncertainty: Literal["std", "ci95", "none"]
    over: str | None = None
    environment: str | None = None
    columns: list[str]
    column_origin: dict[str, Origin] = {}
    rows: list[ResultRow] = Field(min_length=1)
    tests: list[TestRow] = []

    @model_validator(mode="after")
    def _rows_match_the_header(self) -> ResultsTable:
        seen = set()
        for row in self.rows:
            name = f"row {row.method} {row.setting}"
            self._check_spread(row, name)
            if set(row.setting) != set(self.columns):
                raise ValueError(f"{name}: setting must have the keys {self.columns}")
            key = (row.method, tuple(sorted(row.setting.items())))
            if key in seen:
                raise ValueError(f"{name} occurs twice")
            seen.add(key)
        if self.uncertainty != "none" and not self.over:
            raise ValueError("has an uncertainty but no `over`; say what it was computed over")
        unknown = sorted(set(self.column_origin) - {row.method for row in self.rows})
        if unknown:
            raise ValueError(f"column_origin: the table prints no method {unknown[0]}")
        return self

    def _check_spread(self, row: ResultRow, name: str) -> None:
        quoted = self.origin(row.method) == "quoted"
        spread = {"std": row.std, "ci95": row.ci95}
        if any(value is not None for value in spread.values()) and row.n is None and not quoted:
            raise ValueError(f"{name}: has an interval without n; say how many values std or ci95 was computed over")
        for kind, value in spread.items():
            absent = value is None and (quoted or row.mean is None)
            if (value is not None) != (kind == self.uncertainty) and not absent:
                raise ValueError(f"{name}: the table says uncertainty: {self.uncertainty}, the row disagrees on {kind}")

    @property
    def decimals(self) -> int | None:
        """Decimals of the printed means: the most that any of them has; None where all are dashes."""
        means = [row.mean for row in self.rows if row.mean is not None]
        return max((len(repr(mean).partition(".")[2]) for mean in means), default=None)

    def origin(self, method: str) -> Origin:
        """Whether the paper measured this column itself or quotes it."""
        return self.column_origin.get(method, "own")

    def cell(self, method: str, setting: Mapping[str, Scalar]) -> ResultRow | None:
        """The row of `method` in a setting, which may name more than the table's columns; None where there is none."""
        key = {name: setting.get(name) for name in self.columns}
        return next((r for r in self.rows if r.method == method and r.setting == key), None)

    def row(self, method: str, step: int) -> ResultRow | None:
        """The row of `method` after `step` adaptation updates; None where the table has none."""
        return next((r for r in self.rows if r.method == method and r.setting.get("iteration") == step), None)


class TestsTable(_Table):
    __test__ = False

    kind: Literal["tests"]
    columns: list[str]
    tests: list[TestRow] = Field(min_length=1)


class SettingsTable(_Table):
    kind: Literal["settings"]
    rows: list[SettingRow] = Field(min_length=1)


class ClaimsTable(_Table):
    kind: Literal["claims"]
    rows: list[ClaimRow] = Field(min_length=1)


AnyTable = ResultsTable | TestsTable | SettingsTable | ClaimsTable

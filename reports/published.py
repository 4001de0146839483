"""What the papers print, as validated data: `suites/<suite>/published.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import UserError

Scalar = bool | int | float | str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class ResultRow(_Strict):
    """One printed mean. Exactly one of `std` and `ci95`, or neither; `n` counts what that spread was computed over."""

    method: str
    setting: dict[str, Scalar]
    mean: float = Field(allow_inf_nan=False)
    std: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    ci95: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    n: int | None = Field(gt=1)
    approximate: bool
    note: str | None = None

    @model_validator(mode="after")
    def _spread_is_complete(self) -> ResultRow:
        if self.std is not None and self.ci95 is not None:
            raise ValueError("has both std and ci95; a printed row has one of them")
        if (self.std is not None or self.ci95 is not None) and self.n is None:
            raise ValueError("has an interval without n; say how many values std or ci95 was computed over")
        return self


class TestRow(_Strict):
    """One printed test of comparison[0] against comparison[1]."""

    __test__ = False  # not a pytest class

    comparison: tuple[str, str]
    setting: dict[str, Scalar]
    t: float
    df: float = Field(gt=0)
    p: float = Field(ge=0, le=1)
    p_printed: str | None = None


class SettingRow(_Strict):
    """One printed hyperparameter."""

    name: str
    value: Scalar | list[Scalar]
    scope: str
    note: str | None = None


class ClaimRow(_Strict):
    """One statement of a paper."""

    id: str
    value: Scalar
    statement: str
    where: str
    unit: str | None = None


class Metric(_Strict):
    name: str
    better: Literal["higher", "lower"]
    unit: str | None = None
    note: str | None = None


class _Table(_Strict):
    id: str
    caption: str
    source: Literal["printed", "quoted", "author_repo"]


class ResultsTable(_Table):
    kind: Literal["results"]
    metric: Metric
    uncertainty: Literal["std", "ci95", "none"]
    over: str | None = None
    environment: str | None = None
    columns: list[str]
    rows: list[ResultRow] = Field(min_length=1)
    tests: list[TestRow] = []

    @model_validator(mode="after")
    def _rows_match_the_header(self) -> ResultsTable:
        seen = set()
        for row in self.rows:
            name = f"row {row.method} {row.setting}"
            spread = {"std": row.std, "ci95": row.ci95}
            for kind, value in spread.items():
                if (value is not None) != (kind == self.uncertainty):
                    raise ValueError(
                        f"{name}: the table says uncertainty: {self.uncertainty}, the row disagrees on {kind}"
                    )
            if set(row.setting) != set(self.columns):
                raise ValueError(f"{name}: setting must have the keys {self.columns}")
            key = (row.method, tuple(sorted(row.setting.items())))
            if key in seen:
                raise ValueError(f"{name} occurs twice")
            seen.add(key)
        if self.uncertainty != "none" and not self.over:
            raise ValueError("has an uncertainty but no `over`; say what it was computed over")
        return self

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


class Paper(_Strict):
    id: str
    short: str
    citation: str
    code: str | None = None
    conventions: dict[str, str] = {}
    tables: list[Annotated[AnyTable, Field(discriminator="kind")]] = Field(min_length=1)


class TableRef(_Strict):
    paper: str
    table: str


class Comparison(_Strict):
    """Which printed table stands beside which of our runs; `contrasts` is a declared family of tests, a minus b."""

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    paper: str
    table: str
    tests_table: str | None = None
    reference: TableRef | None = None
    study: str
    setting: str
    protocol: str
    methods: dict[str, list[str]]
    contrasts: list[tuple[str, str]] = []
    figure: str | None = None
    notes: list[str] = []

    def printed_name(self, label: str) -> str | None:
        """The name under which the paper prints our method `label`; None where it prints nothing comparable."""
        return next((printed for printed, labels in self.methods.items() if label in labels), None)


class Published(_Strict):
    """All that a suite's papers print, and which of it is compared with what."""

    schema_version: Literal[1]
    papers: list[Paper] = Field(min_length=1)
    comparisons: list[Comparison] = []

    @model_validator(mode="after")
    def _references_exist(self) -> Published:
        for comparison in self.comparisons:
            refs = [TableRef(paper=comparison.paper, table=comparison.table)]
            refs += [comparison.reference] if comparison.reference else []
            for ref in refs:
                if not isinstance(self._find(ref.paper, ref.table), ResultsTable):
                    raise ValueError(f"comparison {comparison.id}: no results table {ref.table} of paper {ref.paper}")
            printed = {r.method for r in self.results(comparison.paper, comparison.table).rows}
            unknown = sorted(set(comparison.methods) - printed)
            if unknown:
                raise ValueError(f"comparison {comparison.id}: table {comparison.table} prints no method {unknown[0]}")
            if comparison.tests_table and not self.tests(comparison.paper, comparison.tests_table):
                raise ValueError(f"comparison {comparison.id}: table {comparison.tests_table} prints no tests")
        return self

    def _find(self, paper: str, table: str) -> AnyTable | None:
        return next((t for p in self.papers if p.id == paper for t in p.tables if t.id == table), None)

    def paper(self, paper: str) -> Paper:
        """The paper with this id; KeyError where the file has none."""
        for candidate in self.papers:
            if candidate.id == paper:
                return candidate
        raise KeyError(paper)

    def results(self, paper: str, table: str) -> ResultsTable:
        """The results table with this id; KeyError where the paper has none."""
        found = self._find(paper, table)
        if not isinstance(found, ResultsTable):
            raise KeyError(f"{paper} {table}")
        return found

    def tests(self, paper: str, table: str) -> list[TestRow]:
        """The printed tests of a table; empty where it prints none."""
        found = self._find(paper, table)
        return list(found.tests) if isinstance(found, ResultsTable | TestsTable) else []

    def comparisons_of(self, study: str, setting: str) -> list[Comparison]:
        """The comparisons declared for one study and setting, in the order of the file."""
        return [c for c in self.comparisons if c.study == study and c.setting == setting]


def load_published(path: Path) -> Published:
    """Read and check a `published.yaml`.

    Errors:
        UserError: the file is missing, is not YAML, or breaks the schema; one line with the file, the place, the fault.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); expected the published numbers of the suite"
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping with schema_version, papers and comparisons")
    try:
        return Published.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: {_first_problem(error, data)}") from None


def _first_problem(error: ValidationError, data: dict[str, Any]) -> str:
    """The most specific problem as one line, with names instead of list positions."""
    problem = error.errors()[0]
    kinds = get_args(Literal["results", "tests", "settings", "claims"])
    place = ""
    node: Any = data
    for part in problem["loc"]:
        if part in kinds and isinstance(node, dict) and "kind" in node and not isinstance(node.get(part), list):
            continue  # the name of the union member, not a key of the file
        node = _child(node, part)
        name = node.get("id", part) if isinstance(node, dict) and isinstance(part, int) else part
        place += f"[{name}]" if isinstance(part, int) else f".{part}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        message = "this field is missing"
    elif problem["type"] == "extra_forbidden":
        message = "unknown field"
    elif problem["type"] != "value_error":
        message += f" (found {problem['input']!r})"
    return f"{place.lstrip('.') or 'file'}: {message}"


def _child(node: Any, part: int | str) -> Any:
    try:
        return node[part]
    except (KeyError, IndexError, TypeError):
        return None

"""What the papers print, as validated data: `suites/<suite>/published.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from harness.errors import UserError
from reports.exhibits import AnyExhibit
from reports.printed import AnyTable, ClaimRow, ClaimsTable, ResultsTable, Scalar, Strict, TestRow, TestsTable


class Paper(Strict):
    id: str
    short: str
    citation: str
    code: str | None = None
    conventions: dict[str, str] = Field(default_factory=dict)
    tables: list[Annotated[AnyTable, Field(discriminator="kind")]] = Field(min_length=1)


class TableRef(Strict):
    paper: str
    table: str


class BesidePrinted(Strict):
    """A printed table that stands beside a study of ours, measured by one of its meta-test protocols."""

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    paper: str
    table: str
    study: str
    protocol: str
    notes: list[str] = Field(default_factory=list)


class Comparison(BesidePrinted):
    """Which printed table stands beside which of our runs; `contrasts` is a declared family of tests, a minus b."""

    tests_table: str | None = None
    reference: TableRef | None = None
    setting: str
    methods: dict[str, list[str]]
    contrasts: list[tuple[str, str]] = Field(default_factory=list)
    figure: str | None = None

    def printed_name(self, label: str) -> str | None:
        """The name under which the paper prints our method `label`; None where it prints nothing comparable."""
        return next((printed for printed, labels in self.methods.items() if label in labels), None)


Accounting = Literal["during", "adapted"]


class PrintedColumn(Strict):
    """What a printed column of a grid counts, and which of our methods stand beside it.

    accounting: `during`: the reward of the episodes in which the method learns; `adapted`: of the adapted policy.
    seeds, tasks: training seeds and meta-test tasks behind a printed mean; null where there is no training, or where
                  the number of tasks is not known.
    """

    accounting: Accounting | Literal["unknown"]
    labels: list[str] = Field(default_factory=list)
    seeds: int | None = Field(default=None, gt=0)
    tasks: int | None = Field(default=None, gt=1)


class Normaliser(Strict):
    """A printed column, and the exactly known return that it must be a fraction of the paper's normaliser of."""

    printed: str
    reference: str


class GridComparison(BesidePrinted):
    """Which printed grid of settings stands beside which of our studies.

    value:           what a printed number is: the `total` reward of N episodes, or the `fraction_of_optimum`.
    episodes_column: the column, of the study or of `where`, that holds N.
    where:           coordinates of the printed table that are the same for all settings of the study.
    normaliser:      which printed column tells what the paper divided by, where it does not say.
    ours:            our methods that no column prints -> the accounting in which a compact table shows them.
    """

    value: Literal["total", "fraction_of_optimum"]
    episodes_column: str
    where: dict[str, Scalar] = Field(default_factory=dict)
    methods: dict[str, PrintedColumn]
    ours: dict[str, Accounting] = Field(default_factory=dict)
    normaliser: Normaliser | None = None

    def printed_name(self, label: str) -> str | None:
        """The name under which the paper prints our method `label`; None where it prints nothing comparable."""
        return next((printed for printed, column in self.methods.items() if label in column.labels), None)

    def accounting(self, label: str) -> Accounting:
        """The accounting in which a compact table shows our method: the printed column's, else as `ours` says."""
        printed = self.printed_name(label)
        declared = self.methods[printed].accounting if printed else self.ours.get(label, "adapted")
        return "adapted" if declared == "unknown" else declared


class Published(Strict):
    """All that a suite's papers print, and which of it is compared with what."""

    schema_version: Literal[1]
    papers: list[Paper] = Field(min_length=1)
    comparisons: list[Comparison] = Field(default_factory=list)
    grid_comparisons: list[GridComparison] = Field(default_factory=list)
    exhibits: list[AnyExhibit] = Field(default_factory=list)

    @model_validator(mode="after")
    def _references_exist(self) -> Published:
        for comparison in self.comparisons:
            self._check_table(comparison, set(comparison.methods))
            if comparison.reference:
                self._check_reference(comparison.id, comparison.reference.paper, comparison.reference.table)
            if comparison.tests_table and not self.tests(comparison.paper, comparison.tests_table):
                raise ValueError(f"comparison {comparison.id}: table {comparison.tests_table} prints no tests")
        for grid in self.grid_comparisons:
            self._check_table(grid, set(grid.methods))
            self._check_coordinates(grid)
        for exhibit in self.exhibits:
            self._check_claims(exhibit)
        return self

    def _check_table(self, comparison: BesidePrinted, methods: set[str]) -> None:
        self._check_reference(comparison.id, comparison.paper, comparison.table)
        unknown = sorted(methods - {r.method for r in self.results(comparison.paper, comparison.table).rows})
        if unknown:
            raise ValueError(f"comparison {comparison.id}: table {comparison.table} prints no method {unknown[0]}")

    def _check_reference(self, comparison: str, paper: str, table: str) -> None:
        if not isinstance(self._find(paper, table), ResultsTable):
            raise ValueError(f"comparison {comparison}: no results table {table} of paper {paper}")

    def _check_coordinates(self, grid: GridComparison) -> None:
        columns = self.results(grid.paper, grid.table).columns
        unknown = sorted(set(grid.where) - set(columns))
        if unknown:
            raise ValueError(f"comparison {grid.id}: table {grid.table} has no column {unknown[0]}")
        if grid.normaliser and grid.normaliser.printed not in grid.methods:
            raise ValueError(
                f"comparison {grid.id}: the normaliser names the column {grid.normaliser.printed}, methods not"
            )
        labels = [label for column in grid.methods.values() for label in column.labels]
        twice = sorted({label for label in labels if labels.count(label) > 1 or label in grid.ours})
        if twice:
            raise ValueError(f"comparison {grid.id}: method {twice[0]} is named more than once")

    def _check_claims(self, exhibit: AnyExhibit) -> None:
        for claim in exhibit.claim_ids:
            try:
                self.claim(exhibit.paper, claim)
            except KeyError:
                raise ValueError(f"exhibit {exhibit.id}: paper {exhibit.paper} makes no claim {claim}") from None

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

    def claim(self, paper: str, claim: str) -> ClaimRow:
        """The statement with this id; KeyError where the paper, or the statement, is not there."""
        for table in self.paper(paper).tables:
            if isinstance(table, ClaimsTable):
                for row in table.rows:
                    if row.id == claim:
                        return row
        raise KeyError(claim)

    def comparisons_of(self, study: str, setting: str) -> list[Comparison]:
        """The comparisons declared for one study and setting, in the order of the file."""
        return [c for c in self.comparisons if c.study == study and c.setting == setting]

    def grids_of(self, study: str) -> list[GridComparison]:
        """The grid comparisons declared for one study, in the order of the file."""
        return [c for c in self.grid_comparisons if c.study == study]

    def exhibits_of(self, study: str) -> list[AnyExhibit]:
        """What is shown of one study beside its returns, in the order of the file."""
        return [exhibit for exhibit in self.exhibits if exhibit.study == study]

    def curves_of(self, study: str) -> list[str]:
        """Training metrics that the exhibits of one study need."""
        return list(dict.fromkeys(name for exhibit in self.exhibits_of(study) for name in exhibit.curves))


def nothing_published() -> Published:
    """For a suite about which no paper is recorded."""
    return Published.model_construct(schema_version=1, papers=[], comparisons=[], grid_comparisons=[], exhibits=[])


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

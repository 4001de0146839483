"""What the papers print, as validated data: `suites/<suite>/published.yaml`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reports.papers.audit_references import check_audits
from reports.papers.beside import BesidePrinted, Comparison, GridComparison
from reports.papers.checks import AgainstPrinted, Check, Claim, Headroom, Margin
from reports.papers.declared_audits import AnyAudit
from reports.papers.exhibits import AnyExhibit
from reports.papers.printed import AnyTable, ClaimRow, ClaimsTable, ResultsTable, Strict, TestRow, TestsTable


class Paper(Strict):
    """A source and its tables; what identifies it comes from the catalogue of papers, unless the file says it.

    tables: none where the file has statements of the paper only.
    """

    id: str
    short: str
    citation: str
    bibtex: str = ""
    code: str | None = None
    conventions: dict[str, str] = Field(default_factory=dict)
    tables: list[Annotated[AnyTable, Field(discriminator="kind")]] = Field(default_factory=list)


class Published(Strict):
    """All that a suite's papers print, and which of it is compared with what."""

    schema_version: Literal[1]
    papers: list[Paper] = Field(min_length=1)
    comparisons: list[Comparison] = Field(default_factory=list)
    grid_comparisons: list[GridComparison] = Field(default_factory=list)
    exhibits: list[AnyExhibit] = Field(default_factory=list)
    claims: list[Claim] = Field(default_factory=list)
    audits: list[AnyAudit] = Field(default_factory=list)

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
            for table in exhibit.result_tables:
                if not isinstance(self._find(exhibit.paper, table), ResultsTable):
                    raise ValueError(f"exhibit {exhibit.id}: no results table {table} of paper {exhibit.paper}")
        for claim in self.claims:
            self._check_claim(claim)
        check_audits(self)
        return self

    def _check_table(self, comparison: BesidePrinted, methods: set[str]) -> None:
        self._check_reference(comparison.id, comparison.paper, comparison.table)
        unknown = sorted(methods - {r.method for r in self.results(comparison.paper, comparison.table).rows})
        if unknown:
            raise ValueError(f"comparison {comparison.id}: table {comparison.table} prints no method {unknown[0]}")

        self._check_margin(f"comparison {comparison.id}", comparison.margin, comparison.paper, comparison.table)

    def _check_reference(self, comparison: str, paper: str, table: str) -> None:
        if not isinstance(self._find(paper, table), ResultsTable):
            raise ValueError(f"comparison {comparison}: no results table {table} of paper {paper}")

    def _check_margin(self, place: str, margin: Margin | None, paper: str, table: str | None) -> None:
        if margin is None or margin.value is not None:
            return
        table = margin.table or table
        found = self._find(paper, table) if table else None
        if not isinstance(found, ResultsTable):
            raise ValueError(
                f"{place}: its margin is a fraction, but no results table {table} of paper {paper} is there"
            )
        methods = {row.method for row in found.rows}
        for end in (margin.upper, margin.lower):
            if isinstance(end, str) and end not in methods:
                raise ValueError(f"{place}: its margin names {end}, but table {table} prints no such method")

    def _check_claim(self, claim: Claim) -> None:
        place, check = f"claim {claim.id}", claim.check
        if claim.paper not in {paper.id for paper in self.papers}:
            raise ValueError(f"{place}: the file has no paper {claim.paper}")
        if sum(claim.id == other.id for other in self.claims) > 1:
            raise ValueError(f"{place} occurs twice")
        if isinstance(check, AgainstPrinted | Headroom):
            found = self._find(claim.paper, check.table)
            if not isinstance(found, ResultsTable):
                raise ValueError(f"{place}: no results table {check.table} of paper {claim.paper}")
            named = {check.printed}
            unknown = sorted(named - {row.method for row in found.rows})
            if unknown:
                raise ValueError(f"{place}: table {check.table} prints no method {unknown[0]}")
        self._check_margin(place, getattr(check, "margin", None), claim.paper, getattr(check, "table", None))

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

    def studies(self) -> list[str]:
        """Every study that the file names."""
        named = [item.study for item in (*self.comparisons, *self.grid_comparisons, *self.exhibits)]
        asked = [claim.check.study for claim in self.claims if isinstance(claim.check, Check)]
        return list(dict.fromkeys([*named, *asked]))

    def curves_of(self, study: str) -> list[str]:
        """Training metrics that the exhibits of one study need."""
        return list(dict.fromkeys(name for exhibit in self.exhibits_of(study) for name in exhibit.curves))


def nothing_published() -> Published:
    """For a suite about which no paper is recorded."""
    return Published.model_construct(
        schema_version=1, papers=[], comparisons=[], grid_comparisons=[], exhibits=[], claims=[], audits=[]
    )

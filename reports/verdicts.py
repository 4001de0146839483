"""Verdicts: the words, the rules that lead to them, and what stands behind one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from reports.estimates import Estimate

ALPHA = 0.05
POWER = 0.8


class Verdict(StrEnum):
    """What our runs say about one published number or statement."""

    EQUIVALENT = "EQUIVALENT"
    DIFFERENT_WITHIN_MARGIN = "DIFFERENT_WITHIN_MARGIN"
    DIFFERENT_BETTER = "DIFFERENT_BETTER"
    DIFFERENT_WORSE = "DIFFERENT_WORSE"
    DIRECTION_REPLICATED = "DIRECTION_REPLICATED"
    REVERSED = "REVERSED"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_TESTABLE = "NOT_TESTABLE"


class Outcome(StrEnum):
    """What a verdict means for the published statement."""

    REPLICATES = "replicates"
    FAILS = "does not replicate"
    UNDECIDED = "undecided"
    UNTESTED = "not testable"


@dataclass(frozen=True)
class Row:
    """One comparison behind a verdict: of a number the only one, of a statement one per setting, step or quantity.

    where:      which one, such as "N = 10, K = 5" or "after 2 updates"; may be empty.
    printed, ours: as text with their spread; `printed` is empty where nothing is printed.
    estimate:   ours minus the printed mean, or the first minus the second side; None where it could not be formed.
    margin:     two values count as the same within it; None where none is declared.
    alone:      seed -> what this seed alone would have said, as in `Judgement`.
    printed_sd: the printed spread as a standard deviation; None where none is printed.
    note:       why there is no estimate; empty where there is one.
    unit:       of the estimate and the margin, where it is not that of the number: "log ratio".
    """

    where: str
    printed: str
    ours: str
    seeds: int
    estimate: Estimate | None
    margin: float | None
    alone: Mapping[int, str] = field(default_factory=dict)
    printed_sd: float | None = None
    note: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Judgement:
    """A published number or statement, what our runs say about it, and why.

    id:        unique within a report, such as `ulm.fomaml_at_least_maml` or `table_3_3.maml.1`.
    kind:      "number" or "claim"; "variant": a second method of ours beside a number that is judged already, which is
               not counted.
    paper:     its short name.
    family:    tests that are adjusted together.
    statement: what is published, in words; where: its place in the paper.
    study, scale: whose runs are asked; empty where there are none to ask.
    p_tost:    p of equivalence within the margin (two one-sided tests), the largest over the rows; NaN without one.
    p, p_holm: p of the difference, or of the direction, raw and adjusted over the family; NaN where there is none.
    detectable: the smallest true difference that these seeds find with 80 % power; NaN where there is none.
    needed:    training seeds of ours that would decide it with 80 % power if the difference is as measured; None
               where it is decided, or where no number of our seeds would.
    alone:     seed -> what this seed alone would have said: "yes", "no" or "–" for the statement; may be empty.
    readings:  another reading of the printed spread -> the verdict under it.
    reason:    one sentence. flags: ids of the audits that bear on it.
    methods:   our labels whose runs are behind it. notes: how a claim's check relates to its words.
    table:     the printed table that it is judged from; empty for a claim without one.
    settings:  of the study, whose runs are behind it; empty: all.
    """

    id: str
    kind: str
    paper: str
    statement: str
    where: str
    verdict: Verdict
    outcome: Outcome
    reason: str
    study: str = ""
    scale: str = ""
    family: str = ""
    rows: Sequence[Row] = ()
    p_tost: float = float("nan")
    p: float = float("nan")
    p_holm: float = float("nan")
    detectable: float = float("nan")
    needed: int | None = None
    alone: Mapping[int, str] = field(default_factory=dict)
    readings: Mapping[str, Verdict] = field(default_factory=dict)
    flags: Sequence[str] = ()
    methods: Sequence[str] = ()
    notes: Sequence[str] = ()
    table: str = ""
    settings: Sequence[str] = ()

    @property
    def concerns(self) -> set[str]:
        """What an audit may name: the claim, or the table that the number is printed in."""
        return {self.id, self.table} - {""}

    @property
    def reduced(self) -> bool:
        """Whether the runs behind it are smaller than the published experiment."""
        return self.scale not in ("", "paper")


@dataclass(frozen=True)
class PaperAudit:
    """A fact about a paper that bears on what its numbers can be compared with, and the evidence for it.

    statement: what a reader has to know. finding: what was computed, with its numbers; holds: whether the computation
    bears the statement out, None where the data for it are missing.
    concerns:  ids of tables and claims of the paper. source: where the statement comes from.
    lines:     the numbers behind the finding as rows for a table, the same keys in each; may be empty.
    """

    id: str
    paper: str
    title: str
    statement: str
    finding: str
    holds: bool | None
    source: str
    concerns: Sequence[str] = ()
    lines: Sequence[Mapping[str, str | float | int]] = ()

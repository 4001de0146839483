"""From declared audits to findings: what a paper's own numbers, and runs of ours beside them, say about its numbers."""

from __future__ import annotations

from reports.audits.beside_runs import Evidence, against_bound, implied_normaliser, known_mean
from reports.audits.of_intervals import interval_width
from reports.audits.of_print import Finding, cells_differ, interval_level, products, settings_differ
from reports.audits.of_tests import printed_tests
from reports.papers.declared_audits import (
    AgainstBound,
    AnyAudit,
    CellsDiffer,
    ImpliedNormaliser,
    IntervalLevel,
    IntervalWidth,
    KnownMean,
    PrintedTests,
    Products,
    SettingsDiffer,
)
from reports.papers.published import Published
from reports.verdicts import PaperAudit


def evaluate(published: Published, evidence: Evidence) -> list[PaperAudit]:
    """Every audit that the file declares, in its order.

    evidence: (study, scale) -> the frame of `reports.export.evidence`, of the studies that have any. An audit that asks
    for another study, or for what the frame lacks, has `holds` None and says in its finding what is missing.
    """
    return [_evaluated(audit, published, evidence) for audit in published.audits]


def _evaluated(audit: AnyAudit, published: Published, evidence: Evidence) -> PaperAudit:
    found = _finding(audit, published, evidence)
    return PaperAudit(
        id=audit.id,
        paper=published.paper(audit.paper).short,
        title=audit.title,
        statement=audit.statement,
        finding=found.text,
        holds=found.holds,
        source=audit.source,
        concerns=tuple(audit.concerns),
        lines=tuple(found.lines),
    )


def _finding(audit: AnyAudit, published: Published, evidence: Evidence) -> Finding:
    match audit:
        case PrintedTests():
            return printed_tests(audit, published)
        case CellsDiffer():
            return cells_differ(audit, published)
        case IntervalLevel():
            return interval_level(audit, published)
        case SettingsDiffer():
            return settings_differ(audit, published)
        case Products():
            return products(audit)
        case AgainstBound():
            return against_bound(audit, published, evidence)
        case KnownMean():
            return known_mean(audit, published, evidence)
        case ImpliedNormaliser():
            return implied_normaliser(audit, published, evidence)
        case IntervalWidth():
            return interval_width(audit, published, evidence)

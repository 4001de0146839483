"""Made-up verdicts for the tests of pages: one of every outcome, with the numbers behind them given by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.decisions import OUTCOMES
from reports.estimates import Estimate
from reports.page import build
from reports.papers.published import Published
from reports.records import Records
from reports.sources import Section
from reports.study_info import StudyInfo
from reports.verdict_blocks import PaperInfo
from reports.verdicts import Judgement, PaperAudit, Row, Verdict

SEED = "training seed"
PAPERS = (
    PaperInfo("ulm2022", "Ulm report", "C. Schindler, 2022", "@techreport{ulm2022,\n  author = {Schindler}\n}\n"),
    PaperInfo("deleu2018", "Deleu et al. (2018)", "T. Deleu, 2018", "@misc{deleu2018,\n  author = {Deleu}\n}\n"),
)


def row(difference: float | None, se: float = 0.5, margin: float | None = 1.0, **more: Any) -> Row:
    """One comparison over three seeds of ours; without a difference, one that could not be formed."""
    given = {"where": "", "printed": "−12.26 ± 1.59 (SD), n = 40", "ours": "−12 ± 0.5 (3 seeds × 40 tasks)", "seeds": 3}
    estimate = None if difference is None else Estimate(difference, se, 2, "Welch t", SEED)
    return Row(**given | {"estimate": estimate, "margin": margin, "note": "" if estimate else "no run"} | more)


def judgement(name: str, verdict: Verdict, *rows: Row, **more: Any) -> Judgement:
    """A judgement of the Ulm report on the navigation study."""
    given = {
        "kind": "claim", "paper": "Ulm report", "statement": f"what {name} says", "where": "section 3.2",
        "reason": f"because of {name}.", "study": "navigation", "scale": "paper", "methods": ("maml",),
    }  # fmt: skip
    first = rows[0].estimate if rows else None
    tests = {"p": first.p, "p_holm": min(1.0, 2 * first.p), "detectable": first.detectable()} if first else {}
    return Judgement(id=name, verdict=verdict, outcome=OUTCOMES[verdict], rows=rows, **given | tests | more)


CLAIMS = (
    judgement("ulm.undecided_one", Verdict.INCONCLUSIVE, row(0.4), needed=14, p_tost=0.2, flags=("df",)),
    judgement(
        "ulm.order_holds", Verdict.DIRECTION_REPLICATED, row(9.0, where="after 1 update", printed=""),
        row(2.0, where="after 2 updates", printed=""), alone={0: "yes", 1: "no", 2: "–"}, notes=("A note on `maml`.",),
        family="claims", p=1.2e-5,
    ),
    judgement("ulm.order_fails", Verdict.REVERSED, row(-3.0), alone={0: "no", 1: "no", 2: "no"}),
    judgement("deleu.no_runs", Verdict.NOT_TESTABLE, paper="Deleu et al. (2018)", study="", scale="", methods=()),
    judgement("ulm.at_reduced_size", Verdict.EQUIVALENT, row(0.1), scale="smoke"),
)  # fmt: skip
NUMBERS = tuple(
    judgement(
        f"table_3_3.{method}.{step}", verdict, row(difference, printed_sd=1.59), where="Table 3.3", table="3.3",
        kind=kind, statement=f"{method}, after {step} updates", p_tost=0.03, methods=(method,), readings=readings,
    )
    for method, step, difference, verdict, kind, readings in (
        ("maml", 0, 0.1, Verdict.EQUIVALENT, "number", {"its seeds scatter as ours": Verdict.EQUIVALENT}),
        ("maml", 1, -20.0, Verdict.DIFFERENT_WORSE, "number", {"over test tasks": Verdict.INCONCLUSIVE}),
        ("fomaml", 0, 3.0, Verdict.DIFFERENT_BETTER, "number", {}),
        ("maml_elementwise", 0, 0.2, Verdict.INCONCLUSIVE, "variant", {}),
    )
)  # fmt: skip
JUDGEMENTS = (*CLAIMS, *NUMBERS)
AUDITS = (
    PaperAudit(
        "df", "Ulm report", "The tests have 39 degrees of freedom", "The named test has `78`.", "All twelve have 39.",
        True, "Tables 3.4 and 3.5", ("3.3", "ulm.undecided_one", "ulm.elsewhere"),
        [{"test": "maml", "df": 39, "t": 4.31}],
    ),
    PaperAudit("gone", "Ulm report", "A fact without data", "It is said.", "No data.", None, "section 4"),
)  # fmt: skip

Study = tuple[Records | None, StudyInfo, Published]


def report(
    out_dir: Path, *studies: Study, judgements: Sequence[Judgement] = (), audits: Sequence[PaperAudit] = ()
) -> Path:
    """The page of these studies, called after the first."""
    sections = [
        Section(info, published, records, "" if records else "no store") for records, info, published in studies
    ]
    first, command = studies[0][1], "metarepro report"
    return build(first.title, first.stem, sections, judgements, audits, out_dir, command=command, papers=PAPERS)

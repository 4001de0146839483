"""Verdicts as text for a terminal, and as Markdown for the README."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import fill, indent

from reports.quantities import StudyNumbers
from reports.reasons import compact, spread
from reports.sources import Verdicts
from reports.verdicts import Judgement, Outcome, Verdict

WIDTH = 118


def listing(verdicts: Verdicts) -> str:
    """One line per claim and printed number, under its paper, and the counts last."""
    lines = []
    width = max((len(one.id) for one in verdicts.judgements), default=0)
    for paper in dict.fromkeys(one.paper for one in verdicts.judgements):
        lines.append(paper)
        for one in (one for one in verdicts.judgements if one.paper == paper):
            size = f" ({one.scale})" if one.reduced else ""
            lines.append(f"  {one.id:<{width}}  {one.verdict}{size}")
        lines.append("")
    return "\n".join([*lines, *_counts(verdicts.judgements), ""])


def _counts(judgements: Sequence[Judgement]) -> list[str]:
    made = []
    for kind, name in (("claim", "claims"), ("number", "printed numbers")):
        counted = Counter(one.outcome for one in judgements if one.kind == kind)
        parts = ", ".join(f"{counted[outcome]} {outcome}" for outcome in Outcome)
        made.append(f"{sum(counted.values())} {name}: {parts}")
    return made


def detail(wanted: str, verdicts: Verdicts, book: Mapping[tuple[str, str], StudyNumbers]) -> str | None:
    """Everything behind one verdict, down to the runs; None where no verdict has this id."""
    found = next((one for one in verdicts.judgements if one.id == wanted), None)
    if found is None:
        return None
    lines = [f"{found.id}: {found.verdict}", fill(found.reason, WIDTH), ""]
    lines += [
        fill(f"{found.paper}, {found.where}: {found.statement}", WIDTH),
        *(fill(note, WIDTH) for note in found.notes),
    ]
    for row in found.rows:
        estimate = (
            f"difference {spread(row.estimate)}{f' ({row.unit})' if row.unit else ''}, {row.estimate.name}"
            if row.estimate
            else row.note or "no difference formed"
        )
        margin = f", margin ±{compact(row.margin)}" if row.margin else ""
        parts = [row.where, f"printed {row.printed}" if row.printed else "", f"ours {row.ours}", estimate + margin]
        lines.append(indent(fill("; ".join(part for part in parts if part), WIDTH - 2), "  "))
    if found.p == found.p:
        tost = f"; TOST {found.p_tost:.2g}" if found.p_tost == found.p_tost else ""
        lines.append(f"p = {found.p:.2g}, Holm {found.p_holm:.2g} (family: {found.family}){tost}")
    lines += [f"audit: {audit.title}" for audit in verdicts.audits if audit.id in found.flags]
    numbers = book.get((found.study, found.scale))
    if numbers is not None:
        runs = numbers.evidence[numbers.evidence["method"].isin(list(found.methods))]
        if found.settings:
            runs = runs[runs["setting"].isin(list(found.settings))]
        made = runs[["setting", "method", "seed", "run_id", "code_version"]].drop_duplicates()
        lines += ["", f"{len(made)} runs of study {found.study} ({found.scale}):"]
        lines += [
            f"  {row['setting']} {row['method']} {numbers.unit} {row['seed']}: "
            f"run_id {row['run_id']}, code {row['code_version']}"
            for row in made.to_dict("records")
        ]
    return "\n".join(lines)


def markdown_counts(verdicts: Verdicts) -> str:
    """The counts of all verdicts for a README: a line per word, a column for claims and one for printed numbers."""
    columns = [("claim", False), ("claim", True), ("number", False)]
    heads = ["verdict", "claims, published size", "claims, reduced size", "printed numbers"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * len(columns)]
    for word in Verdict:
        counts = [
            sum(one.verdict is word and one.kind == kind and one.reduced == reduced for one in verdicts.judgements)
            for kind, reduced in columns
        ]
        if any(counts):
            lines.append(f"| {word} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines) + "\n"

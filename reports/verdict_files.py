"""Verdicts as files, beside the page and inside it: CSV to compute with, LaTeX and BibTeX to write with."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import pandas as pd

from reports import latex
from reports.attachments import Attachments
from reports.reasons import compact, spread
from reports.tables import NO_NUMBER
from reports.verdict_blocks import Origins, PaperInfo
from reports.verdicts import Judgement, Row

NAN = float("nan")
TYPES = {"csv": "text/csv", "tex": "application/x-tex", "bib": "application/x-bibtex"}


def leave(
    files: Attachments, judgements: Sequence[Judgement], papers: Sequence[PaperInfo], origins: Origins
) -> list[dict[str, Any]]:
    """Leave the files beside the page; for each its name, what it is, its text, and itself as a data URI."""
    keys = {paper.short: paper.id for paper in papers}
    table = latex.table(judgements, {one.id: difference(one) for one in judgements}, keys)
    bibtex = "\n".join(paper.bibtex.strip() + "\n" for paper in papers if paper.bibtex)
    contents = {
        "verdicts.csv": ("every verdict, with what led to it", _csv(frame(judgements, origins))),
        "verdict_rows.csv": ("every comparison behind the verdicts", _csv(rows_frame(judgements))),
        "verdicts.tex": ("the verdicts as a LaTeX table", table),
        "papers.bib": ("the papers as BibTeX", bibtex),
    }
    made = []
    for name, (what, text) in contents.items():
        encoded = base64.b64encode(text.encode()).decode()
        uri = f"data:{TYPES[name.rpartition('.')[2]]};charset=utf-8;base64,{encoded}"
        made.append({"name": files.text(name, text), "what": what, "text": text, "uri": uri})
    return made


def difference(one: Judgement) -> str:
    """The difference of a judgement as text: with its interval, or the range over several comparisons."""
    known = [row.estimate for row in one.rows if row.estimate]
    if len(one.rows) == 1 and known:
        return spread(known[0])
    values = [estimate.difference for estimate in known]
    return f"{compact(min(values))} to {compact(max(values))}" if values else NO_NUMBER


def frame(judgements: Sequence[Judgement], origins: Origins) -> pd.DataFrame:
    """One row per judgement; what a single comparison has is empty where there are several."""
    rows = []
    for one in judgements:
        origin = origins.get((one.study, one.scale))
        row = one.rows[0] if len(one.rows) == 1 else None
        rows.append(
            {
                "id": one.id, "kind": one.kind, "paper": one.paper, "where": one.where, "statement": one.statement,
                "verdict": one.verdict.value, "outcome": one.outcome.value, "reason": one.reason, "study": one.study,
                "scale": one.scale, "methods": " ".join(one.methods), "comparisons": len(one.rows),
                "printed": row.printed if row else "", "ours": row.ours if row else "",
                **_numbers(row), "p_tost": one.p_tost, "p": one.p, "p_holm": one.p_holm, "family": one.family,
                "detectable": one.detectable, "seeds_needed": one.needed, "alone": _alone(one.alone),
                "readings": "; ".join(f"{name}: {verdict}" for name, verdict in one.readings.items()),
                "audits": " ".join(one.flags), "code_versions": " ".join(origin.code) if origin else "",
                "command": origin.command if origin else "", "runs": (origin.runs or "") if origin else "",
            }
        )  # fmt: skip
    return pd.DataFrame(rows).astype({"seeds_needed": "Int64"}) if rows else pd.DataFrame()


def rows_frame(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """One row per comparison behind a judgement."""
    rows = [
        {"id": one.id, "cell": row.where, "printed": row.printed, "ours": row.ours, **_numbers(row)}
        | {"alone": _alone(row.alone), "note": row.note}
        for one in judgements
        for row in one.rows
    ]
    return pd.DataFrame(rows)


def _numbers(row: Row | None) -> dict[str, Any]:
    """The estimate of one comparison as columns."""
    estimate = row.estimate if row else None
    low, high = estimate.interval(0.95) if estimate else (NAN, NAN)
    return {
        "seeds": row.seeds if row else "",
        "difference": estimate.difference if estimate else NAN,
        "low": low,
        "high": high,
        "se": estimate.se if estimate else NAN,
        "df": estimate.df if estimate else NAN,
        "margin": row.margin if row else NAN,
        "test": estimate.name if estimate else "",
        "unit": estimate.unit if estimate else "",
    }


def _alone(said: Any) -> str:
    return " ".join(f"{seed}:{word}" for seed, word in sorted(said.items()))


def _csv(table: pd.DataFrame) -> str:
    return "" if table.empty else table.to_csv(index=False, float_format="%.10g", lineterminator="\n")

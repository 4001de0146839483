"""Verdicts as the page shows them: the summary, the claims, the printed numbers, the audits of the papers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports import verdict_figures
from reports.attachments import Attachments
from reports.decisions import OUTCOMES
from reports.markup import p_value
from reports.reasons import compact, spread
from reports.study_info import StudyInfo
from reports.tables import NO_NUMBER
from reports.verdicts import Judgement, Outcome, PaperAudit, Row, Verdict

KINDS = ("claim", "number")
"""What is counted; a variant is a second method of ours beside a number that is judged already."""
SLUGS = {
    Outcome.REPLICATES: "replicates",
    Outcome.FAILS: "fails",
    Outcome.UNDECIDED: "undecided",
    Outcome.UNTESTED: "untested",
}
"""An outcome as the class that gives it its colour."""
SYMBOLS = {"replicates": "✓", "fails": "✗", "undecided": "?", "untested": "∅"}
MEANINGS = {
    Verdict.EQUIVALENT: "the same within the declared margin",
    Verdict.DIFFERENT_WITHIN_MARGIN: "a real difference, smaller than the margin",
    Verdict.DIRECTION_REPLICATED: "the stated order holds",
    Verdict.DIFFERENT_BETTER: "a real difference, not shown to be within the margin: ours is better",
    Verdict.DIFFERENT_WORSE: "a real difference, not shown to be within the margin: ours is worse",
    Verdict.REVERSED: "the opposite order holds",
    Verdict.INCONCLUSIVE: "these seeds cannot tell",
    Verdict.NOT_TESTABLE: "our runs cannot answer; the reason is given",
}
WORDS = {slug: outcome.value for outcome, slug in SLUGS.items()}
PLURALS = WORDS | {"replicates": "replicate", "fails": "do not replicate"}
CLAIM = re.compile(r"[a-z0-9]+\.[A-Za-z]\w+$")
"""The id of a claim; what an audit concerns besides are tables."""
SAID = {"yes": "✓", "no": "✗"}


@dataclass(frozen=True)
class PaperInfo:
    """What identifies a paper. short: its name on the page and in every judgement."""

    id: str
    short: str
    citation: str
    bibtex: str


@dataclass(frozen=True)
class Origin:
    """The runs behind the judgements of one study at one scale.

    key:      of the study's section. code: versions of the code that made the runs. runs: the file that lists them.
    finished: method -> number of finished runs.
    """

    key: str
    title: str
    scale: str
    code: Sequence[str]
    command: str
    runs: str | None
    finished: Mapping[str, int]


Origins = Mapping[tuple[str, str], Origin]


def summary(judgements: Sequence[Judgement], papers: Sequence[PaperInfo]) -> dict[str, Any]:
    """How many statements and numbers have which outcome and verdict: over all, by paper and size, by word."""
    counted = [one for one in judgements if one.kind in KINDS]
    order = {paper.short: place for place, paper in enumerate(papers)}
    found = sorted({(order.get(one.paper, len(order)), one.paper, one.reduced) for one in counted})
    rows = []
    for _, paper, reduced in found:
        mine = [one for one in counted if (one.paper, one.reduced) == (paper, reduced)]
        rows.append({"paper": paper, "size": _size(reduced), "counts": _by_kind(mine)})
    words = []
    for verdict, meaning in MEANINGS.items():
        mine = [one for one in counted if one.verdict is verdict]
        counts = {kind: sum(one.kind == kind for one in mine) for kind in KINDS}
        words.append({"verdict": verdict, "slug": SLUGS[OUTCOMES[verdict]], "meaning": meaning, "counts": counts})
    return {
        "totals": _by_kind(counted),
        "rows": rows,
        "words": words,
        "reduced": sum(one.reduced for one in counted),
        "variants": len(judgements) - len(counted),
    }


def _by_kind(judgements: Sequence[Judgement]) -> dict[str, dict[str, int]]:
    return {kind: outcomes([one for one in judgements if one.kind == kind]) for kind in KINDS}


def outcomes(judgements: Sequence[Judgement]) -> dict[str, int]:
    """How many have which outcome, by its slug."""
    return {slug: sum(one.outcome is outcome for one in judgements) for outcome, slug in SLUGS.items()}


def _size(reduced: bool) -> str:
    return "reduced size" if reduced else "published size"


def claims(
    files: Attachments, judgements: Sequence[Judgement], audits: Sequence[PaperAudit], origins: Origins
) -> dict[str, Any]:
    """The statements by outcome, and what each seed alone would have said of them."""
    mine = [one for one in judgements if one.kind == "claim"]
    told = [one for one in mine if one.alone]
    figure = None
    if told:
        alt = (
            "A line per statement, a column per training seed: whether a study with this seed alone would have found "
            "the statement borne out (yes, no, or neither). The last column of the table of statements has the same."
        )
        words = "✓ the statement would have been found to hold, ✗ not to hold, – neither; at the right: with all seeds"
        figure = files.figure("seed_sensitivity", verdict_figures.seed_sensitivity(told), alt) | {"caption": words}
    return {"rows": _lines(_by_outcome(mine), audits, origins), "seeds": figure, "told": len(told)}


def numbers(
    files: Attachments, judgements: Sequence[Judgement], audits: Sequence[PaperAudit], origins: Origins
) -> list[dict[str, Any]]:
    """The printed numbers, a block per published table and study: outcomes, forest plot, and the lines of its table."""
    groups: dict[tuple[str, str, str, str], list[Judgement]] = {}
    for one in judgements:
        if one.kind != "claim":
            groups.setdefault((one.paper, one.id.partition(".")[0], one.study, one.scale), []).append(one)
    blocks: list[dict[str, Any]] = []
    for (paper, table, study, scale), mine in groups.items():
        key = f"{table}_{scale}" if scale not in ("", "paper") else table
        key = f"{key}_{study}" if any(block["key"] == key for block in blocks) else key
        forest = verdict_figures.forest(mine)
        figure = None
        if forest:
            alt = (
                f"A line per printed number: ours minus the paper’s in units of {forest.unit}, with its 95 % interval; "
                "the band is the declared margin. The values are in the table below the figure."
            )
            figure = files.figure(f"forest_{key}", forest.svg, alt) | {"caption": forest.caption}
        rows = _lines(mine, audits, origins)
        blocks.append(
            {
                "key": key,
                "tables": {one.table for one in mine},
                "title": mine[0].where,
                "paper": paper,
                "size": _size(mine[0].reduced),
                "study": study,
                "scale": scale,
                "counts": outcomes([one for one in mine if one.kind == "number"]),
                "variants": sum(one.kind == "variant" for one in mine),
                "figure": figure,
                "rows": rows,
                "flags": list(dict.fromkeys(flag for one in rows for flag in one["flags"])),
                "readings": _readings_of(mine),
                "origin": origins.get((study, scale)),
            }
        )
    return blocks


def digest(judgements: Sequence[Judgement], blocks: Sequence[Mapping[str, Any]], info: StudyInfo) -> dict[str, Any]:
    """What a study's runs say, for the start of its section: its statements by outcome, and its tables of numbers."""
    mine = [one for one in judgements if (one.study, one.scale, one.kind) == (info.name, info.scale, "claim")]
    tables = [block for block in blocks if (block["study"], block["scale"]) == (info.name, info.scale)]
    lines = [{"judgement": one, "slug": SLUGS[one.outcome]} for one in _by_outcome(mine)]
    return {"claims": lines, "counts": outcomes(mine), "tables": tables}


def _by_outcome(judgements: Sequence[Judgement]) -> list[Judgement]:
    return sorted(judgements, key=lambda one: list(SLUGS).index(one.outcome))


def audited(
    files: Attachments,
    audits: Sequence[PaperAudit],
    judgements: Sequence[Judgement],
    blocks: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The audits with the columns of their lines, and what they concern with the place of it on the page."""
    places = {(one.paper, one.id): f"v-{one.id}" for one in judgements}
    for block in reversed(blocks):
        places |= {(block["paper"], table): f"numbers-{block['key']}" for table in block["tables"]}
    return [
        {
            "audit": audit,
            "columns": list(audit.lines[0]) if audit.lines else [],
            "slug": "untested" if audit.holds is None else "replicates" if audit.holds else "fails",
            "concerns": [
                (name if CLAIM.match(name) else f"Table {name}", places.get((audit.paper, name)))
                for name in audit.concerns
            ],
            "file": files.table(f"audit_{audit.id}", pd.DataFrame(audit.lines))["file"],
        }
        for audit in audits
    ]


def _lines(judgements: Sequence[Judgement], audits: Sequence[PaperAudit], origins: Origins) -> list[dict[str, Any]]:
    titles = {audit.id: audit.title for audit in audits}
    return [_line(one, titles, origins.get((one.study, one.scale))) for one in judgements]


def _line(one: Judgement, titles: Mapping[str, str], origin: Origin | None) -> dict[str, Any]:
    """One judgement as cells."""
    cells = [_cell(row) for row in one.rows]
    known = [row.estimate.difference for row in one.rows if row.estimate]
    return {
        "judgement": one,
        "slug": SLUGS[one.outcome],
        "size": _size(one.reduced),
        "rank": list(SLUGS).index(one.outcome),
        "cells": cells,
        "single": cells[0] if len(cells) == 1 else None,
        "range": f"{compact(min(known))} to {compact(max(known))}" if known else NO_NUMBER,
        "lowest": min(known) if known else None,
        "detectable": compact(one.detectable),
        "alone": _alone(one.alone),
        "readings": _readings(one),
        "flags": [(flag, titles[flag]) for flag in one.flags if flag in titles],
        "origin": origin,
        "runs": sum(origin.finished.get(method, 0) for method in one.methods) if origin else 0,
    }


def _readings(one: Judgement) -> str:
    """What other readings of the printed spread would change."""
    other = {name: verdict for name, verdict in one.readings.items() if verdict is not one.verdict}
    if not other:
        return ""
    words = "; ".join(f"{name}: {verdict.value.replace('_', ' ').lower()}" for name, verdict in other.items())
    return f"Read otherwise: {words}."


def _readings_of(judgements: Sequence[Judgement]) -> str:
    """What other readings of the printed spread would change in a table."""
    names = list(dict.fromkeys(name for one in judgements for name in one.readings))
    changed = sum(any(verdict is not one.verdict for verdict in one.readings.values()) for one in judgements)
    if not names:
        return ""
    said = f"change {changed} of {len(judgements)} verdicts" if changed else "change no verdict"
    return f"Other readings of the printed spread ({'; '.join(names)}) {said}."


def _cell(row: Row) -> dict[str, Any]:
    """One comparison as text."""
    estimate, margin = row.estimate, row.margin
    return {
        "where": row.where,
        "printed": row.printed or NO_NUMBER,
        "ours": row.ours or NO_NUMBER,
        "seeds": row.seeds,
        "difference": spread(estimate) if estimate else NO_NUMBER,
        "value": estimate.difference if estimate else None,
        "margin": f"± {compact(margin)}" if margin is not None else NO_NUMBER,
        "p_tost": p_value(estimate.tost(margin)) if estimate and margin is not None else NO_NUMBER,
        "test": ", over ".join(filter(None, (estimate.name, estimate.unit))) if estimate else "",
        "note": row.note,
        "alone": _alone(row.alone),
    }


def _alone(said: Mapping[int, str]) -> dict[str, Any]:
    """What each seed alone says: in words, and seed by seed."""
    words = list(said.values())
    counts = [(word, words.count(word)) for word in ("yes", "no", NO_NUMBER) if word in words]
    names = {"yes": "yes", "no": "no", NO_NUMBER: "neither"}
    return {
        "text": ", ".join(f"{count} {names[word]}" for word, count in counts),
        "seeds": [(seed, word, SAID.get(word, NO_NUMBER)) for seed, word in sorted(said.items())],
        "share": words.count("yes") / len(words) if words else None,
    }

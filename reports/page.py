"""One self-contained HTML page over one study or many, with every table as CSV and every figure as SVG beside it.

The page is a function of what is handed in: no time of rendering, no random id; the same records give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.files import write_atomic
from reports import films, overview, single_page, tables, verdict_blocks, verdict_files
from reports.attachments import Attachments
from reports.exhibits import blocks as exhibit_blocks
from reports.export import evidence, evidence_csv
from reports.grids import page as grid_page
from reports.markup import render
from reports.sources import Section
from reports.verdict_blocks import Origin, PaperInfo
from reports.verdicts import Judgement, PaperAudit


def build(
    title: str,
    stem: str,
    sections: Sequence[Section],
    judgements: Sequence[Judgement],
    audits: Sequence[PaperAudit],
    out_dir: Path,
    *,
    command: str,
    papers: Sequence[PaperInfo],
) -> Path:
    """Write `<out_dir>/<stem>.html`, and its CSV, SVG, LaTeX and BibTeX to `<out_dir>/<stem>/`; returns the page.

    Only runs of a study's own settings are used. Missing, diverged and unfinished runs, and studies without records,
    are stated on the page. command: what makes the page.

    Errors: UserError where out_dir cannot be written.
    """
    files = Attachments()
    studies = [_study(files.of(section.info.stem), section, stem, out_dir) for section in sections]
    origins = {(study["info"].name, study["info"].scale): _origin(study) for study in studies}
    numbers = verdict_blocks.numbers(files, judgements, audits, origins)
    for study in studies:
        study["digest"] = verdict_blocks.digest(judgements, numbers, study["info"])
    context = {
        "title": title,
        "folder": stem,
        "command": command,
        "studies": studies,
        "state": overview.state([study["summary"] for study in studies]),
        "summary": verdict_blocks.summary(judgements, papers),
        "claims": verdict_blocks.claims(files, judgements, audits, origins),
        "numbers": numbers,
        "audits": verdict_blocks.audited(files, audits, judgements, numbers),
        "papers": papers,
        "downloads": verdict_files.leave(files, judgements, papers, origins),
        "symbols": verdict_blocks.SYMBOLS,
        "outcomes": verdict_blocks.WORDS,
        "plurals": verdict_blocks.PLURALS,
    }
    files.write(out_dir / stem)
    page = out_dir / f"{stem}.html"
    write_atomic(page, render("report.html", context).encode())
    return page


def _study(files: Attachments, section: Section, folder: str, out_dir: Path) -> dict[str, Any]:
    """The section of a study: how complete it is, what it shows, what made it."""
    info, records = section.info, section.records
    study: dict[str, Any] = {
        "info": info,
        "key": info.stem,
        "folder": folder,
        "problem": section.problem,
        "records": None,
        "summary": overview.summary(None, info) | {"problem": section.problem},
    }
    if records is None:
        return study
    mine = overview.of_settings(records, info)
    table = evidence(mine, info.columns)
    variant = grid_page if info.is_grid else single_page
    return study | {
        "records": records,
        "summary": overview.summary(mine.runs, info) | {"problem": section.problem},
        "evidence": files.text("evidence.csv", evidence_csv(table)),
        "completeness": files.table("completeness", tables.completeness(mine.runs, info)),
        "provenance": overview.provenance(files, mine.runs),
        "films": films.block(out_dir, info, set(mine.runs["run_id"])),
        "exhibits": exhibit_blocks.blocks(files, mine, table, info, section.published),
        "blocks": variant.blocks(files, mine, table, info, section.published),
    }


def _origin(study: Mapping[str, Any]) -> Origin:
    """Where the numbers of a study come from."""
    info = study["info"]
    if study["records"] is None:
        return Origin(study["key"], info.title, info.scale, (), info.command("run"), None, {})
    runs = study["provenance"]["runs"]
    finished = [row["method"] for row in runs["rows"] if row["status"] == "done"]
    counts = {label: finished.count(label) for label in info.labels}
    code = study["provenance"]["code"]
    return Origin(study["key"], info.title, info.scale, code, info.command("run"), runs["file"], counts)

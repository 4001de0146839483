"""The commands that turn records into pages and verdicts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.composition import EVIDENCE_FOLDER, SUITES_FOLDER, command_line, of_other_study, study_of, tracking_uri
from harness.errors import UserError
from harness.recorded import (
    ALL,
    as_recorded,
    committed,
    distinct,
    info_of,
    papers,
    published_files,
    published_of,
    recorded,
    say,
    section_of,
    studies_of,
)  # fmt: skip
from harness.study_source import scales_of, study_files


def write_report(options: argparse.Namespace) -> int:
    """Write a page with verdicts: of one study and its companions, of all studies, or of two stores side by side."""
    if options.compare:
        return _compare(options)
    return _report_all(options) if options.study == ALL else report_on_study(options)


def report_on_study(options: argparse.Namespace) -> int:
    """Write the page of one study, with those that are shown with it."""
    options.scale = options.scale or "paper"
    say("reading the records ...")
    sections = [section_of(study_of(options), options)]
    if sections[0].records is None:
        raise UserError(sections[0].problem)
    for name in study_of(options).file.companions:
        theirs = of_other_study(options, name)
        sections.append(section_of(study_of(theirs), theirs))
    for one in sections[1:]:
        if one.records is None:
            say(f"without {one.info.name}: {one.problem}")
    info = sections[0].info
    _write(options, sections, info.title, info.stem, options.scale, [one.info.name for one in sections])
    return 0


def _report_all(options: argparse.Namespace) -> int:
    """Every study at every scale that was run; a smoke test's runs only where they are asked for."""
    from reports.records import NothingRecorded

    given, sections = options.scale, []
    say("reading the records ...")
    for name, path in study_files(SUITES_FOLDER).items():
        scales = [scale for scale in scales_of(path) if scale == given or (given is None and scale != "smoke")]
        found = []
        for scale in scales:
            theirs = of_other_study(options, name, scale)
            found.append(section_of(study_of(theirs), theirs))
        there = [one for one in found if not isinstance(one.error, NothingRecorded)]
        sections += there or found[:1]
    if not sections:
        raise UserError(f"no study has a scale {given!r}; `metarepro list --scale SCALE` shows which have one")
    if not any(one.records for one in sections):
        raise UserError(f"{tracking_uri(options)} holds no run of any study that could be shown; {sections[0].problem}")
    stem = "report" if given in (None, "paper") else f"report_{given}"
    _write(options, sections, "What replicates, and what does not", stem, given if given == "smoke" else None, None)
    return _told([one for one in sections if one.error and not isinstance(one.error, NothingRecorded)])


def _told(refused: list[Any]) -> int:
    """The exit code, and a line for every study whose records were refused."""
    for one in refused:
        say(f"metarepro: error: {one.info.name} ({one.info.scale}) is left out: {one.problem}")
    return 2 if refused else 0


def _write(
    options: argparse.Namespace, sections: list[Any], title: str, stem: str, scale: str | None, names: list[str] | None
) -> None:
    from reports.page import build

    say("forming verdicts ...")
    verdicts = _verdicts(sections, scale, names, options.results)
    say("drawing the page ...")
    folder = Path(options.results) / "reports"
    page = build(
        title, stem, sections, verdicts.judgements, verdicts.audits, folder, command=command_line(), papers=papers()
    )
    print(f"page:    {page}\ntables and figures: {page.with_suffix('')}")


def print_verdicts(options: argparse.Namespace) -> int:
    """Print the verdicts on every published number and claim, from committed evidence or from recorded runs."""
    from reports import sources
    from reports.verdict_text import detail, listing, markdown_counts

    options.scale, options.seeds, options.tracking_uri = "paper", None, None
    say("reading the records ..." if options.results else "reading the committed evidence ...")
    if options.results is None:
        infos = [(info_of(study, one), published_of(study)) for study, one in committed()]
        book = sources.book_of_evidence(infos, EVIDENCE_FOLDER)
    else:
        if not Path(options.results).is_dir():
            raise UserError(f"--results: {options.results} is not a folder; expected a results folder")
        book = sources.book_of(recorded(options)) | sources.book_of_audit(Path(options.results) / "estimators")
    if not book:
        raise UserError(f"{options.results} holds no finished run of any study; `metarepro run` makes them")
    say("forming verdicts ...")
    verdicts = sources.judge(published_files(), book)
    if options.study:
        found = detail(options.study, verdicts, book)
        if found is None:
            raise UserError(f"no verdict has the id {options.study!r}; `metarepro verdicts` lists all of them")
        print(found)
    else:
        print(markdown_counts(verdicts) if options.markdown else listing(verdicts), end="")
    return 0


def _compare(options: argparse.Namespace) -> int:
    """All that either of two stores holds, side by side; records of other versions of a study are compared too."""
    from reports.compare.page import Side, StudyPair, build
    from reports.records import NothingRecorded

    folders = options.compare.split(",")
    if len(folders) != 2 or not all(folders):
        raise UserError(f"--compare {options.compare!r}: expected two results folders, as in --compare old,new")
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"--compare: {folder} is not a folder; expected a results folder, such as results")
    say("reading the records ...")
    pairs, refused = [], []
    for study, theirs in studies_of(options):
        sides = [as_recorded(study, argparse.Namespace(**vars(theirs) | {"results": folder})) for folder in folders]
        if all(isinstance(one.error, NothingRecorded) for one in sides):
            continue
        refused += [one for one in sides if one.error and not isinstance(one.error, NothingRecorded)]
        verdicts = [_verdicts([one], study.scale, [study.file.study]).judgements for one in sides]
        made = [Side(one.records, said, one.problem) for one, said in zip(sides, verdicts, strict=True)]
        pairs.append(StudyPair(info_of(study, theirs), *made))
    if not pairs:
        raise UserError(f"neither {folders[0]} nor {folders[1]} holds a run of any study that was asked for")
    say("drawing the page ...")
    names = (folders[0], folders[1])
    page = build(pairs, names, Path(options.results) / "reports", command=command_line())
    print(f"page:    {page}\ntables: {page.with_suffix('')}")
    return _told(refused)


def _verdicts(sections: list[Any], scale: str | None, names: list[str] | None, results: str = "") -> Any:
    """What is said about everything published, or about some studies.

    results: the folder in which the audit of estimators may lie.
    """
    from reports import sources

    files = published_files() if names is None else distinct(one.published for one in sections)
    audit = sources.book_of_audit(Path(results) / "estimators", scale or "paper") if names is None and results else {}
    return sources.judge(files, sources.book_of(sections) | audit, scale=scale, studies=names)

"""From studies to judgements: which runs are there, what they are asked, and what the papers' own numbers say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import UserError
from reports import claims, number_verdicts
from reports.audits import evaluation as paper_audits
from reports.decisions import decide
from reports.estimators import numbers as estimator_numbers
from reports.papers.published import Published
from reports.quantities import StudyNumbers, of_evidence, of_records
from reports.records import Records
from reports.study_info import StudyInfo
from reports.verdicts import Judgement, PaperAudit


@dataclass(frozen=True)
class Section:
    """One study at one scale: what it is, what is printed beside it, and its records.

    records: None where nothing is recorded or what is there was refused; `problem` says why in one line, `error` is of
             the class that tells the two apart.
    """

    info: StudyInfo
    published: Published
    records: Records | None
    problem: str = ""
    error: UserError | None = None


@dataclass(frozen=True)
class Verdicts:
    """What is said about everything published, and about the papers' own numbers."""

    judgements: Sequence[Judgement]
    audits: Sequence[PaperAudit]


def section(info: StudyInfo, published: Published, read: Callable[[], Records]) -> Section:
    """The section of a study; a store that has nothing for it, or is refused, becomes its problem."""
    try:
        return Section(info, published, read())
    except UserError as error:
        return Section(info, published, None, str(error), error)


def book_of(sections: Iterable[Section]) -> dict[tuple[str, str], StudyNumbers]:
    """The numbers of recorded runs, by study and scale."""
    return {
        (one.info.name, one.info.scale): of_records(one.records, one.info, one.published)
        for one in sections
        if one.records is not None
    }


def book_of_evidence(infos: Iterable[tuple[StudyInfo, Published]], folder: Path) -> dict[tuple[str, str], StudyNumbers]:
    """The numbers of committed evidence, by study and scale; studies without any are left out.

    The audit of estimators, which is no study of the harness, is among them where its table is there.
    """
    found = ((info, published, folder / f"{info.stem}.csv") for info, published in infos)
    made = {(i.name, i.scale): of_evidence(path, i, published) for i, published, path in found if path.is_file()}
    return made | book_of_audit(folder)


def book_of_audit(folder: Path, scale: str = "paper") -> dict[tuple[str, str], StudyNumbers]:
    """The numbers of the audit of estimators in a folder, to be joined to a book; empty where it was not made.

    folder: of committed evidence, or `estimators` in a results folder.
    """
    numbers = estimator_numbers.of_folder(folder, scale)
    return {} if numbers is None else {(numbers.info.name, scale): numbers}


def judge(
    files: Sequence[Published],
    book: Mapping[tuple[str, str], StudyNumbers],
    *,
    scale: str | None = None,
    studies: Sequence[str] | None = None,
) -> Verdicts:
    """Every claim and every printed number of these files.

    scale: ask this scale of every study, as a smoke test does. studies: of these only, where a page shows no others.
    """
    drafts = []
    for published in files:
        drafts += claims.drafts(published, book, scale)
        for numbers in book.values():
            if numbers.info.name in published.studies():
                drafts += number_verdicts.drafts(numbers, published)
    frames = {key: numbers.evidence for key, numbers in book.items()}
    audits = [audit for published in files for audit in paper_audits.evaluate(published, frames)]
    judged = [with_flags(judgement, audits) for judgement in decide(drafts)]
    return Verdicts([one for one in judged if studies is None or one.study in studies], audits)


def with_flags(judgement: Judgement, audits: Sequence[PaperAudit]) -> Judgement:
    """The judgement with the audits of its paper that concern it or the table that it is in."""
    mine = [audit.id for audit in audits if audit.paper == judgement.paper and set(audit.concerns) & judgement.concerns]
    return replace(judgement, flags=tuple(mine))

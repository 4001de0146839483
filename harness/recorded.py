"""What reports are made of: studies with their printed numbers, and the records of their runs."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from harness.composition import (
    EVIDENCE_FOLDER,
    SUITES_FOLDER,
    of_other_study,
    read,
    runs_of,
    study_of,
    tracking_uri,
)  # fmt: skip
from harness.errors import UserError
from harness.pictures import PICTURES
from harness.study import Study
from harness.study_file import parse_seeds
from harness.study_source import find_study, scales_of, study_files
from harness.tracking import Store, default_uri
from harness.validation import nearest
from suites import SUITES

ALL = "all"
ESTIMATORS = "estimators"
"""The audit of estimators, which claims ask like a study."""


def committed() -> Iterable[tuple[Study, argparse.Namespace]]:
    """Every study and scale with committed evidence."""
    for name, path in study_files(SUITES_FOLDER).items():
        for scale in scales_of(path):
            study = read(path, scale)
            if (EVIDENCE_FOLDER / f"{stem_of(study)}.csv").is_file():
                yield study, argparse.Namespace(study=name, scale=scale, seeds=None, results="results")


def recorded(options: argparse.Namespace) -> list[Any]:
    """Every study at every scale but smoke, with what the store has of it."""
    asked = argparse.Namespace(**vars(options) | {"study": ALL, "scale": None})
    return [section_of(study, theirs) for study, theirs in studies_of(asked) if study.scale != "smoke"]


def studies_of(options: argparse.Namespace) -> Iterable[tuple[Study, argparse.Namespace]]:
    """The studies and scales that the command line asks for, by default all."""
    for name in study_files(SUITES_FOLDER) if options.study == ALL else [options.study]:
        for scale in scales_of(find_study(name, SUITES_FOLDER)):
            if options.scale in (None, scale):
                theirs = of_other_study(options, name, scale)
                yield study_of(theirs), theirs


def as_recorded(study: Study, options: argparse.Namespace) -> Any:
    """The study with every record that the store holds of it, of whatever version."""
    from reports.records import load
    from reports.sources import section

    uri, published, name = default_uri(Path(options.results)), published_of(study), study.file.study
    seeds = None if options.seeds is None else parse_seeds(options.seeds)

    def read_all() -> Any:
        Store(uri, Path(options.results)).require_own_artifacts(name)
        return load(uri, name, study.scale, seeds=seeds, metrics=published.curves_of(name))

    return section(info_of(study, options), published, read_all)


def stem_of(study: Study) -> str:
    """What the files of a study are called: another scale than the paper's never replaces a replication."""
    return study.file.study if study.scale == "paper" else f"{study.file.study}_{study.scale}"


def say(text: str) -> None:
    """A line on what is being done."""
    print(text, file=sys.stderr, flush=True)


def published_of(study: Study) -> Any:
    """The printed numbers for the study's suite; a suite from outside the project has none."""
    from reports.papers.published import nothing_published

    if study.file.suite not in SUITES:
        return nothing_published()
    return published_at(SUITES_FOLDER / study.file.suite / "published.yaml")


@cache
def published_at(path: Path) -> Any:
    """A file of printed numbers, read once."""
    from reports.papers.published_file import load_published

    return load_published(path)


def published_files() -> list[Any]:
    """All that papers print, suite by suite, and what they print about experiments without a suite."""
    from reports.papers.published_file import WITHOUT_SUITE

    files = [published_at(path) for path in (*sorted(SUITES_FOLDER.glob("*/published.yaml")), WITHOUT_SUITE)]
    for published in files:
        require_known_names(published)
    return files


def require_known_names(published: Any) -> None:
    """Refuse a claim or comparison that names a study, scale, method, setting or protocol that is not there."""
    for claim in published.claims:
        if hasattr(claim.check, "study") and claim.check.study != ESTIMATORS:
            _require_claim(claim.id, claim.check)
    for one in (*published.comparisons, *published.grid_comparisons):
        columns = one.methods.values()
        labels = [label for column in columns for label in (column.labels if hasattr(column, "labels") else column)]
        _require(f"comparison {one.id}", one.study, None, "method", labels, lambda file: file.methods)


def _require_claim(name: str, check: Any) -> None:
    place, scale = f"claim {name}", check.scale
    _require(place, check.study, scale, "setting", check.settings or [], lambda file: file.settings_and_columns())
    protocols = [check.protocol] if check.protocol else []
    _require(place, check.study, scale, "protocol", protocols, lambda file: file.evaluation.protocols)
    if hasattr(check, "method"):
        _require(place, check.study, scale, "method", [check.method], lambda file: file.methods)
    for side in (getattr(check, one) for one in ("first", "second") if hasattr(check, one)):
        _require(place, side.study or check.study, scale, "method", [side.method], lambda file: file.methods)


def _require(place: str, study: str, scale: str | None, kind: str, names: list[str], known_of: Any) -> None:
    """scale: None where it does not matter: the study's first."""
    known_studies = study_files(SUITES_FOLDER)
    if study not in known_studies:
        raise UserError(f"{place}: there is no study {study!r}{nearest(study, known_studies)}")
    scales = scales_of(known_studies[study])
    scale = scale or scales[0]
    if scale not in scales:
        raise UserError(f"{place}: study {study} has no scale {scale!r}{nearest(scale, scales)}")
    known = known_of(study_at(known_studies[study], scale).file)
    for name in names:
        if name not in known:
            raise UserError(f"{place}: study {study} has no {kind} {name!r}{nearest(name, known)}")


@cache
def study_at(path: Path, scale: str) -> Study:
    """A study of the project, read once."""
    return read(path, scale)


def distinct(files: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for published in files:
        if published not in found:
            found.append(published)
    return found


def papers() -> list[Any]:
    from reports.papers.published_file import catalogue

    return catalogue()


def section_of(study: Study, options: argparse.Namespace) -> Any:
    """The study with its records, and with every seed that is recorded where the command line names none."""
    from reports.sources import section

    published = published_of(study)
    made = section(info_of(study, options), published, lambda: records_of(study, options))
    if options.seeds is not None or made.records is None:
        return made
    seeds = sorted({*study.seeds, *(int(seed) for seed in made.records.runs["seed"])})
    told = argparse.Namespace(**vars(options) | {"seeds": ",".join(map(str, seeds))})
    return replace(made, info=info_of(study, told))


def records_of(study: Study, options: argparse.Namespace) -> Any:
    """The records of the seeds asked for; without any named, of every seed that was run."""
    from reports.records import load

    store = Store(tracking_uri(options), Path(options.results))
    store.require_reachable()
    store.require_own_artifacts(study.file.study)

    def wanted(recorded: list[int]) -> list[str]:
        seeds = options.seeds if options.seeds is not None else ",".join(map(str, {*study.seeds, *recorded}))
        return [run.spec.run_id for run in runs_of(study, argparse.Namespace(seeds=seeds))]

    metrics = published_of(study).curves_of(study.file.study)
    return load(tracking_uri(options), study.file.study, study.scale, run_ids=wanted, metrics=metrics)


def info_of(study: Study, options: argparse.Namespace) -> Any:
    from reports.study_info import Deviation, MethodInfo, SettingInfo, StudyInfo

    file, runs = study.file, runs_of(study, options)

    def method(label: str, description: str) -> MethodInfo:
        mine = [run for run in runs if run.method == label]
        settings = tuple(name for name in file.settings_and_columns() if any(run.setting == name for run in mine))
        return MethodInfo(label, description, tuple(sorted({run.spec.seed for run in mine})), settings)

    given = {"scale": study.scale != "paper", "seeds": options.seeds, "results": options.results != "results"}
    said = {name: f" --{name} {shlex.quote(getattr(options, name))}" for name, shown in given.items() if shown}
    size = "".join(said.values())
    films = f"metarepro films {options.study}{said.get('scale', '')}{said.get('results', '')}"
    info = StudyInfo(
        name=file.study,
        title=file.title,
        scale=study.scale,
        settings=tuple(SettingInfo(name, columns) for name, columns in file.settings_and_columns().items()),
        methods=tuple(method(label, entry.description) for label, entry in file.methods.items()),
        seeds=tuple(sorted({run.spec.seed for run in runs})),
        deviations=tuple(Deviation(d.topic, d.report, d.code, d.here) for d in file.deviations),
        findings=tuple(file.findings),
        commands={
            "run": f"metarepro run {options.study}{size}",
            "report": f"metarepro report {options.study}{size}",
        }
        | ({"films": films} if PICTURES in study.provides() else {}),
    )
    planned = {(run.setting, run.method, run.spec.seed) for run in runs}
    return replace(info, unasked=frozenset(info.expected - planned))

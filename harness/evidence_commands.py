"""The commands about committed evidence: writing it, printing tables of it, and measuring the estimators."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.composition import AUDIT, EVIDENCE_FOLDER, REGISTRIES, SUITES_FOLDER, command_line, read, runs_of, study_of
from harness.errors import UserError
from harness.files import read_json
from harness.recorded import published_at, published_of, records_of, stem_of
from harness.study import Study
from harness.study_source import find_study
from harness.tuning.plan import tuning_files
from harness.tuning_commands import print_tuning_table

ESTIMATOR_CLAIM = ("point_corners", "rothfuss2019_promp", "dice_std_over_lvc")
"""The printed statement that the estimator audit measures: suite, paper, id."""


def export_evidence(options: argparse.Namespace) -> int:
    """Write the evidence of a study as a small sorted CSV with its provenance."""
    from reports.exhibits.blocks import figure_data
    from reports.export import read_evidence, write_evidence

    study = study_of(options)
    if options.to is None and (study.scale == "smoke" or study.path.parent.parent != SUITES_FOLDER):
        raise UserError(
            "only the project's own studies, and no smoke test, go to its committed evidence; say --to FOLDER"
        )
    target = Path(options.to or EVIDENCE_FOLDER) / f"{stem_of(study)}.csv"
    records = records_of(study, options)
    beside = figure_data(records, published_of(study), study.file.study)
    settings, adopt = study.file.settings_and_columns(), _names_of(study, options) if options.adopt else None
    written = write_evidence(records, target, command_line(), settings, beside, adopt)
    print(f"evidence: {written}\nprovenance: {written.with_suffix('.provenance.json')}")
    if adopt is not None:
        for name, one in read_json(written.with_suffix(".provenance.json")).get("adopted", {}).items():
            print(f"adopted: {one['runs']} runs of {name}")
        if missing := set(adopt) - set(read_evidence(written)["run_id"]):
            print(f"still missing: {len(missing)} of the {len(adopt)} runs of the study")
    for ending in sorted(beside):
        print(f"of figures: {written.with_name(f'{written.stem}{ending}.csv')}")
    return 0


def _names_of(study: Study, options: argparse.Namespace) -> dict[str, dict[str, str]]:
    """run_id -> study, setting, scale and method, of every run that the study asks for."""
    names = ("study", "setting", "scale", "method")
    return {run.spec.run_id: {name: getattr(run, name) for name in names} for run in runs_of(study, options)}


def print_table(options: argparse.Namespace) -> int:
    """Print the headline table in Markdown, from committed evidence."""
    from reports.export import read_evidence
    from reports.markdown import markdown

    if options.study in tuning_files(SUITES_FOLDER):
        return print_tuning_table(options)
    study = read(find_study(options.study, SUITES_FOLDER), options.scale)
    evidence = read_evidence(Path(options.evidence or EVIDENCE_FOLDER / f"{stem_of(study)}.csv"))
    print(markdown(evidence, published_of(study), study.file.study, list(study.file.methods)), end="")
    return 0


def audit_estimators(options: argparse.Namespace) -> int:
    """Measure every meta-gradient estimator against the exact meta-gradient, and write the page."""
    from harness.audit_command import evidence_folder, run_audit
    from reports.estimators.page import build

    results, evidence = Path(options.results), evidence_folder(options.export, options.scale, EVIDENCE_FOLDER)
    done = run_audit(AUDIT, options.scale, REGISTRIES, results, evidence, command_line())
    suite, paper, claim = ESTIMATOR_CLAIM
    printed = published_at(SUITES_FOLDER / suite / "published.yaml").claim(paper, claim)
    page = build(done.table, done.provenance, results / "reports", claim=printed, **done.audit.shown())
    print(f"page:    {page}\ntables and figures: {page.with_suffix('')}")
    return 0

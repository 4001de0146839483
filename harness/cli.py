"""``metarepro ...``: the composition root, the only file that imports all four packages."""

from __future__ import annotations

import argparse
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

from algorithms import ALGORITHMS, RULES
from harness.api import Registries
from harness.command_line import Handler, command_parser
from harness.errors import UserError
from harness.extensions import with_installed
from harness.plan import Plan, require_runs
from harness.spec import PlannedRun
from harness.study import Study, find_study, has_scale, parse_seeds, read_study, study_files
from harness.tracking import Store, default_uri, set_mlflow_environment
from harness.worker import Job, Outcome, Report, work
from suites import SUITES

REGISTRIES = Registries(suites=SUITES, algorithms=ALGORITHMS, rules=RULES)
EXTENDED = with_installed(REGISTRIES)
"""What a user's own study may name. The project's studies know the project's names only: nothing that anybody installs
can change or break them."""
PROJECT = Path(__file__).resolve().parent.parent
SUITES_FOLDER = PROJECT / "suites"
CLAIM = ("point_corners", "rothfuss2019_promp", "dice_std_over_lvc")
"""The printed statement that the estimator audit measures: suite, paper, id."""
EVIDENCE_FOLDER = PROJECT / "reports" / "evidence"
AUDIT = SUITES_FOLDER / "tabular_mdp" / "audits" / "estimators.yaml"


def execute(job: Job, report: Report) -> Outcome:
    """One job, in whatever process it lands."""
    return work(job, REGISTRIES, report)


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Exit codes: 0 all well, 1 some runs failed, 2 bad input, 130 interrupted."""
    parser = _parser()
    options = parser.parse_args(arguments)
    command: Handler = options.handler
    set_mlflow_environment()
    try:
        return command(options)
    except UserError as error:
        print(f"metarepro: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmetarepro: interrupted; the same command goes on from the last checkpoints", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def run_study(options: argparse.Namespace) -> int:
    """Expand a study, show the plan, run what is missing, say where the results are."""
    from harness.grid import run_grid

    plan = _plan(_study(options), options)
    failed = run_grid(plan, _tracking_uri(options), options.workers, _command(), execute)
    return 1 if failed else 0


def reproduce(options: argparse.Namespace) -> int:
    """Run what is missing of a study and of those that its page shows as well, then write the page."""
    companions = [_companion(options, name) for name in _study(options).file.companions]
    for companion in companions:
        _study(companion)  # refuse a bad one before anything runs
    codes = [run_study(one) for one in (options, *companions)]
    write_report(options)
    return max(codes)


def write_report(options: argparse.Namespace) -> int:
    """Write the page of a study, with every table as CSV and every figure as SVG beside it."""
    study = _study(options)
    print("reading the records ...", file=sys.stderr)
    from reports.page import build

    records, published = _records(study, options), _published(study)
    companions = _companions(study, options)
    print("drawing the page ...", file=sys.stderr)
    page = build(records, _study_info(study, options), published, Path(options.results) / "reports", companions)
    print(f"page:    {page}\ntables and figures: {page.with_suffix('')}")
    return 0


def export_evidence(options: argparse.Namespace) -> int:
    """Write the evidence of a study as a small sorted CSV with its provenance."""
    from reports.exhibit_blocks import figure_data
    from reports.export import write_evidence

    study = _study(options)
    if options.to is None and (study.scale == "smoke" or study.path.parent.parent != SUITES_FOLDER):
        raise UserError(
            "only the project's own studies, and no smoke test, go to its committed evidence; say --to FOLDER"
        )
    target = Path(options.to or EVIDENCE_FOLDER) / f"{_stem(study)}.csv"
    records = _records(study, options)
    beside = figure_data(records, _published(study), study.file.study)
    written = write_evidence(records, target, _command(), study.file.settings_and_columns(), beside)
    print(f"evidence: {written}\nprovenance: {written.with_suffix('.provenance.json')}")
    for ending in sorted(beside):
        print(f"of figures: {written.with_name(f'{written.stem}{ending}.csv')}")
    return 0


def print_table(options: argparse.Namespace) -> int:
    """Print the headline table in Markdown, from committed evidence."""
    from reports.export import read_evidence
    from reports.markdown import markdown

    study = _read(find_study(options.study, SUITES_FOLDER), options.scale)
    evidence = read_evidence(Path(options.evidence or EVIDENCE_FOLDER / f"{_stem(study)}.csv"))
    print(markdown(evidence, _published(study), study.file.study, list(study.file.methods)), end="")
    return 0


def _stem(study: Study) -> str:
    """What the files of a study are called: another scale than the paper's never replaces a replication."""
    return study.file.study if study.scale == "paper" else f"{study.file.study}_{study.scale}"


def _published(study: Study) -> Any:
    """The printed numbers for the study's suite; a suite from outside the project has none."""
    from reports.published import load_published, nothing_published

    if study.file.suite not in SUITES:
        return nothing_published()
    return load_published(SUITES_FOLDER / study.file.suite / "published.yaml")


def _records(study: Study, options: argparse.Namespace) -> Any:
    from reports.records import load

    Store(_tracking_uri(options), Path(options.results)).require_reachable()
    run_ids = [run.spec.run_id for run in _runs(study, options)]
    metrics = _published(study).curves_of(study.file.study)
    return load(_tracking_uri(options), study.file.study, study.scale, run_ids=run_ids, metrics=metrics)


def _companions(study: Study, options: argparse.Namespace) -> list[tuple[Any, Any]]:
    """Records and description of the studies that a page shows as well, where any of their runs is recorded."""
    found = []
    for name in study.file.companions:
        theirs = _companion(options, name)
        other = _study(theirs)
        try:
            found.append((_records(other, theirs), _study_info(other, theirs)))
        except UserError as error:
            print(f"without {name}: {error}", file=sys.stderr)
    return found


def _companion(options: argparse.Namespace, name: str) -> argparse.Namespace:
    """The same options for another study, with its own seeds."""
    given = {key: value for key, value in vars(options).items() if key != "read"}
    return argparse.Namespace(**given | {"study": name, "seeds": None})


def _study_info(study: Study, options: argparse.Namespace) -> Any:
    from reports.study_info import Deviation, MethodInfo, SettingInfo, StudyInfo

    file, runs = study.file, _runs(study, options)

    def method(label: str, description: str) -> MethodInfo:
        mine = [run for run in runs if run.method == label]
        settings = tuple(name for name in file.settings_and_columns() if any(run.setting == name for run in mine))
        return MethodInfo(label, description, tuple(sorted({run.spec.seed for run in mine})), settings)

    given = {"scale": study.scale != "paper", "seeds": options.seeds, "results": options.results != "results"}
    size = "".join(f" --{name} {shlex.quote(getattr(options, name))}" for name, shown in given.items() if shown)
    return StudyInfo(
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
        },
    )


def show_status(options: argparse.Namespace) -> int:
    """List the runs of a study with their states."""
    plan = _plan(_study(options), options)
    print(f"{plan.study.file.study} ({plan.study.scale}): {plan.describe()}")
    print(f"{'setting':<20} {'method':<20} {'seed':>5}  {'run_id':<16}  status")
    for run, status in zip(plan.runs, plan.statuses, strict=True):
        directory = plan.directory(run)
        note = ""
        if status == "failed":
            from harness.files import read_json

            note = f"  {read_json(directory.failure)['reason']}"
        elif status == "diverged":
            note = f"  {directory.read_manifest()['reason']}"
        print(f"{run.setting:<20} {run.method:<20} {run.spec.seed:>5}  {run.spec.run_id}  {status}{note}")
    return 0


def list_studies(options: argparse.Namespace) -> int:
    """All studies that come with the project."""
    for name, path in study_files(SUITES_FOLDER).items():
        what = f"has no scale {options.scale}  ({path})"
        if has_scale(path, options.scale):
            study = _read(path, options.scale)
            what = f"{study.file.title}  ({len(study.plan())} runs, {path})"
        print(f"{name:<24} {what}")
    return 0


def audit_estimators(options: argparse.Namespace) -> int:
    """Measure every meta-gradient estimator against the exact meta-gradient, and write the page."""
    from harness.audit_command import evidence_folder, run_audit
    from reports.estimators_page import build
    from reports.published import load_published

    results, evidence = Path(options.results), evidence_folder(options.export, options.scale, EVIDENCE_FOLDER)
    done = run_audit(AUDIT, options.scale, REGISTRIES, results, evidence, _command())
    claim = load_published(SUITES_FOLDER / CLAIM[0] / "published.yaml").claim(*CLAIM[1:])
    page = build(done.table, done.provenance, results / "reports", claim=claim, **done.audit.shown())
    print(f"page:    {page}\ntables and figures: {page.with_suffix('')}")
    return 0


def start_ui(options: argparse.Namespace) -> int:
    """Open MLflow on 127.0.0.1."""
    uri = _tracking_uri(options)
    database = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:") and not database.exists():
        raise UserError(f"{database}: there is no store yet; `metarepro run` makes it")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", options.port)) == 0:
            raise UserError(f"port {options.port} is taken; choose another with --port")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(options.port)]
    print(f"MLflow on http://127.0.0.1:{options.port} over {uri}; Ctrl-C ends it", flush=True)
    os.execv(sys.executable, command)


def _read(path: Path, scale: str) -> Study:
    ours = path.resolve().is_relative_to(SUITES_FOLDER)
    return read_study(path, scale, REGISTRIES if ours else EXTENDED)


def _study(options: argparse.Namespace) -> Study:
    """The study that was asked for, read once: its files may be edited while it runs."""
    if "read" not in options:
        options.read = _read(find_study(options.study, SUITES_FOLDER), options.scale)
    study: Study = options.read
    return study


def _runs(study: Study, options: argparse.Namespace) -> list[PlannedRun]:
    return require_runs(study.plan(None if options.seeds is None else parse_seeds(options.seeds)))


def _plan(study: Study, options: argparse.Namespace) -> Plan:
    try:
        return Plan(study, _runs(study, options), Path(options.results))
    except OSError as error:
        raise UserError(f"{options.results}: the results folder cannot be read ({error.strerror})") from None


def _tracking_uri(options: argparse.Namespace) -> str:
    return options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri(Path(options.results))


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _parser() -> argparse.ArgumentParser:
    handlers: dict[str, Handler] = {
        "reproduce": reproduce,
        "run": run_study,
        "report": write_report,
        "export": export_evidence,
        "table": print_table,
        "status": show_status,
        "list": list_studies,
        "estimators": audit_estimators,
        "ui": start_ui,
    }
    return command_parser(handlers)

"""``metarepro ...``: the commands that run things; those that report are in `harness.report_commands`."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from harness.all_command import run_everything
from harness.command_line import Handler, command_parser
from harness.composition import (
    REGISTRIES,
    SUITES_FOLDER,
    command_line,
    execution_of,
    from_elsewhere,
    of_other_study,
    read,
    runs_of,
    study_of,
    tracking_uri,
)  # fmt: skip
from harness.errors import UserError
from harness.evidence_commands import audit_estimators, export_evidence, print_table
from harness.film_commands import draw_films
from harness.interruption import terminate_like_interrupt
from harness.plan import Plan
from harness.redaction import without_secrets
from harness.report_commands import print_verdicts, report_on_study, write_report
from harness.study import Study
from harness.study_source import scales_of, study_files
from harness.tracking import set_mlflow_environment
from harness.tuning.plan import Tuning, tuning_files
from harness.tuning_commands import start_dashboard, tune
from harness.worker import Job, Outcome, Report, work


def execute(job: Job, report: Report) -> Outcome:
    """One job, in whatever process it lands."""
    return work(job, REGISTRIES, report)


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Exit codes: 0 all well, 1 some runs failed, 2 bad input, 130 interrupted."""
    parser = _parser()
    options = parser.parse_args(arguments)
    command: Handler = options.handler
    set_mlflow_environment()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else torch's idle threads spin beside a suite's own
    terminate_like_interrupt()
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

    plan = _plan(study_of(options), options)
    failed = run_grid(plan, tracking_uri(options), execution_of(options), command_line(), execute)
    return 1 if failed else 0


def reproduce(options: argparse.Namespace) -> int:
    """Run what is missing of a study and of those that its page shows as well, then write the page."""
    companions = [of_other_study(options, name) for name in study_of(options).file.companions]
    for companion in companions:
        study_of(companion)  # refuse a bad one before anything runs
    codes = [run_study(one) for one in (options, *companions)]
    report_on_study(options)
    return max(codes)


def show_status(options: argparse.Namespace) -> int:
    """List the runs of a study with their states."""
    plan = _plan(study_of(options), options)
    lines = [f"{plan.study.file.study} ({plan.study.scale}): {plan.describe()}"]
    lines.append(f"{'setting':<20} {'method':<20} {'seed':>5}  {'run_id':<16}  status")
    for run, status in zip(plan.runs, plan.statuses, strict=True):
        directory = plan.directory(run)
        note = f"  {directory.reason()}" if status in ("failed", "diverged") else ""
        lines.append(f"{run.setting:<20} {run.method:<20} {run.spec.seed:>5}  {run.spec.run_id}  {status}{note}")
    print("\n".join(lines))
    return 0


def list_studies(options: argparse.Namespace) -> int:
    """All studies and tunings that come with the project."""
    for name, path in study_files(SUITES_FOLDER).items():
        what = f"has no scale {options.scale}  ({path})"
        if options.scale in scales_of(path):
            study = read(path, options.scale)
            what = f"{study.file.title}  ({len(study.plan())} runs, {path})"
        print(f"{name:<24} {what}")
    for name, path in tuning_files(SUITES_FOLDER).items():
        if options.scale in scales_of(path):
            tuning = Tuning(path, options.scale, REGISTRIES)
            trials = sum(stage.trials for stage in tuning.file.stages.values())
            print(f"{name:<24} {tuning.file.title}  (tuning, {trials} trials, {path})")
    return 0


def start_ui(options: argparse.Namespace) -> int:
    """Open MLflow on 127.0.0.1."""
    uri = tracking_uri(options)
    database = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:") and not database.exists():
        raise UserError(f"{database}: there is no store yet; `metarepro run` makes it")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", options.port)) == 0:
            raise UserError(f"port {options.port} is taken; choose another with --port")
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri  # not an argument: everybody on the machine can read those
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(options.port)]
    print(f"MLflow on http://127.0.0.1:{options.port} over {without_secrets(uri)}; Ctrl-C ends it", flush=True)
    print(from_elsewhere(options.port), flush=True)
    os.execv(sys.executable, command)


def _plan(study: Study, options: argparse.Namespace) -> Plan:
    try:
        return Plan(study, runs_of(study, options), Path(options.results))
    except OSError as error:
        raise UserError(f"{options.results}: the results folder cannot be read ({error.strerror})") from None


def _parser() -> argparse.ArgumentParser:
    handlers: dict[str, Handler] = {
        "reproduce": reproduce,
        "run": run_study,
        "all": lambda options: run_everything(options, _plan, run_study, lambda theirs: tune(theirs, execute)),
        "report": write_report,
        "films": lambda options: draw_films(options, _plan),
        "export": export_evidence,
        "table": print_table,
        "verdicts": print_verdicts,
        "status": show_status,
        "list": list_studies,
        "estimators": audit_estimators,
        "tune": lambda options: tune(options, execute),
        "tune-ui": start_dashboard,
        "ui": start_ui,
    }
    return command_parser(handlers)

"""What the commands put together: the registries of suites and methods, the project's folders, and reading a study."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path

from algorithms import ALGORITHMS, RULES
from harness.api import Registries
from harness.checkpoint_store import absolute
from harness.execution import Execution
from harness.extensions import with_installed
from harness.plan import require_runs
from harness.redaction import command_without_secrets
from harness.spec import PlannedRun
from harness.study import Study, read_study
from harness.study_file import parse_seeds
from harness.study_source import find_study
from harness.tracking import default_uri
from suites import SUITES

REGISTRIES = Registries(suites=SUITES, algorithms=ALGORITHMS, rules=RULES)
EXTENDED = with_installed(REGISTRIES)
"""What a user's own study may name. The project's studies know the project's names only: nothing that anybody installs
can change or break them."""
PROJECT = Path(__file__).resolve().parent.parent
SUITES_FOLDER = PROJECT / "suites"
EVIDENCE_FOLDER = PROJECT / "reports" / "evidence"
AUDIT = SUITES_FOLDER / "tabular_mdp" / "audits" / "estimators.yaml"


def read(path: Path, scale: str) -> Study:
    """A study file at one of its scales."""
    ours = path.resolve().is_relative_to(SUITES_FOLDER)
    return read_study(path, scale, REGISTRIES if ours else EXTENDED)


def study_of(options: argparse.Namespace) -> Study:
    """The study that was asked for, read once: its files may be edited while it runs."""
    if "read" not in options:
        options.read = read(find_study(options.study, SUITES_FOLDER), options.scale)
    study: Study = options.read
    return study


def of_other_study(options: argparse.Namespace, name: str, scale: str | None = None) -> argparse.Namespace:
    """The same options for another study, with its own seeds."""
    given = {key: value for key, value in vars(options).items() if key != "read"}
    return argparse.Namespace(**given | {"study": name, "seeds": None, "scale": scale or options.scale})


def runs_of(study: Study, options: argparse.Namespace) -> list[PlannedRun]:
    """Every run that the study asks for, with the seeds and the device of the command line."""
    runs = require_runs(study.plan(None if options.seeds is None else parse_seeds(options.seeds)))
    device = getattr(options, "device", None)
    if device is None:
        return runs
    return [run.model_copy(update={"resources": run.resources.model_copy(update={"device": device})}) for run in runs]


def execution_of(options: argparse.Namespace) -> Execution:
    """Where the runs of a command are executed."""
    address = options.address or os.environ.get("RAY_ADDRESS") or None
    checkpoints = options.checkpoints or os.environ.get("METAREPRO_CHECKPOINTS") or None
    workers = options.workers or (None if address else os.cpu_count() or 1)
    return Execution(workers, address, absolute(checkpoints) if checkpoints else None)


def tracking_uri(options: argparse.Namespace) -> str:
    """The MLflow store."""
    return options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri(Path(options.results))


def command_line() -> str:
    """The command as it was typed, without the passwords in it: it is recorded."""
    return command_without_secrets([Path(sys.argv[0]).name, *sys.argv[1:]])


def from_elsewhere(port: int) -> str:
    """How to see a page that only this machine serves: it asks nobody who they are, so it is not shown to a network."""
    return (
        f"from another machine: ssh -L {port}:127.0.0.1:{port} {platform.node() or 'HOST'}, then open the same address"
    )

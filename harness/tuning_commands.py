"""The commands about tuning: ``metarepro tune`` and ``metarepro tune-ui``."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from harness.composition import EVIDENCE_FOLDER, REGISTRIES, SUITES_FOLDER, command_line, tracking_uri
from harness.engine import Execute
from harness.errors import UserError
from harness.tuning.plan import Tuning, find_tuning


def tuning_of(options: argparse.Namespace) -> Tuning:
    """The tuning that was asked for."""
    return Tuning(find_tuning(options.tuning, SUITES_FOLDER), options.scale, REGISTRIES)


def tune(options: argparse.Namespace, execute: Execute) -> int:
    """Carry a tuning to its end, write its page, and with ``--export`` the evidence."""
    from harness.tuning.run import run_tuning
    from harness.tuning.table import write_evidence

    tuning, results = tuning_of(options), Path(options.results)
    if options.export == "" and tuning.scale == "smoke":
        raise UserError("no smoke test goes to the committed evidence; say --export FOLDER")
    trials = run_tuning(
        tuning, results, tracking_uri(options), options.storage, options.workers, command_line(), execute
    )
    if options.export is not None:
        written = write_evidence(tuning, trials, Path(options.export or EVIDENCE_FOLDER), results, command_line())
        print(f"evidence: {written}\nprovenance: {written.with_suffix('.provenance.json')}")
    return 0


def start_dashboard(options: argparse.Namespace) -> int:
    """Open optuna-dashboard on 127.0.0.1 over the trials of a tuning."""
    tuning = tuning_of(options)
    source = options.storage or str(Path(options.results) / "tuning" / tuning.stem / "optuna.journal")
    if options.storage is None and not Path(source).exists():
        raise UserError(f"{source}: there are no trials yet; `metarepro tune {options.tuning}` makes them")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", options.port)) == 0:
            raise UserError(f"port {options.port} is taken; choose another with --port")
    program = Path(sys.executable).with_name("optuna-dashboard")
    print(f"optuna-dashboard on http://127.0.0.1:{options.port} over {source}; Ctrl-C ends it", flush=True)
    os.execv(program, [str(program), source, "--host", "127.0.0.1", "--port", str(options.port)])

"""A job on a machine that shares no folder with the driver: what it finds there, and what comes home.

The run works in a scratch folder of its machine. What it leaves, evidence, marker and newest checkpoint, returns as
bytes and becomes the run's folder beneath the driver's results, the same as if it had been made there.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

from harness.errors import UserError
from harness.files import sha256, write_atomic
from harness.provenance import PROJECT, machine, source_hash
from harness.results import RunDirectory
from harness.worker import Execute, Job, Outcome, Report

SCRATCH = "METAREPRO_SCRATCH"
"""Environment variable of a machine: the folder under which its runs work; default: the system's temporary folder."""
Record = dict[str, bytes]
"""Path within the folder of a run -> content."""


def sent_away(job: Job) -> Job:
    """A job as it leaves the driver: what no other machine can reach is taken out."""
    here = sha256(f"{socket.gethostname()}:{job.results}".encode())[:16]
    reachable = not job.tracking_uri.startswith(("sqlite:", "file:")) and "://" in job.tracking_uri
    uri = job.tracking_uri if reachable else ""
    return job.model_copy(update={"away": here, "tracking_uri": uri, "source": source_hash()})


def execute_away(job: Job, execute: Execute, report: Report, node: str) -> tuple[Outcome, Record]:
    """Execute a job that was sent away; the record is empty unless the run ended. ``node``: the scheduler's name.

    Errors: a machine with other code than the driver's, or whose scratch folder is somebody else's.
    """
    run_id = job.planned.spec.run_id
    if job.source != source_hash():
        raise UserError(
            f"{socket.gethostname()}: the code in {PROJECT} is not the driver's ({source_hash()[:12]}, there "
            f"{job.source[:12]}); the same version belongs on every machine, and Ray is to be started from it"
        )
    base = _own_folder() / job.away
    there = job.model_copy(update={"results": str(base), "provenance": job.provenance | machine() | {"node": node}})
    outcome = execute(there, report)
    directory = RunDirectory.of(base, run_id)
    if outcome.status in ("taken", "interrupted"):
        return outcome, {}
    record = packed(directory)
    if outcome.status != "failed":
        shutil.rmtree(directory.folder, ignore_errors=True)
        directory.withdraw_training(job.planned.spec)
    return outcome, record


def _own_folder() -> Path:
    """Where the runs of this user work: nobody else may put anything there."""
    folder = Path(os.environ.get(SCRATCH) or tempfile.gettempdir()) / f"metarepro-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder}: belongs to somebody else; set {SCRATCH} to a folder of your own")
    return folder


def packed(directory: RunDirectory) -> Record:
    """What comes home of a run, the markers last."""
    markers = [path for path in (directory.failure, directory.done) if path.exists()]
    paths = [*directory.evidence(), *directory.newest_checkpoint(), *markers]
    return {str(path.relative_to(directory.folder)): path.read_bytes() for path in paths}


def unpack(record: Record, directory: RunDirectory) -> None:
    """Make the run's folder of a record. Errors: the results folder cannot be written."""
    known = {path.name for path in directory.every_file()}
    for name, content in record.items():
        path = directory.folder / name
        inside = path.parent == directory.checkpoints and path.suffix in {".safetensors", ".json"}
        if not inside and name not in known:
            raise ValueError(f"a record of {directory.folder.name} holds {name!r}")
        write_atomic(path, content)

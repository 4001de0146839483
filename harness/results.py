"""What a run leaves behind: its folder, its tables, and the marker that says that it is whole."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from harness.errors import UserError
from harness.files import discard, read_json, sha256, write_atomic, write_json
from harness.redaction import without_secrets
from harness.spec import RunSpec, Status

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor

    from harness.evaluation import Measurement


FINISHED: tuple[Status, ...] = ("done", "diverged")
"""States that running again would not change."""


class RunDirectory:
    """``<results>/runs/<run_id>/``. A run is finished when ``DONE.json`` is there and its checksums hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.spec = folder / "spec.json"
        self.returns = folder / "returns.parquet"
        self.references = folder / "references.parquet"
        self.measures = folder / "measures.parquet"
        self.paths = folder / "paths.parquet"
        self.curves = folder / "curves.parquet"
        self.manifest = folder / "manifest.json"
        self.failure = folder / "FAILED.json"
        self.tries = folder / "TRIES.json"
        self.done = folder / "DONE.json"

    @staticmethod
    def of(results: Path, run_id: str) -> RunDirectory:
        """The directory of a run under a results folder."""
        return RunDirectory(results / "runs" / run_id)

    def lock(self, patience_s: float = 0.0) -> FileLock:
        """Held by whoever works on the run; the system releases it when the process dies.

        Entering it raises ``filelock.Timeout`` if someone else still holds it after ``patience_s``.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / ".lock"
        if path.is_dir() or path.is_symlink():  # nobody's lock
            discard(path)
        return FileLock(path, timeout=patience_s)

    def _held(self) -> bool:
        """Whether someone works on the run; asked without writing, as a folder may be read-only."""
        try:
            with (self.folder / ".lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def announce_training(self, spec: RunSpec) -> None:
        """Say that this run's newest checkpoint is a whole training, which runs with other meta-tests may share."""
        announced = self._trainings(spec) / self.folder.name
        announced.parent.mkdir(parents=True, exist_ok=True)
        announced.touch()

    def withdraw_training(self, spec: RunSpec) -> None:
        """Say no more that it is here."""
        (self._trainings(spec) / self.folder.name).unlink(missing_ok=True)

    def twin(self, spec: RunSpec) -> RunDirectory | None:
        """Another run with the same training, whole and still there; None if there is none."""
        for path in sorted(self._trainings(spec).glob("*")):
            other = RunDirectory(self.folder.parent / path.name)
            newest = f"{spec.budget.meta_iterations:08d}.json"
            if other.folder != self.folder and (other.checkpoints / newest).is_file():
                return other
        return None

    def _trainings(self, spec: RunSpec) -> Path:
        return self.folder.parent.parent / "trainings" / spec.training_id

    def begin(self, spec: RunSpec) -> None:
        """Record the spec, and forget an earlier failure and what a killed process was writing."""
        for place in (self.folder, self.checkpoints):
            for path in place.glob(".?*.*"):  # as `write_atomic` names them
                path.unlink(missing_ok=True)
        for path in (*self._tables(), self.spec, self.manifest, self.done):
            if path.is_dir():  # no file could take its place
                discard(path)
        discard(self.failure)
        write_json(self.spec, json.loads(spec.canonical_json()))

    def finish(self, status: str) -> None:
        """Write the marker, last, with a checksum of every file of evidence."""
        self.tries.unlink(missing_ok=True)
        checksums = {path.name: sha256(path.read_bytes()) for path in self.evidence()}
        write_json(self.done, {"status": status, "sha256": checksums})

    def fail(self, reason: str, traceback: str) -> None:
        """Record why the run could not be finished."""
        write_json(self.failure, {"reason": without_secrets(reason), "traceback": without_secrets(traceback)})

    def evidence(self) -> Iterator[Path]:
        """The files that a finished run has."""
        return (path for path in (self.spec, *self._tables(), self.manifest) if path.exists())

    def every_file(self) -> Iterator[Path]:
        """The files that a run can have beside its checkpoints, whether they are there or not."""
        return (path for path in (self.spec, *self._tables(), self.manifest, self.failure, self.done))

    def _tables(self) -> tuple[Path, ...]:
        return self.returns, self.references, self.measures, self.paths, self.curves

    def newest_checkpoint(self) -> Iterator[Path]:
        """The files of the newest checkpoint: tensors, then their JSON."""
        for path in sorted(self.checkpoints.glob("*.safetensors"))[-1:]:
            yield from (one for one in (path, path.with_suffix(".json")) if one.is_file())

    def is_finished(self) -> bool:
        """Marker there, and every file as it was when the marker was written."""
        return self._finished_status() is not None

    def _finished_status(self) -> Status | None:
        """The status in ``DONE.json``; None if it is not there, not readable, or no longer true of the files."""
        try:
            marker = read_json(self.done)
            status, checksums = marker["status"], marker["sha256"]
            if status not in FINISHED or self.manifest.name not in checksums:
                return None
            paths = [(self.folder / name, checksum) for name, checksum in checksums.items()]
            whole = all(sha256(path.read_bytes()) == checksum for path, checksum in paths)
        except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return status if whole else None

    def reason(self) -> str:
        """Why the run failed or diverged."""
        for path in (self.failure, self.manifest):
            with contextlib.suppress(UserError, KeyError, TypeError):
                return str(read_json(path)["reason"])
        return "its files do not say why"

    def status(self) -> Status:
        """State of the run, from its files and its lock alone."""
        if self.done.exists():
            return self._finished_status() or "damaged"
        if not self.folder.exists():
            return "missing"
        if self._held():
            return "running"
        if self.failure.exists():
            return "failed"
        return "interrupted" if self.spec.exists() else "missing"

    def write_table(self, path: Path, table: pyarrow.Table) -> None:
        """Parquet, atomically; equal tables give equal bytes."""
        import pyarrow.parquet

        buffer = io.BytesIO()
        pyarrow.parquet.write_table(table, buffer, compression="zstd")
        write_atomic(path, buffer.getvalue())

    def read_manifest(self) -> dict[str, Any]:
        """The manifest of a finished run."""
        manifest: dict[str, Any] = read_json(self.manifest)
        return manifest


def returns_table(measurements: list[Measurement]) -> pyarrow.Table:
    """One row per protocol, adaptation step and meta-test task.

    Columns: protocol, step, task, episodes, mean_return and sd_return over episodes (sample SD; undiscounted, suite
    units), mean_length (steps).
    """
    rows = []
    for measurement in measurements:
        episodes = measurement.counted.sum(-1)
        means, spread = _over_episodes(measurement.returns, measurement.counted)
        columns = (means, spread, _over_episodes(measurement.lengths, measurement.counted)[0])
        for step in range(means.shape[0]):
            for task in range(means.shape[1]):
                numbers = (float(column[step, task]) for column in columns)
                rows.append((measurement.protocol, step, task, int(episodes[step, task]), *numbers))
    return _table(RETURNS_SCHEMA, rows)


def _over_episodes(values: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sample SD in float64 over the episodes that count; [updates + 1, tasks, episodes] -> [..., tasks].

    One episode has an SD of 0.
    """
    values, correction = values.double(), 1 if values.shape[-1] > 1 else 0
    if bool(counted.all()):
        return values.mean(-1), values.std(-1, correction=correction)
    count = counted.sum(-1)
    mean = (values * counted).sum(-1) / count
    squares = ((values - mean.unsqueeze(-1)).square() * counted).sum(-1)
    return mean, (squares / (count - 1).clamp(min=1)).sqrt()


RETURNS_SCHEMA = {
    "protocol": "string",
    "step": "int32",
    "task": "int32",
    "episodes": "int32",
    "mean_return": "float64",
    "sd_return": "float64",
    "mean_length": "float64",
}


def measures_table(measurements: list[Measurement]) -> pyarrow.Table | None:
    """One row per protocol, adaptation step, meta-test task and name; None where the suite measures nothing.

    Columns: protocol, step, task, name, value; see ``Suite.measures``.
    """
    rows = [
        (measurement.protocol, step, task, name, value)
        for measurement in measurements
        for name in sorted(measurement.measures)
        for step, of_tasks in enumerate(measurement.measures[name].tolist())
        for task, value in enumerate(of_tasks)
    ]
    return _table(MEASURES_SCHEMA, rows) if rows else None


MEASURES_SCHEMA = {"protocol": "string", "step": "int32", "task": "int32", "name": "string", "value": "float64"}


def paths_table(measurements: list[Measurement]) -> pyarrow.Table | None:
    """One row per protocol, adaptation step, task, episode and time; None where nothing moves in a plane.

    Columns: protocol, step, task, episode, time (steps since the start), x, y (suite units).
    """
    rows = [
        (measurement.protocol, step, task, episode, time, x, y)
        for measurement in measurements
        if measurement.paths is not None
        for step, of_tasks in enumerate(measurement.paths.tolist())
        for task, of_episodes in enumerate(of_tasks)
        for episode, positions in enumerate(of_episodes)
        for time, (x, y) in enumerate(positions)
    ]
    return _table(PATHS_SCHEMA, rows) if rows else None


PATHS_SCHEMA = {
    "protocol": "string",
    "step": "int32",
    "task": "int32",
    "episode": "int32",
    "time": "int32",
    "x": "float32",
    "y": "float32",
}


def _table(schema: dict[str, str], rows: list[tuple[Any, ...]]) -> pyarrow.Table:
    import pyarrow

    columns = dict(zip(schema, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(schema, ())
    types = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in schema.items()])
    return pyarrow.table(columns, schema=types)


def references_table(references: dict[str, Tensor]) -> pyarrow.Table:
    """One row per meta-test task and name of what is known exactly about it; see ``Suite.references``."""
    rows = [(task, name, value) for name in sorted(references) for task, value in enumerate(references[name].tolist())]
    return _table({"task": "int32", "name": "string", "value": "float64"}, rows)


def curves_table(curves: dict[str, list[float]]) -> pyarrow.Table:
    """One row per meta-iteration, one column per metric."""
    import pyarrow

    length = len(next(iter(curves.values()), []))
    columns: dict[str, Any] = {"iteration": pyarrow.array(range(length), pyarrow.int32())}
    return pyarrow.table(columns | {name: pyarrow.array(curves[name], pyarrow.float64()) for name in sorted(curves)})

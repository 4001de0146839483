"""MLflow: the one place that writes to it.

The folder of a run is the record; MLflow is its mirror. A run that is finished in its folder but not in the store (the
store was away, or another one is used) is mirrored later, once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from filelock import FileLock, Timeout

from harness.api import Metrics
from harness.errors import UserError
from harness.results import RunDirectory
from harness.run_labels import flatten, name_of, tags_of
from harness.spec import PlannedRun

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 100
FLUSH_S = 5.0
"""Curves reach the store at least this often while a run is going."""
MAX_PARAM_LENGTH = 6000


MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
"""Set before MLflow is imported, unless the user's environment says otherwise: nothing is sent anywhere, a dead server
is noticed soon, and the UI starts no workers that it does not need."""


def set_mlflow_environment() -> None:
    """Apply :data:`MLFLOW_ENVIRONMENT` to this process and its children."""
    for name, value in MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def default_uri(results: Path) -> str:
    """SQLite under the results folder."""
    return f"sqlite:///{(results / 'mlflow.db').resolve()}"


class Store:
    """A tracking store as one study uses it."""

    def __init__(self, uri: str, results: Path) -> None:
        self.uri = uri
        self._results = results
        self._client: MlflowClient | None = None

    @property
    def client(self) -> MlflowClient:
        """Connected on first use: importing MLflow takes more than a second."""
        if self._client is None:
            import logging

            set_mlflow_environment()
            from mlflow.tracking import MlflowClient

            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.ERROR)

            self._client = MlflowClient(tracking_uri=self.uri)
        return self._client

    def prepare(self, study: str) -> str:
        """Create or migrate the store and the study's experiment, under a lock; return the experiment's id.

        Workers must not meet a fresh database: several that open one at the same time fail.
        Errors: a server that does not answer, a database that cannot be opened.
        """
        self.require_reachable()
        local = self.uri.startswith("sqlite:")
        artifacts = (self._results / "artifacts" / study).resolve().as_uri() if local else None
        try:
            with FileLock(self._results / ".mlflow.lock", timeout=120):
                found = self.client.get_experiment_by_name(study)
                if found is not None:
                    if found.lifecycle_stage != "active":
                        raise UserError(
                            f"{self.uri}: the experiment {study!r} was deleted; restore it or use another store"
                        )
                    self._refuse_moved(study, str(found.artifact_location))
                    return str(found.experiment_id)
                return str(self.client.create_experiment(study, artifact_location=artifacts))
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{self.uri}: the MLflow store cannot be used: {_first_line(error)}") from error

    def require_own_artifacts(self, study: str) -> None:
        """Refuse the store of a results folder that was copied: its records would be read from where it came from."""
        if self.uri != default_uri(self._results) or not Path(self.uri.removeprefix("sqlite:///")).is_file():
            return
        try:
            found = self.client.get_experiment_by_name(study)
        except Exception:  # no store at all, or a damaged one: whoever reads it says so
            return
        if found is not None:
            self._refuse_moved(study, str(found.artifact_location))

    def _refuse_moved(self, study: str, location: str) -> None:
        expected = (self._results / "artifacts" / study).resolve().as_uri()
        if self.uri == default_uri(self._results) and location != expected:
            raise UserError(
                f"{self._results}: this results folder was moved or copied, and its MLflow store still points to "
                f"{location}; delete {self._results / 'mlflow.db'}, and `metarepro run` makes it anew from runs/"
            )

    def require_reachable(self) -> None:
        """Refuse a server that does not answer, at once and in one line; MLflow's own retries take minutes."""
        try:
            parsed = urlparse(self.uri)
            port = parsed.port or (443 if parsed.scheme == "https" else 80)
        except ValueError as error:
            raise UserError(f"{self.uri}: not the address of an MLflow store: {error}") from None
        if parsed.scheme not in {"http", "https"}:
            return
        try:
            with socket.create_connection((parsed.hostname or "", port), timeout=5):
                pass
        except OSError as error:
            reason = error.strerror or str(error) or "no answer"
            raise UserError(
                f"{self.uri}: the MLflow server does not answer ({reason}); start it, or leave --tracking-uri out"
            ) from None

    def mirrored(self, experiment: str) -> dict[str, tuple[str, dict[str, str]]]:
        """MLflow's id and the tags of every run that is whole in the store, by ``run_id``."""
        found: dict[str, tuple[str, dict[str, str]]] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [experiment], "tags.kind = 'run' and attributes.status = 'FINISHED'", page_token=token, max_results=1000
            )
            found.update({run.data.tags["run_id"]: (run.info.run_id, run.data.tags) for run in page})
            token = page.token
            if not token:
                return found


class RunLogger:
    """One run in the store: live curves in batches, artifacts at the end, nothing twice after a resume."""

    def __init__(
        self, store: Store, experiment: str, parent: str, planned: PlannedRun, provenance: dict[str, Any]
    ) -> None:
        self._client = store.client
        self._buffer: list[Any] = []
        self._flushed = time.monotonic()
        run_id = planned.spec.run_id
        query = f"tags.run_id = '{run_id}' and tags.kind = 'run'"
        known = self._client.search_runs([experiment], query, max_results=1)
        if known:
            self._run = str(known[0].info.run_id)
            self._last_step = max(
                (m.step for m in self._client.get_metric_history(self._run, "post_update_return")), default=-1
            )
            self._client.update_run(self._run, status="RUNNING")
            self._client.set_tag(self._run, "status", "running")
            if "reason" in known[0].data.tags:
                self._client.delete_tag(self._run, "reason")
            self._log_params(planned)  # again: the store may have died meanwhile, and equal params do not clash
            return
        self._last_step = -1
        tags = tags_of(planned, provenance) | {"mlflow.parentRunId": parent, "mlflow.runName": name_of(planned)}
        self._run = str(self._client.create_run(experiment, tags=tags).info.run_id)
        self._log_params(planned)

    def _log_params(self, planned: PlannedRun) -> None:
        from mlflow.entities import Param

        params = [Param(k, v[:MAX_PARAM_LENGTH]) for k, v in flatten(planned.spec.model_dump(mode="json")).items()]
        for start in range(0, len(params), PARAMS_PER_CALL):
            self._client.log_batch(self._run, params=params[start : start + PARAMS_PER_CALL])

    def log(self, iteration: int, metrics: Metrics) -> None:
        """Buffer the metrics of one meta-iteration; whole iterations go out together, none goes out twice."""
        from mlflow.entities import Metric

        if iteration <= self._last_step:
            return
        now = int(time.time() * 1000)
        if len(self._buffer) + len(metrics) > METRICS_PER_CALL:
            self.flush()
        self._buffer += [Metric(name, value, now, iteration) for name, value in metrics.items()]
        if time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Send what is buffered in one transaction."""
        if self._buffer:
            self._client.log_batch(self._run, metrics=self._buffer)
            self._last_step = self._buffer[-1].step
            self._buffer = []
        self._flushed = time.monotonic()

    def finish(self, directory: RunDirectory) -> None:
        """Log the artifacts and close the run; ``FINISHED`` in the store means that the mirror is whole."""
        self.flush()
        for path in (*directory.evidence(), directory.done):
            self._client.log_artifact(self._run, str(path))
        for path in directory.newest_checkpoint():
            self._client.log_artifact(self._run, str(path), "checkpoint")
        manifest = directory.read_manifest()
        self._client.set_tag(self._run, "status", manifest["status"])
        if manifest["reason"]:
            self._client.set_tag(self._run, "reason", manifest["reason"])
        self._client.set_terminated(self._run, "FINISHED")

    def fail(self, reason: str) -> None:
        """Close the run as failed, with the reason."""
        self._client.set_tag(self._run, "status", "failed")
        self._client.set_tag(self._run, "reason", reason)
        self._client.set_terminated(self._run, "FAILED")


class Invocation:
    """One call of the grid on a study: the parent run of what it executes."""

    def __init__(self, store: Store, study: str, command: str, runs: int) -> None:
        self._store = store
        self._tags = {"kind": "invocation", "study": study, "command": command, "runs": str(runs)}
        self._tags["mlflow.runName"] = f"{study} ({runs} runs)"
        self.failed = False
        self.experiment = store.prepare(study)

    @functools.cached_property
    def run_id(self) -> str:
        """The parent run, made when the first child needs it: an invocation with nothing to do leaves no trace."""
        try:
            return str(self._store.client.create_run(self.experiment, tags=self._tags).info.run_id)
        except Exception as error:
            raise UserError(f"{self._store.uri}: the MLflow store cannot be used: {_first_line(error)}") from error

    def __enter__(self) -> Invocation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if "run_id" not in self.__dict__:
            return
        status = "KILLED" if kind is not None else "FAILED" if self.failed else "FINISHED"
        with contextlib.suppress(Exception):  # the store may be what failed; the runs themselves are on disk
            self._store.client.set_terminated(self.run_id, status)

    def mirror(self, planned: Iterable[PlannedRun], results: Path) -> int:
        """Bring finished runs that the store lacks into it; returns how many.

        A run that the study meanwhile calls by another setting, scale or method is given its new names.
        """
        import pyarrow.parquet

        have, count = self._store.mirrored(self.experiment), 0
        for run in planned:
            directory = RunDirectory.of(results, run.spec.run_id)
            if run.spec.run_id in have:
                self._rename(*have[run.spec.run_id], run)
                continue
            if not directory.is_finished():
                continue
            with contextlib.suppress(Timeout), directory.lock():  # whoever holds it is recording the run now
                logger = RunLogger(self._store, self.experiment, self.run_id, run, directory.read_manifest())
                for row in pyarrow.parquet.read_table(directory.curves).to_pylist():
                    logger.log(row.pop("iteration"), row)
                logger.finish(directory)
                count += 1
        return count

    def _rename(self, recorded: str, tags: dict[str, str], run: PlannedRun) -> None:
        names = {"setting": run.setting, "scale": run.scale, "method": run.method, "mlflow.runName": name_of(run)}
        for name, value in names.items():
            if tags.get(name) != value:
                self._store.client.set_tag(recorded, name, value)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

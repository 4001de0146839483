"""MLflow: the one place that writes to it.

The folder of a run is the record; MLflow is its mirror. A run that is finished in its folder but not in the store (the
store was away, or another one is used) is mirrored later, once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from filelock import FileLock, Timeout

from harness.errors import UserError, first_line
from harness.redaction import SPECIAL
from harness.results import RunDirectory
from harness.run_labels import name_of
from harness.run_logger import RunLogger
from harness.spec import PlannedRun

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

WEB = ("http", "https")
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
"""Where a store listens whose address names no port."""

MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
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
            raise UserError(f"{self.uri}: the MLflow store cannot be used: {first_line(error)}") from error

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
            kind = parsed.scheme.partition("+")[0]
            port = parsed.port or PORTS.get(kind)
        except ValueError:
            raise UserError(f"{self.uri}: not the address of an MLflow store{SPECIAL}") from None
        if port is None or kind not in PORTS or (not parsed.hostname and kind not in WEB):
            return  # a file, or a database through a socket
        what = "MLflow server" if kind in WEB else "database"
        try:
            with socket.create_connection((parsed.hostname or "", port), timeout=5):
                pass
        except OSError as error:
            reason = error.strerror or str(error) or "no answer"
            raise UserError(
                f"{self.uri}: the {what} does not answer ({reason}); start it, or leave --tracking-uri out"
            ) from None

    def mirrored(self, experiment: str) -> dict[str, tuple[str, dict[str, str]]]:
        """MLflow's id and the tags of every run that is whole in the store, by ``run_id``.

        Of two records of one run the later is deleted, and one that is not whole beside one that is: a server that dies
        between an act and its answer is asked again, and acts twice.
        """
        found: dict[str, Any] = {}
        pages = search(self.client, experiment, "tags.kind = 'run' and attributes.status = 'FINISHED'")
        for run in sorted(pages, key=lambda run: run.info.start_time):
            if found.setdefault(run.data.tags["run_id"], run) is not run:
                self.client.delete_run(run.info.run_id)
        for run in search(self.client, experiment, "tags.kind = 'run' and attributes.status != 'FINISHED'"):
            if run.data.tags["run_id"] in found:
                self.client.delete_run(run.info.run_id)
        return {run_id: (run.info.run_id, run.data.tags) for run_id, run in found.items()}


def search(client: MlflowClient, experiment: str, query: str) -> Iterator[Any]:
    """Every run that fits, page by page."""
    token = None
    while True:
        page = client.search_runs([experiment], query, page_token=token, max_results=1000)
        yield from page
        token = page.token
        if not token:
            return


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
            raise UserError(f"{self._store.uri}: the MLflow store cannot be used: {first_line(error)}") from error

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
        have, count = self._store.mirrored(self.experiment), 0
        for run in planned:
            directory = RunDirectory.of(results, run.spec.run_id)
            if run.spec.run_id in have:
                self._rename(*have[run.spec.run_id], run)
            elif directory.is_finished():
                with contextlib.suppress(Timeout), directory.lock():  # whoever holds it is recording the run now
                    self.record(run, directory)
                    count += 1
        return count

    def record(self, run: PlannedRun, directory: RunDirectory) -> None:
        """Bring one finished run into the store, from its folder; once, however often it is called."""
        logger = RunLogger(self._store.client, self.experiment, self.run_id, run, directory.read_manifest())
        logger.log_curves(directory)
        logger.finish(directory)

    def _rename(self, recorded: str, tags: dict[str, str], run: PlannedRun) -> None:
        names = {"setting": run.setting, "scale": run.scale, "method": run.method, "mlflow.runName": name_of(run)}
        for name, value in names.items():
            if tags.get(name) != value:
                self._store.client.set_tag(recorded, name, value)

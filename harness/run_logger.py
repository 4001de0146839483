"""One run in MLflow: live curves in batches, artifacts at the end, and everything once.

Who logs may die between any two calls, and so may the server. A run has one record, found by its tag ``run_id``; what
is logged already is asked for before anything is logged; and a record that was resumed is counted through before it is
closed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from harness.api import Metrics
from harness.results import RunDirectory
from harness.run_labels import flatten, name_of, tags_of
from harness.spec import PlannedRun

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 100
FLUSH_S = 5.0
"""Curves reach the store at least this often while a run is going."""
MAX_PARAM_LENGTH = 6000


class RunLogger:
    """A run's record in a store."""

    def __init__(
        self, client: MlflowClient, experiment: str, parent: str, planned: PlannedRun, provenance: dict[str, Any]
    ) -> None:
        """``parent``: the record of the invocation. A record that is whole already stays as it is."""
        self._client, self._experiment, self._planned = client, experiment, planned
        self._tags = tags_of(planned, provenance) | {"mlflow.parentRunId": parent, "mlflow.runName": name_of(planned)}
        self._buffer: list[Any] = []
        self._params: list[Any] = []
        self._flushed = time.monotonic()
        self._last_step = -1
        query = f"tags.run_id = '{planned.spec.run_id}' and tags.kind = 'run'"
        known = list(client.search_runs([experiment], query, max_results=100, order_by=["attributes.start_time ASC"]))
        known.sort(key=lambda run: run.info.status != "FINISHED")
        for extra in known[1:]:
            client.delete_run(extra.info.run_id)
        self._resumed = bool(known)
        self._whole = self._resumed and known[0].info.status == "FINISHED"
        if not self._resumed:
            self._create()
        elif not self._whole:
            self._resume(known[0])

    def _create(self) -> None:
        self._run = str(self._client.create_run(self._experiment, tags=self._tags).info.run_id)
        self._last_step = -1
        self._params = self._settings()

    def _resume(self, known: Any) -> None:
        self._run = str(known.info.run_id)
        self._last_step = max(self._logged("post_update_return"), default=-1)
        self._client.update_run(self._run, status="RUNNING")
        self._client.set_tag(self._run, "status", "running")
        if "reason" in known.data.tags:
            self._client.delete_tag(self._run, "reason")
        self._params = self._settings()  # again: the store may have died meanwhile, and equal params do not clash

    def _logged(self, metric: str) -> list[int]:
        return [point.step for point in self._client.get_metric_history(self._run, metric)]

    def _has_every_point(self, directory: RunDirectory) -> bool:
        """Whether the store has all curves of a finished run, each point once: it takes a batch in parts."""
        import pyarrow.parquet

        curves = pyarrow.parquet.read_table(directory.curves)
        iterations = curves.column("iteration").to_pylist()
        return all(sorted(self._logged(name)) == iterations for name in curves.column_names if name != "iteration")

    def _settings(self) -> list[Any]:
        from mlflow.entities import Param

        settings = flatten(self._planned.spec.model_dump(mode="json"))
        return [Param(name, value[:MAX_PARAM_LENGTH]) for name, value in settings.items()]

    def log(self, iteration: int, metrics: Metrics) -> None:
        """Buffer the metrics of one meta-iteration; whole iterations go out together, none goes out twice."""
        from mlflow.entities import Metric

        if iteration <= self._last_step or self._whole:
            return
        now = int(time.time() * 1000)
        if len(self._buffer) + len(metrics) > METRICS_PER_CALL:
            self.flush()
        self._buffer += [Metric(name, value, now, iteration) for name, value in metrics.items()]
        if time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def log_curves(self, directory: RunDirectory) -> None:
        """All meta-iterations of a finished run, from its folder."""
        import pyarrow.parquet

        for row in pyarrow.parquet.read_table(directory.curves).to_pylist():
            self.log(row.pop("iteration"), row)

    def flush(self, tags: dict[str, str] | None = None) -> None:
        """Send what is buffered, and tags with it: in one transaction, unless there are many parameters."""
        from mlflow.entities import RunTag

        while self._buffer or self._params or tags:
            params, self._params = self._params[:PARAMS_PER_CALL], self._params[PARAMS_PER_CALL:]
            named = [RunTag(name, value) for name, value in (tags or {}).items()]
            self._client.log_batch(self._run, metrics=self._buffer, params=params, tags=named)
            if self._buffer:
                self._last_step = self._buffer[-1].step
            self._buffer, tags = [], None
        self._flushed = time.monotonic()

    def finish(self, directory: RunDirectory) -> None:
        """Log the artifacts and close the run; ``FINISHED`` in the store means that the mirror is whole."""
        if self._whole:
            return
        manifest = directory.read_manifest()
        told = {"status": manifest["status"]} | ({"reason": manifest["reason"]} if manifest["reason"] else {})
        self.flush(told)
        if self._resumed and not self._has_every_point(directory):
            # Whoever logged before, or the store, died while it was at work on a batch: begin the record anew.
            self._client.delete_run(self._run)
            self._create()
            self.log_curves(directory)
            self.flush(told)
        for path in (*directory.evidence(), directory.done):
            self._client.log_artifact(self._run, str(path))
        for path in directory.newest_checkpoint():
            self._client.log_artifact(self._run, str(path), "checkpoint")
        self._client.set_terminated(self._run, "FINISHED")

    def fail(self, reason: str) -> None:
        """Close the run as failed, with the reason."""
        if not self._whole:
            self.flush({"status": "failed", "reason": reason})
            self._client.set_terminated(self._run, "FAILED")

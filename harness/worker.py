"""What one worker does with one job: lock, build, run, mirror, and say how it ended."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import Timeout

from harness.api import Metrics, Registries, Settings
from harness.checkpoint_store import store_at
from harness.errors import UserError
from harness.extensions import declaration_of, manifest_of
from harness.interruption import interruptible
from harness.provenance import environment
from harness.redaction import without_secrets
from harness.results import RunDirectory
from harness.run_logger import RunLogger
from harness.spec import PlannedRun, RunSpec, SourceFile
from harness.tracking import Store
from harness.tries import Tries
from harness.watcher import Interrupted, Watcher

REPORT_S = 0.2
"""Progress is reported at most this often."""


PATIENCE_S = 0.5
"""How long a worker waits for a run's lock: `status` holds it for a moment, another worker for the whole run."""


class Job(Settings):
    """All that a worker needs, wherever it is.

    tracking_uri: of the store, empty where the worker cannot reach it and the driver records the run.
    checkpoints: URL of the checkpoint store, or None. away, source: see :mod:`harness.away`; empty on this machine.
    """

    planned: PlannedRun
    results: str
    checkpoint_every: int
    tracking_uri: str
    experiment: str
    parent: str
    provenance: dict[str, Any]
    checkpoints: str | None = None
    away: str = ""
    source: str = ""


class Event(NamedTuple):
    """Progress of a run.

    kind: ``iteration`` (with the mean return after it), ``checkpoint`` (with the meta-iterations behind it), or
    ``warning`` (with a text).
    """

    run_id: str
    kind: Literal["iteration", "checkpoint", "warning"]
    iteration: int = 0
    value: float = 0.0
    text: str = ""


class Outcome(NamedTuple):
    """How a job ended.

    status: done, diverged, failed (with the reason), taken (someone else works on it, or has finished it), or
    interrupted. recorded: whether the store has all of it.
    """

    run_id: str
    status: Literal["done", "diverged", "failed", "taken", "interrupted"]
    reason: str = ""
    recorded: bool = False


Report = Callable[[Event], None]
Execute = Callable[[Job, Report], Outcome]
"""Does one job; must be importable by name in a fresh process."""


class _Mirror:
    """The run's logger, kept from ever ending the run: what the store misses is mirrored by the driver, or later."""

    def __init__(self, job: Job, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._logger: RunLogger | None = None
        if job.tracking_uri:
            store = Store(job.tracking_uri, Path(job.results))
            self._guard(lambda: self._open(store, job))

    def _open(self, store: Store, job: Job) -> None:
        self._logger = RunLogger(store.client, job.experiment, job.parent, job.planned, job.provenance)

    def _guard(self, action: Callable[[], None]) -> bool:
        try:
            action()
            return True
        except Exception as error:  # the store's client raises many kinds; none may cost a result
            self._logger = None
            self._warn(f"MLflow is out of reach ({type(error).__name__}); the run goes on and is recorded later")
            return False

    def call(self, method: str, *arguments: Any) -> bool:
        """Call the logger unless it was lost; whether that went well."""
        if self._logger is None:
            return False
        logger = self._logger
        return self._guard(lambda: getattr(logger, method)(*arguments))


class _Relay:
    """Between a run and those who hear of it: the driver, the store, and the store of checkpoints."""

    def __init__(self, job: Job, directory: RunDirectory, report: Report) -> None:
        self._spec, self._directory, self._report = job.planned.spec, directory, report
        self._checkpoints = store_at(job.checkpoints) if job.checkpoints else None
        self._last_report = 0.0
        self.mirror = _Mirror(job, self._warn)

    def watcher(self, should_stop: Callable[[], bool]) -> Watcher:
        """What the run is given."""
        return Watcher(self._on_iteration, self._on_checkpoint, self._warn, should_stop)

    def fetch(self) -> None:
        """Bring here what other machines have left of this run, or of one with the same training."""
        if (store := self._checkpoints) is not None:
            self._guard(lambda: store.fetch(self._directory))
            self._guard(lambda: store.fetch_twin(self._directory, self._spec))

    def announce(self) -> None:
        """The training is whole, and others may share it."""
        if (store := self._checkpoints) is not None and self._directory.status() == "done":
            self._guard(lambda: store.announce_training(self._spec))

    def _on_iteration(self, iteration: int, metrics: Metrics) -> None:
        self.mirror.call("log", iteration, metrics)
        now = time.monotonic()
        if now - self._last_report > REPORT_S:
            self._last_report = now
            self._report(Event(self._spec.run_id, "iteration", iteration + 1, metrics["post_update_return"]))

    def _on_checkpoint(self, iteration: int) -> None:
        if (store := self._checkpoints) is not None:
            self._guard(lambda: store.keep(self._directory))
        self._report(Event(self._spec.run_id, "checkpoint", iteration))

    def _warn(self, text: str) -> None:
        self._report(Event(self._spec.run_id, "warning", text=text))

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # every kind of store has its own; none may cost a result
            self._warn(f"the checkpoint store is out of reach ({type(error).__name__}); the run goes on without it")


def build(spec: RunSpec, registries: Registries, files: tuple[SourceFile, ...] = ()) -> tuple[Any, Any]:
    """The suite and the algorithm that a spec names; ``files`` hold what is a user's own.

    Errors: UserError for a package that the suite needs and this machine lacks.
    """
    suite_declaration = declaration_of("suite", spec.suite, registries.suites, files)
    if lacking := suite_declaration.lacking():
        raise UserError(lacking)
    suite = suite_declaration.load()(suite_declaration.settings.model_validate(spec.suite.settings))
    declaration = declaration_of("algorithm", spec.algorithm, registries.algorithms, files)
    return suite, declaration.load()(declaration.settings.model_validate(spec.algorithm.settings), suite)


def work(job: Job, registries: Registries, report: Report) -> Outcome:
    """Execute one job. A Python exception in the run is recorded and returned as ``failed``: the grid goes on."""
    run_id = job.planned.spec.run_id
    directory = RunDirectory.of(Path(job.results), run_id)
    try:
        with directory.lock(PATIENCE_S):
            if directory.is_finished():
                # In a scratch folder nobody else has finished it: an answer was lost on its way home.
                return _ended(directory) if job.away else Outcome(run_id, "taken")
            tries = Tries(directory)
            if reason := tries.begin():
                return _failed(directory, reason)
            try:
                return _execute(job, registries, report, directory)
            finally:
                tries.end()
    except Timeout:
        return Outcome(run_id, "taken")
    except OSError as error:  # something else stands where the run's folder or its lock belongs
        return Outcome(run_id, "failed", f"{directory.folder}: no run can be kept there ({error.strerror})")


def _ended(directory: RunDirectory, recorded: bool = False) -> Outcome:
    return Outcome(directory.folder.name, "done" if directory.status() == "done" else "diverged", recorded=recorded)


def _failed(directory: RunDirectory, reason: str, trace: str = "") -> Outcome:
    with contextlib.suppress(UserError):  # a full disk may be the reason itself
        directory.fail(reason, trace)
    return Outcome(directory.folder.name, "failed", reason)


def _execute(job: Job, registries: Registries, report: Report, directory: RunDirectory) -> Outcome:
    from harness.device import computing_on, describe  # torch is imported here, in the process that needs it
    from harness.runner import run

    device = job.planned.resources.device
    job = job.model_copy(update={"provenance": job.provenance | {"device": describe(device)}})
    spec, relay = job.planned.spec, _Relay(job, directory, report)
    mirror = relay.mirror
    try:
        relay.fetch()
        provenance = job.provenance | {"environment": environment()} | manifest_of(job.planned)
        with computing_on(device), interruptible() as should_stop:
            suite, algorithm = build(spec, registries, job.planned.files)
            watcher = relay.watcher(should_stop)
            rules, folder = dict(registries.rules), directory.folder
            run(spec, suite, algorithm, rules, folder, provenance, job.checkpoint_every, watcher)
    except Interrupted:
        mirror.call("flush")
        return Outcome(spec.run_id, "interrupted")
    except Exception as error:
        reason = without_secrets(" ".join(f"{type(error).__name__}: {error}".split()))[:500]
        mirror.call("fail", reason)
        return _failed(directory, reason, traceback.format_exc())
    relay.announce()
    return _ended(directory, recorded=mirror.call("finish", directory))

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
from harness.errors import UserError
from harness.extensions import declaration_of, manifest_of
from harness.results import RunDirectory
from harness.spec import PlannedRun, RunSpec, SourceFile
from harness.tracking import RunLogger, Store

REPORT_S = 0.2
"""Progress is reported at most this often."""


PATIENCE_S = 2.0
"""How long a worker waits for a run's lock: `status` holds it for a moment, another worker for the whole run."""


class Job(Settings):
    """All that a worker needs, wherever it is."""

    planned: PlannedRun
    results: str
    checkpoint_every: int
    tracking_uri: str
    experiment: str
    parent: str
    provenance: dict[str, Any]


class Event(NamedTuple):
    """Progress of a run: ``kind`` is ``iteration`` (with the mean return after it) or ``warning`` (with a text)."""

    run_id: str
    kind: Literal["iteration", "warning"]
    iteration: int = 0
    value: float = 0.0
    text: str = ""


class Outcome(NamedTuple):
    """How a job ended: done, diverged, failed (with the reason), or taken (someone else works on it)."""

    run_id: str
    status: Literal["done", "diverged", "failed", "taken"]
    reason: str = ""


Report = Callable[[Event], None]


class _Mirror:
    """The run's logger, kept from ever ending the run: what the store misses is mirrored by a later invocation."""

    def __init__(self, job: Job, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._logger: RunLogger | None = None
        store = Store(job.tracking_uri, Path(job.results))
        self._guard(lambda: self._open(store, job))

    def _open(self, store: Store, job: Job) -> None:
        self._logger = RunLogger(store, job.experiment, job.parent, job.planned, job.provenance)

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # the store's client raises many kinds; none may cost a result
            self._logger = None
            self._warn(f"MLflow is out of reach ({type(error).__name__}); the run goes on and is mirrored next time")

    def call(self, method: str, *arguments: Any) -> None:
        """Call the logger unless it was lost."""
        if self._logger is not None:
            logger = self._logger
            self._guard(lambda: getattr(logger, method)(*arguments))


def build(spec: RunSpec, registries: Registries, files: tuple[SourceFile, ...] = ()) -> tuple[Any, Any]:
    """The suite and the algorithm that a spec names; ``files`` hold what is a user's own."""
    suite_declaration = declaration_of("suite", spec.suite, registries.suites, files)
    suite = suite_declaration.load()(suite_declaration.settings.model_validate(spec.suite.settings))
    declaration = declaration_of("algorithm", spec.algorithm, registries.algorithms, files)
    return suite, declaration.load()(declaration.settings.model_validate(spec.algorithm.settings), suite)


def work(job: Job, registries: Registries, report: Report) -> Outcome:
    """Execute one job. A Python exception in the run is recorded and returned as ``failed``: the grid goes on."""
    spec = job.planned.spec
    directory = RunDirectory.of(Path(job.results), spec.run_id)
    try:
        with directory.lock(PATIENCE_S):
            if directory.is_finished():
                return Outcome(spec.run_id, "taken")
            return _execute(job, registries, report, directory)
    except Timeout:
        return Outcome(spec.run_id, "taken")
    except OSError as error:  # something else stands where the run's folder or its lock belongs
        return Outcome(spec.run_id, "failed", f"{directory.folder}: no run can be kept there ({error.strerror})")


def _execute(job: Job, registries: Registries, report: Report, directory: RunDirectory) -> Outcome:
    from harness.runner import run  # torch is imported here, in the process that needs it

    spec, last_report = job.planned.spec, 0.0

    def warn(text: str) -> None:
        report(Event(spec.run_id, "warning", text=text))

    mirror = _Mirror(job, warn)

    def on_iteration(iteration: int, metrics: Metrics) -> None:
        nonlocal last_report
        mirror.call("log", iteration, metrics)
        now = time.monotonic()
        if now - last_report > REPORT_S:
            last_report = now
            report(Event(spec.run_id, "iteration", iteration + 1, metrics["post_update_return"]))

    try:
        suite, algorithm = build(spec, registries, job.planned.files)
        rules = dict(registries.rules)
        provenance = job.provenance | manifest_of(job.planned)
        status = run(
            spec, suite, algorithm, rules, directory.folder, provenance, job.checkpoint_every, on_iteration, warn
        )
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        with contextlib.suppress(UserError):  # what cannot be written may be what failed
            directory.fail(reason, traceback.format_exc())
        mirror.call("fail", reason)
        return Outcome(spec.run_id, "failed", reason)
    mirror.call("finish", directory)
    return Outcome(spec.run_id, "done" if status == "done" else "diverged")

"""Carry every stage of a tuning to its end, record its runs, leave the table of its trials."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.engine import Pool
from harness.execution import Execution
from harness.files import require_writable, write_atomic
from harness.plan import duration
from harness.provenance import provenance
from harness.ray_address import require_ready
from harness.recorder import Recorder
from harness.redaction import without_secrets
from harness.results import RunDirectory
from harness.spec import PlannedRun
from harness.tracking import Invocation, Store
from harness.tuning.plan import Tuning, Values
from harness.tuning.table import table
from harness.worker import Event, Execute, Job

if TYPE_CHECKING:
    from harness.tuning.search import Stage

LINE_EVERY_S = 15.0


class Runner:
    """Executes the runs of a tuning in a pool, and keeps the store up to date."""

    def __init__(
        self,
        tuning: Tuning,
        results: Path,
        pool: Pool,
        store: Store,
        invocation: Invocation,
        command: str,
        console: Console,
        checkpoints: str | None,
    ) -> None:
        self._results, self._pool, self._console, self._checkpoints = results, pool, console, checkpoints
        self._store, self._invocation = store, invocation
        self._surroundings = provenance(command)
        self._seen: dict[str, PlannedRun] = {}
        self._spoke = time.monotonic()

    def __call__(self, runs: list[PlannedRun]) -> None:
        """Execute what is missing. Of runs that share a training, one goes first and the others take it over."""
        self._seen |= {run.spec.run_id: run for run in runs}
        missing = [run for run in runs if not self._directory(run).is_finished()]
        leaders: dict[str, PlannedRun] = {}
        for run in missing:
            leaders.setdefault(run.spec.training_id, run)
        first = list(leaders.values())
        self._execute(first)
        self._execute([run for run in missing if run not in first])

    def record(self) -> None:
        """Bring into the store what it lacks."""
        Recorder(self._invocation, self._results, self._console).mirror(self._seen.values())

    def _execute(self, runs: list[PlannedRun]) -> None:
        jobs = [
            Job(
                planned=run,
                results=str(self._results.resolve()),
                checkpoint_every=run.spec.budget.meta_iterations or 1,
                tracking_uri=self._store.uri,
                experiment=self._invocation.experiment,
                parent=self._invocation.run_id,
                provenance=self._surroundings,
                checkpoints=self._checkpoints,
            )
            for run in runs
        ]
        for outcome in self._pool.run(jobs, self._on_event):
            if outcome.status == "failed":
                self._say(f"failed: {self._seen[outcome.run_id].title}: {outcome.reason}")

    def _on_event(self, event: Event) -> None:
        run = self._seen[event.run_id]
        if event.kind == "warning":
            self._say(f"warning: {run.title}: {event.text}")
        elif event.kind == "iteration" and time.monotonic() - self._spoke > LINE_EVERY_S:
            self._say(f"{run.title}: iteration {event.iteration}/{run.spec.budget.meta_iterations}")

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        self._console.print(text, markup=False)

    def _directory(self, run: PlannedRun) -> RunDirectory:
        return RunDirectory.of(self._results, run.spec.run_id)


def run_tuning(
    tuning: Tuning,
    results: Path,
    tracking_uri: str,
    storage: str | None,
    execution: Execution,
    command: str,
    execute: Execute,
) -> Path:
    """Carry every stage to its number of trials; returns the CSV of all trials.

    The same command goes on where it was interrupted. Errors: see :mod:`harness.tuning.storage`; a search that began
    as another one; a stage whose trials all failed.
    """
    from harness.tuning.search import Stage
    from harness.tuning.storage import open_storage

    console = Console(highlight=False, soft_wrap=True)
    require_writable(results)
    require_ready(execution)
    folder = results / "tuning" / tuning.stem
    store, names = Store(tracking_uri, results), tuning.file.stages
    total = sum(entry.trials for entry in names.values())
    minutes = tuning.file.minutes
    workers = execution.side_by_side(total)
    expected = ""
    if minutes is not None and workers is not None:
        expected = f"; about {duration(60.0 * minutes / workers)} if nothing is done yet"
    size = f"{len(names)} stages, {total} trials, {execution.described(workers)}"
    console.print(f"{tuning.file.tuning} ({tuning.scale}): {size}{expected}")
    found: dict[str, Values] = {}
    called: dict[str, str] = {}
    stages: list[Stage] = []
    with ExitStack() as stack:
        opened = stack.enter_context(open_storage(folder, storage))
        pool = stack.enter_context(Pool(execution, execute))
        invocation = stack.enter_context(Invocation(store, tuning.file.tuning, command, total))
        runner = Runner(tuning, results, pool, store, invocation, command, console, execution.checkpoints)
        for name, entry in names.items():
            before = {place: value for one in entry.after for place, value in found[one].items()}
            stage = Stage(tuning, name, before, opened, results, runner)
            _search(stage, entry.trials, console)
            stages.append(stage)
            write_atomic(folder / "trials.csv", table(tuning, stages, results).encode())
            best = stage.best()
            found[name] = best.assigned
            called |= entry.columns
            chosen = ", ".join(f"{called[place]} {_short(value)}" for place, value in found[name].items())
            console.print(f"{name}: best trial {best.trial.number}, value {best.trial.value:.3f}; {chosen}")
        runner.record()
    console.print(f"trials: {folder / 'trials.csv'}\nMLflow: {without_secrets(tracking_uri)}")
    return folder / "trials.csv"


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _search(stage: Stage, trials: int, console: Console) -> None:
    started = last = time.monotonic()
    first: int | None = None
    for told in stage.search():
        first = told if first is None else first
        now = time.monotonic()
        if now - last > LINE_EVERY_S and told < trials:
            last = now
            left = duration((now - started) * (trials - told) / max(told - first, 1))
            console.print(f"{stage.name}: {told}/{trials} trials; {left} left")

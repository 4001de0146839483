"""Progress of a grid: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from harness.plan import duration
from harness.spec import PlannedRun
from harness.worker import Event, Outcome

LINE_EVERY_S = 15.0


class GridProgress:
    """Shows the grid while it runs: overall, and per active run its iteration, return and the time left."""

    def __init__(self, runs: list[PlannedRun], expected_s: float | None, console: Console) -> None:
        self._console = console
        self._runs = {run.spec.run_id: run for run in runs}
        self._expected_s = expected_s
        self._fractions = dict.fromkeys(self._runs, 0.0)
        self._finished = 0
        self._waits = False
        self._started = self._last_line = time.monotonic()
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._total = self._progress.add_task("all runs", total=len(runs), note="")

    def __enter__(self) -> GridProgress:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()

    def on_event(self, event: Event) -> None:
        """Take notice of a worker's report."""
        run = self._runs[event.run_id]
        if event.kind == "checkpoint":
            return
        if event.kind == "warning":
            self._console.print(f"warning: {escape(run.title)}: {escape(event.text)}", soft_wrap=True)
            return
        iterations = max(run.spec.budget.meta_iterations, 1)
        self._fractions[event.run_id] = event.iteration / iterations
        if event.run_id not in self._bars:
            self._bars[event.run_id] = self._progress.add_task(escape(run.title), total=iterations, note="")
        note = f"return {event.value:8.2f}"
        self._progress.update(self._bars[event.run_id], completed=event.iteration, note=note)
        self._show_total(f"{run.title}: iteration {event.iteration}/{iterations}, {note}")

    def on_outcome(self, outcome: Outcome) -> None:
        """Take notice of a finished run."""
        run = self._runs[outcome.run_id]
        self._finished += 1
        self._fractions[outcome.run_id] = 1.0
        if outcome.run_id in self._bars:
            self._progress.remove_task(self._bars.pop(outcome.run_id))
        if outcome.status == "failed":
            self._console.print(f"failed: {escape(run.title)}: {escape(outcome.reason)}", soft_wrap=True)
        elif outcome.status == "diverged":
            self._console.print(f"diverged: {escape(run.title)}")
        self._show_total(f"{run.title}: {outcome.status}")

    def on_taken(self, finished: Iterable[PlannedRun], left: int) -> None:
        """Take notice of runs that another process has finished, and of those that it still works on."""
        for run in finished:
            self._finished += 1
            self._fractions[run.spec.run_id] = 1.0
        if left and not self._waits:
            self._console.print(f"waiting for {left} run{'s' * (left > 1)} that another process works on")
        self._waits = left > 0
        self._show_total("waiting for another process" if left else "all runs are done")

    def _show_total(self, last: str) -> None:
        left = self._left_s()
        note = f"{duration(left)} left" if left is not None else ""
        self._progress.update(self._total, completed=self._finished, note=note)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line > LINE_EVERY_S:
            self._last_line = now
            self._console.print(f"{self._finished}/{len(self._runs)} runs; {escape(last)}; {note}", soft_wrap=True)

    def _left_s(self) -> float | None:
        done = sum(self._fractions.values()) / len(self._fractions)
        elapsed = time.monotonic() - self._started
        if done > 0.1:
            return elapsed * (1.0 - done) / done
        return None if self._expected_s is None else max(self._expected_s - elapsed, 0.0)

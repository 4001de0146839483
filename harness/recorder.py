"""The driver's side of the store: what workers could not record is kept in mind, and recorded as soon as it can be."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from filelock import Timeout
from rich.console import Console

from harness.results import RunDirectory
from harness.spec import PlannedRun
from harness.tracking import Invocation
from harness.worker import Outcome

RETRY_S, RETRY_MOST_S = 20.0, 600.0
"""A store that was out of reach is asked again after so long, then after twice as long, at most after the second: one
that takes a connection and says nothing holds up who asks."""


class Recorder:
    """Records the runs of an invocation. Their folders are the spool: nothing is lost while a store is away."""

    def __init__(self, invocation: Invocation, results: Path, console: Console) -> None:
        self._invocation, self._results, self._console = invocation, results, console
        self._pending: dict[str, PlannedRun] = {}
        self._ask_again, self._patience = 0.0, RETRY_S
        self.experiment = invocation.experiment

    @property
    def parent(self) -> str:
        """The record of the invocation."""
        return self._invocation.run_id

    def on_outcome(self, run: PlannedRun, outcome: Outcome) -> None:
        """Take notice of a run that ended, and record it unless its worker has."""
        if outcome.status in ("done", "diverged") and not outcome.recorded:
            self._pending[run.spec.run_id] = run
        if self._pending and time.monotonic() > self._ask_again:
            self._record_pending()

    def _record_pending(self) -> None:
        for run_id, run in list(self._pending.items()):
            directory = RunDirectory.of(self._results, run_id)
            try:
                with directory.lock():
                    self._invocation.record(run, directory)
            except Timeout:
                continue
            except Exception:  # told once, at the end, if it stays so
                self._ask_again = time.monotonic() + self._patience
                self._patience = min(2 * self._patience, RETRY_MOST_S)
                return
            self._patience = RETRY_S
            del self._pending[run_id]

    def mirror(self, runs: Iterable[PlannedRun]) -> int | None:
        """Bring into the store whatever it lacks of these; how many, None while the store is out of reach."""
        try:
            return self._invocation.mirror(runs, self._results)
        except Exception as error:  # the store's client raises many kinds; the results are on disk whatever it does
            name = type(error).__name__
            self._console.print(f"warning: MLflow is out of reach ({name}); the same command records later")
            return None

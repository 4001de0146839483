"""A study against a results folder: what is done, what is missing, how long it will take."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import mean

from harness.errors import UserError
from harness.files import discard
from harness.results import FINISHED, RunDirectory
from harness.spec import PlannedRun, Status
from harness.study import Study
from harness.verified import Verified


class Plan:
    """The runs of a study with their states."""

    def __init__(self, study: Study, runs: list[PlannedRun], results: Path) -> None:
        self.study = study
        self.runs = runs
        self.results = results
        known = Verified(results)
        self.statuses: list[Status] = [known.status(self.directory(run)) for run in runs]
        known.save()

    def directory(self, run: PlannedRun) -> RunDirectory:
        """Where a run keeps its files."""
        return RunDirectory.of(self.results, run.spec.run_id)

    def open_runs(self) -> list[PlannedRun]:
        """The runs that have to be executed. A run that was damaged after it finished is run again, and says so."""
        return [run for run, status in zip(self.runs, self.statuses, strict=True) if status not in FINISHED]

    def reopen_damaged(self) -> list[PlannedRun]:
        """Runs whose evidence no longer matches its checksums: their marker is taken away."""
        damaged = []
        for index, run in enumerate(self.runs):
            if self.statuses[index] == "damaged":
                discard(self.directory(run).done)
                self.statuses[index] = "interrupted"
                damaged.append(run)
        return damaged

    def counts(self) -> Counter[Status]:
        """Number of runs per state."""
        return Counter(self.statuses)

    def expected_s(self, workers: int) -> float | None:
        """Expected wall-clock of what is left, None if nothing is known."""
        estimates = list(self.expected_each().values())
        known = [estimate for estimate in estimates if estimate is not None]
        return sum(known) / workers if len(known) == len(estimates) else None

    def expected_each(self) -> dict[str, float | None]:
        """Expected seconds of every open run by its run_id, None where nothing is known.

        A run takes the mean of its method's finished runs in its setting, or an equal share of the study file's figure.
        """
        measured: dict[tuple[str, str], list[float]] = {}
        for run, status in zip(self.runs, self.statuses, strict=True):
            if status in FINISHED:
                seconds = self.directory(run).read_manifest()["wall_clock_s"]
                measured.setdefault((run.setting, run.method), []).append(seconds)
        minutes = self.study.file.minutes
        share = None if minutes is None else 60.0 * minutes / len(self.study.plan())
        return {
            run.spec.run_id: mean(measured[key]) if (key := (run.setting, run.method)) in measured else share
            for run in self.open_runs()
        }

    def describe(self) -> str:
        """One line: ``30 runs: 12 done, 18 missing``."""
        counts = self.counts()
        order: tuple[Status, ...] = ("done", "diverged", "failed", "running", "damaged", "interrupted", "missing")
        parts = [f"{counts[status]} {status}" for status in order if counts[status]]
        return f"{len(self.runs)} runs: {', '.join(parts)}"


def require_runs(runs: list[PlannedRun]) -> list[PlannedRun]:
    """Refuse an empty plan."""
    if not runs:
        raise UserError("the plan is empty: no seeds and methods to run")
    return runs


def duration(seconds: float) -> str:
    """``85`` -> ``1 min 25 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

"""Scheduling: inline for one worker of this machine, Ray for everything else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from harness.execution import Execution
from harness.worker import Execute, Job, Outcome, Report

if TYPE_CHECKING:
    from harness.ray_workers import RayWorkers


class Pool:
    """Workers that stay for several lots of jobs: none for one worker, whose jobs run inline; else Ray's."""

    def __init__(self, execution: Execution, execute: Execute) -> None:
        """``execute`` must be importable by name in a fresh process."""
        self._execution, self._execute = execution, execute
        self._ray: RayWorkers | None = None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._ray is not None:
            self._ray.shutdown()

    def run(self, jobs: Iterable[Job], report: Report) -> Iterator[Outcome]:
        """Execute every job and yield the outcomes as they come.

        The numbers do not depend on the number of workers: each run has its own generators and its own threads. Raises
        KeyboardInterrupt once the runs that were going have saved what they have.
        """
        if self._execution.inline:
            for job in jobs:
                outcome = self._execute(job, report)
                if outcome.status == "interrupted":
                    raise KeyboardInterrupt
                yield outcome
            return
        if self._ray is None:
            from harness.ray_workers import RayWorkers

            self._ray = RayWorkers(self._execution, self._execute)
        yield from self._ray.run(jobs, report)

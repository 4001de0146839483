"""Scheduling: inline for one worker, Ray for more. The one place that knows Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from harness.worker import Event, Job, Outcome, Report

Execute = Callable[[Job, Report], Outcome]
CRASH_RETRIES = 2
"""A worker process that dies (killed, out of memory) is replaced and its run resumed this often. Exceptions are not
retried: they would come again."""


class Pool:
    """Workers that stay for several lots of jobs: none for one worker, whose jobs run inline; else Ray's."""

    def __init__(self, workers: int, execute: Execute) -> None:
        """``execute`` must be importable by name in a fresh process."""
        self._workers, self._execute = workers, execute
        self._ray: _Ray | None = None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._ray is not None:
            self._ray.shutdown()

    def run(self, jobs: list[Job], report: Report) -> Iterator[Outcome]:
        """Execute every job and yield the outcomes as they come.

        The numbers do not depend on the number of workers: each run has its own generators and its own threads.
        """
        if self._workers == 1 or (len(jobs) == 1 and self._ray is None):
            for job in jobs:
                yield self._execute(job, report)
            return
        if self._ray is None:
            self._ray = _Ray(self._workers, self._execute)
        yield from self._ray.run(jobs, report)


class _Board:
    """Where workers leave their events for the driver."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def put(self, event: Event) -> None:
        self._events.append(event)

    def drain(self) -> list[Event]:
        events, self._events = self._events, []
        return events


class _Ray:
    """A local Ray with a board, and the task that does one job."""

    def __init__(self, workers: int, execute: Execute) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # else a busy machine starves workers, and not an inline run
        import ray

        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=100_000_000,
        )
        self._api, self._workers = ray, workers
        board: Any = ray.remote(num_cpus=0)(_Board).remote()
        self._board = board

        def in_worker(job: Job) -> Outcome:
            return execute(job, lambda event: board.put.remote(event) and None)

        self._task = ray.remote(max_retries=CRASH_RETRIES, retry_exceptions=False)(in_worker)

    def run(self, jobs: list[Job], report: Report) -> Iterator[Outcome]:
        """The outcomes as they come."""
        waiting = {_submit(self._task, job, self._workers): job for job in jobs}
        while waiting:
            ready, _ = self._api.wait(list(waiting), timeout=0.3)
            for event in self._api.get(self._board.drain.remote()):
                report(event)
            for reference in ready:
                yield _outcome(self._api, reference, waiting.pop(reference))

    def shutdown(self) -> None:
        """End every process of it."""
        self._api.shutdown()


def _submit(task: Any, job: Job, workers: int) -> Any:
    # A run of several threads takes as many places, so that threads never outnumber the workers asked for.
    return task.options(num_cpus=min(job.planned.spec.budget.threads, workers)).remote(job)


def _outcome(ray: Any, reference: Any, job: Job) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[0]
        return Outcome(job.planned.spec.run_id, "failed", f"the worker died {CRASH_RETRIES + 1} times: {reason}")
    return outcome

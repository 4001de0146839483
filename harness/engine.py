"""Scheduling: inline for one worker, Ray for more. The one place that knows Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

from harness.worker import Event, Job, Outcome, Report

Execute = Callable[[Job, Report], Outcome]
CRASH_RETRIES = 2
"""A worker process that dies (killed, out of memory) is replaced and its run resumed this often. Exceptions are not
retried: they would come again."""


def run_jobs(jobs: list[Job], workers: int, execute: Execute, report: Report) -> Iterator[Outcome]:
    """Execute every job and yield the outcomes as they come.

    ``execute`` must be importable by name in a fresh process. The numbers do not depend on ``workers``: each run has
    its own generators and its own number of threads.
    """
    if workers == 1 or len(jobs) == 1:
        for job in jobs:
            yield execute(job, report)
    else:
        yield from _run_with_ray(jobs, workers, execute, report)


class _Board:
    """Where workers leave their events for the driver."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def put(self, event: Event) -> None:
        self._events.append(event)

    def drain(self) -> list[Event]:
        events, self._events = self._events, []
        return events


def _run_with_ray(jobs: list[Job], workers: int, execute: Execute, report: Report) -> Iterator[Outcome]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=100_000_000,
    )
    try:
        board: Any = ray.remote(num_cpus=0)(_Board).remote()

        def in_worker(job: Job) -> Outcome:
            return execute(job, lambda event: board.put.remote(event) and None)

        task = ray.remote(max_retries=CRASH_RETRIES, retry_exceptions=False)(in_worker)
        waiting = {_submit(task, job, workers): job for job in jobs}
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=0.3)
            for event in ray.get(board.drain.remote()):
                report(event)
            for reference in ready:
                yield _outcome(ray, reference, waiting.pop(reference))
    finally:
        ray.shutdown()


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

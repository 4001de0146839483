"""Ray: the one place that knows it. The same jobs on the cores of this machine, or, by address, on a cluster.

On a cluster nothing is shared but what travels: a job goes out, the small record of its run comes home, and checkpoints
go through a store; see :mod:`harness.away`. A worker that dies (killed, out of memory, its machine lost) is replaced,
and its run goes on from its last checkpoint. Exceptions are not tried again: they would come again.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from filelock import Timeout

from harness.away import execute_away, sent_away, unpack
from harness.errors import UserError, first_line
from harness.execution import Execution
from harness.interruption import keeping_signals
from harness.janitor import dismiss, engage
from harness.ray_address import join
from harness.results import RunDirectory
from harness.tries import MOST, poisoned
from harness.worker import Event, Execute, Job, Outcome, Report

WAIT_S = 0.3
"""How long the driver sleeps at most before it looks at what the workers report."""
ASK_S = 5.0
"""How often the driver asks how many CPUs there are."""
STOP_S = 120.0
"""How long workers that were asked to stop may take to save what they have."""
QUEUED = 2
"""Jobs that are handed out at once, in multiples of what can run: the next one is there when a worker is free."""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a run that asked for no GPU sees none
    "RAY_worker_niceness": "0",  # else a busy machine starves workers, and not an inline run
}
"""Set before Ray is imported, unless the user's environment says otherwise."""


class _Board:
    """Where workers leave their events for the driver."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def put(self, event: Event) -> None:
        self._events.append(event)

    def drain(self) -> list[Event]:
        events, self._events = self._events, []
        return events


class _Flight(NamedTuple):
    """A job that is out, and what the driver holds for it."""

    job: Job
    held: ExitStack


class RayWorkers:
    """Ray with a board for events, and the task that does one job."""

    def __init__(self, execution: Execution, execute: Execute) -> None:
        """Errors: no cluster at the address, or one that cannot be joined."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import ray

        self._api, self._execution = ray, execution
        self._janitor = engage() if execution.address is None else None
        with keeping_signals():
            join(ray, execution)
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        remote: Any = ray.remote
        board = remote(num_cpus=0, scheduling_strategy=here)(_Board).remote()
        self._board, self._in_flight = board, dict[Any, _Flight]()
        self._deaths: dict[str, int] = {}
        self._furthest: dict[str, int] = {}
        self._waits: set[str] = set()
        self._asked, self._known = -ASK_S, 1.0
        away = execution.address is not None

        def in_worker(job: Job) -> tuple[Outcome, dict[str, bytes]]:
            def report(event: Event) -> None:
                board.put.remote(event)

            if not away:
                return execute(job, report), {}
            return execute_away(job, execute, report, node=ray.get_runtime_context().get_node_id()[:12])

        # Ray's own retries would not know a run that gets further from one that never will.
        self._task = remote(max_retries=0, retry_exceptions=False)(in_worker)

    def run(self, jobs: Iterable[Job], report: Report) -> Iterator[Outcome]:
        """The outcomes as they come."""
        queue, more, self._report = iter(jobs), True, report
        try:
            while more or self._in_flight:
                while more and len(self._in_flight) < self._room():
                    job = next(queue, None)
                    more = job is not None
                    if job is not None and not self._submit(job):
                        yield Outcome(job.planned.spec.run_id, "taken")
                ready = self._ready(WAIT_S)
                self._listen(report)
                for reference in ready:
                    if (outcome := self._take(reference)) is not None:
                        yield outcome
        except (KeyboardInterrupt, UserError) as reason:
            self._stop(report, said=isinstance(reason, KeyboardInterrupt))
            raise
        except (self._api.exceptions.RayError, ConnectionError) as error:
            raise UserError(f"Ray is out of reach ({first_line(error)}); the same command goes on") from None

    def shutdown(self) -> None:
        """End every process of it, or leave the cluster."""
        for flight in self._in_flight.values():
            flight.held.close()
        self._in_flight.clear()
        self._api.shutdown()
        dismiss(self._janitor)

    def _room(self) -> int:
        """Jobs that may be out at once."""
        workers = self._execution.workers
        if workers is None:
            workers = max(1, int(self._cpus()))
        elif self._execution.address is not None:
            return workers  # on a cluster nothing else keeps to it
        return QUEUED * workers

    def _submit(self, job: Job) -> bool:
        """Hand a job out; False if someone else works on it.

        On this machine the worker holds the run's lock; for a worker elsewhere the driver does.
        """
        held = ExitStack()
        cpus, gpus = self._needs(job)
        if self._execution.address is not None:
            directory = _folder(job)
            try:
                held.enter_context(directory.lock())
            except Timeout:
                return False
            if directory.is_finished():
                held.close()
                return False
            directory.begin(job.planned.spec)
            job = sent_away(job) if not job.away else job
        reference = self._task.options(num_cpus=cpus, num_gpus=gpus).remote(job)
        self._in_flight[reference] = _Flight(job, held)
        return True

    def _needs(self, job: Job) -> tuple[float, float]:
        """CPUs and GPUs to set aside. Errors: more GPUs than this machine has."""
        needs, here = job.planned.resources, self._execution.address is None
        cpus = needs.cpus if needs.cpus is not None else float(job.planned.spec.budget.threads)
        if here:
            cpus = min(cpus, self._cpus())
        if needs.num_gpus:
            most = max((node["Resources"].get("GPU", 0.0) for node in self._api.nodes() if node["Alive"]), default=0.0)
            if needs.num_gpus > most and needs.device == "auto":
                return cpus, 0.0
            if needs.num_gpus > most and here:
                raise UserError(
                    f"{job.planned.title}: its resources ask for {needs.num_gpus:g} GPUs, and this machine has {most:g}"
                )
            if needs.num_gpus > most and job.planned.method not in self._waits:
                self._waits.add(job.planned.method)
                text = f"no machine of the cluster has {needs.num_gpus:g} GPUs; its runs wait for one that does"
                self._report(Event(job.planned.spec.run_id, "warning", text=text))
        return cpus, needs.num_gpus

    def _cpus(self) -> float:
        """CPUs of all machines, asked for now and then: machines come and go."""
        if time.monotonic() > self._asked + ASK_S:
            self._asked, self._known = time.monotonic(), self._api.cluster_resources().get("CPU", 1.0)
        return self._known

    def _ready(self, timeout: float) -> list[Any]:
        if not self._in_flight:
            return []
        first, rest = self._api.wait(list(self._in_flight), timeout=timeout)
        return first + (self._api.wait(rest, num_returns=len(rest), timeout=0)[0] if first and rest else [])

    def _listen(self, report: Report) -> None:
        for event in self._api.get(self._board.drain.remote()):
            if event.kind == "checkpoint" and event.iteration > self._furthest.get(event.run_id, 0):
                self._furthest[event.run_id] = event.iteration
                self._deaths.pop(event.run_id, None)
            report(event)

    def _take(self, reference: Any) -> Outcome | None:
        """The outcome of a job that is back; None if its worker died and another one tries."""
        job, held = self._in_flight.pop(reference)
        run_id, errors = job.planned.spec.run_id, self._api.exceptions
        with held:
            try:
                outcome, record = self._api.get(reference)
            except errors.RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise error.cause from None
                return self._failed(job, first_line(error.cause or error), str(error))
            except errors.TaskCancelledError:
                return Outcome(run_id, "interrupted")
            except errors.RayError as error:
                self._deaths[run_id] = self._deaths.get(run_id, 0) + 1
                if self._deaths[run_id] >= MOST:
                    _folder(job).tries.unlink(missing_ok=True)
                    return self._failed(job, f"{poisoned(MOST)} ({type(error).__name__})", str(error))
            else:
                unpack(record, _folder(job))
                return outcome
        return None if self._submit(job) else Outcome(run_id, "taken")

    def _failed(self, job: Job, reason: str, trace: str) -> Outcome:
        _folder(job).fail(reason, trace)
        return Outcome(job.planned.spec.run_id, "failed", reason)

    def _stop(self, report: Report, said: bool) -> None:
        """Ask every worker to save and stop; what comes home meanwhile is kept. ``said``: to a user who waits."""
        going = list(self._in_flight)
        if said:
            print("\nthe workers finish their step and save; once more to stop at once", file=sys.stderr, flush=True)
        for reference in going:
            self._api.cancel(reference, force=False, recursive=False)
        give_up = time.monotonic() + STOP_S
        while self._in_flight and time.monotonic() < give_up:
            for reference in self._ready(WAIT_S):
                self._take_last(reference)
            self._listen(report)

    def _take_last(self, reference: Any) -> None:
        job, held = self._in_flight.pop(reference)
        with held:
            try:
                _, record = self._api.get(reference)
            except self._api.exceptions.RayError:
                return
            unpack(record, _folder(job))


def _folder(job: Job) -> RunDirectory:
    return RunDirectory.of(Path(job.results), job.planned.spec.run_id)

"""Running a plan: say what will happen, run what is missing, bring the store up to date, say where things are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from rich.console import Console

from harness.engine import Pool
from harness.errors import UserError
from harness.execution import Execution
from harness.files import require_writable
from harness.plan import Plan, duration
from harness.progress import GridProgress
from harness.provenance import provenance
from harness.ray_address import require_ready
from harness.recorder import Recorder
from harness.redaction import without_secrets
from harness.spec import PlannedRun
from harness.tracking import Invocation, Store
from harness.worker import Execute, Job

POLL_S = 2.0
"""How often a driver looks whether the runs that another one works on are done, or were dropped."""


def run_grid(plan: Plan, tracking_uri: str, execution: Execution, command: str, execute: Execute) -> int:
    """Run all open runs of a plan and record them; returns the number of failed runs.

    Errors: a results folder that is not writable, a store that does not answer, a GPU that a run insists on or a
    package that its suite needs and this machine has not; all before anything runs.
    """
    console = Console(highlight=False, soft_wrap=True)
    require_writable(plan.results)
    require_ready(execution)
    for run in plan.reopen_damaged():
        console.print(f"warning: {run.title}: its files were changed after it finished; it runs again")
    todo = plan.open_runs()
    if todo and execution.address is None and (lacking := plan.study.lacking()):
        raise UserError(lacking)
    if execution.address is None and any(run.resources.device == "cuda" for run in todo):
        from harness.device import require_device  # torch is imported only where a run names CUDA

        require_device("cuda")
    study = plan.study.file.study
    console.print(f"{study} ({plan.study.scale}): {plan.describe()}")
    store = Store(tracking_uri, plan.results)
    failed = 0
    with Invocation(store, study, command, len(plan.runs)) as invocation:
        recorder = Recorder(invocation, plan.results, console)
        if todo:
            failed = _run_open(plan, todo, execution, command, execute, recorder, store, console)
        recorded = recorder.mirror(plan.runs)
        invocation.failed = failed > 0
    if recorded:
        console.print(f"recorded {recorded} finished run{'s' * (recorded > 1)} that the store did not have")
    if not todo and recorded == 0:
        console.print("nothing to do: every run is done and recorded")
    console.print(f"results: {plan.results / 'runs'}\nMLflow:  {without_secrets(tracking_uri)}")
    if failed:
        console.print(f"failed: {failed}; `metarepro status` says why, the same command tries again")
    return failed


def _run_open(
    plan: Plan,
    todo: list[PlannedRun],
    execution: Execution,
    command: str,
    execute: Execute,
    recorder: Recorder,
    store: Store,
    console: Console,
) -> int:
    workers = execution.side_by_side(len(todo))
    expected = plan.expected_s(workers) if workers else None
    time_left = f"about {duration(expected)}" if expected is not None else "not known yet"
    console.print(f"running {len(todo)} on {execution.described(workers)}; expected time: {time_left}")
    if execution.address is None:
        execution = execution._replace(workers=workers)
    surroundings, results = provenance(command), str(plan.results.resolve())

    def jobs(runs: Iterable[PlannedRun]) -> Iterator[Job]:
        for run in runs:
            yield Job(
                planned=run,
                results=results,
                checkpoint_every=plan.study.file.checkpoint_every,
                tracking_uri=store.uri,
                experiment=recorder.experiment,
                parent=recorder.parent,
                provenance=surroundings,
                checkpoints=execution.checkpoints,
            )

    failed, by_id = 0, {run.spec.run_id: run for run in todo}
    with GridProgress(todo, expected, console) as progress, Pool(execution, execute) as pool:
        while todo:
            taken = []
            for outcome in pool.run(jobs(todo), progress.on_event):
                if outcome.status == "taken":
                    taken.append(by_id[outcome.run_id])
                    continue
                progress.on_outcome(outcome)
                recorder.on_outcome(by_id[outcome.run_id], outcome)
                failed += outcome.status == "failed"
            todo = _not_finished(plan, taken, progress)
    return failed


def _not_finished(plan: Plan, taken: list[PlannedRun], progress: GridProgress) -> list[PlannedRun]:
    """Of the runs that another process had, those that it has not finished; waits for a moment if there are any."""
    left = [run for run in taken if not plan.directory(run).is_finished()]
    progress.on_taken([run for run in taken if run not in left], len(left))
    if left:
        time.sleep(POLL_S)
    return left

"""Running a plan: say what will happen, run what is missing, bring the store up to date, say where things are."""

from __future__ import annotations

from rich.console import Console

from harness.engine import Execute, Pool
from harness.files import require_writable
from harness.plan import Plan, duration
from harness.progress import GridProgress
from harness.provenance import provenance
from harness.spec import PlannedRun
from harness.tracking import Invocation, Store
from harness.worker import Job


def run_grid(plan: Plan, tracking_uri: str, workers: int, command: str, execute: Execute) -> int:
    """Run all open runs of a plan and record them; returns the number of failed runs.

    Errors: a results folder that is not writable, a store that does not answer; both before anything runs.
    """
    console = Console(highlight=False, soft_wrap=True)
    require_writable(plan.results)
    for run in plan.reopen_damaged():
        console.print(f"warning: {run.title}: its files were changed after it finished; it runs again")
    todo = plan.open_runs()
    workers = max(1, min(workers, len(todo)))
    study = plan.study.file.study
    console.print(f"{study} ({plan.study.scale}): {plan.describe()}")
    store = Store(tracking_uri, plan.results)
    failed = 0
    with Invocation(store, study, command, len(plan.runs)) as invocation:
        if todo:
            failed = _run_open(plan, todo, workers, command, execute, invocation, store, console)
        recorded = _mirror(plan, invocation, console)
        invocation.failed = failed > 0
    if recorded:
        console.print(f"recorded {recorded} finished run{'s' * (recorded > 1)} that the store did not have")
    if not todo and recorded == 0:
        console.print("nothing to do: every run is done and recorded")
    console.print(f"results: {plan.results / 'runs'}\nMLflow:  {tracking_uri}")
    if failed:
        console.print(f"failed: {failed}; `metarepro status` says why, the same command tries again")
    return failed


def _mirror(plan: Plan, invocation: Invocation, console: Console) -> int | None:
    try:
        return invocation.mirror(plan.runs, plan.results)
    except Exception as error:  # the store's client raises many kinds; the results are on disk whatever it does
        console.print(f"warning: MLflow is out of reach ({type(error).__name__}); the same command records later")
        return None


def _run_open(
    plan: Plan,
    todo: list[PlannedRun],
    workers: int,
    command: str,
    execute: Execute,
    invocation: Invocation,
    store: Store,
    console: Console,
) -> int:
    expected = plan.expected_s(workers)
    time_left = f"about {duration(expected)}" if expected is not None else "not known yet"
    console.print(f"running {len(todo)} on {workers} worker{'s' * (workers > 1)}; expected time: {time_left}")
    surroundings = provenance(command)
    jobs = [
        Job(
            planned=run,
            results=str(plan.results.resolve()),
            checkpoint_every=plan.study.file.checkpoint_every,
            tracking_uri=store.uri,
            experiment=invocation.experiment,
            parent=invocation.run_id,
            provenance=surroundings,
        )
        for run in todo
    ]
    failed = 0
    with GridProgress(todo, expected, console) as progress, Pool(workers, execute) as pool:
        for outcome in pool.run(jobs, progress.on_event):
            progress.on_outcome(outcome)
            failed += outcome.status == "failed"
    return failed

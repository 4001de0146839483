"""Many tiny runs: what scheduling, MLflow and the report cost per run, and whether anything grows that should not.

    python -m tests.load --runs 1000

Everything runs as a user would run it, in processes of its own. Prints a table; nothing here asserts a time. The exit
code is 0 if every run was executed and recorded once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.composition import REGISTRIES
from harness.files import write_json
from harness.provenance import provenance
from harness.spec import PlannedRun
from harness.tracking import Invocation, Store, default_uri
from harness.worker import Job, work
from tests.harness_fixtures import PROGRAM, PROJECT, load, tiny, write_study

ALONE = 100
"""Runs that are measured by themselves, without a grid."""


def grid(folder: Path, runs: int) -> Path:
    """A study of so many runs of one meta-iteration each."""
    data = tiny() | {"study": "load", "seeds": f"0-{(runs + 1) // 2 - 1}"}
    data["methods"] = {"maml": data["methods"]["maml"], "fomaml": {"algorithm": "fomaml"}}
    data["budget"]["meta_iterations"] = 1
    return write_study(folder, data, "load.yaml")


def alone(planned: list[PlannedRun], folder: Path, recorded: bool) -> float:
    """Seconds per run of the work itself, in this process, with its record or without."""
    store = Store(default_uri(folder), folder)
    folder.mkdir(parents=True)
    surroundings = provenance("load")
    with Invocation(store, "alone", "load", len(planned)) as invocation:
        uri = store.uri if recorded else ""
        jobs = [
            Job(
                planned=run, results=str(folder), checkpoint_every=25, tracking_uri=uri,
                experiment=invocation.experiment, parent=invocation.run_id, provenance=surroundings,
            )
            for run in planned
        ]  # fmt: skip
        work(jobs[0], REGISTRIES, lambda event: None)  # imports
        start = time.perf_counter()
        for job in jobs[1:]:
            assert work(job, REGISTRIES, lambda event: None).status == "done"
        return (time.perf_counter() - start) / (len(jobs) - 1)


def command(*arguments: str) -> tuple[float, str]:
    """Seconds and output of ``metarepro ...`` in a fresh process."""
    start = time.perf_counter()
    program = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(program, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - start, done.stdout


def watched(*arguments: str, results: Path) -> tuple[float, list[tuple[int, float]]]:
    """Seconds of a grid, and its driver's memory in MiB beside the number of runs that have begun."""
    start, seen = time.perf_counter(), []
    program = [sys.executable, "-c", PROGRAM, *arguments]
    with (results.parent / "load.log").open("wb") as log:
        process = subprocess.Popen(program, cwd=PROJECT, stdout=log, stderr=log)
    while process.poll() is None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = (Path("/proc") / str(process.pid) / "status").read_text()
            resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
            seen.append((len(os.listdir(results / "runs")), resident))
        time.sleep(1.0)
    assert process.returncode == 0, (results.parent / "load.log").read_text()[-2000:]
    return time.perf_counter() - start, seen


def memory_at(share: float, runs: int, seen: list[tuple[int, float]]) -> float:
    """The driver's memory when a share of the runs had begun."""
    return next((mib for begun, mib in seen if begun >= share * runs), seen[-1][1])


def measure(runs: int, workers: int, folder: Path) -> dict[str, Any]:
    """All figures of one size."""
    study, results = grid(folder, runs), folder / "results"
    planned = load(study).plan()[:ALONE]
    say(f"{len(planned)} runs alone ...")
    bare, with_store = alone(planned, folder / "bare", False), alone(planned, folder / "store", True)
    say(f"{runs} runs on {workers} workers ...")
    where = ["--results", str(results)]
    seconds, seen = watched("run", str(study), *where, "--workers", str(workers), results=results)
    say("looking at them ...")
    again, said = command("run", str(study), *where, "--workers", str(workers))
    assert "nothing to do" in said, said
    first, _ = command("status", str(study), *where)
    status, shown = command("status", str(study), *where)
    report, _ = command("report", str(study), *where)
    return {
        "runs": runs,
        "workers": workers,
        "run alone, ms": 1e3 * bare,
        "MLflow alone, ms per run": 1e3 * (with_store - bare),
        "grid, s": seconds,
        "grid, ms of a worker per run": 1e3 * seconds * workers / runs,
        "scheduling, ms of a worker per run": 1e3 * (seconds * workers / runs - with_store),
        "driver MiB at 10 %": memory_at(0.1, runs, seen),
        "driver MiB at 50 %": memory_at(0.5, runs, seen),
        "driver MiB at 100 %": memory_at(1.0, runs, seen),
        "status, s": status,
        "status after a change, s": first,
        "nothing to do, s": again,
        "report, ms per run": 1e3 * report / runs,
        "done": shown.count("  done"),
        "recorded once": recorded_once(results, runs),
    }


def recorded_once(results: Path, runs: int) -> bool:
    """Whether the store has each run once, whole."""
    from harness.tracking import search

    client = Store(default_uri(results), results).client
    experiment = client.get_experiment_by_name("load").experiment_id
    records = [(run.data.tags["run_id"], run.info.status) for run in search(client, experiment, "tags.kind = 'run'")]
    return len(records) == len({name for name, _ in records}) == runs and {end for _, end in records} == {"FINISHED"}


def say(text: str) -> None:
    """What is being done."""
    print(text, file=sys.stderr, flush=True)


def table(measured: list[dict[str, Any]]) -> str:
    """Markdown, a column per size."""
    rows = [f"| {' | '.join(['', *(str(one['runs']) + ' runs' for one in measured)])} |"]
    rows.append("| --- |" + " ---: |" * len(measured))
    for name in measured[0]:
        if name != "runs":
            cells = (f"{one[name]:.1f}" if isinstance(one[name], float) else str(one[name]) for one in measured)
            rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> int:
    """Measure one or several sizes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, help="where everything is left (default: a temporary folder)")
    parser.add_argument("--to", type=Path, help="write the figures as JSON as well")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="load-")))
        measured = [measure(runs, options.workers, folder / str(runs)) for runs in options.runs]
    print(table(measured))
    if options.to is not None:
        write_json(options.to, json.loads(json.dumps({"provenance": provenance("load"), "measured": measured})))
        print(f"written: {options.to}")
    return 0 if all(one["done"] == one["runs"] and one["recorded once"] for one in measured) else 1


if __name__ == "__main__":
    sys.exit(main())

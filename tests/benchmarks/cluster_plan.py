"""What a thousand cores would saturate first: every part measured here, and put together by simulation.

    python -m tests.benchmarks.cluster_plan --study navigation

Measured: jobs per second that a driver hands out and takes home on a Ray cluster of two nodes, records per second that
an MLflow server over PostgreSQL takes, and the bytes of a run. Simulated: workers that compute, wait for the server and
for the driver, each of which serves one request after the other. Needs PostgreSQL; takes some minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness.composition import REGISTRIES, SUITES_FOLDER, read
from harness.engine import Pool
from harness.execution import Execution
from harness.files import write_json
from harness.provenance import provenance
from harness.results import RunDirectory
from harness.spec import PlannedRun
from harness.tracking import Invocation, Store, default_uri
from harness.worker import Event, Job, Outcome, Report, work
from tests.local_services import RayCluster, mlflow_server, postgres, ray_cluster

NETWORK_BYTES_S = 10e9 / 8
"""A driver's network of 10 Gbit/s: assumed, not measured."""
CORES = (10, 100, 1000, 10_000)


def ready_made(job: Job, report: Report) -> Outcome:
    """A run that is there at once: the folder of a finished one, under the name that is asked for."""
    folder = RunDirectory.of(Path(job.results), job.planned.spec.run_id).folder
    folder.mkdir(parents=True, exist_ok=True)
    template = Path(job.provenance["template"])
    for path in template.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            target = folder / path.relative_to(template)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    report(Event(job.planned.spec.run_id, "iteration", 1, 0.0))
    return Outcome(folder.name, "done", recorded=True)


def jobs(runs: list[PlannedRun], results: Path, template: str) -> Iterator[Job]:
    """Jobs without a store; ``template``: a finished run's folder, for those that are ready-made."""
    surroundings = provenance("cluster_plan") | {"template": template}
    for run in runs:
        yield Job(
            planned=run, results=str(results), checkpoint_every=25, tracking_uri="",
            experiment="0", parent="none", provenance=surroundings,
        )  # fmt: skip


def driver_rate(cluster: RayCluster, runs: list[PlannedRun], template: Path, folder: Path) -> float:
    """Jobs per second from being handed out to lying in the results folder, of runs that take no time."""
    command = [sys.executable, "-m", "tests.benchmarks.cluster_plan", "--drive", cluster.address, str(folder)]
    command += [str(len(runs)), runs[0].study, str(template)]
    shown = subprocess.run(command, stdout=-1, text=True, env=cluster.environment, check=True)
    return float(shown.stdout)


def drive(address: str, folder: Path, count: int, study: str, template: str) -> float:
    """In a process of its own: the environment of a cluster is read when Ray is imported."""
    runs = read(SUITES_FOLDER / study / "study.yaml", "paper").plan(range(count))[:count]
    pool = Pool(Execution(address=address), ready_made)
    with pool:
        start = 0.0
        for number, outcome in enumerate(pool.run(jobs(runs, folder, template), lambda event: None), 1):
            assert outcome.status == "done", outcome
            if number == count // 10:  # the first of them wait for workers to start
                start = time.perf_counter()
        return (count - count // 10) / (time.perf_counter() - start)


def store_rate(uri: str, runs: list[PlannedRun], template: Path, folder: Path, clients: int) -> float:
    """Whole records per second that a store takes from so many clients at once."""
    store = Store(uri, folder)
    with Invocation(store, f"plan_{clients}", "plan", len(runs)) as invocation:
        parent, directory = invocation.run_id, RunDirectory(template)
        todo = list(runs)

        def record() -> None:
            while todo:
                with contextlib.suppress(IndexError):
                    invocation.record(todo.pop(), directory)

        threads = [threading.Thread(target=record) for _ in range(clients)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
    assert parent
    return len(runs) / seconds


class Part(NamedTuple):
    """What serves one request after the other: seconds per run."""

    name: str
    seconds: float


def simulate(cores: int, run_s: float, parts: list[Part], runs: int, seed: int = 0) -> dict[str, float]:
    """Share of their time that workers compute, and that each part is busy.

    A worker computes for ``run_s`` seconds (±20 %, uniform), then its run passes the parts in order, each first come
    first served; then it takes the next run.
    """
    rng = random.Random(seed)
    events = [(run_s * rng.uniform(0.0, 1.0), worker, 0) for worker in range(cores)]  # not all end at once
    heapq.heapify(events)
    free, busy, computed, done, now = [0.0] * len(parts), [0.0] * len(parts), 0.0, 0, 0.0
    while events and done < runs:
        now, worker, at = heapq.heappop(events)
        if at < len(parts):
            begin = max(now, free[at])
            free[at] = begin + parts[at].seconds
            busy[at] += parts[at].seconds
            heapq.heappush(events, (free[at], worker, at + 1))
            continue
        done += 1
        duration = run_s * rng.uniform(0.8, 1.2)
        computed += duration
        heapq.heappush(events, (now + duration, worker, 0))
    shares = {part.name: min(1.0, busy[index] / now) for index, part in enumerate(parts)}
    return {"runs per s": done / now, "workers": min(1.0, (done / now) * run_s / cores), **shares}


def table(run_lengths: tuple[float, ...], parts: list[Part]) -> str:
    """Share of time in which workers compute and parts are busy, for cores and lengths of a run."""
    rows = [
        "| cores | run, s | runs per s | workers compute | " + " | ".join(part.name for part in parts) + " |",
        "| ---: | ---: | ---: | ---: |" + " ---: |" * len(parts),
    ]
    for cores in CORES:
        for run_s in run_lengths:
            found = simulate(cores, run_s, parts, runs=max(20 * cores, 2000))
            cells = [f"{100 * found[name]:.0f} %" for name in ("workers", *(part.name for part in parts))]
            rows.append(f"| {cores} | {run_s:g} | {found['runs per s']:.2f} | {' | '.join(cells)} |")
    return "\n".join(rows)


def measure(study: str, folder: Path, count: int) -> dict[str, Any]:
    """Every part by itself."""
    runs = read(SUITES_FOLDER / study / "study.yaml", "paper").plan(range(count))[:count]
    say("one whole run ...")
    planned = next(run for run in runs if run.method == "maml")
    (job,) = jobs([planned], folder / "one", "")
    assert work(job, REGISTRIES, lambda event: None).status == "done"
    template = RunDirectory.of(folder / "one", planned.spec.run_id)
    record = sum(path.stat().st_size for path in (*template.evidence(), template.done))
    checkpoint = sum(path.stat().st_size for path in template.newest_checkpoint())
    found: dict[str, Any] = {
        "run, s": template.read_manifest()["wall_clock_s"],
        "record, kB": record / 1e3,
        "checkpoint, kB": checkpoint / 1e3,
    }
    say("driver ...")
    with ray_cluster(folder / "cluster") as cluster:
        found["driver, runs per s"] = driver_rate(cluster, runs, template.folder, folder / "driven")
    say("SQLite ...")
    own = folder / "own"
    own.mkdir()
    found["SQLite of the driver, records per s"] = store_rate(default_uri(own), runs[:60], template.folder, own, 1)
    say("MLflow over PostgreSQL ...")
    with postgres(folder / "postgres") as database, mlflow_server(database, folder / "mlflow", workers=2) as server:
        for clients in (1, 4):
            rate = store_rate(server.uri, runs[:60], template.folder, folder, clients)
            found[f"MLflow, records per s from {clients}"] = rate
    return found


def say(text: str) -> None:
    """What is being done."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Measure, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="navigation")
    parser.add_argument("--runs", type=int, default=600)
    parser.add_argument("--to", type=Path, help="write the figures as JSON as well")
    parser.add_argument("--drive", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        address, folder, count, study, template = options.drive
        print(drive(address, Path(folder), int(count), study, template))
        return 0
    with tempfile.TemporaryDirectory(prefix="plan-") as folder:
        found = measure(options.study, Path(folder), options.runs)
    lengths = (10.0, round(found["run, s"]), 600.0)
    network = Part("network", 1e3 * (found["record, kB"] + 4 * found["checkpoint, kB"]) / NETWORK_BYTES_S)
    driver_s = 1.0 / found["driver, runs per s"]
    server = Part("MLflow", 1.0 / max(rate for name, rate in found.items() if name.startswith("MLflow")))
    print("\n".join(f"| {name} | {value:.2f} |" for name, value in found.items()))
    print(f"\nrecords go to the server:\n\n{table(lengths, [server, Part('driver', driver_s), network])}")
    alone = Part("driver, with its SQLite", driver_s + 1.0 / found["SQLite of the driver, records per s"])
    print(f"\nthe driver records on its own disk:\n\n{table(lengths, [alone, network])}")
    if options.to is not None:
        write_json(options.to, json.loads(json.dumps({"provenance": provenance("cluster_plan"), "measured": found})))
    return 0


if __name__ == "__main__":
    sys.exit(main())

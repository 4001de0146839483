"""A grid under fire: workers and drivers killed at random, the MLflow server stopped and started, and nothing lost.

    python -m tests.chaos --runs 40 --kills 20

Runs the grid undisturbed, then again while it is disturbed, restarting the driver like a batch system would, and
compares: every run once, the same bytes, every metric point once, no orphan process, no lock. Prints the table of
faults; the exit code is 0 if all of it holds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet
from filelock import FileLock, Timeout

from harness.janitor import Process, alive, descendants
from harness.results import RunDirectory
from harness.spec import PlannedRun
from tests.harness_fixtures import PROGRAM, PROJECT, load, tiny, write_study
from tests.local_services import MlflowServer, mlflow_server, postgres

EVERY_S = (2.0, 7.0)
"""Seconds between two kills."""
AWAY_S = 12.0
"""How long the server is away."""
GIVE_UP_S = 1800.0


def grid(folder: Path, runs: int, iterations: int) -> Path:
    """A study of so many runs of a few seconds each."""
    data = tiny() | {"study": "chaos", "seeds": f"0-{(runs + 1) // 2 - 1}", "checkpoint_every": 20}
    data["methods"] = {"maml": data["methods"]["maml"], "fomaml": {"algorithm": "fomaml"}}
    data["budget"]["meta_iterations"] = iterations
    return write_study(folder, data, "chaos.yaml")


class Driver:
    """``metarepro run``, and everything that descends from it."""

    def __init__(self, study: Path, results: Path, uri: str, workers: int) -> None:
        command = [sys.executable, "-c", PROGRAM, "run", str(study), "--results", str(results)]
        command += ["--tracking-uri", uri, "--workers", str(workers)]
        self._log = (results.parent / "driver.log").open("ab")
        self.process = subprocess.Popen(command, cwd=PROJECT, stdout=self._log, stderr=self._log)
        self._family: set[Process] = set()

    def look(self) -> None:
        """Take notice of what it has started."""
        self._family = alive(self._family) | descendants({self.process.pid})

    def workers(self) -> list[int]:
        """Workers that are at a run."""
        return [one.pid for one in alive(self._family) if _command(one.pid).startswith("ray::in_worker")]

    def left_behind(self) -> list[int]:
        """What it has started and has not ended with it, after a while for it to end."""
        give_up = time.monotonic() + 60.0
        while (left := alive(self._family)) and time.monotonic() < give_up:
            time.sleep(0.5)
        return [one.pid for one in left]


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    return ""


class Chaos:
    """The disturbances, in an order that a seed decides."""

    def __init__(self, server: MlflowServer, kills: int, seed: int) -> None:
        self._server, self._rng = server, random.Random(seed)
        self.left, self.counts = kills, Counter[str]()
        self._outages = {kills * 2 // 3, kills // 3}
        self._back_at: float | None = None
        self._next = time.monotonic() + self._rng.uniform(*EVERY_S)

    def act(self, driver: Driver) -> None:
        """Do what is due now."""
        now = time.monotonic()
        if self._back_at is not None and now > self._back_at:
            self._server.start()
            self.counts["server started"] += 1
            self._back_at = None
        if now < self._next or not self.left or driver.process.poll() is not None:
            return
        self._next = now + self._rng.uniform(*EVERY_S)
        victims = driver.workers()
        if victims and self._rng.random() < 0.7:
            os.kill(self._rng.choice(victims), signal.SIGKILL)
            self.counts["worker killed"] += 1
        elif victims or self._rng.random() < 0.3:  # a driver that is still starting is killed now and then
            driver.process.kill()
            self.counts["driver killed"] += 1
        else:
            return
        self.left -= 1
        if self.left in self._outages and self._back_at is None:
            self._outages.remove(self.left)
            self._server.stop()
            self.counts["server stopped"] += 1
            self._back_at = now + AWAY_S

    @property
    def over(self) -> bool:
        """Whether nothing is due any more."""
        return not self.left and self._back_at is None


def disturbed(study: Path, results: Path, server: MlflowServer, chaos: Chaos, workers: int) -> list[str]:
    """Run the grid until it is whole and all disturbances are through; what was left behind."""
    wrong, started, finished = [], time.monotonic(), False
    while not (finished and chaos.over):
        if time.monotonic() - started > GIVE_UP_S:
            return [*wrong, f"not whole after {GIVE_UP_S:.0f} s"]
        driver = Driver(study, results, server.uri, workers)
        chaos.counts["driver started"] += 1
        while driver.process.poll() is None:
            driver.look()
            chaos.act(driver)
            time.sleep(0.1)
        finished = driver.process.returncode == 0
        chaos.counts[f"driver ended with {driver.process.returncode}"] += 1
        if left := driver.left_behind():
            wrong.append(f"left behind: {[_command(pid)[:60] for pid in left]}")
        while not finished and not chaos.over and chaos._back_at is not None:
            chaos.act(driver)  # the server is away: a driver would be refused
            time.sleep(0.1)
    return wrong


def compared(runs: list[PlannedRun], whole: Path, results: Path) -> list[str]:
    """Where the folders of the runs differ from those of the undisturbed grid."""
    wrong = []
    folders = {path.name for path in (results / "runs").iterdir()}
    if strange := folders ^ {run.spec.run_id for run in runs}:
        wrong.append(f"folders that no run asked for, or none for a run: {sorted(strange)}")
    for run in runs:
        expected, found = (RunDirectory.of(place, run.spec.run_id) for place in (whole, results))
        if not found.is_finished():
            wrong.append(f"{run.title}: {found.status()}")
            continue
        paths = [path for path in expected.evidence() if path != expected.manifest]
        wrong += [
            f"{run.title}: other bytes in {path.name}"
            for path in paths
            if path.read_bytes() != (found.folder / path.name).read_bytes()
        ]
        if found.tries.exists() or any(found.folder.rglob(".*.json.*")):
            wrong.append(f"{run.title}: something half done is left")
        try:
            with FileLock(found.folder / ".lock", timeout=0):
                pass
        except Timeout:
            wrong.append(f"{run.title}: its lock is held")
    return wrong


def recorded(runs: list[PlannedRun], results: Path, uri: str) -> list[str]:
    """Where the store has a run or a metric point other than once."""
    from mlflow.tracking import MlflowClient

    client, wrong = MlflowClient(uri), []
    experiment = client.get_experiment_by_name("chaos").experiment_id
    found = client.search_runs([experiment], "tags.kind = 'run'", max_results=1000)
    times = Counter(run.data.tags["run_id"] for run in found if run.info.status == "FINISHED")
    if len(found) != len(runs) or times != Counter(run.spec.run_id for run in runs):
        wrong.append(f"{len(found)} records, {sum(times.values())} of them whole, of {len(runs)} runs")
    for record in found:
        directory = RunDirectory.of(results, record.data.tags["run_id"])
        curves: dict[str, list[Any]] = pyarrow.parquet.read_table(directory.curves).to_pydict()
        for name in sorted(set(curves) - {"iteration"}):
            points = sorted((p.step, p.value) for p in client.get_metric_history(record.info.run_id, name))
            if points != list(zip(curves["iteration"], curves[name], strict=True)):
                wrong.append(f"{record.info.run_name}: {name} has {len(points)} points of {len(curves[name])}")
        have = {artifact.path for artifact in client.list_artifacts(record.info.run_id)}
        if lacking := {path.name for path in directory.evidence()} - have:
            wrong.append(f"{record.info.run_name}: lacks {sorted(lacking)}")
    return wrong


def table(chaos: Chaos, runs: int, seconds: float, undisturbed: float, wrong: list[str]) -> str:
    """What was done and what came of it."""
    rows = [f"| {what} | {count} |" for what, count in sorted(chaos.counts.items())]
    end = [f"| undisturbed, s | {undisturbed:.0f} |", f"| disturbed, s | {seconds:.0f} |"]
    verdict = (
        "every run once, same bytes, every metric point once, no orphan, no lock" if not wrong else "; ".join(wrong)
    )
    return "\n".join([f"| {runs} runs | times |", "| --- | ---: |", *rows, *end, "", verdict])


def main() -> int:
    """Undisturbed, disturbed, compared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=600, help="of each run; 600 take some seconds")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the disturbances")
    parser.add_argument("--folder", type=Path, help="where everything is left (default: a temporary folder)")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        database = stack.enter_context(postgres(folder / "postgres"))
        server = stack.enter_context(mlflow_server(database, folder / "mlflow"))
        study = grid(folder, options.runs, options.iterations)
        runs = load(study).plan()
        print(f"{len(runs)} runs, undisturbed ...", file=sys.stderr, flush=True)
        start = time.monotonic()
        calm = Driver(study, folder / "whole", "sqlite:///" + str(folder / "whole.db"), options.workers)
        assert calm.process.wait() == 0
        undisturbed = time.monotonic() - start
        print(f"{undisturbed:.0f} s; disturbed {options.kills} times ...", file=sys.stderr, flush=True)
        chaos, start = Chaos(server, options.kills, options.seed), time.monotonic()
        wrong = disturbed(study, folder / "results", server, chaos, options.workers)
        seconds = time.monotonic() - start
        wrong += compared(runs, folder / "whole", folder / "results")
        wrong += recorded(runs, folder / "results", server.uri)
        print(table(chaos, len(runs), seconds, undisturbed, wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

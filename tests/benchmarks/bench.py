"""``make bench``: speed, memory and scaling at the paper's size, each configuration in a process of its own.

    python -m tests.benchmarks.bench --results results --device cuda

Prints Markdown tables and writes them to ``<results>/bench.md``, with the raw figures in ``bench.json``. Nothing here
asserts a time: the figures depend on the machine and on what else runs on it.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from harness.device import describe, require_device
from harness.errors import UserError
from harness.files import require_writable, write_atomic, write_json
from harness.provenance import provenance
from harness.spec import Device, Resources
from tests.benchmarks import policy_search, trust_region

Child = Callable[..., dict[str, float]]
METHODS = ("maml", "fomaml", "pretrained")
TASKS = (20, 40, 80, 160)
EPISODES = (20, 40, 80)


def child(**options: Any) -> dict[str, float]:
    """One configuration, measured in a fresh process."""
    command = [sys.executable, "-m", "tests.benchmarks.meta_iteration"]
    for name, value in options.items():
        if value is not False:
            command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    print("  " + " ".join(command[2:]), file=sys.stderr, flush=True)
    measured: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return measured


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def phases_table(measured: dict[str, dict[str, float]]) -> str:
    """Seconds per meta-iteration, split, and beside the matrix products alone."""
    rows = []
    for name, row in measured.items():
        split = [f"{row[phase]:.3f}" for phase in ("sampling", "adaptation", "outer", "total")]
        share = [f"{row['gflop']:.1f}", f"{row['limit']:.3f}", f"{100 * row['limit'] / row['total']:.0f} %"]
        rows.append([name, *split, f"{1e-6 * row['steps'] / row['sampling']:.2f}", f"{row['peak_mib']:.0f}", *share])
    header = ["method, threads", "sampling s", "adaptation s", "outer s", "total s", "million steps/s", "peak MiB"]
    return table([*header, "GFLOP", "products alone s", "share"], rows)


def growth_table(axis: str, measured: dict[tuple[str, int], dict[str, float]]) -> str:
    """Seconds and memory against one axis of size."""
    rows = []
    for (method, size), row in measured.items():
        per_task = 1e3 * row["total"] / size
        rows.append([method, str(size), f"{row['total']:.3f}", f"{per_task:.2f}", f"{row['peak_mib']:.0f}"])
    return table(["method", axis, "s per meta-iteration", f"ms per {axis[:-1]}", "peak MiB"], rows)


def overhead_table(results: Path, device: Device) -> str:
    """What MLflow and checkpoints cost in one whole run of MAML at the paper's size."""
    from harness.composition import REGISTRIES, SUITES_FOLDER
    from harness.results import RunDirectory
    from harness.run_logger import RunLogger
    from harness.study import read_study
    from harness.tracking import Invocation, Store, default_uri
    from harness.worker import Job, work

    spent = {"calls": 0.0}
    for name in ("__init__", "log", "finish"):
        _time_calls(RunLogger, name, spent)
    study = read_study(Path(SUITES_FOLDER / "navigation" / "study.yaml"), "paper", REGISTRIES)
    planned = next(run for run in study.plan([0]) if run.method == "maml")
    planned = planned.model_copy(update={"resources": Resources(device=device)})
    folder = results / "bench" / time.strftime("%Y%m%d-%H%M%S")
    store = Store(default_uri(folder), folder)
    folder.mkdir(parents=True)
    print("  one whole run of maml", file=sys.stderr, flush=True)
    with Invocation(store, "bench", "bench", 1) as invocation:
        job = Job(
            planned=planned, results=str(folder.resolve()), checkpoint_every=study.file.checkpoint_every,
            tracking_uri=store.uri, experiment=invocation.experiment, parent=invocation.run_id,
            provenance=provenance("bench"),
        )  # fmt: skip
        start = time.perf_counter()
        work(job, REGISTRIES, lambda event: None)
        wall = time.perf_counter() - start
    checkpoint = RunDirectory.of(folder, planned.spec.run_id).read_manifest()["seconds"]["checkpoint"]
    rows = [
        ["MLflow", f"{spent['calls']:.2f}", f"{100 * spent['calls'] / wall:.2f} %"],
        ["checkpoints", f"{checkpoint:.2f}", f"{100 * checkpoint / wall:.2f} %"],
        ["whole run", f"{wall:.2f}", "100 %"],
    ]
    return table(["one run of maml, 1 thread", "s", "share"], rows)


def _time_calls(owner: type, name: str, spent: dict[str, float]) -> None:
    original = getattr(owner, name)

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(*arguments)
        finally:
            spent["calls"] += time.perf_counter() - start

    setattr(owner, name, timed)


def methods_part(child: Child, threads: int, results: Path, device: Device) -> tuple[list[str], dict[str, Any]]:
    """MAML, FOMAML and pretraining with critics on 2D navigation, and what records and checkpoints cost."""
    by_method = {
        f"{method}, {count}": child(method=method, threads=count, limit=True)
        for method in METHODS
        for count in sorted({1, threads})
    }
    by_tasks = {(m, n): child(method=m, tasks=n, threads=threads) for m in METHODS[:2] for n in TASKS}
    by_episodes = {(m, n): child(method=m, episodes=n, threads=threads) for m in METHODS[:2] for n in EPISODES}
    shown = [phases_table(by_method), growth_table("tasks", by_tasks), growth_table("episodes", by_episodes)]
    raw = {"methods": by_method, **{f"{m}, {n} tasks": row for (m, n), row in by_tasks.items()}}
    raw |= {f"{m}, {n} episodes": row for (m, n), row in by_episodes.items()}
    return [*shown, overhead_table(results, device)], raw


def trust_region_part(child: Child, threads: int, results: Path, device: Device) -> tuple[list[str], dict[str, Any]]:
    """MAML-TRPO on bandits, tabular MDPs and 2D navigation."""
    measured = trust_region.measure_all(child, sorted({1, threads}))
    shown = [table(*trust_region.phases(measured)), table(*trust_region.growth(child, threads))]
    return shown, {f"maml_trpo, {work.name}, {count} threads": row for (work, count), row in measured.items()}


def policy_search_part(child: Child, threads: int, results: Path, device: Device) -> tuple[list[str], dict[str, Any]]:
    """The ProMP paper's family on the corner task."""
    measured = policy_search.measure_all(child, threads)
    shown = [table(*policy_search.phases(measured)), table(*policy_search.growth(measured))]
    return shown, {f"{method}, {steps} adaptation steps": row for (method, steps), row in measured.items()}


PARTS = {"methods": methods_part, "trust_region": trust_region_part, "policy_search": policy_search_part}


def main() -> int:
    """Measure, print, write; the exit code, 2 for a device that is not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", default="results")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=PARTS, help="one part instead of all")
    parser.add_argument("--device", choices=get_args(Device), default="cpu", help="where meta-iterations are computed")
    options = parser.parse_args()
    results = Path(options.results)
    try:
        require_device(options.device)
        require_writable(results)
    except UserError as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return 2
    device = describe(options.device)
    surroundings = provenance("python -m tests.benchmarks.bench") | {"device": device}
    measure = functools.partial(child, device=options.device)
    shown = [
        f"device {device}; {surroundings['cpu']}, {surroundings['cores']} cores, "
        f"torch {surroundings['packages']['torch']}, code {surroundings['code_version']}; "
        "20 tasks x 20 episodes x 100 steps unless a table says otherwise"
    ]
    raw: dict[str, Any] = {}
    for name in PARTS if options.only is None else [options.only]:
        tables, figures = PARTS[name](measure, options.threads, results, options.device)
        shown += tables
        raw |= figures
    text = "\n\n".join(shown)
    write_atomic(results / "bench.md", (text + "\n").encode())
    write_json(results / "bench.json", {"provenance": surroundings, "measured": raw})
    print(f"{text}\n\nwritten: {results / 'bench.md'}, {results / 'bench.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

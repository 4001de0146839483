"""One configuration in a process of its own: seconds per phase, throughput, peak memory. Prints one line of JSON."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from typing import get_args

import torch

from harness.composition import REGISTRIES, SUITES_FOLDER
from harness.device import computing_on, wait_for_device
from harness.runner import Clock, Training, meta_iteration
from harness.spec import Device
from harness.streams import Streams
from harness.study import read_study
from harness.study_source import find_study
from harness.worker import build
from tests.benchmarks import matrix_products

PHASES = ("sampling", "adaptation", "outer")


def measure(
    study: str,
    setting: str,
    method: str,
    tasks: int,
    episodes: int,
    threads: int,
    iterations: int,
    warm: int,
    limit: bool,
) -> dict[str, float]:
    """Medians over ``iterations`` after ``warm`` that do not count; the setting's own size where a size is 0."""
    torch.set_num_threads(threads)
    plan = read_study(find_study(study, SUITES_FOLDER), "paper", REGISTRIES).plan([0])
    spec = next(run.spec for run in plan if run.method == method and setting in ("", run.setting))
    sizes = {"meta_batch_size": tasks, "episodes_per_task": episodes}
    budget = spec.budget.model_copy(update={name: size for name, size in sizes.items() if size})
    spec = spec.model_copy(update={"budget": budget})
    suite, algorithm = build(spec, REGISTRIES)
    streams = Streams(0)
    training = Training(algorithm.init(streams["init"]), streams)
    rows: list[dict[str, float]] = []

    def iterate() -> None:
        clock, start = Clock(), time.perf_counter()
        training.state, _ = meta_iteration(suite, algorithm, spec, training, clock)
        wait_for_device()
        rows.append({**clock.seconds, "total": time.perf_counter() - start})

    for _ in range(iterations + warm):
        iterate()
    rows = rows[warm:]
    result = {phase: statistics.median(row.get(phase, 0.0) for row in rows) for phase in (*PHASES, "total")}
    rollouts = 1 + algorithm.adaptation_rounds
    result["steps"] = rollouts * budget.meta_batch_size * budget.episodes_per_task * suite.horizon
    result["peak_mib"] = peak_bytes() / 2**20
    if limit:
        products = matrix_products.products_of(iterate)
        result["limit"] = matrix_products.seconds(products)
        result["gflop"] = matrix_products.floating_point_operations(products) / 1e9
    return result


def peak_bytes() -> int:
    """Most memory so far: of tensors on the GPU where one is used, else of this process."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--study", default="navigation")
    parser.add_argument("--setting", default="")
    parser.add_argument("--method", default="maml")
    for name, default in (("tasks", 0), ("episodes", 0), ("threads", 2), ("iterations", 10), ("warm", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--limit", action="store_true")
    parser.add_argument("--device", choices=get_args(Device), default="cpu")
    options = vars(parser.parse_args())
    with computing_on(options.pop("device")):
        print(json.dumps(measure(**options)))


if __name__ == "__main__":
    main()

"""One configuration in a process of its own: seconds per phase, throughput, peak memory. Prints one line of JSON."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from pathlib import Path

import torch

from harness.cli import REGISTRIES, SUITES_FOLDER
from harness.runner import Clock, Training, meta_iteration
from harness.streams import Streams
from harness.study import read_study
from harness.worker import build
from tests.benchmarks import matrix_products

PHASES = ("sampling", "adaptation", "outer")


def measure(method: str, tasks: int, episodes: int, threads: int, iterations: int, limit: bool) -> dict[str, float]:
    """Medians over ``iterations`` after two that warm up."""
    torch.set_num_threads(threads)
    study = read_study(Path(SUITES_FOLDER / "navigation" / "study.yaml"), "paper", REGISTRIES)
    spec = next(run.spec for run in study.plan([0]) if run.method == method)
    budget = spec.budget.model_copy(update={"meta_batch_size": tasks, "episodes_per_task": episodes})
    spec = spec.model_copy(update={"budget": budget})
    suite, algorithm = build(spec, REGISTRIES)
    streams = Streams(0)
    training = Training(algorithm.init(streams["init"]), streams)
    rows: list[dict[str, float]] = []
    for _ in range(iterations + 2):
        clock, start = Clock(), time.perf_counter()
        training.state, _ = meta_iteration(suite, algorithm, spec, training, clock)
        rows.append({**clock.seconds, "total": time.perf_counter() - start})
    rows = rows[2:]
    result = {phase: statistics.median(row.get(phase, 0.0) for row in rows) for phase in (*PHASES, "total")}
    rollouts = 1 + algorithm.adaptation_rounds
    result["steps_per_s"] = rollouts * tasks * episodes * suite.horizon / result["sampling"]
    result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if limit:
        settings = algorithm.settings
        actor = (suite.observation_dim, *settings.actor_hidden_sizes, suite.action_dim)
        critic = (suite.observation_dim, *settings.critic_hidden_sizes, 1)
        products = matrix_products.of_meta_iteration(method, actor, critic, tasks, episodes, suite.horizon)
        result["limit"] = matrix_products.seconds(products)
        result["gflop"] = matrix_products.floating_point_operations(products) / 1e9
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", default="maml")
    for name, default in (("tasks", 20), ("episodes", 20), ("threads", 2), ("iterations", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--limit", action="store_true")
    print(json.dumps(measure(**vars(parser.parse_args()))))

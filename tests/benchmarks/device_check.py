"""How far a device is from the CPU, and how fast: a few meta-iterations of the paper's size on both.

    python -m tests.benchmarks.device_check --device cuda

Prints one Markdown row per method: the largest difference of a meta-parameter, relative to the largest of its tensor;
the largest difference of a mean return, relative to its size; and seconds per meta-iteration, the first one left out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import NamedTuple, get_args

import torch

from harness.api import Metrics, Params
from harness.composition import REGISTRIES, SUITES_FOLDER
from harness.device import computing_on, describe, require_device, wait_for_device
from harness.errors import UserError
from harness.runner import Clock, Training, meta_iteration
from harness.spec import Device, RunSpec
from harness.streams import Streams
from harness.study import read_study
from harness.study_source import find_study
from harness.worker import build
from tests.benchmarks import policy_search, trust_region

WORKS = (
    ("navigation", "", "maml"),
    (trust_region.NAVIGATION, "", "maml"),
    ("bandits", "n100_k5", "maml"),
    ("tabular_mdp", "n10", "maml"),
    (policy_search.STUDY, "steps_1", "maml_trpo"),
    (policy_search.STUDY, "steps_1", "promp"),
)
"""Study, setting and method: MAML with critics, MAML-TRPO on three suites and on the corners, ProMP on the corners."""


class Trace(NamedTuple):
    """What some meta-iterations led to."""

    params: Params
    curves: list[Metrics]
    seconds: float


def trace(spec: RunSpec, device: Device, iterations: int) -> Trace:
    """Meta-iterations from the start, on a device."""
    with computing_on(device):
        suite, algorithm = build(spec, REGISTRIES)
        streams = Streams(0)
        training = Training(algorithm.init(streams["init"]), streams)
        curves, seconds = [], []
        for _ in range(iterations):
            start = time.perf_counter()
            training.state, metrics = meta_iteration(suite, algorithm, spec, training, Clock())
            wait_for_device()
            seconds.append(time.perf_counter() - start)
            training.iteration += 1
            curves.append(metrics)
        params = {name: tensor.cpu().double() for name, tensor in training.state.params.items()}
        return Trace(params, curves, statistics.median(seconds[1:]))


def differences(one: Trace, other: Trace) -> tuple[float, float]:
    """(of the meta-parameters, of the mean returns), relative."""
    params = max(
        float((tensor - other.params[name]).abs().max() / tensor.abs().max().clamp(min=1e-30))
        for name, tensor in one.params.items()
    )
    returns = max(
        abs(mine[name] - its[name]) / max(abs(mine[name]), 1e-30)
        for mine, its in zip(one.curves, other.curves, strict=True)
        for name in mine
        if name.endswith("_return")
    )
    return params, returns


def main() -> int:
    """Print the table; the exit code, 2 for a device that is not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=get_args(Device), default="cuda")
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    try:
        require_device(options.device)
    except UserError as error:
        print(f"device_check: error: {error}", file=sys.stderr)
        return 2
    torch.set_num_threads(options.threads)
    print(f"{describe(options.device)} against the CPU, {options.iterations} meta-iterations\n")
    print("| study | method | parameters | returns | CPU s | device s |\n|---|---|---|---|---|---|")
    for study, setting, method in WORKS:
        plan = read_study(find_study(study, SUITES_FOLDER), "paper", REGISTRIES).plan([0])
        spec = next(run.spec for run in plan if run.method == method and setting in ("", run.setting))
        cpu, device = (trace(spec, one, options.iterations) for one in ("cpu", options.device))
        params, returns = differences(cpu, device)
        name = f"{spec.suite.name}, {spec.algorithm.name}"
        print(
            f"| {study} | {name} | {params:.1e} | {returns:.1e} | {cpu.seconds:.3f} | {device.seconds:.3f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

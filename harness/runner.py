"""One run: meta-train, checkpoint, resume, notice divergence, meta-test, leave the evidence."""

from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harness.api import Algorithm, MetaBatch, Metrics, Params, Settings, State, Suite
from harness.checkpoint import Groups, misfit_of_training, newest_checkpoint, save_checkpoint
from harness.device import placed, wait_for_device
from harness.evaluation import evaluate, meta_test_tasks
from harness.files import write_json
from harness.results import (
    RunDirectory,
    curves_table,
    measures_table,
    paths_table,
    references_table,
    returns_table,
)
from harness.rollout import rollout
from harness.spec import ModelChoice, RunSpec
from harness.streams import Streams
from harness.watcher import NOBODY, Interrupted, Watcher

EXPLODED = 1e12
"""A mean return beyond this in size counts as diverged, like one that is not a number."""


class Diverged(Exception):
    """Meta-training left the numbers that can be trusted."""


@dataclass
class Clock:
    """Seconds per phase of the work, and what of them was processor time of this process, all threads together."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu_s: float = 0.0

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of a block to a phase, and of what it gave a GPU to do."""
        wait_for_device()
        start, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            wait_for_device()
            self.seconds[name] += time.perf_counter() - start
            self.cpu_s += time.process_time() - cpu


@dataclass
class Training:
    """A run between two meta-iterations: all that a checkpoint holds."""

    state: State
    streams: Streams
    iteration: int = 0
    curves: dict[str, list[float]] = field(default_factory=dict)
    environment_steps: int = 0
    best: Params = field(default_factory=dict)
    """The meta-parameters whose adapted policies had the highest mean return so far; empty before the first."""

    def models(self) -> dict[ModelChoice, Params]:
        """What a meta-test may ask for; without any meta-iteration both are the initial parameters."""
        return {"last": self.state.params, "best": self.best or self.state.params}

    def groups(self) -> Groups:
        """As named tensors."""
        return {
            "params": self.state.params,
            "optimiser": self.state.optimiser,
            "slots": self.state.slots,
            "best": self.best,
            "streams": self.streams.state(),
            "curves": {name: torch.tensor(values, dtype=torch.float64) for name, values in self.curves.items()},
        }

    def restore(self, groups: Groups, info: dict[str, Any]) -> None:
        """From a checkpoint, wherever it was made; generators stay on the CPU."""
        self.state = State(*(placed(groups[name]) for name in ("params", "optimiser", "slots")))
        self.best = placed(groups["best"])
        self.streams.restore(groups["streams"])
        self.iteration = info["iteration"]
        self.environment_steps = info["environment_steps"]
        self.curves = {name: tensor.tolist() for name, tensor in groups["curves"].items()}


def meta_iteration(
    suite: Suite, algorithm: Algorithm, spec: RunSpec, training: Training, clock: Clock
) -> tuple[State, Metrics]:
    """Sample tasks, adapt on pre-update data, sample again, update the meta-parameters.

    Random numbers come from the streams of ``training``, which move on; everything else is left as it was.
    """
    count, episodes = spec.budget.meta_batch_size, spec.budget.episodes_per_task
    streams, state = training.streams, training.state
    tasks = suite.sample_tasks(count, streams["tasks"])
    params = state.params
    adapted = {name: tensor.expand(count, *tensor.shape) for name, tensor in params.items()}
    pre_update: list[Any] = []
    slots: Params = {}
    metrics = Metrics()
    for _ in range(algorithm.adaptation_rounds):
        trajectories = _sample(suite, algorithm, params, tasks, episodes, streams, clock)
        metrics.setdefault("pre_update_return", float(trajectories.episode_returns().mean()))
        training.environment_steps += int(trajectories.valid.sum())
        with clock.phase("adaptation"):
            samples, slots = algorithm.prepare(params, trajectories, slots, shared_slots=False)
            params = adapted = algorithm.adapt(params, samples)
        pre_update.append(samples)
    trajectories = _sample(suite, algorithm, params, tasks, episodes, streams, clock)
    metrics["post_update_return"] = float(trajectories.episode_returns().mean())
    metrics["post_update_length"] = float(trajectories.lengths().double().mean())
    training.environment_steps += int(trajectories.valid.sum())
    with clock.phase("outer"):
        samples, shared = algorithm.prepare(params, trajectories, state.slots, shared_slots=True)
        batch = MetaBatch(tuple(pre_update), adapted, samples)
        state, update_metrics = algorithm.meta_update(replace(state, slots=shared), batch, training.iteration)
    return state, metrics | update_metrics


def _sample(
    suite: Suite, algorithm: Algorithm, params: Any, tasks: Any, episodes: int, streams: Streams, clock: Clock
) -> Any:
    with clock.phase("sampling"):
        count = next(iter(tasks.values())).shape[0]
        noise = algorithm.policy.draw_noise(streams["policy"], count, episodes, suite.horizon)
        return rollout(suite, algorithm.policy, params, tasks, episodes, streams["environment"], noise)


def meta_train(
    suite: Suite,
    algorithm: Algorithm,
    spec: RunSpec,
    training: Training,
    directory: RunDirectory,
    checkpoint_every: int,
    watcher: Watcher,
    clock: Clock,
    twin: RunDirectory | None,
) -> None:
    """Carry ``training`` from the newest checkpoint, or from the start, to the end of the budget.

    A ``twin`` is a run that has made the same training to its end: it is taken over, and its time does not count.
    Raises :class:`Diverged`, and :class:`Interrupted` where the watcher asks it to stop.
    """
    misfit = partial(misfit_of_training, training.groups(), spec.budget.meta_iterations)
    if (found := newest_checkpoint(directory.checkpoints, watcher.warn, misfit)) is not None:
        training.restore(*found)
        clock.seconds.update(found[1]["seconds"])
        clock.cpu_s = found[1].get("cpu_s", 0.0)
    elif twin is not None and (found := newest_checkpoint(twin.checkpoints, watcher.warn, misfit)) is not None:
        training.restore(*found)
    for iteration in range(training.iteration):
        watcher.on_iteration(iteration, {name: values[iteration] for name, values in training.curves.items()})
    last = spec.budget.meta_iterations
    while training.iteration < last:
        state, metrics = meta_iteration(suite, algorithm, spec, training, clock)
        _refuse_divergence(training.iteration, state, metrics)
        if metrics["post_update_return"] > max(training.curves.get("post_update_return", []), default=-math.inf):
            training.best = training.state.params
        training.state = state
        for name, value in metrics.items():
            training.curves.setdefault(name, []).append(value)
        with clock.phase("logging"):
            watcher.on_iteration(training.iteration, metrics)
        training.iteration += 1
        stop = watcher.should_stop()
        if (training.iteration % checkpoint_every == 0 or stop) and training.iteration < last:
            _checkpoint(directory, training, clock, watcher)
        if stop:
            break
    else:
        _checkpoint(directory, training, clock, watcher)
        return
    raise Interrupted


def _checkpoint(directory: RunDirectory, training: Training, clock: Clock, watcher: Watcher) -> None:
    with clock.phase("checkpoint"):
        info = {"environment_steps": training.environment_steps, "seconds": dict(clock.seconds), "cpu_s": clock.cpu_s}
        save_checkpoint(directory.checkpoints, training.iteration, training.groups(), info)
        watcher.on_checkpoint(training.iteration)


def _refuse_divergence(iteration: int, state: State, metrics: Metrics) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value) or (name.endswith("_return") and abs(value) > EXPLODED):
            raise Diverged(f"{name} is {value} at meta-iteration {iteration}")
    for name, tensor in state.params.items():
        if not torch.isfinite(tensor).all():
            raise Diverged(f"parameter {name} is not finite after meta-iteration {iteration}")


def run(
    spec: RunSpec,
    suite: Suite,
    algorithm: Algorithm,
    rules: dict[str, type[Settings]],
    folder: Path,
    provenance: dict[str, Any],
    checkpoint_every: int,
    watcher: Watcher = NOBODY,
) -> str:
    """Execute one run in its folder and return ``done`` or ``diverged``.

    Leaves ``spec.json``, ``returns.parquet``, ``references.parquet``, ``curves.parquet``, ``manifest.json``,
    ``measures.parquet`` and ``paths.parquet`` where the suite has any, checkpoints, and last ``DONE.json``.
    ``provenance`` goes into the manifest. The number of threads of this process becomes the spec's. Raises
    :class:`Interrupted`; the same call goes on.
    """
    torch.set_num_threads(spec.budget.threads)
    directory, clock = RunDirectory(folder), Clock()
    directory.begin(spec)
    streams = Streams(spec.seed)
    training = Training(algorithm.init(streams["init"]), streams)
    status, reason, twin = "done", "", directory.twin(spec)
    try:
        meta_train(suite, algorithm, spec, training, directory, checkpoint_every, watcher, clock, twin)
        directory.announce_training(spec)
        with clock.phase("meta_test"):
            measurements = evaluate(suite, algorithm, training.models(), spec.evaluation, rules)
        if any(not torch.isfinite(measurement.returns).all() for measurement in measurements):
            raise Diverged("a meta-test return is not finite")
        directory.write_table(directory.returns, returns_table(measurements))
        known = suite.references(meta_test_tasks(suite, spec.evaluation), spec.evaluation.episodes_per_task)
        directory.write_table(directory.references, references_table(known))
        for path, table in (
            (directory.measures, measures_table(measurements)),
            (directory.paths, paths_table(measurements)),
        ):
            if table is not None:
                directory.write_table(path, table)
    except Diverged as divergence:
        status, reason = "diverged", str(divergence)
    directory.write_table(directory.curves, curves_table(training.curves))
    manifest = provenance | {
        "status": status,
        "reason": reason,
        "wall_clock_s": round(sum(clock.seconds.values()), 3),
        "cpu_s": round(clock.cpu_s, 3),
        "seconds": {name: round(seconds, 3) for name, seconds in sorted(clock.seconds.items())},
        "environment_steps": training.environment_steps,
        "threads": spec.budget.threads,
        **({"training_of": twin.folder.name} if twin is not None else {}),
    }
    write_json(directory.manifest, manifest)
    directory.finish(status)
    return status

"""The meta-test: adapt to every test task under a protocol and measure the return before and after each update."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.api import Algorithm, Params, Settings, Suite, Tasks, Trajectories
from harness.errors import UserError
from harness.rollout import rollout, simulate
from harness.spec import Evaluation, ModelChoice
from harness.streams import stream


class Measurement(NamedTuple):
    """Returns of one protocol.

    After u updates means: of the policy that u updates led to; for a sequential policy, which learns by remembering,
    in the u-th block of ``episodes_per_task`` episodes, counted from 0.

    Shapes:
        returns: [updates + 1, tasks, episodes], undiscounted return after 0, 1, ... updates
        lengths: [updates + 1, tasks, episodes], steps per episode
        counted: [updates + 1, tasks, episodes] bool; False for padding where tasks have different numbers of episodes
        measures: what the suite measures beyond the return, {name: [updates + 1, tasks]}
        paths: where the agent was in the first :data:`DRAWN_TASKS` tasks and :data:`DRAWN_EPISODES` episodes,
            [updates + 1, tasks, episodes, horizon + 1, 2]; None where it does not move in a plane

    All of it is on the CPU, wherever it was computed.
    """

    protocol: str
    returns: Tensor
    lengths: Tensor
    counted: Tensor
    measures: dict[str, Tensor]
    paths: Tensor | None


DRAWN_TASKS, DRAWN_EPISODES = 4, 5
"""How much of a meta-test is kept for drawing."""


def evaluate(
    suite: Suite,
    algorithm: Algorithm,
    models: Mapping[ModelChoice, Params],
    evaluation: Evaluation,
    rules: dict[str, type[Settings]],
) -> list[Measurement]:
    """Measure every protocol of ``evaluation`` on the same tasks with the same noise.

    The random numbers depend on ``evaluation.seed`` only: every method and every training seed meets the same tasks
    and, update by update, the same action noise. ``models``: the meta-parameters that a protocol may ask for.
    """
    tasks = meta_test_tasks(suite, evaluation)
    return [
        _measure(suite, algorithm, models[protocol.model], tasks, evaluation, name, rules)
        for name, protocol in sorted(evaluation.protocols.items())
    ]


def meta_test_tasks(suite: Suite, evaluation: Evaluation) -> Tasks:
    """The tasks of the meta-test."""
    return suite.meta_test_tasks(evaluation.meta_test_tasks, stream(evaluation.seed, "meta_test_tasks"))


def adaptation(
    suite: Suite,
    algorithm: Algorithm,
    params: Params,
    tasks: Tasks,
    evaluation: Evaluation,
    name: str,
    rules: dict[str, type[Settings]],
) -> Iterator[tuple[Params, Trajectories]]:
    """A protocol after 0, 1, ... updates: the parameters of every task, [tasks, ...], and the episodes they led to.

    ``params``: meta-parameters. ``tasks``: all those of the meta-test.
    """
    protocol = evaluation.protocols[name]
    rule = algorithm.rule(rules[protocol.rule].model_validate(protocol.settings))
    current = {key: tensor.expand(evaluation.meta_test_tasks, *tensor.shape).clone() for key, tensor in params.items()}
    moments = rule.init(current)
    collect = (_Episodes if protocol.steps_per_task is None else _Steps)(suite, algorithm, tasks, evaluation, name)
    slots: Params = {}
    for update in range(protocol.updates + 1):
        trajectories = collect(current, update)
        yield current, trajectories
        if update < protocol.updates:
            samples, slots = algorithm.prepare(current, trajectories, slots, shared_slots=False)
            current, moments = rule.update(current, moments, samples)


def _measure(
    suite: Suite,
    algorithm: Algorithm,
    params: Params,
    tasks: Tasks,
    evaluation: Evaluation,
    name: str,
    rules: dict[str, type[Settings]],
) -> Measurement:
    experienced, paths, measured = [], [], []
    for _, trajectories in adaptation(suite, algorithm, params, tasks, evaluation, name, rules):
        experienced.append((trajectories.episode_returns(), trajectories.lengths(), trajectories.valid[..., 0]))
        measured.append(suite.measures(tasks, trajectories))
        if (positions := suite.paths(trajectories)) is not None:
            paths.append(positions[:DRAWN_TASKS, :DRAWN_EPISODES])
    measures = {key: torch.stack([step[key] for step in measured]).cpu() for key in measured[0]}
    drawn = torch.stack(paths).cpu() if paths else None
    returns, lengths, counted = (_stacked(of_updates).cpu() for of_updates in zip(*experienced, strict=True))
    return Measurement(name, returns, lengths, counted, measures, drawn)


def _stacked(of_updates: tuple[Tensor, ...]) -> Tensor:
    """[tasks, episodes] of every update as one tensor, padded with zeros to the largest number of episodes."""
    most = max(tensor.shape[1] for tensor in of_updates)
    return torch.stack([torch.nn.functional.pad(tensor, (0, most - tensor.shape[1])) for tensor in of_updates])


class _Episodes:
    """Data of an update: a fixed number of episodes of every task."""

    def __init__(self, suite: Suite, algorithm: Algorithm, tasks: Tasks, evaluation: Evaluation, name: str) -> None:
        self._suite, self._policy, self._tasks, self._evaluation = suite, algorithm.policy, tasks, evaluation
        self._noise_rng = stream(evaluation.seed, "meta_test_policy")
        self._environment_rng = stream(evaluation.seed, "meta_test_environment")
        self._memory: Any = None

    def __call__(self, params: Params, update: int) -> Trajectories:
        evaluation, episodes = self._evaluation, self._evaluation.episodes_per_task
        noise = self._policy.draw_noise(self._noise_rng, _noise_tasks(evaluation), episodes, self._suite.horizon)
        trajectories, self._memory = simulate(
            self._suite, self._policy, params, self._tasks, episodes, self._environment_rng, noise, self._memory
        )
        return trajectories


class _Steps:
    """Data of an update: of every task, episodes until it has so many steps; the last one is finished.

    Episodes come in rounds. The first is what a protocol that counts episodes would have, with the same noise: the two
    differ in their amount of data alone. Further ones are as many episodes as would do if none ended early, and have
    streams of their own: update and round have the same noise whatever happened before. Episodes of a task that has
    enough are marked as wholly invalid, and what no task needs is cut.
    """

    def __init__(self, suite: Suite, algorithm: Algorithm, tasks: Tasks, evaluation: Evaluation, name: str) -> None:
        self._suite, self._policy, self._tasks, self._evaluation = suite, algorithm.policy, tasks, evaluation
        self._first = _Episodes(suite, algorithm, tasks, evaluation, name)
        self._steps = evaluation.protocols[name].steps_per_task or 0
        if self._policy.sequential:
            raise UserError(f"protocol {name}: a learner that remembers counts episodes; steps_per_task is not for it")

    def __call__(self, params: Params, update: int) -> Trajectories:
        rounds = [self._first(params, update)]
        while bool((torch.cat([one.lengths() for one in rounds], dim=1).sum(1) < self._steps).any()):
            rounds.append(self._round(params, update, len(rounds)))
        found = Trajectories(*(torch.cat(parts, dim=1) for parts in zip(*rounds, strict=True)))
        lengths = found.lengths()
        wanted = lengths.cumsum(1) - lengths < self._steps
        most = int(wanted.sum(1).max())
        found = Trajectories(*(tensor[:, :most] for tensor in found))
        idle = ~wanted[:, :most, None]
        return found._replace(rewards=found.rewards.masked_fill(idle, 0.0), valid=found.valid & ~idle)

    def _round(self, params: Params, update: int, index: int) -> Trajectories:
        evaluation, horizon = self._evaluation, self._suite.horizon
        episodes = math.ceil(self._steps / horizon)
        streams = [stream(evaluation.seed, f"meta_test_{of}/{update}/{index}") for of in ("policy", "environment")]
        noise = self._policy.draw_noise(streams[0], _noise_tasks(evaluation), episodes, horizon)
        return rollout(self._suite, self._policy, params, self._tasks, episodes, streams[1], noise)


def _noise_tasks(evaluation: Evaluation) -> int:
    """Tasks axis of the action noise."""
    return 1 if evaluation.shared_noise else evaluation.meta_test_tasks

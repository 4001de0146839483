"""The meta-test: adapt to every test task under a protocol and measure the return before and after each update."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from harness.api import Algorithm, Params, Settings, Suite, Tasks
from harness.rollout import simulate
from harness.spec import Evaluation
from harness.streams import stream


class Measurement(NamedTuple):
    """Returns of one protocol.

    After u updates means: of the policy that u updates led to; for a sequential policy, which learns by remembering,
    in the u-th block of ``episodes_per_task`` episodes, counted from 0.

    Shapes:
        returns: [updates + 1, tasks, episodes], undiscounted return after 0, 1, ... updates
        lengths: [updates + 1, tasks, episodes], steps per episode
        measures: what the suite measures beyond the return, {name: [updates + 1, tasks]}
        paths: where the agent was in the first :data:`DRAWN_TASKS` tasks and :data:`DRAWN_EPISODES` episodes,
            [updates + 1, tasks, episodes, horizon + 1, 2]; None where it does not move in a plane
    """

    protocol: str
    returns: Tensor
    lengths: Tensor
    measures: dict[str, Tensor]
    paths: Tensor | None


DRAWN_TASKS, DRAWN_EPISODES = 4, 5
"""How much of a meta-test is kept for drawing."""


def evaluate(
    suite: Suite, algorithm: Algorithm, params: Params, evaluation: Evaluation, rules: dict[str, type[Settings]]
) -> list[Measurement]:
    """Measure every protocol of ``evaluation`` on the same tasks with the same noise.

    The random numbers depend on ``evaluation.seed`` only: every method and every training seed meets the same tasks
    and, update by update, the same action noise.
    """
    tasks = meta_test_tasks(suite, evaluation)
    return [_measure(suite, algorithm, params, tasks, evaluation, name, rules) for name in sorted(evaluation.protocols)]


def meta_test_tasks(suite: Suite, evaluation: Evaluation) -> Tasks:
    """The tasks of the meta-test."""
    return suite.meta_test_tasks(evaluation.meta_test_tasks, stream(evaluation.seed, "meta_test_tasks"))


def _measure(
    suite: Suite,
    algorithm: Algorithm,
    params: Params,
    tasks: Tasks,
    evaluation: Evaluation,
    name: str,
    rules: dict[str, type[Settings]],
) -> Measurement:
    protocol = evaluation.protocols[name]
    rule = algorithm.rule(rules[protocol.rule].model_validate(protocol.settings))
    count, episodes = evaluation.meta_test_tasks, evaluation.episodes_per_task
    noise_rng = stream(evaluation.seed, "meta_test_policy")
    environment_rng = stream(evaluation.seed, "meta_test_environment")
    current = {key: tensor.expand(count, *tensor.shape).clone() for key, tensor in params.items()}
    moments, memory = rule.init(current), None
    slots: Params = {}
    returns, lengths, measured, paths = [], [], [], []
    for update in range(protocol.updates + 1):
        noise = algorithm.policy.draw_noise(noise_rng, 1 if evaluation.shared_noise else count, episodes, suite.horizon)
        trajectories, memory = simulate(
            suite, algorithm.policy, current, tasks, episodes, environment_rng, noise, memory
        )
        returns.append(trajectories.episode_returns())
        lengths.append(trajectories.lengths())
        measured.append(suite.measures(tasks, trajectories))
        if (positions := suite.paths(trajectories)) is not None:
            paths.append(positions[:DRAWN_TASKS, :DRAWN_EPISODES])
        if update < protocol.updates:
            samples, slots = algorithm.prepare(current, trajectories, slots, shared_slots=False)
            current, moments = rule.update(current, moments, samples)
    measures = {key: torch.stack([step[key] for step in measured]) for key in measured[0]}
    drawn = torch.stack(paths) if paths else None
    return Measurement(name, torch.stack(returns), torch.stack(lengths), measures, drawn)

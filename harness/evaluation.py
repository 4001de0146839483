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
    """

    protocol: str
    returns: Tensor
    lengths: Tensor


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
    returns, lengths = [], []
    for update in range(protocol.updates + 1):
        noise = algorithm.policy.draw_noise(noise_rng, 1 if evaluation.shared_noise else count, episodes, suite.horizon)
        trajectories, memory = simulate(
            suite, algorithm.policy, current, tasks, episodes, environment_rng, noise, memory
        )
        returns.append(trajectories.episode_returns())
        lengths.append(trajectories.lengths())
        if update < protocol.updates:
            samples, slots = algorithm.prepare(current, trajectories, slots, shared_slots=False)
            current, moments = rule.update(current, moments, samples)
    return Measurement(name, torch.stack(returns), torch.stack(lengths))

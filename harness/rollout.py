"""Batched simulation of ``[tasks, episodes]`` at once, without gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from harness.api import Experience, Params, Policy, Suite, Tasks, Trajectories

if TYPE_CHECKING:
    from torch import Generator, Tensor


def rollout(
    suite: Suite, policy: Policy, params: Params, tasks: Tasks, episodes: int, rng: Generator, noise: Tensor
) -> Trajectories:
    """Let the policy act in every episode of every task, starting with an empty memory; see :func:`simulate`."""
    return simulate(suite, policy, params, tasks, episodes, rng, noise)[0]


@torch.no_grad()
def simulate(
    suite: Suite,
    policy: Policy,
    params: Params,
    tasks: Tasks,
    episodes: int,
    rng: Generator,
    noise: Tensor,
    memory: Any = None,
    watch: Callable[[Any], None] = lambda state: None,
) -> tuple[Trajectories, Any]:
    """Let the policy act for one horizon in every episode of every task; returns (trajectories, memory).

    The episodes of a task run side by side, or one after another for a sequential policy, which remembers every step.
    All episodes run to the horizon; steps after a termination are marked invalid and their reward is zero, which costs
    less than taking episodes out of the batch. A suite whose steps are dear leaves an ended episode as it is.
    ``watch`` is given the suite's state at the start and after every step, and changes nothing.

    Shapes:
        params: [...] for one policy, [tasks, ...] for one policy per task
        noise: [horizon, tasks, episodes, ...] as ``policy.draw_noise`` gives it; a tasks axis of size 1 is shared
        memory: what an earlier call returned, to go on with the same tasks; None to begin
        returns: see :class:`~harness.api.Trajectories`
    """
    if not policy.sequential:
        return _side_by_side(suite, policy, params, tasks, episodes, rng, noise, memory, watch)
    rounds = []
    for episode in range(episodes):
        one = noise[:, :, episode : episode + 1]
        trajectories, memory = _side_by_side(suite, policy, params, tasks, 1, rng, one, memory, watch)
        rounds.append(trajectories)
    return Trajectories(*(torch.cat(parts, dim=1) for parts in zip(*rounds, strict=True))), memory


def _side_by_side(
    suite: Suite,
    policy: Policy,
    params: Params,
    tasks: Tasks,
    episodes: int,
    rng: Generator,
    noise: Tensor,
    memory: Any,
    watch: Callable[[Any], None],
) -> tuple[Trajectories, Any]:
    state, observation = suite.reset(tasks, episodes, rng)
    watch(state)
    if memory is None:
        memory = policy.initial_memory(observation.shape[0], episodes)
    observations: list[Tensor] = []
    actions: list[Tensor] = []
    rewards: list[Tensor] = []
    ended: list[Tensor] = []
    for step_noise in noise:
        action, memory = policy.act(params, observation, memory, step_noise)
        observations.append(observation)
        actions.append(action)
        state, observation, reward, terminated = suite.step(tasks, state, action, rng)
        watch(state)
        if policy.sequential:
            valid = ~torch.stack(ended).any(0) if ended else torch.ones_like(terminated)
            seen = Experience(observations[-1], action, reward.masked_fill(~valid, 0.0), observation, valid)
            memory = policy.remember(memory, seen)
        rewards.append(reward)
        ended.append(terminated)
    # An episode is over from the step after its first termination.
    over = torch.stack(ended, dim=-1).cumsum(-1)
    valid = torch.nn.functional.pad(over, (1, 0))[..., :-1] == 0
    trajectories = Trajectories(
        observations=torch.stack(observations, dim=2),
        actions=torch.stack(actions, dim=2),
        rewards=torch.stack(rewards, dim=-1).masked_fill_(~valid, 0.0),
        valid=valid,
        final_observation=observation,
    )
    return trajectories, memory

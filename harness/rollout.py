"""Batched simulation of ``[tasks, episodes]`` at once, without gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from harness.api import Params, Policy, Suite, Tasks, Trajectories

if TYPE_CHECKING:
    from torch import Generator, Tensor


@torch.no_grad()
def rollout(
    suite: Suite,
    policy: Policy,
    params: Params,
    tasks: Tasks,
    episodes: int,
    rng: Generator,
    noise: Tensor,
) -> Trajectories:
    """Let the policy act for one horizon in every episode of every task.

    All episodes run to the horizon; steps after a termination are simulated but marked invalid and their reward is
    zero, which costs less than taking episodes out of the batch.

    Shapes:
        params: [...] for one policy, [tasks, ...] for one policy per task
        noise: [horizon, tasks, episodes, ...] as ``policy.draw_noise`` gives it; a tasks axis of size 1 is shared
        returns: see :class:`~harness.api.Trajectories`
    """
    state, observation = suite.reset(tasks, episodes, rng)
    memory = policy.initial_memory(observation.shape[0], episodes)
    observations, actions, rewards, ended = [], [], [], []
    for step_noise in noise:
        action, memory = policy.act(params, observation, memory, step_noise)
        observations.append(observation)
        actions.append(action)
        state, observation, reward, terminated = suite.step(tasks, state, action, rng)
        rewards.append(reward)
        ended.append(terminated)
    # An episode is over from the step after its first termination.
    over = torch.stack(ended, dim=-1).cumsum(-1)
    valid = torch.nn.functional.pad(over, (1, 0))[..., :-1] == 0
    return Trajectories(
        observations=torch.stack(observations, dim=2),
        actions=torch.stack(actions, dim=2),
        rewards=torch.stack(rewards, dim=-1).masked_fill_(~valid, 0.0),
        valid=valid,
        final_observation=observation,
    )

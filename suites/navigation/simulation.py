"""The dynamics of 2D navigation, for all tasks and episodes at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor

from harness.api import Tasks, Trajectories, Transition
from suites.navigation import NavigationSettings


class Navigation:
    """A point agent on the plane.

        position' = position + clip(action_scale * action, -action_scale, action_scale)
        reward    = -|position' - goal|           (Euclidean distance, after the move)
        done      = |x' - goal x| < tolerance and |y' - goal y| < tolerance

    Sources: the released environment of Finn et al. 2017 and the replication report, section 3.1.1. A survey gives the
    reward as the negative squared distance; both codes use the distance.

    Shapes:
        tasks: {"goal": [tasks, 2]}
        state: position, [tasks, episodes, 2]
        observation: position, or position and goal with ``observe_goal``: [tasks, episodes, 2 or 4]
    """

    action_dim = 2
    num_actions = None
    observation_table = None

    def __init__(self, settings: NavigationSettings) -> None:
        self.settings = settings
        self.horizon = settings.horizon
        self.observation_dim = 4 if settings.observe_goal else 2

    def sample_tasks(self, count: int, rng: Generator) -> Tasks:
        """Goals uniform on the square, {"goal": [count, 2]}."""
        unit = torch.rand(count, 2, generator=rng)
        return {"goal": (2.0 * unit - 1.0) * self.settings.goal_range}

    def meta_test_tasks(self, count: int, rng: Generator) -> Tasks:
        """The goals of the meta-test, from the source that the settings name."""
        source = self.settings.test_goals
        if source.source == "stream":
            return self.sample_tasks(count, rng)
        bound = self.settings.goal_range
        goals = np.random.RandomState(source.seed).uniform(-bound, bound, size=(source.skip + count, 2))
        return {"goal": torch.as_tensor(goals[source.skip :].astype(np.float32))}

    def reset(self, tasks: Tasks, episodes: int, rng: Generator) -> tuple[Tensor, Tensor]:
        """Every episode starts at the origin."""
        goal = tasks["goal"]
        position = goal.new_zeros(goal.shape[0], episodes, 2)
        return position, self._observe(tasks, position)

    def step(self, tasks: Tasks, state: Tensor, action: Tensor, rng: Generator) -> Transition:
        """Move, then measure the distance that is left."""
        scale = self.settings.action_scale
        position = action.mul(scale).clamp_(-scale, scale).add_(state)
        offset = position - tasks["goal"].unsqueeze(1)
        reward = torch.linalg.vector_norm(offset, dim=-1).neg_()
        if self.settings.terminate_at_goal:
            terminated = offset.abs_().amax(-1) < self.settings.goal_tolerance
        else:
            terminated = torch.zeros_like(reward, dtype=torch.bool)
        return Transition(position, self._observe(tasks, position), reward, terminated)

    def references(self, tasks: Tasks, episodes: int) -> dict[str, Tensor]:
        """``optimal_return``: undiscounted return of the deterministic optimum, [tasks].

        Distance is what costs, so each axis moves by the full ``action_scale`` until its coordinate is exact. Without
        termination the agent then stands on the goal at no cost; with it the episode ends there.
        """
        goal, scale = tasks["goal"].double(), self.settings.action_scale
        position = torch.zeros_like(goal)
        total = goal.new_zeros(goal.shape[0])
        for _ in range(self.horizon):
            position = position + (goal - position).clamp(-scale, scale)
            total -= torch.linalg.vector_norm(goal - position, dim=-1)
        return {"optimal_return": total}

    def measures(self, tasks: Tasks, trajectories: Trajectories) -> dict[str, Tensor]:
        """Nothing beyond the return."""
        return {}

    def paths(self, trajectories: Trajectories) -> None:
        """Not recorded."""
        return None

    def _observe(self, tasks: Tasks, position: Tensor) -> Tensor:
        if not self.settings.observe_goal:
            return position
        return torch.cat([position, tasks["goal"].unsqueeze(1).expand_as(position)], dim=-1)

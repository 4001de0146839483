"""The dynamics of the 1D toy task, for all tasks and episodes at once."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from harness.api import Tasks, Trajectories, Transition
from suites.point_1d import Point1DSettings

BOUND = 2.0
"""The line is [-BOUND, BOUND]; the goals are at -1 and +1."""


class Point1D:
    """The action is the next position.

        s_0 ~ U[-2, 2],   s' = clip(a, -2, 2),   reward = exp(-0.1 (s' - goal)²),   goal ∈ {-1, +1}

    Source: the released code of Rothfuss et al. 2019; their section 7.4 has an agent on the real line that starts at
    random and has to reach 1 or -1, and gives no numbers. Nothing ends before the horizon.

    Shapes:
        tasks: {"goal": [tasks, 1]}
        state, observation: position, [tasks, episodes, 1]
        action: [tasks, episodes, 1]
    """

    observation_dim = 1
    observation_table = None
    action_dim = 1
    num_actions = None
    action_bound = BOUND

    def __init__(self, settings: Point1DSettings) -> None:
        self.horizon = settings.horizon

    def sample_tasks(self, count: int, rng: Generator) -> Tasks:
        """Goals in turn -1, +1, -1, ... or +1, -1, +1, ...: of an even number exactly half each, as the released code.

        Which comes first is drawn, so that a single task is either with equal probability.
        """
        goal = 1.0 - 2.0 * (torch.arange(count) % 2).float()
        first = 1.0 if float(torch.rand((), generator=rng)) < 0.5 else -1.0
        return {"goal": (first * goal).unsqueeze(-1)}

    def meta_test_tasks(self, count: int, rng: Generator) -> Tasks:
        """The same two goals in turn."""
        return self.sample_tasks(count, rng)

    def reset(self, tasks: Tasks, episodes: int, rng: Generator) -> tuple[Tensor, Tensor]:
        """Every episode starts anywhere on the line."""
        unit = torch.rand(tasks["goal"].shape[0], episodes, 1, generator=rng)
        position = (2.0 * unit - 1.0) * BOUND
        return position, position

    def step(self, tasks: Tasks, state: Tensor, action: Tensor, rng: Generator) -> Transition:
        """Jump, then measure how near the goal is."""
        position = action.clamp(-BOUND, BOUND)
        reward = (position.squeeze(-1) - tasks["goal"]).square_().mul_(-0.1).exp_()
        return Transition(position, position, reward, torch.zeros_like(reward, dtype=torch.bool))

    def references(self, tasks: Tasks, episodes: int) -> dict[str, Tensor]:
        """``optimal_return``: always on the goal, one per step, [tasks]."""
        return {"optimal_return": torch.full((tasks["goal"].shape[0],), float(self.horizon), dtype=torch.float64)}

    def measures(self, tasks: Tasks, trajectories: Trajectories) -> dict[str, Tensor]:
        """``goal_distance``: mean distance from the goal over all steps and episodes."""
        position = trajectories.actions.squeeze(-1).clamp(-BOUND, BOUND).double()
        return {"goal_distance": (position - tasks["goal"].unsqueeze(-1)).abs().mean((1, 2))}

    def paths(self, trajectories: Trajectories) -> None:
        """Nothing moves in a plane."""
        return None

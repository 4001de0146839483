"""The dynamics of the point-mass corner tasks, for all tasks and episodes at once."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from harness.api import Tasks, Trajectories, Transition
from suites.point_corners import CORNERS, PointCornersSettings
from suites.point_corners.optima import DENSE, direct_return, momentum_optimum, progress_bound

STRONGEST = {"momentum": 0.1, "position": 0.2}
"""Most that an action changes per axis: velocity or position."""
START = {"momentum": (0.2, 0.2, 0.1, 0.1), "position": (0.2, 0.2)}
"""An episode starts uniformly within these bounds: position, then velocity."""
L1_RADIUS = 0.5
"""The progress reward pays nothing where |x| + |y| is below this: a diamond around the origin, not the corner."""
MOMENTUM_RADIUS = 2.0
"""Where the released momentum environment begins to pay."""
REGION_RADIUS = 0.5
"""A final position within this of the own corner solves the task; the same discs are the corner regions."""


class PointCorners:
    """A point agent on the plane, and four corners of which one pays.

        momentum:  v' = v + a,  p' = p + v',  observation (x, y, vx, vy)
        position:  p' = p + a,                observation (x, y)
        a = clip(strongest * action / policy_range, -strongest, strongest)

    With d = |p - goal| and d' = |p' - goal|, both Euclidean, the step pays

        sparse, momentum:  max(2 - d', 0)
        sparse, position:  d - d' if |x'| + |y'| >= 0.5 and no corner is nearer to p' than the goal; else 0
        goal_radius:       max(goal_radius - d', 0)
        dense:             -d'
        dense_squared:     -d'^2

    Nothing ends an episode but the horizon. Sources: Rothfuss et al. 2019, section 7.3 and appendix D.2; for all
    numbers the released ``MetaPointEnvMomentum`` and ``MetaPointEnvCorner``, inside the released ``NormalizedEnv``.

    Shapes:
        tasks: {"goal": [tasks, 2]}, corners
        state: the observation, [tasks, episodes, 2 or 4]
    """

    action_dim = 2
    num_actions = None
    observation_table = None

    def __init__(self, settings: PointCornersSettings) -> None:
        self.settings = settings
        self.horizon = settings.horizon
        self.action_bound = settings.policy_range
        self.start = START[settings.dynamics]
        self.observation_dim = len(self.start)
        self.strongest = STRONGEST[settings.dynamics]
        self.progress = settings.dynamics == "position" and settings.reward == "sparse"
        self.radius = MOMENTUM_RADIUS if settings.reward == "sparse" else settings.goal_radius

    def sample_tasks(self, count: int, rng: Generator) -> Tasks:
        """Every corner with the same probability, {"goal": [count, 2]}."""
        return {"goal": torch.tensor(CORNERS)[torch.randint(len(CORNERS), (count,), generator=rng)]}

    def meta_test_tasks(self, count: int, rng: Generator) -> Tasks:
        """Task i has corner i mod 4.

        Differs from the paper, which draws them: so every corner weighs the same.
        """
        return {"goal": torch.tensor(CORNERS)[torch.arange(count) % len(CORNERS)]}

    def reset(self, tasks: Tasks, episodes: int, rng: Generator) -> tuple[Tensor, Tensor]:
        """Start near the origin, in the momentum dynamics with a small velocity."""
        unit = torch.rand(tasks["goal"].shape[0], episodes, self.observation_dim, generator=rng)
        state = (2.0 * unit - 1.0) * torch.tensor(self.start)
        return state, state

    def step(self, tasks: Tasks, state: Tensor, action: Tensor, rng: Generator) -> Transition:
        """Move, then measure."""
        change = (action * (self.strongest / self.settings.policy_range)).clamp_(-self.strongest, self.strongest)
        old = state[..., :2]
        if self.settings.dynamics == "momentum":
            velocity = state[..., 2:] + change
            position = old + velocity
            state = torch.cat([position, velocity], dim=-1)
        else:
            position = state = old + change
        reward = self.reward(tasks["goal"].unsqueeze(1), old, position)
        return Transition(state, state, reward, torch.zeros_like(reward, dtype=torch.bool))

    def reward(self, goal: Tensor, old: Tensor, position: Tensor) -> Tensor:
        """What the step from ``old`` to ``position`` pays, [...]; all arguments [..., 2]."""
        distance = _distance(position, goal)
        if self.progress:
            return torch.where(_pays(position, goal), _distance(old, goal) - distance, 0.0)
        if self.settings.reward == "dense":
            return -distance
        if self.settings.reward == "dense_squared":
            return -distance.square()
        return (self.radius - distance).clamp(min=0.0)

    def references(self, tasks: Tasks, episodes: int) -> dict[str, Tensor]:
        """``optimal_return``, the mean over the random start; the same for every corner, as the start is symmetric.

        Position dynamics, but for the progress reward: exact, the direct walk. Momentum: computed, short of the optimum
        by less than 0.1; see :mod:`suites.point_corners.optima`. Progress reward: an upper bound, which walking to and
        fro comes within 3% of at the published horizon; ``direct_return``, the intended solution, is far below it.
        """
        settings = self.settings
        goal = torch.tensor(CORNERS[-1], dtype=torch.float64)
        known = {}
        if settings.dynamics == "momentum":
            radius = DENSE if settings.reward == "dense" else self.radius
            squared = settings.reward == "dense_squared"
            known["optimal_return"] = momentum_optimum(self.horizon, self.strongest, self.start, radius, squared)
        elif self.progress:
            known["optimal_return"] = progress_bound(self.horizon, self.strongest, self.start, goal)
            known["direct_return"] = direct_return(self.horizon, self.strongest, self.start, goal, self.reward)
        else:
            known["optimal_return"] = direct_return(self.horizon, self.strongest, self.start, goal, self.reward)
        count = tasks["goal"].shape[0]
        return {name: torch.full((count,), value, dtype=torch.float64) for name, value in known.items()}

    def measures(self, tasks: Tasks, trajectories: Trajectories) -> dict[str, Tensor]:
        """Where the episodes of each task went, which makes figure 5 of the paper a matter of numbers.

        ``final_distance``: of the last position to the own corner, mean over episodes. ``solved``: 1 where that is
        below 0.5, else 0. ``corner_regions``: in how many of the discs of radius 0.5 around the corners any episode
        ever was, start included. ``reward_regions``: in how many regions where a corner pays its own task; the dense
        rewards pay everywhere and have none.

        Shapes:
            measures: [tasks] each, float64
        """
        visited = self.paths(trajectories)
        away = _distance(visited[:, :, -1].double(), tasks["goal"].double().unsqueeze(1)).mean(1)
        corners = torch.tensor(CORNERS)
        known = {
            "final_distance": away,
            "solved": (away < REGION_RADIUS).double(),
            "corner_regions": _entered([_distance(visited, corner) < REGION_RADIUS for corner in corners]),
        }
        if self.progress:
            known["reward_regions"] = _entered([_pays(visited, corner) for corner in corners])
        elif self.settings.reward in ("sparse", "goal_radius"):
            known["reward_regions"] = _entered([_distance(visited, corner) < self.radius for corner in corners])
        return known

    def paths(self, trajectories: Trajectories) -> Tensor:
        """The agent's positions."""
        states = torch.cat([trajectories.observations, trajectories.final_observation.unsqueeze(2)], dim=2)
        return states[..., :2]


def _distance(position: Tensor, goal: Tensor) -> Tensor:
    return torch.linalg.vector_norm(position - goal, dim=-1)


def _pays(position: Tensor, corner: Tensor) -> Tensor:
    """Where the progress reward pays the task of a corner: outside the diamond, with no other corner nearer.

    No other is nearer exactly where no coordinate has the sign opposite to the corner's.
    """
    return (position.abs().sum(-1) >= L1_RADIUS) & (position * corner >= 0.0).all(-1)


def _entered(inside: list[Tensor]) -> Tensor:
    """Number of regions that any position of a task is inside, [tasks]; ``inside``: [tasks, episodes, steps] each."""
    return torch.stack([region.flatten(1).any(1) for region in inside]).sum(0).double()

"""The dynamics of tabular MDPs, for all tasks and episodes at once, and their optima."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from harness.api import Tasks, Trajectories, Transition
from suites.tabular_mdp import TabularMDPSettings
from suites.tabular_mdp.exact import ExactMDPs, LogPolicy
from suites.tabular_mdp.planning import finite_horizon_plan, policy_values, value_iteration

STATIONARY_DISCOUNT = 0.95
STATIONARY_TOLERANCE = 1e-5
"""Discount and tolerance of the value iteration in the released code of Deleu et al. 2018."""


class TabularMDP:
    """Every row of the tables is drawn afresh for every task.

        P(. | s, a) ~ Dirichlet(1, ..., 1),   r̄(s, a) ~ N(1, 1),   reward ~ N(r̄(s, a), 1),   s_0 = 0

    Sources: Deleu et al. 2018, section 4.2; Duan et al. 2016. The step within the episode is not observed.

    Shapes:
        tasks: {"transition": [tasks, states, actions, states], "reward": [tasks, states, actions]}
        state, observation: the state, [tasks, episodes, 1] int64; a network sees it as a unit vector
        action: [tasks, episodes, 1] int64
    """

    action_dim = 1

    def __init__(self, settings: TabularMDPSettings) -> None:
        self.settings = settings
        self.horizon = settings.horizon
        self.num_actions = settings.actions
        self.observation_dim = settings.states
        self.observation_table = torch.eye(settings.states)

    def sample_tasks(self, count: int, rng: Generator) -> Tasks:
        """Flat Dirichlet rows and normal mean rewards."""
        states, actions = self.settings.states, self.settings.actions
        # Exponential variables divided by their sum are a flat Dirichlet vector.
        weights = torch.empty(count, states, actions, states).exponential_(generator=rng)
        reward = 1.0 + torch.randn(count, states, actions, generator=rng)
        return {"transition": weights / weights.sum(-1, keepdim=True), "reward": reward}

    def meta_test_tasks(self, count: int, rng: Generator) -> Tasks:
        """Fresh draws of the same distribution."""
        return self.sample_tasks(count, rng)

    def reset(self, tasks: Tasks, episodes: int, rng: Generator) -> tuple[Tensor, Tensor]:
        """Every episode starts in state 0."""
        state = torch.zeros(tasks["reward"].shape[0], episodes, 1, dtype=torch.int64)
        return state, state

    def step(self, tasks: Tasks, state: Tensor, action: Tensor, rng: Generator) -> Transition:
        """Reward of the state and action, then the next state; nothing ends before the horizon."""
        count, episodes, _ = state.shape
        states, actions = self.settings.states, self.settings.actions
        task = torch.arange(count).view(-1, 1)
        row = (task * states + state.squeeze(-1)) * actions + action.squeeze(-1)
        mean = tasks["reward"].reshape(-1)[row]
        reward = mean + torch.randn(mean.shape, generator=rng)
        cumulative = tasks["transition"].reshape(-1, states)[row].cumsum(-1)
        drawn = torch.rand(count, episodes, 1, generator=rng)
        following = (drawn >= cumulative).sum(-1, keepdim=True).clamp_(max=states - 1)
        return Transition(following, following, reward, torch.zeros_like(reward, dtype=torch.bool))

    def plan(self, transition: Tensor, reward: Tensor, ties: Tensor | None = None) -> Tensor:
        """The optimal policy for one episode on the given tables, [..., horizon, states] int64.

        ``ties``: see :func:`suites.tabular_mdp.planning.finite_horizon_plan`.
        """
        return finite_horizon_plan(transition, reward, self.horizon, ties=ties)[1]

    def exact(self, tasks: Tasks, log_policy: LogPolicy) -> ExactMDPs:
        """Expected returns on the tables of these tasks, and their derivatives, without sampling; in float64."""
        transition = tasks["transition"].double()
        transition = transition / transition.sum(-1, keepdim=True)
        return ExactMDPs(transition, tasks["reward"].double(), self.horizon, log_policy)

    def references(self, tasks: Tasks, episodes: int) -> dict[str, Tensor]:
        """Exact expected returns per episode from state 0, in float64.

        ``optimal_return``: finite-horizon optimum, undiscounted. ``optimal_return_discount_0_99`` and ``..._0_95``: the
        optimum of the discounted return, in discounted units. ``stationary_0_95_return``: undiscounted return of the
        stationary policy that value iteration with discount 0.95 finds. ``random_return``: of uniform actions.
        """
        transition, reward = tasks["transition"].double(), tasks["reward"].double()
        transition = transition / transition.sum(-1, keepdim=True)
        known = {"optimal_return": finite_horizon_plan(transition, reward, self.horizon)[0]}
        for discount, name in ((0.99, "0_99"), (0.95, "0_95")):
            values = finite_horizon_plan(transition, reward, self.horizon, discount)[0]
            known[f"optimal_return_discount_{name}"] = values
        stationary = value_iteration(transition, reward, STATIONARY_DISCOUNT, STATIONARY_TOLERANCE)[1]
        greedy = torch.nn.functional.one_hot(stationary, self.num_actions).double()
        known["stationary_0_95_return"] = policy_values(transition, reward, greedy, self.horizon)
        uniform = torch.full_like(reward, 1.0 / self.num_actions)
        known["random_return"] = policy_values(transition, reward, uniform, self.horizon)
        return {name: values[..., 0] for name, values in known.items()}

    def measures(self, tasks: Tasks, trajectories: Trajectories) -> dict[str, Tensor]:
        """Nothing beyond the return."""
        return {}

    def paths(self, trajectories: Trajectories) -> None:
        """Nothing moves in a plane."""
        return None

"""The dynamics of Bernoulli bandits, for all tasks and pulls at once, and what is known about them exactly."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from harness.api import Tasks, Trajectories, Transition
from suites.bandits import BanditSettings
from suites.bandits.gittins import gittins_table
from suites.bandits.optima import EXACT_PULLS, balanced_exploration_return, bayes_optimal_return, expected_best_mean


class Bandits:
    """K arms; one pull is one episode of one step.

        p_k ~ U(0, 1) independently,   reward of arm k ~ Bernoulli(p_k)

    Sources: Deleu et al. 2018, section 4.1 and appendix B.

    Shapes:
        tasks: {"mean": [tasks, arms]}
        state: nothing to keep, zeros [tasks, episodes]
        observation: row 0 of the one-row observation table, [tasks, episodes, 1] int64
        action: the arm, [tasks, episodes, 1] int64
    """

    observation_dim = 1
    action_dim = 1
    horizon = 1

    def __init__(self, settings: BanditSettings) -> None:
        self.settings = settings
        self.num_actions = settings.arms
        self.observation_table = torch.full((1, 1), settings.constant_input)

    def sample_tasks(self, count: int, rng: Generator) -> Tasks:
        """Arm means uniform on [0, 1], {"mean": [count, arms]}."""
        return {"mean": torch.rand(count, self.settings.arms, generator=rng)}

    def meta_test_tasks(self, count: int, rng: Generator) -> Tasks:
        """Fresh draws of the same distribution."""
        return self.sample_tasks(count, rng)

    def reset(self, tasks: Tasks, episodes: int, rng: Generator) -> tuple[Tensor, Tensor]:
        """Nothing to start: (zeros [tasks, episodes], observation [tasks, episodes, 1])."""
        count = tasks["mean"].shape[0]
        return torch.zeros(count, episodes), torch.zeros(count, episodes, 1, dtype=torch.int64)

    def step(self, tasks: Tasks, state: Tensor, action: Tensor, rng: Generator) -> Transition:
        """Pull; the reward is 0 or 1, and the episode is over."""
        mean = tasks["mean"].gather(1, action.squeeze(-1))
        reward = (torch.rand(mean.shape, generator=rng) < mean).to(mean.dtype)
        return Transition(state, torch.zeros_like(action), reward, torch.ones_like(reward, dtype=torch.bool))

    def gittins_table(self, discount: float, pulls: int, grid: int) -> Tensor:
        """Gittins index by successes and failures; see :func:`suites.bandits.gittins.gittins_indices`."""
        return gittins_table(discount, pulls, grid)

    def references(self, tasks: Tasks, episodes: int) -> dict[str, Tensor]:
        """Per pull and task: the clairvoyant, its expectation, and what a learner of ``episodes`` pulls can reach.

        ``bayes_optimal_return``: the most that any learner can collect *while* it pulls, for at most
        :data:`~suites.bandits.optima.EXACT_PULLS` pulls. ``balanced_exploration_return``: the most that is left after
        pulls that do not react to rewards, spread evenly over some of the arms.
        """
        best = tasks["mean"].double().amax(-1)
        arms = self.settings.arms
        known = {"expected_optimal_return": expected_best_mean(arms)}
        known["balanced_exploration_return"] = balanced_exploration_return(episodes, arms)
        if episodes <= EXACT_PULLS:
            known["bayes_optimal_return"] = bayes_optimal_return(episodes, arms) / episodes
        return {"optimal_return": best} | {name: torch.full_like(best, value) for name, value in known.items()}

    def measures(self, tasks: Tasks, trajectories: Trajectories) -> dict[str, Tensor]:
        """Nothing beyond the return."""
        return {}

    def paths(self, trajectories: Trajectories) -> None:
        """Nothing moves in a plane."""
        return None

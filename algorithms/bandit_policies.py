"""Learners of Bernoulli bandits that count: how often each arm was pulled, how often it paid, and which is next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from algorithms.candidates import candidate
from harness.api import Experience, Params, Suite

Candidates = tuple[float, ...]


class CountingPolicy(ABC):
    """Pulls the arm with the highest index, of equals the first (arms are exchangeable).

    A subclass says what the index is. Memory: {"successes", "pulls"}, each [tasks, episodes, arms] float64, from which
    follows the posterior Beta(successes + 1, pulls - successes + 1) under a uniform prior.
    """

    sequential = True

    def __init__(self, suite: Suite) -> None:
        assert suite.num_actions is not None
        self._arms = suite.num_actions

    def draw_noise(self, rng: Generator, tasks: int, episodes: int, horizon: int) -> Tensor:
        """Nothing is random: [horizon, 1, episodes, 0]."""
        return torch.empty(horizon, 1, episodes, 0)

    def initial_memory(self, tasks: int, episodes: int) -> dict[str, Tensor]:
        """No pulls yet."""
        empty = torch.zeros(tasks, episodes, self._arms, dtype=torch.float64)
        return {"successes": empty, "pulls": empty}

    @abstractmethod
    def index(self, params: Params, successes: Tensor, pulls: Tensor, noise: Tensor) -> Tensor:
        """Index of every arm, [tasks, episodes, arms]."""

    def act(self, params: Params, observation: Tensor, memory: Any, noise: Tensor) -> tuple[Tensor, Any]:
        """The arm with the highest index, [tasks, episodes, 1]."""
        return self.index(params, memory["successes"], memory["pulls"], noise).argmax(-1, keepdim=True), memory

    def remember(self, memory: Any, experience: Experience) -> Any:
        """Count the pull and the reward."""
        pulled = experience.valid.double().unsqueeze(-1)
        paid = experience.reward.double().unsqueeze(-1)
        return {
            "successes": memory["successes"].scatter_add(-1, experience.action, paid),
            "pulls": memory["pulls"].scatter_add(-1, experience.action, pulled),
        }


def posterior_mean(successes: Tensor, pulls: Tensor) -> Tensor:
    """Mean of Beta(s + 1, n - s + 1): (s + 1) / (n + 2)."""
    return (successes + 1.0) / (pulls + 2.0)


class GittinsPolicy(CountingPolicy):
    """index(s, f) from a table; ``table_of``: discount -> [successes, failures], asked once per discount."""

    def __init__(self, suite: Suite, discounts: Candidates, table_of: Callable[[float], Tensor]) -> None:
        super().__init__(suite)
        self._discounts, self._table_of = discounts, table_of
        self._tables: dict[float, Tensor] = {}

    def index(self, params: Params, successes: Tensor, pulls: Tensor, noise: Tensor) -> Tensor:
        """Looked up."""
        discount = candidate(params, self._discounts)
        if discount not in self._tables:
            self._tables[discount] = self._table_of(discount)
        return self._tables[discount][successes.long(), (pulls - successes).long()]


class UpperConfidencePolicy(CountingPolicy):
    """Posterior mean plus a bonus for what was pulled seldom.

    index_k = (s_k + 1) / (n_k + 2) + c √(2 ln t / (n_k + 2)),   t = Σ n_k

    At t = 0 all indices are equal here; the RL² evaluation's are not numbers then, and it takes the first arm as well.
    """

    def __init__(self, suite: Suite, bonuses: Candidates) -> None:
        super().__init__(suite)
        self._bonuses = bonuses

    def index(self, params: Params, successes: Tensor, pulls: Tensor, noise: Tensor) -> Tensor:
        """As above."""
        time = pulls.sum(-1, keepdim=True).clamp(min=1.0)
        bonus = (2.0 * time.log() / (pulls + 2.0)).sqrt()
        return posterior_mean(successes, pulls) + candidate(params, self._bonuses) * bonus


class EpsilonGreedyPolicy(CountingPolicy):
    """A uniform arm with probability ε, else the arm with the highest posterior mean.

    Of equal means the first is taken, as in the RL² evaluation, or any of them. That matters: after a success and a
    failure an arm has the mean of an untouched one, and to stay with it is to learn less.
    """

    def __init__(self, suite: Suite, epsilons: Candidates, random_ties: bool) -> None:
        super().__init__(suite)
        self._epsilons, self._random_ties = epsilons, random_ties

    def draw_noise(self, rng: Generator, tasks: int, episodes: int, horizon: int) -> Tensor:
        """Uniform numbers: whether to explore and where, then one per arm for ties, [horizon, tasks, episodes, ...]."""
        return torch.rand(horizon, tasks, episodes, 2 + self._arms * self._random_ties, generator=rng)

    def index(self, params: Params, successes: Tensor, pulls: Tensor, noise: Tensor) -> Tensor:
        """The posterior mean, or 2 for the arm that is explored."""
        explore = noise[..., :1] < candidate(params, self._epsilons)
        arm = (noise[..., 1:2] * self._arms).long().expand(*successes.shape[:2], 1)
        means = posterior_mean(successes, pulls)
        if self._random_ties:  # two means of up to 10^4 pulls are either equal or further apart than 10^-9
            means = means + 1e-9 * noise[..., 2:].double()
        return torch.where(explore, torch.zeros_like(means).scatter(-1, arm, 2.0), means)


class ThompsonPolicy(CountingPolicy):
    """One draw from every arm's posterior, x_k ~ Beta(s_k + 1, n_k - s_k + 1); the largest is pulled."""

    def draw_noise(self, rng: Generator, tasks: int, episodes: int, horizon: int) -> Tensor:
        """A seed for the draws of all tasks at each step, [horizon, 1, episodes, 1] int64."""
        return torch.randint(2**62, (horizon, 1, episodes, 1), generator=rng)

    def index(self, params: Params, successes: Tensor, pulls: Tensor, noise: Tensor) -> Tensor:
        """The draws."""
        generator = np.random.default_rng(noise.flatten().tolist())
        drawn = generator.beta((successes + 1.0).cpu().numpy(), (pulls - successes + 1.0).cpu().numpy())
        return torch.as_tensor(drawn)

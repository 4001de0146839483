"""Learners of tabular MDPs that keep a posterior over the tables and plan on it at the start of each episode."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from algorithms.psrl import PSRLSettings
from harness.api import Experience, Params, Suite


class PosteriorPlanningPolicy:
    """Plans on tables drawn from the posterior (PSRL), or on its means (greedy).

        P(. | s, a) ~ Dirichlet(k + n(s, a, .))
        r̄(s, a) ~ N((k μ0 + Σ r) / (k + n(s, a)), 1 / (k + n(s, a)))      prior N(μ0, 1/k), unit reward noise

    (Osband et al. 2013), k the strength of the prior. The plan is optimal for one episode on these tables; of equal
    actions it takes the first, or any.

    Memory: {"transitions": [tasks, episodes, states, actions, states], "reward_sum": [tasks, episodes, states,
    actions], "plan": [tasks, episodes, horizon, states] int64, "step": steps since the start of the episode}; the
    number of visits is the sum of ``transitions`` over the next state.
    """

    sequential = True

    def __init__(self, suite: Suite, settings: PSRLSettings) -> None:
        assert suite.num_actions is not None
        assert suite.observation_table is not None
        self._suite = suite
        self._shape = (suite.observation_table.shape[0], suite.num_actions)
        self._settings = settings

    def draw_noise(self, rng: Generator, tasks: int, episodes: int, horizon: int) -> Tensor:
        """A seed per step for the draws of all tasks; an episode uses its first. [horizon, 1, episodes, 1] int64."""
        return torch.randint(2**62, (horizon, 1, episodes, 1), generator=rng)

    def initial_memory(self, tasks: int, episodes: int) -> dict[str, Tensor]:
        """Nothing seen, at the start of an episode."""
        states, actions = self._shape
        return {
            "transitions": torch.zeros(tasks, episodes, states, actions, states, dtype=torch.float64),
            "reward_sum": torch.zeros(tasks, episodes, states, actions, dtype=torch.float64),
            "plan": torch.zeros(tasks, episodes, self._suite.horizon, states, dtype=torch.int64),
            "step": torch.zeros((), dtype=torch.int64),
        }

    def act(self, params: Params, observation: Tensor, memory: Any, noise: Tensor) -> tuple[Tensor, Any]:
        """The planned action, [tasks, episodes, 1]; a new plan at the start of an episode."""
        step = int(memory["step"]) % self._suite.horizon
        if step == 0:
            memory = memory | {"plan": self._plan(memory, noise)}
        return memory["plan"][:, :, step].gather(-1, observation), memory

    def _plan(self, memory: Any, noise: Tensor) -> Tensor:
        """A plan for one episode, [tasks, episodes, horizon, states]."""
        settings, generator = self._settings, np.random.default_rng(noise.flatten().tolist())
        concentration = settings.prior_strength + memory["transitions"]
        precision = settings.prior_strength + memory["transitions"].sum(-1)
        reward = (settings.prior_strength * settings.prior_mean + memory["reward_sum"]) / precision
        if settings.sample:
            concentration = torch.as_tensor(generator.standard_gamma(concentration.cpu().numpy()))
            reward = reward + torch.as_tensor(generator.standard_normal(reward.shape)) / precision.sqrt()
        transition, ties = concentration / concentration.sum(-1, keepdim=True), None
        if settings.random_ties:  # anew for every step of the episode
            ties = 1e-9 * torch.as_tensor(generator.random((self._suite.horizon, *reward.shape)))
        return self._suite.plan(transition, reward, ties)  # type: ignore[attr-defined]

    def remember(self, memory: Any, experience: Experience) -> Any:
        """Count the transition and add the reward."""
        states, actions = self._shape
        counted = experience.valid.double().unsqueeze(-1)
        pair = experience.observation * actions + experience.action
        triple = pair * states + experience.next_observation
        reward = (experience.reward.double() * experience.valid).unsqueeze(-1)
        transitions, rewards = memory["transitions"], memory["reward_sum"]
        return memory | {
            "transitions": transitions.flatten(2).scatter_add(-1, triple, counted).view(transitions.shape),
            "reward_sum": rewards.flatten(2).scatter_add(-1, pair, reward).view(rewards.shape),
            "step": memory["step"] + 1,
        }

"""What stands beside the policy to turn returns into advantages: a learned critic, or a linear baseline."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Generator, Tensor

from algorithms.advantages import generalised_advantages, standardise
from algorithms.networks import Params, init_mlp, layers, observed
from algorithms.samples import Samples, blocks, fill_unused_slots, flat_samples, sum_by_key
from algorithms.settings import BaselineMethodSettings, BaselineName, LearnedCriticSettings
from algorithms.surrogates import squared_error
from harness.api import Suite, Trajectories


class Value(Protocol):
    """What a learner asks for."""

    def init(self, rng: Generator) -> Params:
        """Its share of the meta-parameters."""

    def prepare(
        self, params: Params, trajectories: Trajectories, slots: Params, shared_slots: bool
    ) -> tuple[Samples, Params]:
        """Samples of trajectories; see :meth:`harness.api.Algorithm.prepare`. Params [tasks, ...]."""

    def loss(self, params: Params, samples: Samples) -> Tensor | None:
        """Its share of the inner loss, [tasks], in parameters that it alone has; None if it has none."""


class Critic:
    """A state-value network under ``critic/``, meta-learned like the actor."""

    def __init__(self, settings: LearnedCriticSettings, suite: Suite) -> None:
        self._settings = settings
        self._table = suite.observation_table
        self._sizes = (suite.observation_dim, *settings.critic_hidden_sizes, 1)

    def init(self, rng: Generator) -> Params:
        """Initial parameters."""
        drawn = init_mlp(rng, self._sizes, self._settings.initialisation)
        return {f"critic/{name}": tensor for name, tensor in drawn.items()}

    def values(self, params: Params, observations: Tensor) -> Tensor:
        """V(s); params [tasks, ...], observations [tasks, samples, ...], returns [tasks, samples]."""
        weights = layers(params, "critic")
        return observed(weights, observations, self._table, self._settings.hidden_activation).squeeze(-1)

    def loss(self, params: Params, samples: Samples) -> Tensor:
        """Squared error on the returns-to-go (Schulman et al. 2016, eq. 28): L(ω) = mean_t (V_ω(s_t) - G_t)²."""
        return squared_error(self.values(params, samples.observations), samples)

    @torch.no_grad()
    def prepare(
        self, params: Params, trajectories: Trajectories, slots: Params, shared_slots: bool
    ) -> tuple[Samples, Params]:
        """Values, advantages and returns of trajectories, and what stands in the slots after an early end."""
        tasks, episodes, horizon = trajectories.rewards.shape
        settings = self._settings
        values = torch.cat(
            [
                self.values({k: v[block] for k, v in params.items()}, trajectories.observations[block].flatten(1, 2))
                for block in blocks(tasks, episodes * horizon)
            ]
        ).view(tasks, episodes, horizon)
        last_value = torch.zeros(tasks, episodes, dtype=values.dtype)
        if settings.bootstrap_timeouts:
            last_value = self.values(params, trajectories.final_observation) * trajectories.valid[..., -1]
        advantages, returns = generalised_advantages(
            trajectories.rewards, values, last_value, trajectories.valid, settings.discount, settings.gae_lambda
        )
        fresh = flat_samples(trajectories, advantages, returns)
        return fill_unused_slots(fresh, slots, shared_slots, settings.unused_slots, settings.standardise_advantages)


class LinearBaseline:
    """Least squares on fixed features, fitted per task to the very episodes whose advantages are wanted.

        φ(s, t) = [s, s², t/100, (t/100)², (t/100)³, 1],   w = (Φ'Φ + λ I)⁻¹ Φ' G,   V(s_t) = φ(s_t, t)' w

    Source: Duan et al. 2016 (benchmark), supplement 2, as in the released code of Deleu et al. 2018: t counts from 0, a
    time-out is an end. Solved in float64, where the ridge suffices; the released code raises it after a failure.

    ``kind``: ``linear_features`` as above; ``linear_time`` without s and s²; ``none``: V = 0.
    """

    def __init__(self, settings: BaselineMethodSettings, suite: Suite, kind: BaselineName = "linear_features") -> None:
        self._settings = settings
        self._kind = kind
        self._table = suite.observation_table

    def init(self, rng: Generator) -> Params:
        """Nothing is meta-learned."""
        return {}

    def loss(self, params: Params, samples: Samples) -> None:
        """Nothing is adapted either."""
        return None

    @torch.no_grad()
    def prepare(
        self, params: Params, trajectories: Trajectories, slots: Params, shared_slots: bool
    ) -> tuple[Samples, Params]:
        """Advantages over the fitted baseline; every mean is over valid steps, and no slots outlive the batch."""
        settings, valid = self._settings, trajectories.valid
        last_value = torch.zeros_like(trajectories.rewards[..., 0])
        returns = generalised_advantages(
            trajectories.rewards, torch.zeros_like(trajectories.rewards), last_value, valid, settings.discount, 1.0
        )[1]
        values = torch.zeros_like(returns) if self._kind == "none" else self.values(trajectories, returns)
        advantages = generalised_advantages(
            trajectories.rewards, values, last_value, valid, settings.discount, settings.gae_lambda
        )[0]
        samples = flat_samples(trajectories, advantages, returns)._replace(rewards=trajectories.rewards.flatten(1, 2))
        if settings.standardise_advantages:
            samples = samples._replace(advantages=standardise(samples.advantages, samples.weights))
        return samples, {}

    def values(self, trajectories: Trajectories, returns: Tensor) -> Tensor:
        """V(s_t) of the fit to ``returns`` on the valid steps, all [tasks, episodes, horizon]."""
        observations, weights = trajectories.observations, trajectories.valid.to(torch.float64)
        horizon = returns.shape[-1]
        steps = torch.arange(horizon)
        if self._table is None:
            features = self._features(observations.double(), steps.expand(returns.shape)).flatten(1, 2)
            coefficients = self._fit(features, weights.flatten(1, 2), returns.double().flatten(1, 2))
            return (features @ coefficients).view(returns.shape).to(returns.dtype)
        # Steps with the same observation and time share their features: one row for all of them.
        rows = self._table.shape[0]
        key = (observations.squeeze(-1) * horizon + steps).flatten(1, 2)
        count = sum_by_key(weights.flatten(1, 2), key, rows * horizon)
        total = sum_by_key((returns * weights).flatten(1, 2), key, rows * horizon)
        each = self._table.double().unsqueeze(1).expand(rows, horizon, -1)
        features = self._features(each, steps.expand(rows, horizon)).flatten(0, 1).expand(len(key), -1, -1)
        coefficients = self._fit(features, count, total / count.clamp(min=1.0))
        return (features @ coefficients).squeeze(-1).gather(1, key).view(returns.shape).to(returns.dtype)

    def _fit(self, features: Tensor, weights: Tensor, targets: Tensor) -> Tensor:
        """Coefficients [tasks, features, 1] of features [tasks, samples, features] for targets [tasks, samples]."""
        weighted = (features * weights.unsqueeze(-1)).transpose(1, 2)
        ridge = self._settings.baseline_ridge * torch.eye(features.shape[-1], dtype=features.dtype)
        return _solved(weighted @ features + ridge, weighted @ targets.unsqueeze(-1))

    def _features(self, observations: Tensor, steps: Tensor) -> Tensor:
        """φ(s, t), [..., 2 observation_dim + 4] or [..., 4]; observations [..., observation_dim], steps [...]."""
        time = (steps.double() / 100.0).unsqueeze(-1)
        powers = [time, time**2, time**3, torch.ones_like(time)]
        if self._kind == "linear_time":
            return torch.cat(powers, dim=-1)
        return torch.cat([observations, observations**2, *powers], dim=-1)


def _solved(matrices: Tensor, right: Tensor) -> Tensor:
    """Solve on one thread: on several, MKL fails or stands still on batches of matrices as large as the ant's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return torch.linalg.solve(matrices, right)
    finally:
        torch.set_num_threads(threads)

"""Policies over explicit parameters. Their parameters live under ``actor/``; a leading ``tasks`` axis makes them one
policy per task.

A policy's *distribution* is a tuple of tensors over places: the samples, or, where observations are rows of a table,
the rows. Divergence, Fisher metric and score are written on these.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from algorithms.networks import Params, forward, hidden_layers, init_mlp, layers, mlp, mlp_tangent, rows_per_task
from algorithms.samples import sum_by_key
from algorithms.settings import ActorSettings
from harness.api import Experience, Metrics, Suite

LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
Distribution = tuple[Tensor, ...]


class NetworkPolicy:
    """What both kinds of policy share: a feed-forward network on the observation."""

    sequential = False

    def __init__(self, settings: ActorSettings, suite: Suite, outputs: int) -> None:
        self._settings = settings
        self._table = suite.observation_table
        self._sizes = (suite.observation_dim, *settings.actor_hidden_sizes, outputs)
        self._names = [f"actor/{layer}/{kind}" for layer in range(len(self._sizes) - 1) for kind in ("weight", "bias")]

    def init(self, rng: Generator) -> Params:
        """Initial parameters of the network."""
        drawn = init_mlp(rng, self._sizes, self._settings.initialisation)
        return {f"actor/{name}": tensor for name, tensor in drawn.items()}

    def initial_memory(self, tasks: int, episodes: int) -> None:
        """A feed-forward policy carries nothing."""
        return None

    def remember(self, memory: None, experience: Experience) -> None:
        """Nor does it take anything up."""
        return None

    def hidden(self, params: Params, observations: Tensor) -> list[Tensor]:
        """The network's hidden layers at every place, which :meth:`tangent` needs; params [tasks, ...]."""
        weights = layers(params, "actor")
        inputs = observations if self._table is None else rows_per_task(weights, self._table)
        return hidden_layers(weights, inputs, self._settings.hidden_activation)

    def _moved(self, params: Params, hidden: list[Tensor], directions: Params) -> Tensor:
        activation = self._settings.hidden_activation
        return mlp_tangent(layers(params, "actor"), hidden, layers(directions, "actor"), activation)


class GaussianPolicy(NetworkPolicy):
    """A diagonal Gaussian whose mean is a network and whose standard deviation is one learned vector.

    a ~ N(μ_θ(s), diag(exp(2 ω))),   ω = "actor/log_std", one entry per action dimension

    Its distribution: (μ [tasks, samples, action_dim], ω [tasks, 1, action_dim]).
    """

    def __init__(self, settings: ActorSettings, suite: Suite) -> None:
        assert suite.observation_table is None
        super().__init__(settings, suite, suite.action_dim)

    def init(self, rng: Generator) -> Params:
        """Initial parameters."""
        initial = torch.full((self._sizes[-1],), self._settings.initial_log_std)
        return super().init(rng) | {"actor/log_std": initial}

    def draw_noise(self, rng: Generator, tasks: int, episodes: int, horizon: int) -> Tensor:
        """Standard normal noise, [horizon, tasks, episodes, action_dim]."""
        return torch.randn(horizon, tasks, episodes, self._sizes[-1], generator=rng)

    def act(self, params: Params, observation: Tensor, memory: Any, noise: Tensor) -> tuple[Tensor, Any]:
        """a = μ(s) + σ · noise; shapes as in :class:`harness.api.Policy`."""
        mean = forward([params[name] for name in self._names], observation, self._settings.hidden_activation)
        if self._settings.actor_output_activation == "tanh":
            mean = mean.tanh_()
        std = params["actor/log_std"].exp()
        return mean.addcmul_(noise, std if std.dim() == 1 else std.unsqueeze(1)), memory

    def distribution(self, params: Params, observations: Tensor) -> Distribution:
        """(μ, ω) at every observation; differentiable. Params [tasks, ...], observations [tasks, samples, ...]."""
        mean = mlp(layers(params, "actor"), observations, self._settings.hidden_activation)
        if self._settings.actor_output_activation == "tanh":
            mean = mean.tanh()
        return mean, params["actor/log_std"].unsqueeze(1)

    @torch.no_grad()
    def tangent(
        self, params: Params, hidden: list[Tensor], distribution: Distribution, directions: Params
    ) -> Distribution:
        """How the distribution moves when the parameters [tasks, ...] move in ``directions``; shapes as it."""
        moved = self._moved(params, hidden, directions)
        if self._settings.actor_output_activation == "tanh":
            moved = moved * (1.0 - distribution[0].square())
        return moved, directions["actor/log_std"].unsqueeze(1)

    @staticmethod
    def places(observations: Tensor, weights: Tensor) -> Tensor:
        """Weights of the distribution's places, given those of the samples: every sample is its own place."""
        return weights

    def log_prob(self, params: Params, observations: Tensor, actions: Tensor) -> Tensor:
        """log π(a | s), summed over action dimensions; differentiable in the parameters.

        Shapes:
            params: [tasks, ...]; observations: [tasks, samples, observation_dim]; actions: [tasks, samples, action_dim]
            returns: [tasks, samples]
        """
        return self.log_density(self.distribution(params, observations), observations, actions)

    @staticmethod
    def log_density(distribution: Distribution, observations: Tensor, actions: Tensor) -> Tensor:
        """log π(a | s) of actions [tasks, samples, action_dim] under a distribution, [tasks, samples]."""
        mean, log_std = distribution
        standardised = (actions - mean) * torch.exp(-log_std)
        return -(0.5 * standardised.square() + log_std + LOG_SQRT_2PI).sum(-1)

    @staticmethod
    def kl(first: Distribution, second: Distribution) -> Tensor:
        """KL(first ‖ second) = Σ_d [ω₂ - ω₁ + (σ₁² + (μ₁ - μ₂)²) / (2 σ₂²) - 1/2], [tasks, places]."""
        (mean1, log_std1), (mean2, log_std2) = first, second
        ratio = ((2.0 * log_std1).exp() + (mean1 - mean2).square()) / (2.0 * (2.0 * log_std2).exp())
        return (log_std2 - log_std1 + ratio - 0.5).sum(-1)

    @staticmethod
    def fisher(distribution: Distribution, tangent: Distribution, share: Tensor) -> Distribution:
        """The mean Fisher metric applied to a tangent: (share δμ / σ², 2 δω), shapes as the distribution.

        ``share``: how much each place counts, [tasks, samples, 1], sums to 1.
        """
        return share * tangent[0] * torch.exp(-2.0 * distribution[1]), 2.0 * tangent[1]

    @staticmethod
    def metrics(params: Params) -> Metrics:
        """What a training curve shows of the policy."""
        return {"action_std": float(params["actor/log_std"].exp().mean())}


class CategoricalPolicy(NetworkPolicy):
    """A softmax over finitely many actions.

    π_θ(a | s) = exp z_a(s) / Σ_b exp z_b(s)

    Its distribution: (log π,) with one entry per row of the observation table, or per sample if there is none,
    [tasks, places, actions].
    """

    def __init__(self, settings: ActorSettings, suite: Suite) -> None:
        assert suite.num_actions is not None
        super().__init__(settings, suite, suite.num_actions)

    def draw_noise(self, rng: Generator, tasks: int, episodes: int, horizon: int) -> Tensor:
        """Uniform numbers, [horizon, tasks, episodes]."""
        return torch.rand(horizon, tasks, episodes, generator=rng)

    def act(self, params: Params, observation: Tensor, memory: Any, noise: Tensor) -> tuple[Tensor, Any]:
        """The action in whose part of [0, 1) the noise falls, the parts being the probabilities in order."""
        count, episodes, _ = observation.shape
        weights = [params[name] for name in self._names]
        tasks = torch.arange(count).unsqueeze(1)
        if self._table is None:
            inputs, row = observation, tasks * episodes + torch.arange(episodes)
        else:  # every distinct observation once, for all tasks or for each
            shared = weights[0].dim() == 2
            inputs = self._table.expand(1 if shared else count, *self._table.shape)
            row = observation.squeeze(-1) + (0 if shared else tasks * self._table.shape[0])
        logits = forward(weights, inputs, self._settings.hidden_activation)
        cumulative = logits.double().softmax(-1).cumsum(-1).flatten(0, -2)
        # The rows end to end are one increasing sequence: row i occupies (i, i + 1].
        cumulative = cumulative / cumulative[:, -1:] + torch.arange(len(cumulative)).unsqueeze(1)
        place = torch.searchsorted(cumulative.flatten(), row + noise.double(), right=True)
        actions = cumulative.shape[-1]
        return (place - row * actions).clamp_(0, actions - 1).unsqueeze(-1), memory

    def distribution(self, params: Params, observations: Tensor) -> Distribution:
        """log π at every place; differentiable. Params [tasks, ...], observations [tasks, samples, ...]."""
        weights = layers(params, "actor")
        inputs = observations if self._table is None else rows_per_task(weights, self._table)
        return (mlp(weights, inputs, self._settings.hidden_activation).log_softmax(-1),)

    @torch.no_grad()
    def tangent(
        self, params: Params, hidden: list[Tensor], distribution: Distribution, directions: Params
    ) -> Distribution:
        """How log π moves when the parameters [tasks, ...] move in ``directions``: δz_a - Σ_b π_b δz_b."""
        moved = self._moved(params, hidden, directions)
        return (moved - (distribution[0].exp() * moved).sum(-1, keepdim=True),)

    def places(self, observations: Tensor, weights: Tensor) -> Tensor:
        """Weights of the places, given those of the samples [tasks, samples]: a row has that of all its samples."""
        if self._table is None:
            return weights
        return sum_by_key(weights, observations.squeeze(-1), self._table.shape[0])

    def log_prob(self, params: Params, observations: Tensor, actions: Tensor) -> Tensor:
        """log π(a | s), differentiable; actions [tasks, samples, 1] int64, returns [tasks, samples]."""
        return self.log_density(self.distribution(params, observations), observations, actions)

    def log_density(self, distribution: Distribution, observations: Tensor, actions: Tensor) -> Tensor:
        """log π(a | s) of actions [tasks, samples, 1] under a distribution, [tasks, samples]."""
        if self._table is None:
            return distribution[0].gather(-1, actions).squeeze(-1)
        pair = observations.squeeze(-1) * distribution[0].shape[-1] + actions.squeeze(-1)
        return distribution[0].flatten(1).gather(1, pair)

    @staticmethod
    def kl(first: Distribution, second: Distribution) -> Tensor:
        """KL(first ‖ second) = Σ_a π₁ (log π₁ - log π₂), [tasks, places]."""
        return (first[0].exp() * (first[0] - second[0])).sum(-1)

    @staticmethod
    def fisher(distribution: Distribution, tangent: Distribution, share: Tensor) -> Distribution:
        """The mean Fisher metric applied to a tangent of log π: E[δ log π δ' log π] = Σ_a π δ δ', so (share π δ,).

        ``share``: how much each place counts, [tasks, places, 1], sums to 1.
        """
        return (share * distribution[0].exp() * tangent[0],)

    @torch.no_grad()
    def metrics(self, params: Params) -> Metrics:
        """Mean entropy -Σ_a π log π over the rows of the table, in nats: near zero the policy no longer explores."""
        if self._table is None:
            return {}
        weights = [params[name] for name in self._names]
        rows = self._table.to(weights[0].dtype).unsqueeze(0)
        log_prob = forward(weights, rows, self._settings.hidden_activation).log_softmax(-1)
        return {"policy_entropy": float(-(log_prob.exp() * log_prob).sum(-1).mean())}


AnyPolicy = GaussianPolicy | CategoricalPolicy


def make_policy(settings: ActorSettings, suite: Suite) -> AnyPolicy:
    """A softmax where the suite has a finite set of actions, else a Gaussian."""
    return GaussianPolicy(settings, suite) if suite.num_actions is None else CategoricalPolicy(settings, suite)

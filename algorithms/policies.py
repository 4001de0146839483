"""Policies over explicit parameters."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from algorithms.networks import Params, forward, init_mlp, layers, mlp
from algorithms.settings import GradientMethodSettings

LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


class GaussianPolicy:
    """A diagonal Gaussian whose mean is a network and whose standard deviation is one learned vector.

        a ~ N(μ_θ(s), diag(exp(2 ω))),   ω = "actor/log_std", one entry per action dimension

    Parameters live under ``actor/``; a leading ``tasks`` axis makes them one policy per task.
    """

    def __init__(self, settings: GradientMethodSettings, observation_dim: int, action_dim: int) -> None:
        self._settings = settings
        self._sizes = (observation_dim, *settings.actor_hidden_sizes, action_dim)
        self._names = [f"actor/{layer}/{kind}" for layer in range(len(self._sizes) - 1) for kind in ("weight", "bias")]

    def init(self, rng: Generator) -> Params:
        """Initial parameters."""
        drawn = init_mlp(rng, self._sizes, self._settings.initialisation)
        params = {f"actor/{name}": tensor for name, tensor in drawn.items()}
        params["actor/log_std"] = torch.full((self._sizes[-1],), self._settings.initial_log_std)
        return params

    def draw_noise(self, rng: Generator, tasks: int, episodes: int, horizon: int) -> Tensor:
        """Standard normal noise, [horizon, tasks, episodes, action_dim]."""
        return torch.randn(horizon, tasks, episodes, self._sizes[-1], generator=rng)

    def initial_memory(self, tasks: int, episodes: int) -> None:
        """A feed-forward policy carries nothing."""
        return None

    def act(self, params: Params, observation: Tensor, memory: Any, noise: Tensor) -> tuple[Tensor, Any]:
        """a = μ(s) + σ · noise; shapes as in :class:`harness.api.Policy`."""
        mean = forward([params[name] for name in self._names], observation, self._settings.hidden_activation)
        if self._settings.actor_output_activation == "tanh":
            mean = mean.tanh_()
        std = params["actor/log_std"].exp()
        return mean.addcmul_(noise, std if std.dim() == 1 else std.unsqueeze(1)), memory

    def log_prob(self, params: Params, observations: Tensor, actions: Tensor) -> Tensor:
        """log π(a | s), summed over action dimensions; differentiable in the parameters.

        Shapes:
            params: [tasks, ...]; observations: [tasks, samples, observation_dim]; actions: [tasks, samples, action_dim]
            returns: [tasks, samples]
        """
        mean = mlp(layers(params, "actor"), observations, self._settings.hidden_activation)
        if self._settings.actor_output_activation == "tanh":
            mean = mean.tanh()
        log_std = params["actor/log_std"].unsqueeze(1)
        standardised = (actions - mean) * torch.exp(-log_std)
        return -(0.5 * standardised.square() + log_std + LOG_SQRT_2PI).sum(-1)


class Critic:
    """A state-value network under ``critic/``."""

    def __init__(self, settings: GradientMethodSettings, observation_dim: int) -> None:
        self._settings = settings
        self._sizes = (observation_dim, *settings.critic_hidden_sizes, 1)

    def init(self, rng: Generator) -> Params:
        """Initial parameters."""
        drawn = init_mlp(rng, self._sizes, self._settings.initialisation)
        return {f"critic/{name}": tensor for name, tensor in drawn.items()}

    def values(self, params: Params, observations: Tensor) -> Tensor:
        """V(s); params [tasks, ...], observations [tasks, samples, observation_dim], returns [tasks, samples]."""
        return mlp(layers(params, "critic"), observations, self._settings.hidden_activation).squeeze(-1)

"""Update rules over dictionaries of parameters, with or without a tasks axis."""

from __future__ import annotations

import math

import torch

from algorithms.networks import Params
from algorithms.settings import AdamSettings


def rate_of(name: str, actor_lr: float, critic_lr: float) -> float:
    """The learning rate of a parameter: actor and critic have their own."""
    return actor_lr if name.startswith("actor/") else critic_lr


def gradient_step(params: Params, gradients: Params, actor_lr: float, critic_lr: float) -> Params:
    """θ' = θ - α g, differentiable."""
    return {name: params[name] - rate_of(name, actor_lr, critic_lr) * gradients[name] for name in params}


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1) as a pure function; per-task parameters get per-task moments.

    m' = β1 m + (1-β1) g,  v' = β2 v + (1-β2) g²,  θ' = θ - lr_k · (m'/(1-β1^k)) / (√(v'/(1-β2^k)) + ε)
    """

    def __init__(self, settings: AdamSettings) -> None:
        self._settings = settings

    def init(self, params: Params) -> Params:
        """Zero moments and a step count."""
        memory = {f"m/{name}": torch.zeros_like(tensor) for name, tensor in params.items()}
        memory |= {f"v/{name}": torch.zeros_like(tensor) for name, tensor in params.items()}
        return memory | {"count": torch.zeros((), dtype=torch.int64)}

    def annealing(self, update: int) -> float:
        """Factor on the rates at update k = 0, 1, ...: 1, or (1 + cos(π k / period)) / 2.

        (Loshchilov & Hutter 2017, eq. 5)
        """
        if self._settings.schedule == "constant":
            return 1.0
        assert self._settings.schedule_period is not None
        return 0.5 * (1.0 + math.cos(math.pi * update / self._settings.schedule_period))

    @torch.no_grad()
    def step(self, params: Params, gradients: Params, memory: Params) -> tuple[Params, Params]:
        """One update: (new parameters, new memory)."""
        settings = self._settings
        beta1, beta2 = settings.betas
        update = int(memory["count"])
        annealing = self.annealing(update)
        new_params: Params = {}
        new_memory: Params = {"count": memory["count"] + 1}
        for name, tensor in params.items():
            gradient = gradients[name]
            first = new_memory[f"m/{name}"] = torch.lerp(memory[f"m/{name}"], gradient, 1.0 - beta1)
            second = new_memory[f"v/{name}"] = memory[f"v/{name}"] * beta2 + gradient.square() * (1.0 - beta2)
            scale = rate_of(name, settings.actor_lr, settings.critic_lr) * annealing / (1.0 - beta1 ** (update + 1))
            denominator = (second / (1.0 - beta2 ** (update + 1))).sqrt_().add_(settings.epsilon)
            new_params[name] = tensor - scale * first / denominator
        return new_params, new_memory


class Sgd:
    """Plain gradient descent, θ' = θ - lr g, with the interface of :class:`Adam`."""

    def __init__(self, lr: float) -> None:
        self._lr = lr

    def init(self, params: Params) -> Params:
        """A step count."""
        return {"count": torch.zeros((), dtype=torch.int64)}

    def annealing(self, update: int) -> float:
        """The rate is constant."""
        return 1.0

    @torch.no_grad()
    def step(self, params: Params, gradients: Params, memory: Params) -> tuple[Params, Params]:
        """One update: (new parameters, new memory)."""
        return gradient_step(params, gradients, self._lr, self._lr), {"count": memory["count"] + 1}

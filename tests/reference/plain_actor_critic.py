"""The actor-critic losses once more, for one task, in ordinary torch operations and plain loops.

An independent check of :mod:`algorithms`: nothing here imports it. Parameters have no tasks axis.
"""

import math

import torch
from torch import Tensor

Params = dict[str, Tensor]


def network(params: Params, prefix: str, inputs: Tensor, activation: str) -> Tensor:
    """A multi-layer perceptron, [samples, in] -> [samples, out]."""
    depth = sum(name.startswith(f"{prefix}/") and name.endswith("weight") for name in params)
    for layer in range(depth):
        inputs = inputs @ params[f"{prefix}/{layer}/weight"] + params[f"{prefix}/{layer}/bias"]
        if layer < depth - 1:
            inputs = getattr(torch, activation)(inputs)
    return inputs


def loss(
    params: Params, observations: Tensor, actions: Tensor, advantages: Tensor, returns: Tensor, activation: str
) -> Tensor:
    """-mean(log π A) + mean((V - G)²), with tanh on the mean of the Gaussian; every sample counts."""
    mean = torch.tanh(network(params, "actor", observations, activation))
    variance = (2.0 * params["actor/log_std"]).exp()
    log_prob = (-((actions - mean) ** 2) / (2.0 * variance) - 0.5 * torch.log(2.0 * math.pi * variance)).sum(-1)
    values = network(params, "critic", observations, activation).squeeze(-1)
    return -(log_prob * advantages).mean() + ((values - returns) ** 2).mean()


def gae(
    rewards: list[float], values: list[float], last_value: float, discount: float, gae_lambda: float
) -> tuple[list[float], list[float]]:
    """Advantages and returns-to-go of one whole episode, backwards in time."""
    advantages, returns = [], []
    advantage, to_go, next_value = 0.0, last_value, last_value
    for reward, value in zip(reversed(rewards), reversed(values), strict=True):
        advantage = reward + discount * next_value - value + discount * gae_lambda * advantage
        to_go = reward + discount * to_go
        next_value = value
        advantages.insert(0, advantage)
        returns.insert(0, to_go)
    return advantages, returns

"""Returns and advantages."""

from __future__ import annotations

import torch
from torch import Tensor


def discounted_sums(values: Tensor, factor: float) -> Tensor:
    """Discounted sum of what is still to come, over the last axis.

        S_t = x_t + c S_{t+1},   S_H = 0       (returns: Sutton & Barto 2018, eq. 3.9, with c = γ)

    One product with the matrix C[u, t] = c^(u-t), u ≥ t, instead of a loop over the horizon.

    Shapes:
        values: [tasks, episodes, horizon]
        returns: [tasks, episodes, horizon]
    """
    steps = torch.arange(values.shape[-1])
    lag = (steps[:, None] - steps[None, :]).to(torch.float64)
    powers = torch.where(lag >= 0, torch.tensor(factor, dtype=torch.float64) ** lag.clamp(min=0), 0.0)
    return values @ powers.to(values.dtype)


def generalised_advantages(
    rewards: Tensor,
    values: Tensor,
    last_value: Tensor,
    valid: Tensor,
    discount: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and returns-to-go.

        δ_t = r_t + γ V(s_{t+1}) - V(s_t),   A_t = Σ_k (γλ)^k δ_{t+k},   G_t = r_t + γ G_{t+1}
        (Schulman et al. 2016, eq. 11, 16)

    After the end of an episode everything is zero. V(s_H) is ``last_value``: the critic's value where a time-out is
    bootstrapped, zero otherwise; G starts from the same value.

    Shapes:
        rewards, values, valid: [tasks, episodes, horizon], rewards in suite units
        last_value: [tasks, episodes]
        returns: (advantages, returns-to-go), each [tasks, episodes, horizon], zero where not valid
    """
    mask = valid.to(values.dtype)
    next_values = torch.cat([values[..., 1:] * mask[..., 1:], last_value.unsqueeze(-1)], dim=-1)
    deltas = (rewards + discount * next_values - values) * mask
    advantages = discounted_sums(deltas, discount * gae_lambda)
    to_go = rewards * mask
    to_go[..., -1] += discount * last_value
    return advantages * mask, discounted_sums(to_go, discount) * mask


def standardise(advantages: Tensor, weights: Tensor, epsilon: float = 1e-8) -> Tensor:
    """(A - mean) / (SD + ε) per task over the samples that count; population SD. Samples that do not count become 0.

    Differs from the replication report's released code, which adds no ε and divides by zero where all are equal.

    Shapes:
        advantages, weights: [..., samples], weights 0 or 1
    """
    count = weights.sum(-1, keepdim=True)
    centred = (advantages - (advantages * weights).sum(-1, keepdim=True) / count) * weights
    deviation = (centred.square().sum(-1, keepdim=True) / count).sqrt()
    return centred / (deviation + epsilon)

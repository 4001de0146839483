"""Planning and evaluation on tables of transition probabilities and mean rewards, for many MDPs at once.

Shapes, ``...`` being any leading axes:
    transition: [..., states, actions, states], rows sum to 1
    reward: [..., states, actions]
"""

from __future__ import annotations

import torch
from torch import Tensor


def finite_horizon_plan(
    transition: Tensor, reward: Tensor, horizon: int, discount: float = 1.0, ties: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Backward induction.

        V_H = 0,   Q_t(s, a) = r(s, a) + γ Σ_s' P(s' | s, a) V_{t+1}(s'),   V_t = max_a Q_t

    (Puterman 1994, section 4.5). Of equal actions the first is taken, or the one with the largest entry in ``ties``,
    which are added to Q and so must be far below any difference that matters.

    Shapes: ties [horizon, ..., states, actions]; returns (V_0 [..., states], policy [..., horizon, states] int64).
    """
    values = torch.zeros_like(reward[..., 0])
    policy = []
    for step in range(horizon - 1, -1, -1):
        q_values = _backup(transition, reward, values, discount)
        values, actions = (q_values if ties is None else q_values + ties[step]).max(-1)
        policy.append(actions)
    return values, torch.stack(policy[::-1], dim=-2)


def value_iteration(transition: Tensor, reward: Tensor, discount: float, tolerance: float) -> tuple[Tensor, Tensor]:
    """Infinite-horizon value iteration from V = 0, until no value moves by more than ``tolerance``.

    V ← max_a [ r(s, a) + γ Σ_s' P(s' | s, a) V(s') ]      (Puterman 1994, section 6.3)

    Shapes: returns (V [..., states], stationary policy [..., states] int64).
    Errors: ValueError unless 0 < discount < 1 and tolerance > 0: it would not end.
    """
    if not 0.0 < discount < 1.0 or tolerance <= 0.0:
        raise ValueError(f"needs a discount in (0, 1) and a positive tolerance, found {discount} and {tolerance}")
    values = torch.zeros_like(reward[..., 0])
    while True:
        new, actions = _backup(transition, reward, values, discount).max(-1)
        if float((new - values).abs().max()) < tolerance:
            return new, actions
        values = new


def policy_values(
    transition: Tensor, reward: Tensor, probabilities: Tensor, horizon: int, discount: float = 1.0
) -> Tensor:
    """Expected return of a stationary policy over a finite horizon, V_0 [..., states].

    ``probabilities``: π(a | s), [..., states, actions].
    """
    values = torch.zeros_like(reward[..., 0])
    for _ in range(horizon):
        values = (probabilities * _backup(transition, reward, values, discount)).sum(-1)
    return values


def _backup(transition: Tensor, reward: Tensor, values: Tensor, discount: float) -> Tensor:
    """Q(s, a) = r(s, a) + γ Σ_s' P(s' | s, a) V(s'), [..., states, actions]."""
    return reward + discount * torch.einsum("...sat,...t->...sa", transition, values)

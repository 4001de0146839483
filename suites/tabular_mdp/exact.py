"""Expected returns on tables and their derivatives without sampling, by dynamic programming and autograd in float64.

Everything is for a batch of MDPs and policies at once. The parameters of a policy are one flat vector per MDP.

Shapes, ``...`` being any leading axes, D the number of parameters:
    transition: [..., states, actions, states], rows sum to 1
    reward: [..., states, actions], mean rewards
    params: [..., D]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from suites.tabular_mdp.planning import policy_values

LogPolicy = Callable[[Tensor], Tensor]
"""params [..., D] -> log π(a|s) [..., states, actions]; twice differentiable, every MDP in its own parameters only."""


class CurvatureTerms(NamedTuple):
    """What the Hessian of the expected return consists of, ∇²J = H1 + H2 + H12 + H12ᵀ; each [..., D, D]."""

    h1: Tensor
    h2: Tensor
    h12: Tensor

    def hessian(self) -> Tensor:
        """∇²J."""
        return self.h1 + self.h2 + self.cross()

    def cross(self) -> Tensor:
        """H12 + H12ᵀ: what an action does to the gradient of everything after it."""
        return self.h12 + self.h12.mT


@dataclass(frozen=True)
class ExactMDPs:
    """Tables, and how a policy on them is parametrised. Returns are sums over time, from state 0, undiscounted."""

    transition: Tensor
    reward: Tensor
    horizon: int
    log_policy: LogPolicy

    def expected_return(self, params: Tensor) -> Tensor:
        """J(θ) = E[Σ_t r_t], [...]; differentiable."""
        probabilities = self.log_policy(params).exp()
        return policy_values(self.transition, self.reward, probabilities, self.horizon)[..., 0]

    def gradient(self, params: Tensor) -> Tensor:
        """∇J(θ), [..., D]."""
        return _gradient(self.expected_return, params)

    def hessian(self, params: Tensor) -> Tensor:
        """∇²J(θ) by differentiating twice, [..., D, D]."""
        leaves = params.detach().clone().requires_grad_()
        gradient = torch.autograd.grad(self.expected_return(leaves).sum(), leaves, create_graph=True)[0]
        return _rows(gradient, leaves)

    def curvature(self, params: Tensor) -> CurvatureTerms:
        """The terms of the Hessian by dynamic programming.

            H1  = Σ_t Σ_sa p_t(s) π(a|s) ∇log π(a|s) ∇log π(a|s)ᵀ Q_t(s, a)
            H2  = Σ_t Σ_sa p_t(s) π(a|s) ∇²log π(a|s) Q_t(s, a)
            H12 = Σ_t Σ_sa p_t(s) π(a|s) ∇log π(a|s) ∇Q_t(s, a)ᵀ           (Rothfuss et al. 2019, eq. 6)
            Q_t = r + P V_{t+1},   ∇Q_t = P ∇V_{t+1},   V_t = Σ_a π Q_t,   ∇V_t = Σ_a π (∇log π Q_t + ∇Q_t)
            p_0 = state 0,   p_{t+1}(s') = Σ_sa p_t(s) π(a|s) P(s'|s, a)

        Every expectation is a sum over tables; nothing is differentiated but log π.
        """
        log_policy, score, bend = _two_derivatives(self.log_policy, params)
        policy = log_policy.exp()
        square = score.unsqueeze(-1) * score.unsqueeze(-2)
        visits = self._visits(policy)
        value, slope = torch.zeros_like(self.reward[..., 0]), torch.zeros_like(score[..., 0, :])
        h1 = h2 = h12 = torch.zeros_like(bend[..., 0, 0, :, :])
        for step in range(self.horizon - 1, -1, -1):
            q_value = self.reward + torch.einsum("...sat,...t->...sa", self.transition, value)
            q_slope = torch.einsum("...sat,...td->...sad", self.transition, slope)
            share = visits[step].unsqueeze(-1) * policy
            h1 = h1 + torch.einsum("...sa,...sade->...de", share * q_value, square)
            h2 = h2 + torch.einsum("...sa,...sade->...de", share * q_value, bend)
            h12 = h12 + torch.einsum("...sa,...sad,...sae->...de", share, score, q_slope)
            value = (policy * q_value).sum(-1)
            slope = torch.einsum("...sa,...sad->...sd", policy, score * q_value.unsqueeze(-1) + q_slope)
        return CurvatureTerms(h1, h2, h12)

    def _visits(self, policy: Tensor) -> list[Tensor]:
        """p_t(s) for every step t, [..., states] each."""
        visits = [torch.zeros_like(self.reward[..., 0]).index_fill(-1, torch.tensor([0]), 1.0)]
        for _ in range(self.horizon - 1):
            visits.append(torch.einsum("...s,...sa,...sat->...t", visits[-1], policy, self.transition))
        return visits

    def adapted(self, params: Tensor, inner_lr: float, steps: int = 1) -> Tensor:
        """θ_k of θ_{i+1} = θ_i + α ∇J(θ_i), [..., D]; differentiable where ``params`` are.

        Rothfuss et al. 2019, section 3, formulation I.
        """
        differentiable = params.requires_grad
        if not differentiable:
            params = params.detach().clone().requires_grad_()
        for _ in range(steps):
            total = self.expected_return(params).sum()
            params = params + inner_lr * torch.autograd.grad(total, params, create_graph=True)[0]
        return params if differentiable else params.detach()

    def adapted_return(self, params: Tensor, inner_lr: float, steps: int = 1) -> Tensor:
        """J_I(θ) = J(θ_k), [...]; differentiable where ``params`` are."""
        return self.expected_return(self.adapted(params, inner_lr, steps))

    def meta_gradient(self, params: Tensor, inner_lr: float, steps: int = 1) -> Tensor:
        """∇J_I(θ) = ∏_{i<k} (I + α ∇²J(θ_i)) ∇J(θ_k), [..., D]          (Rothfuss et al. 2019, eq. 29)"""
        return _gradient(lambda leaves: self.adapted_return(leaves, inner_lr, steps), params)


def _gradient(function: Callable[[Tensor], Tensor], params: Tensor) -> Tensor:
    leaves = params.detach().clone().requires_grad_()
    return torch.autograd.grad(function(leaves).sum(), leaves)[0]


def _two_derivatives(function: LogPolicy, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(f [..., S, A], ∇f [..., S, A, D], ∇²f [..., S, A, D, D]), entry by entry."""
    leaves = params.detach().clone().requires_grad_()
    values = function(leaves)
    states, actions = values.shape[-2:]
    first, second = [], []
    for entry in values.flatten(-2).unbind(-1):
        slope = torch.autograd.grad(entry.sum(), leaves, create_graph=True)[0]
        first.append(slope.detach())
        second.append(_rows(slope, leaves))
    slopes = torch.stack(first, dim=-2).unflatten(-2, (states, actions))
    return values.detach(), slopes, torch.stack(second, dim=-3).unflatten(-3, (states, actions))


def _rows(gradient: Tensor, leaves: Tensor) -> Tensor:
    """The derivative of every entry of a gradient [..., D], [..., D, D]."""
    entries = gradient.unbind(-1)
    rows = [torch.autograd.grad(entry.sum(), leaves, retain_graph=True)[0] for entry in entries]
    return torch.stack(rows, dim=-2)

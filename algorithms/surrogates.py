"""Inner and outer objectives as losses: pure functions of log-probabilities, one number per task.

All are means over the slots that count, of losses to descend. With π the policy whose parameters are differentiated,
π_old the one that sampled, A_t the advantage and sg(.) the stop-gradient, all have the same first derivative where
π = π_old; they differ in what a second derivative contains of

    ∇²E[R] = H1 + H2 + H12 + H12ᵀ,   H1 = E Σ_t s_t s_tᵀ Q_t,   H2 = E Σ_t ∇²log π(a_t|s_t) Q_t,   H12 = E Σ_t s_t ∇Q_tᵀ

with s_t = ∇log π(a_t|s_t)          (Rothfuss et al. 2019, eq. 6).

    surrogate            second derivative contains
    score_function       H2
    lvc                  H1 + H2
    likelihood_ratio     H1 + H2 where π = π_old, and stays valid where π has moved
    dice                 H1 + H2 + H12 + H12ᵀ
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from algorithms.samples import Samples
from algorithms.settings import SurrogateName

Surrogate = Callable[[Tensor, Samples], Tensor]
"""(log π(a_t|s_t) [tasks, slots], samples) -> loss [tasks], differentiable in the first."""


def score_function(log_prob: Tensor, samples: Samples) -> Tensor:
    """Policy-gradient loss of vanilla policy gradient, the "primitive" surrogate of the original MAML.

        L = -mean_t log π(a_t|s_t) A_t           (Finn et al. 2017, algorithm 3; Rothfuss et al. 2019, appendix B.3)

    Second derivative: H2 only, because A_t and the sampling distribution count as constants.
    """
    return -weighted_mean(log_prob * samples.advantages, samples.weights)


def lvc(log_prob: Tensor, samples: Samples) -> Tensor:
    """Low-variance curvature.

        L = -mean_t (π(a_t|s_t) / sg(π(a_t|s_t))) A_t           (Rothfuss et al. 2019, eq. 9)

    Second derivative: H1 + H2, because ∇²(π / sg π) = ∇²log π + s sᵀ. What an action does to later states is left out.
    """
    return -weighted_mean((log_prob - log_prob.detach()).exp() * samples.advantages, samples.weights)


def likelihood_ratio(log_prob: Tensor, samples: Samples) -> Tensor:
    """Loss of a policy on the samples of another one.

        L = -mean_t (π(a_t|s_t) / π_old(a_t|s_t)) A_t       (Rothfuss et al. 2019, eq. 12; Schulman et al. 2015, eq. 14)

    Second derivative: at π = π_old as :func:`lvc`. Needs ``samples.old_log_prob``.
    """
    return -weighted_mean(ratio(log_prob, samples) * samples.advantages, samples.weights)


def clipped(log_prob: Tensor, samples: Samples, clip_ratio: float) -> Tensor:
    """The likelihood ratio without a reward for moving further than ``clip_ratio`` (ε).

        L = -mean_t min(ρ_t A_t, clip(ρ_t, 1 - ε, 1 + ε) A_t),   ρ_t = π(a_t|s_t) / π_old(a_t|s_t)
        (Schulman et al. 2017, eq. 7; Rothfuss et al. 2019, section 6 and eq. 109)

    Not linear in A_t: samples that were put together by :func:`~algorithms.samples.condense` give another loss.
    """
    moved = ratio(log_prob, samples)
    limited = moved.clamp(1.0 - clip_ratio, 1.0 + clip_ratio)
    gained = torch.minimum(moved * samples.advantages, limited * samples.advantages)
    return -weighted_mean(gained, samples.weights)


def dice(log_prob: Tensor, samples: Samples, horizon: int) -> Tensor:
    """The infinitely differentiable estimator, which follows an action's effect on everything after it.

        L = -mean_t (M_t - M_{t-1}) A_t,   M_t = ∏_{u≤t} π(a_u|s_u) / sg(π(a_u|s_u)),   M_{-1} = 1
        (Loaded DiCE of Farquhar et al. 2019, undiscounted; with A_t = Σ_{u≥t} r_u it is -mean_t M_t r_t but for a
        constant: Foerster et al. 2018, Rothfuss et al. 2019, eq. 7)

    Second derivative: everything, H1 + H2 + H12 + H12ᵀ in expectation, for undiscounted rewards-to-go minus any fixed
    function of the state; a discount, λ < 1, or a baseline fitted to the same batch leave a small bias.
    Differs from the released code of ProMP, which puts discounted rewards minus a baseline of time, standardised, in
    place of r_t: its first derivative has another scale and another baseline than that of the other surrogates, while
    this one's is theirs. After a move of the policy it corrects for nothing, unlike the likelihood ratio.
    A sample that does not count leaves the product as it is. The slots of a task are episodes of ``horizon`` steps.
    """
    tasks = log_prob.shape[0]
    steps = torch.where(samples.weights > 0.0, log_prob, 0.0).view(tasks, -1, horizon).cumsum(-1)
    magic = (steps - steps.detach()).exp()
    before = torch.nn.functional.pad(magic[..., :-1], (1, 0), value=1.0)
    return -weighted_mean((magic - before).flatten(1) * samples.advantages, samples.weights)


def until_moved(log_prob: Tensor, samples: Samples, surrogate: Surrogate, target_kl: float) -> Tensor:
    """A surrogate that pulls no more once the policy of a task has left the one that sampled.

        L' = 1[mean_t (log π_old(a_t|s_t) - log π(a_t|s_t)) ≤ 1.5 target_kl] L
        (early stopping of PPO in Spinning Up, Achiam 2018)

    The gate counts as a constant. A policy that it has stopped does not move, and so stays stopped on this batch: what
    ``break`` does in a loop over epochs. The estimate of the divergence is a mean over samples, and may be negative.
    """
    assert samples.old_log_prob is not None
    apart = torch.where(samples.weights > 0.0, samples.old_log_prob - log_prob.detach(), 0.0)
    near = weighted_mean(apart, samples.weights) <= 1.5 * target_kl
    return near.to(log_prob.dtype) * surrogate(log_prob, samples)


def ratio(log_prob: Tensor, samples: Samples) -> Tensor:
    """π(a_t|s_t) / π_old(a_t|s_t), at most exp(80), and 1 for slots that do not count; [tasks, slots].

    What was hardly ever sampled may become any number of times likelier: beyond all floats, where 0 times it is NaN.
    """
    assert samples.old_log_prob is not None
    return torch.where(samples.weights > 0.0, log_prob - samples.old_log_prob, 0.0).clamp(max=80.0).exp()


def surrogate(name: SurrogateName, horizon: int) -> Surrogate:
    """The surrogate of a name, for episodes of ``horizon`` steps."""
    if name == "dice":
        return partial(dice, horizon=horizon)
    return {"score_function": score_function, "lvc": lvc, "likelihood_ratio": likelihood_ratio}[name]


def squared_error(values: Tensor, samples: Samples) -> Tensor:
    """mean_t (V(s_t) - G_t)² of values [tasks, slots], [tasks]."""
    return weighted_mean((values - samples.returns).square(), samples.weights)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean over the slots that count, [tasks]; values, weights [tasks, slots]."""
    return (values * weights).sum(-1) / weights.sum(-1)

"""Inner and outer objectives as losses, one number per task."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithms.networks import Params
from algorithms.policies import AnyPolicy, Distribution
from algorithms.samples import Samples


def score_function(policy: AnyPolicy, params: Params, samples: Samples) -> Tensor:
    """Policy-gradient loss of vanilla policy gradient, the "primitive" surrogate of the original MAML.

        L(θ) = -mean_t log π_θ(a_t | s_t) A_t           (Finn et al. 2017, algorithm 3; the replication report, eq. 2.1)

    Its gradient estimates the policy gradient; its second derivative contains H2 only, because A_t and the sampling
    distribution count as constants.

    Shapes: returns [tasks]; the mean is over the slots that count.
    """
    log_prob = policy.log_prob(params, samples.observations, samples.actions)
    return -weighted_mean(log_prob * samples.advantages, samples.weights)


def likelihood_ratio(policy: AnyPolicy, old: Distribution, new: Distribution, samples: Samples) -> Tensor:
    """Loss of a policy on another one's samples.

        L(θ) = -mean_t (π_θ(a_t | s_t) / π_old(a_t | s_t)) A_t          (Schulman et al. 2015, eq. 14)

    Shapes: old, new: distributions over the samples' places; returns [tasks].
    """
    densities = [policy.log_density(one, samples.observations, samples.actions) for one in (new, old)]
    # What was never sampled may become any number of times likelier: beyond all floats, where 0 times the ratio is NaN.
    log_ratio = torch.where(samples.weights > 0.0, densities[0] - densities[1], 0.0)
    return -weighted_mean(log_ratio.exp() * samples.advantages, samples.weights)


def squared_error(values: Tensor, samples: Samples) -> Tensor:
    """mean_t (V(s_t) - G_t)² of values [tasks, slots], [tasks]."""
    return weighted_mean((values - samples.returns).square(), samples.weights)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean over the slots that count, [tasks]; values, weights [tasks, slots]."""
    return (values * weights).sum(-1) / weights.sum(-1)

"""Inner and outer objectives as losses, one number per task."""

from __future__ import annotations

from torch import Tensor

from algorithms.networks import Params
from algorithms.policies import Critic, GaussianPolicy
from algorithms.samples import Samples


def score_function(policy: GaussianPolicy, params: Params, samples: Samples) -> Tensor:
    """Policy-gradient loss of vanilla policy gradient, the "primitive" surrogate of the original MAML.

        L(θ) = -mean_t log π_θ(a_t | s_t) A_t           (Finn et al. 2017, algorithm 3; the replication report, eq. 2.1)

    Its gradient estimates the policy gradient; its second derivative contains H2 only, because A_t and the sampling
    distribution count as constants.

    Shapes: returns [tasks]; the mean is over the slots that count.
    """
    log_prob = policy.log_prob(params, samples.observations, samples.actions)
    return -_mean(log_prob * samples.advantages, samples.weights)


def value_regression(critic: Critic, params: Params, samples: Samples) -> Tensor:
    """Squared error of the critic on the returns-to-go (Schulman et al. 2016, eq. 28).

        L(ω) = mean_t (V_ω(s_t) - G_t)²

    Shapes: returns [tasks].
    """
    return _mean((critic.values(params, samples.observations) - samples.returns).square(), samples.weights)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum(-1) / weights.sum(-1)

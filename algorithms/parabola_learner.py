"""A policy of two parameters whose log-likelihood is quadratic in them, and its meta-gradients in closed form.

For a trajectory with features φ_t = (s_t², 1) and actions a_t,

    log p_θ(τ) = -½ Σ_t (a_t - θᵀφ_t)² + const,   ∇ log p = x - F θ,   ∇² log p = -F,
    x = Σ_t a_t φ_t,   F = Σ_t φ_t φ_tᵀ

so x, F and the return are all that a gradient has to know of a trajectory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from algorithms.adaptation import rule_of
from algorithms.toy_formulations import ToyFormulationSettings
from harness.api import AdaptationRule, Experience, MetaBatch, Metrics, Params, Settings, State, Suite, Trajectories

THETA = "actor/theta"


def features(observations: Tensor) -> Tensor:
    """φ(s) = (s², 1); observations [..., 1], returns [..., 2]."""
    return torch.cat([observations.square(), torch.ones_like(observations)], dim=-1)


class ParabolaPolicy:
    """a ~ N(θ₀ s² + θ₁, 1), clipped where there is a bound.

    Params: {"actor/theta": [2]}, or [tasks, 2] for one policy per task.
    """

    sequential = False

    def __init__(self, action_bound: float | None) -> None:
        self._bound = action_bound

    def draw_noise(self, rng: Generator, tasks: int, episodes: int, horizon: int) -> Tensor:
        """Standard normal noise, [horizon, tasks, episodes, 1]."""
        return torch.randn(horizon, tasks, episodes, 1, generator=rng)

    def initial_memory(self, tasks: int, episodes: int) -> None:
        """Nothing to carry."""
        return None

    def act(self, params: Params, observation: Tensor, memory: Any, noise: Tensor) -> tuple[Tensor, Any]:
        """Mean plus noise; shapes as in :class:`harness.api.Policy`."""
        theta = params[THETA].unsqueeze(-2)
        action = torch.addcmul(theta[..., 1:] + noise, theta[..., :1], observation.square())
        return action if self._bound is None else action.clamp_(-self._bound, self._bound), memory

    def remember(self, memory: None, experience: Experience) -> None:
        """Nor to take up."""
        return None


class Episodes(NamedTuple):
    """What the gradients know of the trajectories of every task.

    Shapes:
        moments: x, [tasks, episodes, 2]; gram: F, [tasks, episodes, 2, 2]
        returns: undiscounted, [tasks, episodes]
        advantages: R - b, [tasks, episodes]: the returns less their baseline, or as they are
    """

    moments: Tensor
    gram: Tensor
    returns: Tensor
    advantages: Tensor

    def scores(self, theta: Tensor) -> Tensor:
        """s_n = ∇ log p_θ(τ_n) = x_n - F_n θ; theta [2] or [tasks, 2], returns [tasks, episodes, 2]."""
        return self.moments - (self.gram * theta[..., None, None, :]).sum(-1)

    def gradient(self, theta: Tensor) -> Tensor:
        """mean_n (R_n - b_n) s_n: the policy gradient on whole trajectories, [tasks, 2]."""
        return (self.advantages.unsqueeze(-1) * self.scores(theta)).mean(1)

    def curvature(self) -> Tensor:
        """mean_n (R_n - b_n) ∇² log p(τ_n), [tasks, 2, 2]."""
        return -(self.advantages[..., None, None] * self.gram).mean(1)


def mean_of_others(values: Tensor) -> Tensor:
    """For each entry of the last axis the mean of all others; zero where there is no other."""
    others = max(values.shape[-1] - 1, 1)
    return (values.sum(-1, keepdim=True) - values) / others


class ParabolaLearner:
    """One inner step of policy gradient; outside, gradient ascent along one of the two formulations.

        θ'      = θ + α g,   g = mean_n (R_n - b_n) s_n                                     the inner step
        J_post  = (I + α mean_n (R_n - b_n) ∇² log p(τ_n)) g'                               (eq. 2)
        J_pre^I = α mean_n (R_n - b_n) s_n (s_nᵀ g')                                        (eq. 4)
        J_pre^II = Σ_n s_n (mean_n R'_n - b'')                                              (eq. 35; times α: eq. 3)
        θ      += β mean over tasks of J_post + J_pre,   g' = mean_n (R'_n - b'_n) s'_n

    Source: Rothfuss et al. 2019, section 4 and appendix A; means over all trajectories of a task as in appendix A.2.

    All baselines are zero unless the settings ask for them. Then b_n is the mean return of the *other* pre-update
    trajectories of the task, b'_n that of its other post-update trajectories, and b'' the mean post-update return of
    the *other tasks*. Each is independent of the scores that it multiplies, and E[s] = E[∇² log p + s sᵀ] = 0. So
    formulation two stays unbiased for the expected return after its inner step, which then has the baseline too;
    formulation one keeps its expectation up to what g' owes to a single pre-update trajectory, of order α / N. J_post
    and J_pre alone do change: without a baseline they are large and cancel. All this is for unclipped actions: the
    score of a clipped action does not average to zero, and that bias grows with the return that multiplies it.
    """

    adaptation_rounds = 1

    def __init__(self, settings: ToyFormulationSettings, suite: Suite) -> None:
        self.settings = settings
        bound: float = suite.action_bound  # type: ignore[attr-defined]
        self.policy = ParabolaPolicy(bound if settings.clip_actions else None)

    def init(self, rng: Generator) -> State:
        """The initial parameters of the settings: nothing is drawn."""
        return State({THETA: torch.tensor(self.settings.initial_theta)})

    def prepare(
        self, params: Params, trajectories: Trajectories, slots: Params, shared_slots: bool
    ) -> tuple[Episodes, Params]:
        """Sums over the steps of every episode; steps after an end do not count."""
        phi = features(trajectories.observations) * trajectories.valid.unsqueeze(-1)
        returns = trajectories.episode_returns()
        return Episodes(
            moments=(phi.mT @ trajectories.actions).squeeze(-1),
            gram=phi.mT @ phi,
            returns=returns,
            advantages=returns - mean_of_others(returns) if self.settings.baseline else returns,
        ), {}

    def rule(self, settings: Settings) -> AdaptationRule:
        """The rule of a meta-test protocol."""
        return rule_of(settings, self.adapt, self._descent)

    def _descent(self, params: Params, samples: Episodes) -> Params:
        return {THETA: -samples.gradient(params[THETA])}

    def adapt(self, params: Params, samples: Episodes, factor: float = 1.0) -> Params:
        """The inner step, its rate multiplied by ``factor``; params [2] or [tasks, 2], returns [tasks, 2]."""
        return {THETA: params[THETA] + factor * self.settings.inner_lr * samples.gradient(params[THETA])}

    def terms(self, theta: Tensor, data: MetaBatch) -> tuple[Tensor, Tensor]:
        """(J_post, J_pre) of every task, [tasks, 2] each, with the factors that the settings ask for."""
        settings = self.settings
        before, after, inner_lr = data.pre_update[0], data.post_update, settings.inner_lr
        scores, gradient = before.scores(theta), after.gradient(data.adapted[THETA]).unsqueeze(-1)
        post = (gradient + inner_lr * before.curvature() @ gradient).squeeze(-1)
        if settings.formulation == "one":
            alignment = (scores @ gradient).squeeze(-1)
            credit = inner_lr * ((before.advantages * alignment).unsqueeze(-1) * scores).mean(1)
        else:
            value = after.returns.mean(1)
            worth = value - mean_of_others(value) if settings.baseline else value
            credit = scores.sum(1) * worth.unsqueeze(-1) * (inner_lr if settings.scale_credit else 1.0)
        return post * inner_lr if settings.scale_post else post, credit

    def meta_update(self, state: State, data: MetaBatch, iteration: int) -> tuple[State, Metrics]:
        """One step of gradient ascent.

        Metrics: the parameters after it, the lengths of both terms' means over tasks, and the spread of their sum over
        tasks, √(trace of the covariance).
        """
        post, credit = self.terms(state.params[THETA], data)
        total = post + credit
        theta = state.params[THETA] + self.settings.outer_lr * total.mean(0)
        metrics = {
            "theta_0": float(theta[0]),
            "theta_1": float(theta[1]),
            "post_term_norm": float(post.mean(0).norm()),
            "credit_norm": float(credit.mean(0).norm()),
            "gradient_std": float(total.var(0, correction=0).sum().sqrt()),
        }
        return State({THETA: theta}, state.optimiser, state.slots), metrics

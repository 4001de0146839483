"""Outer updates: what is done with the gradient of the meta-parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from algorithms.fisher import PostUpdateGeometry
from algorithms.meta_gradients import MetaGradient
from algorithms.networks import Params
from algorithms.optimisers import Adam
from algorithms.samples import Samples, per_task
from algorithms.settings import AdamSettings, TrustRegionMethodSettings
from algorithms.surrogates import likelihood_ratio, weighted_mean
from algorithms.trust_region import trust_region_step
from harness.api import MetaBatch, Metrics, State

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner


class AdamUpdate:
    """One Adam step on the meta-gradient averaged over tasks."""

    def __init__(self, settings: AdamSettings, meta_gradient: MetaGradient) -> None:
        self.meta_gradient = meta_gradient
        self._adam = Adam(settings)

    def init(self, params: Params) -> Params:
        """Zero moments."""
        return self._adam.init(params)

    def step(self, learner: MetaLearner, state: State, data: MetaBatch) -> tuple[Params, Params, Metrics]:
        """See :class:`algorithms.meta_learner.OuterUpdate`."""
        gradients = self.meta_gradient(learner, state.params, data)
        annealing = self._adam.annealing(int(state.optimiser["count"]))
        params, optimiser = self._adam.step(state.params, gradients, state.optimiser)
        return params, optimiser, _norms(gradients) | {"outer_annealing": annealing}


class TrustRegionUpdate:
    """TRPO on the adapted policies (Finn et al. 2017, section 5.3; recipe of Schulman et al. 2015, appendix C).

        minimise    L(θ) = -mean_i mean_t (π_{θ_i'}(a|s) / π_{old, i}(a|s)) A,   θ_i' = adaptation of θ on task i
        subject to  mean_i mean_t KL(π_{old, i} ‖ π_{θ_i'}) ≤ δ

    ``through_adaptation``: whether gradient and Fisher metric pass through the adaptation (MAML), or take it for a
    constant shift (FOMAML). Every trial of the line search adapts anew, on the recorded pre-update samples.
    """

    def __init__(self, settings: TrustRegionMethodSettings, through_adaptation: bool) -> None:
        self._settings = settings
        self._through_adaptation = through_adaptation

    def init(self, params: Params) -> Params:
        """Nothing is remembered from update to update."""
        return {}

    def step(self, learner: MetaLearner, state: State, data: MetaBatch) -> tuple[Params, Params, Metrics]:
        """See :class:`algorithms.meta_learner.OuterUpdate`."""
        geometry = PostUpdateGeometry(learner, state.params, data, self._through_adaptation)
        gradient = geometry.gradient()

        def trial(params: Params) -> tuple[float, float]:
            return self._loss_and_kl(learner, params, data)

        params, report = trust_region_step(state.params, gradient, geometry.fisher_product, trial, self._settings)
        metrics = {
            "kl": report.kl,
            "surrogate_before": report.loss_before,
            "surrogate_after": report.loss,
            "step_accepted": float(report.accepted),
            "backtracks": float(report.backtracks),
        }
        return params, {}, _norms(gradient) | metrics

    @torch.no_grad()
    def _loss_and_kl(self, learner: MetaLearner, params: Params, data: MetaBatch) -> tuple[float, float]:
        samples: Samples = data.post_update
        tasks = samples.weights.shape[0]
        with torch.enable_grad():
            adapted = learner.adapt_through(params, data.pre_update)
        dims = {name: tensor.dim() for name, tensor in params.items()}
        new = learner.policy.distribution(per_task(adapted, tasks, dims), samples.observations)
        old = learner.policy.distribution(per_task(data.adapted, tasks, dims), samples.observations)
        loss = likelihood_ratio(learner.policy, old, new, samples).mean()
        visits = learner.policy.places(samples.observations, samples.weights)
        return float(loss), float(weighted_mean(learner.policy.kl(old, new), visits).mean())


def _norms(gradients: Params) -> Metrics:
    """Length of the meta-gradient, for actor and critic apart."""
    norms = Metrics()
    for part in ("actor", "critic"):
        mine: list[Tensor] = [gradient for name, gradient in gradients.items() if name.startswith(f"{part}/")]
        if mine:
            norms[f"meta_gradient_norm_{part}"] = math.sqrt(sum(float(g.double().square().sum()) for g in mine))
    return norms

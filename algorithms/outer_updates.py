"""Outer updates: what is done with the gradient of the meta-parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from algorithms.fisher import PostUpdateGeometry
from algorithms.meta_gradients import MetaGradient, mean_over_tasks, second_order_by_task
from algorithms.networks import Params
from algorithms.optimisers import Adam, Sgd
from algorithms.pre_update import BoundTerm
from algorithms.samples import Samples, per_task
from algorithms.settings import AdamSettings, TrustRegionSettings
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
        return params, optimiser, gradient_norms(gradients) | {"outer_annealing": annealing}


class SeveralSteps:
    """Steps down the gradient through the adaptation, all on the same data.

    The outer objective is the learner's: its outer surrogate, and what stands beside it. With one step and the score
    function it is vanilla policy gradient; with several and the clipped likelihood ratio, PPO.
    """

    def __init__(self, optimiser: Adam | Sgd, steps: int) -> None:
        self._optimiser = optimiser
        self._steps = steps

    def init(self, params: Params) -> Params:
        """The optimiser's memory; the learner adds that of its objective."""
        return self._optimiser.init(params)

    def step(self, learner: MetaLearner, state: State, data: MetaBatch) -> tuple[Params, Params, Metrics]:
        """See :class:`algorithms.meta_learner.OuterUpdate`."""
        term, params, memory = bound_term(learner, state, data), state.params, state.optimiser
        metrics = Metrics()
        for step in range(self._steps):
            by_task = second_order_by_task(learner, params, data, term)
            gradients = mean_over_tasks(by_task)
            if step == 0:
                metrics |= gradient_norms(gradients) | _spread(by_task, gradients)
            params, memory = self._optimiser.step(params, gradients, memory)
        memory, moved = _after(learner, state, params, memory, data)
        return params, memory, metrics | moved


def bound_term(learner: MetaLearner, state: State, data: MetaBatch) -> BoundTerm | None:
    """What the learner's objective has beside the post-update loss, for this data."""
    beside = learner.objectives.beside
    return None if beside is None else beside.bind(learner, state.params, state.optimiser, data)


def _after(
    learner: MetaLearner, state: State, params: Params, memory: Params, data: MetaBatch
) -> tuple[Params, Metrics]:
    """The optimiser's memory with that of the objective, and what the latter has to show."""
    beside = learner.objectives.beside
    if beside is None:
        return memory, {}
    kept, metrics = beside.after(learner, state.params, params, state.optimiser, data)
    return memory | {name: kept[name] for name in beside.init(learner.adaptation_rounds)}, metrics


class TrustRegionUpdate:
    """TRPO on the adapted policies (Finn et al. 2017, section 5.3; recipe of Schulman et al. 2015, appendix C).

        minimise    L(θ) = -mean_i mean_t (π_{θ_i'}(a|s) / π_{old, i}(a|s)) A,   θ_i' = adaptation of θ on task i
        subject to  mean_i mean_t KL(π_{old, i} ‖ π_{θ_i'}) ≤ δ

    ``through_adaptation``: whether gradient and Fisher metric pass through the adaptation (MAML), or take it for a
    constant shift (FOMAML). Every trial of the line search adapts anew, on the recorded pre-update samples. What the
    learner's objective has beside the post-update loss is part of L; the constraint stays as it is.
    """

    def __init__(self, settings: TrustRegionSettings, through_adaptation: bool) -> None:
        self._settings = settings
        self._through_adaptation = through_adaptation

    def init(self, params: Params) -> Params:
        """Nothing is remembered from update to update."""
        return {}

    def step(self, learner: MetaLearner, state: State, data: MetaBatch) -> tuple[Params, Params, Metrics]:
        """See :class:`algorithms.meta_learner.OuterUpdate`."""
        term = bound_term(learner, state, data)
        geometry = PostUpdateGeometry(learner, state.params, data, self._through_adaptation, term)
        gradient = geometry.gradient()

        def trial(params: Params) -> tuple[float, float]:
            return self._loss_and_kl(learner, params, data, term)

        params, report = trust_region_step(state.params, gradient, geometry.fisher_product, trial, self._settings)
        metrics = {
            "kl": report.kl,
            "surrogate_before": report.loss_before,
            "surrogate_after": report.loss,
            "step_accepted": float(report.accepted),
            "backtracks": float(report.backtracks),
        }
        memory, moved = _after(learner, state, params, {}, data)
        return params, memory, gradient_norms(gradient) | metrics | moved

    @torch.no_grad()
    def _loss_and_kl(
        self, learner: MetaLearner, params: Params, data: MetaBatch, term: BoundTerm | None
    ) -> tuple[float, float]:
        samples: Samples = data.post_update
        tasks, policy = samples.weights.shape[0], learner.policy
        with torch.enable_grad():
            path = learner.path(params, data.pre_update, tasks)
        dims = {name: tensor.dim() for name, tensor in params.items()}
        new = policy.distribution(path[-1], samples.observations)
        old = policy.distribution(per_task(data.adapted, tasks, dims), samples.observations)
        densities = [policy.log_density(one, samples.observations, samples.actions) for one in (new, old)]
        loss = likelihood_ratio(densities[0], samples._replace(old_log_prob=densities[1]))
        if term is not None:
            beside = [term(at, j, slice(0, tasks)) for j, at in enumerate(path[:-1])]
            loss = sum((own for own in beside if own is not None), start=loss)
        visits = policy.places(samples.observations, samples.weights)
        return float(loss.mean()), float(weighted_mean(policy.kl(old, new), visits).mean())


def gradient_norms(gradients: Params) -> Metrics:
    """Length of the meta-gradient, for actor and critic apart."""
    norms = Metrics()
    for part in ("actor", "critic"):
        mine: list[Tensor] = [gradient for name, gradient in gradients.items() if name.startswith(f"{part}/")]
        if mine:
            norms[f"meta_gradient_norm_{part}"] = math.sqrt(sum(float(g.double().square().sum()) for g in mine))
    return norms


def _spread(by_task: Params, mean: Params) -> Metrics:
    """How far the meta-gradient of a batch of tasks is from certain, judged by how its tasks differ.

        meta_gradient_relative_sd              √(Σ_j v_j) / ‖ḡ‖
        meta_gradient_relative_sd_coordinates  mean_j (√v_j / (|ḡ_j| + 1e-8))

    ḡ_j: coordinate j of the mean over n tasks; v_j: variance over tasks, divided by n, the variance of that mean when
    the next batch draws its tasks anew. The second is the statistic of the released code of Rothfuss et al. 2019, which
    takes it over ten batches instead, nine of them of the same tasks.
    """
    tasks = next(iter(by_task.values())).shape[0]
    if tasks < 2:
        return {}
    rows = torch.cat([tensor.flatten(1) for tensor in by_task.values()], dim=1).double()
    centre = torch.cat([tensor.flatten() for tensor in mean.values()]).double()
    variance = rows.var(0) / tasks
    of_norm = variance.sum().sqrt() / torch.linalg.vector_norm(centre).clamp(min=1e-30)
    of_coordinates = (variance.sqrt() / (centre.abs() + 1e-8)).mean()
    return {
        "meta_gradient_relative_sd": float(of_norm),
        "meta_gradient_relative_sd_coordinates": float(of_coordinates),
    }

"""What an outer objective has beside the post-update loss: a term in each pre-update policy, Σ_j f_j(θ_j).

θ_0 = θ are the meta-parameters, θ_j those after j rounds of adaptation; round j's samples were drawn with θ_j.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from algorithms.networks import Params
from algorithms.settings import CreditName
from algorithms.surrogates import weighted_mean
from harness.api import MetaBatch, Metrics

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner

BoundTerm = Callable[[Params, int, slice], Tensor | None]
"""(θ_j [tasks of the block, ...], round j, block of tasks) -> f_j [tasks of the block], differentiable in θ_j; None
where this round has no term."""


class PreUpdateTerm(Protocol):
    """A term, and what it remembers from one meta-iteration to the next.

    ``stepwise``: of the samples it needs means over steps only, so that equal steps may be put together.
    """

    @property
    def stepwise(self) -> bool: ...

    def init(self, rounds: int) -> Params:
        """Its memory before the first meta-iteration."""

    def bind(self, learner: MetaLearner, params: Params, memory: Params, data: MetaBatch) -> BoundTerm:
        """The term for the data of one meta-iteration, sampled with ``params``."""

    def after(
        self, learner: MetaLearner, old: Params, new: Params, memory: Params, data: MetaBatch
    ) -> tuple[Params, Metrics]:
        """(memory for the next meta-iteration, what to plot), once ``old`` has become ``new``."""


class PreUpdateCredit:
    """Credit to the policies that explored: formulation II, or E-MAML (Stadie et al. 2018; Al-Shedivat et al. 2018).

        derived   f_j = -Σ_nt log π_{θ_j}(a_t|s_t) r̄'            what ∇E[R'] over the samples of round j leaves,
                                                                 Rothfuss et al. 2019, eq. 35 (appendix A.3)
        paper     f_j = -(α / H) Σ_nt log π_{θ_j}(a_t|s_t) r̄'    their eq. 3 and 37, with a factor α that 35 has not
        released  f_0 = -mean_nt log π_θ(a_t|s_t) mean_t ((r'_t - m) / (s + ε)), f_j = 0 for later rounds;
                  m, s: mean and SD of the post-update rewards of all tasks

    r̄': mean post-update reward per step of the task, as it was paid. Like the other losses, which are means over time,
    all is in units of reward per step; where those standardise their advantages, a credit weighs the more, the larger
    the rewards are. The α of the equations, whose sums run over the H steps of an episode, is ``inner_lr`` / H.
    The equations have one adaptation step; with several, the policy of every round is credited in the same way.
    """

    def __init__(self, form: CreditName, inner_lr: float, horizon: int) -> None:
        self._form = form
        self._scale = {"derived": 1.0, "paper": inner_lr / horizon, "released": 1.0}[form]
        self.stepwise = form != "released"  # which asks for the spread of single rewards

    def init(self, rounds: int) -> Params:
        """Nothing is remembered."""
        return {}

    def bind(self, learner: MetaLearner, params: Params, memory: Params, data: MetaBatch) -> BoundTerm:
        """See :class:`PreUpdateTerm`."""
        earned = self._earned(data)

        def term(adapted: Params, index: int, block: slice) -> Tensor | None:
            if self._form == "released" and index > 0:
                return None
            samples = data.pre_update[index].slice_tasks(block)
            log_prob = learner.log_prob(adapted, samples)
            total = (log_prob * samples.weights).sum(-1)
            if self._form == "released":
                total = total / samples.weights.sum(-1)
            return -self._scale * total * earned[block]

        return term

    def _earned(self, data: MetaBatch) -> Tensor:
        """What every task's pre-update policy is credited with, [tasks]."""
        samples = data.post_update
        rewards, weights = samples.rewards, samples.weights
        if self._form != "released":
            return weighted_mean(rewards, weights)
        # In float64: in float32 the rounding of equal rewards is as large as ε, and would pass for a difference.
        rewards, counts = rewards.double(), weights.double()
        mean = (rewards * counts).sum() / counts.sum()
        deviation = ((rewards - mean).square() * counts).sum().div(counts.sum()).sqrt()
        return weighted_mean((rewards - mean) / (deviation + 1e-8), counts).to(weights.dtype)

    def after(
        self, learner: MetaLearner, old: Params, new: Params, memory: Params, data: MetaBatch
    ) -> tuple[Params, Metrics]:
        """Nothing to remember."""
        return memory, {}


class ProximityPenalty:
    """Keeps the pre-update policies near those that sampled (Rothfuss et al. 2019, eq. 13; the released code).

        f_j = (η_j / k) mean_t KL(π_old_j ‖ π_{θ_j})      for rounds j = 0 ... k - 1

    With a ``target`` d, after every meta-iteration η_j halves if KL_j < d / 1.5 and doubles if KL_j > 1.5 d.
    """

    stepwise = True

    def __init__(self, coefficient: float, target: float | None) -> None:
        self._coefficient = coefficient
        self._target = target

    def init(self, rounds: int) -> Params:
        """η for every round."""
        return {"kl_coefficient": torch.full((rounds,), self._coefficient, dtype=torch.float64)}

    def bind(self, learner: MetaLearner, params: Params, memory: Params, data: MetaBatch) -> BoundTerm:
        """See :class:`PreUpdateTerm`."""
        divergence = self._divergence(learner, params, data)
        coefficients = (memory["kl_coefficient"] / max(1, len(data.pre_update))).tolist()

        def term(adapted: Params, index: int, block: slice) -> Tensor:
            return coefficients[index] * divergence(adapted, index, block)

        return term

    def _divergence(
        self, learner: MetaLearner, params: Params, data: MetaBatch
    ) -> Callable[[Params, int, slice], Tensor]:
        policy = learner.policy
        path = learner.path(params, data.pre_update[:-1], data.post_update.weights.shape[0])
        with torch.no_grad():
            old = [policy.distribution(at, s.observations) for at, s in zip(path, data.pre_update, strict=False)]

        def divergence(adapted: Params, index: int, block: slice) -> Tensor:
            samples = data.pre_update[index].slice_tasks(block)
            now = policy.distribution(adapted, samples.observations)
            visits = policy.places(samples.observations, samples.weights)
            return weighted_mean(policy.kl(tuple(part[block] for part in old[index]), now), visits)

        return divergence

    def after(
        self, learner: MetaLearner, old: Params, new: Params, memory: Params, data: MetaBatch
    ) -> tuple[Params, Metrics]:
        """Adapt η to how far every round's policy has moved."""
        divergence = self._divergence(learner, old, data)
        tasks = data.post_update.weights.shape[0]
        path, everything = learner.path(new, data.pre_update[:-1], tasks), slice(0, tasks)
        with torch.no_grad():
            moved = [float(divergence(path[j], j, everything).mean()) for j in range(len(data.pre_update))]
        coefficients = memory["kl_coefficient"].tolist()
        metrics = {"kl_pre_update": sum(moved) / max(1, len(moved))}
        if self._target is not None:
            coefficients = [self._adapted(eta, kl, self._target) for eta, kl in zip(coefficients, moved, strict=True)]
            metrics["kl_coefficient"] = sum(coefficients) / max(1, len(coefficients))
        return {"kl_coefficient": torch.tensor(coefficients, dtype=torch.float64)}, metrics

    @staticmethod
    def _adapted(coefficient: float, moved: float, target: float) -> float:
        if moved < target / 1.5:
            return coefficient / 2.0
        return coefficient * 2.0 if moved > target * 1.5 else coefficient

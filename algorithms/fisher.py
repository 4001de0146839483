"""Derivatives of the adapted policies with respect to the meta-parameters, as products with vectors.

The adaptation is a chain of gradient steps, each with the symmetric Jacobian I - α H; the distribution after it has a
Jacobian J. Both are applied by automatic differentiation; no matrix is ever formed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import torch

from algorithms.meta_gradients import leaves_of, mean_over_tasks, repeat
from algorithms.networks import Params
from algorithms.optimisers import gradient_step, rate_of
from algorithms.policies import Distribution
from algorithms.pre_update import BoundTerm
from algorithms.samples import Samples, blocks
from algorithms.surrogates import score_function
from harness.api import MetaBatch

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner


class _Step(NamedTuple):
    """Where an inner step began, and the gradient that it followed, with its graph."""

    leaves: Params
    gradients: Params


class PostUpdateGeometry:
    """Gradient and Fisher metric of the post-update policies at one point θ.

        g   = mean_i C_i' ∇L_i(θ_i'),            C_i = ∂θ_i'/∂θ = ∏_j (I - α H_ij)
        F v = mean_i C_i' J_i' M_i J_i C_i v     (Gauss-Newton form of ∇² mean_i KL_i, exact at θ)

    J_i: Jacobian of the distribution; M_i: its Fisher metric at the post-update samples, weighted like them.
    Without ``through_adaptation``, C_i = I. Tasks are held in blocks; the graphs of all of them stay for the products.
    """

    def __init__(
        self,
        learner: MetaLearner,
        params: Params,
        data: MetaBatch,
        through_adaptation: bool,
        term: BoundTerm | None = None,
    ) -> None:
        if term is not None and not through_adaptation:
            raise ValueError("a term in the pre-update policies needs the gradient through the adaptation")
        self._blocks = [
            _Block(learner, params, data, block, through_adaptation, term)
            for block in blocks(*data.post_update.weights.shape)
        ]

    def gradient(self) -> Params:
        """g of the likelihood-ratio loss, whose gradient at θ is the score function's, and of the term beside it."""
        return self._mean([block.gradient() for block in self._blocks])

    def fisher_product(self, vector: Params) -> Params:
        """F v; ``vector`` like the meta-parameters."""
        return self._mean([block.fisher_product(vector) for block in self._blocks])

    def _mean(self, parts: list[Params]) -> Params:
        return mean_over_tasks({name: torch.cat([part[name] for part in parts]) for name in parts[0]})


class _Block:
    """The same for some of the tasks, before the mean over tasks; gradients and products are [tasks, ...]."""

    def __init__(
        self,
        learner: MetaLearner,
        params: Params,
        data: MetaBatch,
        block: slice,
        through_adaptation: bool,
        term: BoundTerm | None,
    ) -> None:
        self._learner, self._block, self._term = learner, block, term
        self._rates = learner.settings.inner_rates
        self._steps: list[_Step] = []
        current = repeat(params, block)
        if through_adaptation:
            for samples in data.pre_update:
                for _ in range(learner.steps_per_round):
                    current = self._adaptation_step(current, samples.slice_tasks(block))
        elif data.pre_update:
            current = {name: tensor[block] for name, tensor in data.adapted.items()}
        self._leaves = leaves_of(current)
        self._samples: Samples = data.post_update.slice_tasks(block)
        self._hidden = learner.policy.hidden(self._leaves, self._samples.observations)
        self._distribution = learner.policy.distribution(self._leaves, self._samples.observations)
        visits = learner.policy.places(self._samples.observations, self._samples.weights)
        self._share = (visits / visits.sum(-1, keepdim=True)).unsqueeze(-1)

    def _adaptation_step(self, params: Params, samples: Samples) -> Params:
        leaves = leaves_of(params)
        loss = self._learner.inner_loss(leaves, samples).sum()
        gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()), create_graph=True), strict=True))
        self._steps.append(_Step(leaves, gradients))
        with torch.no_grad():
            return gradient_step(leaves, gradients, *self._rates)

    def gradient(self) -> Params:
        loss = score_function(self._learner.log_prob(self._leaves, self._samples), self._samples).sum()
        vector, per_round = _grad((loss,), self._leaves, None), max(1, self._learner.steps_per_round)
        for index in range(len(self._steps) // per_round - 1, -1, -1):
            steps = self._steps[index * per_round : (index + 1) * per_round]
            vector = self._through_steps(vector, reversed(steps))
            start = steps[0].leaves
            if self._term is not None and (own := self._term(start, index, self._block)) is not None:
                beside = _grad((own.sum(),), start, None)
                vector = {name: tensor + beside[name] for name, tensor in vector.items()}
        return vector

    def fisher_product(self, vector: Params) -> Params:
        tangent = self._through_steps(repeat(vector, self._block), self._steps)
        policy = self._learner.policy
        with torch.no_grad():
            moved = policy.tangent(self._leaves, self._hidden, self._distribution, tangent)
            weighed = policy.fisher(self._distribution, moved, self._share)
        pulled = _grad(self._distribution, self._leaves, weighed)
        return self._through_steps(pulled, reversed(self._steps))

    def _through_steps(self, vector: Params, steps: Iterable[_Step]) -> Params:
        """∏ (I - α H) v; the Jacobian of a gradient step is symmetric, so that only the order tells C from C'."""
        for step in steps:
            curved = _grad(tuple(step.gradients.values()), step.leaves, tuple(vector.values()))
            vector = {name: vector[name] - rate_of(name, *self._rates) * curved[name] for name in vector}
        return vector


def _grad(outputs: Distribution, leaves: Params, cotangents: Distribution | None) -> Params:
    found = torch.autograd.grad(
        outputs,
        list(leaves.values()),
        cotangents,
        retain_graph=True,
        materialize_grads=True,
    )
    return dict(zip(leaves, found, strict=True))

"""How the loss after adaptation becomes a gradient of the meta-parameters.

All have one signature, ``(learner, params, data) -> gradients``, with ``params`` [...] and gradients [...]
averaged over tasks. Tasks are worked on in small blocks: memory stays flat in the number of tasks, and a block fits
the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from algorithms.networks import Params
from algorithms.optimisers import rate_of
from algorithms.pre_update import BoundTerm
from algorithms.samples import Samples, blocks
from harness.api import MetaBatch


class Adapting(Protocol):
    """What a meta-gradient needs of a learner."""

    @property
    def settings(self) -> Any: ...

    def inner_loss(self, params: Params, samples: Samples) -> Tensor: ...

    def outer_loss(self, params: Params, samples: Samples) -> Tensor: ...

    def adaptation(self, params: Params, samples: Samples) -> Params: ...

    def adapt(self, params: Params, samples: Samples) -> Params: ...


MetaGradient = Callable[[Adapting, Params, MetaBatch], Params]


def second_order(learner: Adapting, params: Params, data: MetaBatch) -> Params:
    """Gradient through the adaptation.

        ∇_θ L(θ_k) = ∏_{i=0}^{k-1} (I - α ∇²L_i(θ_i)) ∇L(θ_k),   θ_{i+1} = θ_i - α ∇L_i(θ_i)
        (Finn et al. 2017, eq. 1; the replication report, eq. 2.3)

    What the Hessians contain is decided by the inner surrogate: the score function gives H2 only.
    """
    return mean_over_tasks(second_order_by_task(learner, params, data))


def second_order_by_task(learner: Adapting, params: Params, data: MetaBatch, term: BoundTerm | None = None) -> Params:
    """The gradients that :func:`second_order` averages, [tasks, ...].

    ``term``: what the objective has beside the post-update loss, Σ_j f_j(θ_j) over the rounds j of adaptation; see
    :mod:`algorithms.pre_update`.
    """

    def of_block(block: slice) -> Params:
        leaves = adapted = leaves_of(repeat(params, block))
        beside = []
        for index, samples in enumerate(data.pre_update):
            if term is not None and (own := term(adapted, index, block)) is not None:
                beside.append(own)
            adapted = learner.adaptation(adapted, samples.slice_tasks(block))
        losses = learner.outer_loss(adapted, data.post_update.slice_tasks(block))
        return _gradients(sum(beside, start=losses), leaves)

    return _by_blocks(of_block, data.post_update)


def first_order(learner: Adapting, params: Params, data: MetaBatch) -> Params:
    """Gradient at the adapted parameters, taken as if they were the meta-parameters.

    ∇_θ L(θ_k) ≈ ∇_{θ_k} L(θ_k)          (Finn et al. 2017, section 5.2; the replication report, eq. 2.4)
    """

    return mean_over_tasks(first_order_by_task(learner, params, data))


def first_order_by_task(learner: Adapting, params: Params, data: MetaBatch) -> Params:
    """The gradients that :func:`first_order` averages, [tasks, ...]."""
    return task_gradients(learner.outer_loss, data.adapted, data.post_update)


def elementwise(learner: Adapting, params: Params, data: MetaBatch) -> Params:
    """What the replication report's released code computes in place of a second derivative.

        g_1 ⊙ (1 - α g_0),   g_0 = ∇L_0(θ), g_1 = ∇L(θ_1)

    The code differentiates the inner *loss* a second time, not its gradient, and multiplies element by element. Defined
    for one adaptation step.
    """
    settings, samples = learner.settings, data.pre_update[0]
    everywhere = repeat(params, slice(0, samples.weights.shape[0]))
    before = task_gradients(learner.inner_loss, everywhere, samples)
    after = task_gradients(learner.outer_loss, data.adapted, data.post_update)
    rate = {name: rate_of(name, *settings.inner_rates) for name in params}
    return mean_over_tasks({name: after[name] * (1.0 - rate[name] * before[name]) for name in params})


def towards_adapted(learner: Adapting, params: Params, data: MetaBatch) -> Params:
    """The way from the adapted parameters back: descending it moves towards them.

    g = θ - mean_i θ_i^(k)          (Deleu et al. 2018, algorithm 2)
    """
    return {name: tensor - data.adapted[name].mean(0) for name, tensor in params.items()}


def task_gradients(loss: Callable[[Params, Samples], Tensor], params: Params, samples: Samples) -> Params:
    """Gradient of every task's own loss in its own parameters, without a graph; params and result [tasks, ...]."""

    def of_block(block: slice) -> Params:
        leaves = leaves_of({name: tensor[block] for name, tensor in params.items()})
        return _gradients(loss(leaves, samples.slice_tasks(block)), leaves)

    return _by_blocks(of_block, samples)


def repeat(params: Params, block: slice) -> Params:
    """Shared parameters once per task of a block, [tasks, ...], without a copy."""
    return {name: tensor.expand(block.stop - block.start, *tensor.shape) for name, tensor in params.items()}


def leaves_of(params: Params) -> Params:
    """Copies that gradients are taken with respect to."""
    return {name: tensor.detach().clone().requires_grad_() for name, tensor in params.items()}


def _gradients(losses: Tensor, leaves: Params) -> Params:
    # The sum keeps tasks apart: a task's loss depends on its own parameters only.
    return dict(zip(leaves, torch.autograd.grad(losses.sum(), list(leaves.values())), strict=True))


def _by_blocks(of_block: Callable[[slice], Params], samples: Samples) -> Params:
    per_block = [of_block(block) for block in blocks(*samples.weights.shape)]
    return {name: torch.cat([gradients[name] for gradients in per_block]) for name in per_block[0]}


def mean_over_tasks(gradients: Params) -> Params:
    """[tasks, ...] -> [...]."""
    return {name: tensor.mean(0) for name, tensor in gradients.items()}

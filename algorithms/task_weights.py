"""How the meta-gradients of the tasks of a batch are put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from algorithms.meta_gradients import Adapting, MetaGradient, first_order_by_task, mean_over_tasks, second_order_by_task
from algorithms.networks import Params
from algorithms.settings import MetaGradientName
from harness.api import MetaBatch

TaskWeights = Literal["equal", "agreement"]


def agreement_over_tasks(gradients: Params) -> Params:
    """Gradient agreement: a task counts for as much as its gradient points where all of them point.

        g = Σ_i w_i g_i,   w_i = Σ_j g_i·g_j / Σ_k |Σ_j g_k·g_j|      (Eshratifar et al. 2018)

    Over the parameters of actor and critic apart, whose gradients differ in scale. Equal gradients have w_i = 1/n,
    their mean; a task against the rest has a negative weight. Where the gradients cancel, as two opposite ones do, all
    numerators are 0, and g is.
    Differs from the paper: its g_i are the ways θ - θ_i of the adaptation; here they are the meta-gradients, of first
    or of second order, that the weights are applied to.

    Shapes: [tasks, ...] -> [...].
    """
    weights = {
        part: _weights([g for name, g in gradients.items() if _part(name) == part]) for part in _parts(gradients)
    }
    return {name: torch.tensordot(weights[_part(name)].to(g.dtype), g, dims=1) for name, g in gradients.items()}


def _weights(gradients: list[torch.Tensor]) -> torch.Tensor:
    """w [tasks] of the gradients of one network, in float64."""
    rows = torch.cat([gradient.flatten(1) for gradient in gradients], dim=1).double()
    agreement = rows @ rows.sum(0)
    total = agreement.abs().sum()
    return agreement / total if float(total) > 0.0 else torch.zeros_like(agreement)


def _part(name: str) -> str:
    return name.partition("/")[0]


def _parts(gradients: Params) -> set[str]:
    return {_part(name) for name in gradients}


def weighted(order: MetaGradientName, weights: TaskWeights) -> MetaGradient:
    """The meta-gradient of an order, with equal weights bit for bit that of :mod:`algorithms.meta_gradients`."""
    by_task = {"first_order": first_order_by_task, "second_order": second_order_by_task}[order]
    reduce: Callable[[Params], Params] = {"equal": mean_over_tasks, "agreement": agreement_over_tasks}[weights]

    def meta_gradient(learner: Adapting, params: Params, data: MetaBatch) -> Params:
        return reduce(by_task(learner, params, data))

    return meta_gradient

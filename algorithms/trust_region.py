"""Trust-region steps: conjugate gradient and line search over a loss, a divergence and a metric that are given.

Knows nothing of policies, tasks or adaptation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from algorithms.networks import Params
from algorithms.settings import TrustRegionSettings

RESIDUAL = 1e-10
"""Conjugate gradient stops after an iteration that leaves a squared residual below this."""


class StepReport(NamedTuple):
    """How a step went: ``kl`` and ``loss`` are those of the parameters that were returned."""

    accepted: bool
    backtracks: int
    loss_before: float
    loss: float
    kl: float


def trust_region_step(
    params: Params,
    gradient: Params,
    metric_product: Callable[[Params], Params],
    trial: Callable[[Params], tuple[float, float]],
    settings: TrustRegionSettings,
) -> tuple[Params, StepReport]:
    """One TRPO step down a loss (Schulman et al. 2015, appendix C).

        x ≈ (F + c I)⁻¹ g by conjugate gradient,   step = √(2 δ / x'(F + c I) x) x
        θ ← θ - f^j step for the first j = 0, 1, ... with a smaller loss and KL ≤ δ; if none, θ stays

    ``metric_product``: v -> F v. ``trial``: θ -> (loss, KL from where the step began). Where the gradient is zero or
    the arithmetic breaks down, no step is made.
    """
    loss_before, _ = trial(params)
    unmoved = StepReport(False, 0, loss_before, loss_before, 0.0)

    def product(vector: Tensor) -> Tensor:
        return flatten(metric_product(unflatten(vector, params))) + settings.cg_damping * vector

    g = flatten(gradient)
    direction, residual = conjugate_gradient(product, g, settings.cg_iterations)
    curvature = float(direction @ (g - residual))  # x'A x, without another product
    if not (curvature > 0.0 and math.isfinite(curvature)):
        return params, unmoved
    start, step = flatten(params), math.sqrt(2.0 * settings.max_kl / curvature) * direction
    for backtracks in range(settings.line_search_steps):
        candidate = unflatten(start - settings.line_search_factor**backtracks * step, params)
        loss, kl = trial(candidate)
        if loss < loss_before and kl <= settings.max_kl:
            return candidate, StepReport(True, backtracks, loss_before, loss, kl)
    return params, unmoved._replace(backtracks=settings.line_search_steps)


def conjugate_gradient(product: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """An approximate solution x of A x = b for a positive definite A, from x = 0, and b - A x.

    (Hestenes & Stiefel 1952, section 3.) At least one iteration is made, however small b is, as in the released codes:
    the step's length is set by the trust region, so that a small gradient is no reason for a small step.

    Shapes: b, x and the residual [n]; ``product``: [n] -> [n].
    """
    x, residual, direction = torch.zeros_like(b), b.clone(), b.clone()
    squared = float(residual @ residual)
    for _ in range(iterations):
        image = product(direction)
        curvature = float(direction @ image)
        if not curvature > 0.0:  # zero right-hand side, or a matrix that is not positive definite in this arithmetic
            break
        length = squared / curvature
        x = x + length * direction
        residual = residual - length * image
        previous, squared = squared, float(residual @ residual)
        if squared < RESIDUAL:
            break
        direction = residual + (squared / previous) * direction
    return x, residual


def flatten(params: Params) -> Tensor:
    """All tensors as one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in params.values()])


def unflatten(vector: Tensor, like: Params) -> Params:
    """A vector as tensors of the names and shapes of ``like``."""
    parts = vector.split([tensor.numel() for tensor in like.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(like.items(), parts, strict=True)}

"""The exact side of the audit: policies at named stages of training, and the exact meta-gradient at each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from harness.api import Params, Suite, Tasks
from harness.audit_file import StageEntry

Objective = Callable[[Tensor], Tensor]
"""params [B, D] -> values [B], every row by itself; differentiable."""

MOST_STEPS = 1000
SETTLED = 1e-9
"""An ascent ends where 50 steps gain less than this, relative to all that it has gained; or after the most steps."""


class CurvatureTerms(Protocol):
    """What a Hessian consists of."""

    def hessian(self) -> Tensor:
        """∇²J, [mdps, D, D]."""

    def cross(self) -> Tensor:
        """H12 + H12ᵀ, [mdps, D, D]."""


class Exact(Protocol):
    """Expected returns without sampling, sums over time; params [mdps, D], float64."""

    def expected_return(self, params: Tensor) -> Tensor:
        """J(θ), [mdps]; differentiable."""

    def gradient(self, params: Tensor) -> Tensor:
        """∇J(θ), [mdps, D]."""

    def curvature(self, params: Tensor) -> CurvatureTerms:
        """The Hessian in its parts."""

    def adapted(self, params: Tensor, inner_lr: float) -> Tensor:
        """θ' = θ + α ∇J(θ), [mdps, D]."""

    def adapted_return(self, params: Tensor, inner_lr: float) -> Tensor:
        """J(θ'), [mdps]; differentiable."""

    def meta_gradient(self, params: Tensor, inner_lr: float) -> Tensor:
        """∇_θ J(θ'), [mdps, D]."""


class ExactSuite(Suite, Protocol):
    """A suite whose tasks can be solved: one with tables to plan on."""

    def exact(self, tasks: Tasks, log_policy: Callable[[Tensor], Tensor]) -> Exact:
        """The exact side of these tasks, for a policy params [mdps, D] -> log π(a|s) [mdps, states, actions]."""


class Layout:
    """Parameters as one flat vector, in the order of their names' dictionary."""

    def __init__(self, template: Params) -> None:
        self._shapes = {name: tensor.shape for name, tensor in template.items()}

    def flat(self, params: Mapping[str, Tensor]) -> Tensor:
        """{name: [tasks, ...]} -> [tasks, D]."""
        return torch.cat([params[name].flatten(1) for name in self._shapes], dim=1)

    def tree(self, vectors: Tensor) -> Params:
        """[..., D] -> {name: [..., shape]}."""
        parts = vectors.split([shape.numel() for shape in self._shapes.values()], dim=-1)
        return {
            name: part.unflatten(-1, shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }


class Truth(NamedTuple):
    """What is known exactly of one stage, for every MDP, in units of reward per step: J̄ = J / horizon.

    Shapes:
        params θ, meta_gradient g = ∇J̄(θ'), outer_gradient v at θ': [mdps, D], θ' = θ + α ∇J̄(θ)
        h12_share: ‖α (H12 + H12ᵀ) v‖ / ‖g‖, [mdps]
        return_fraction: (J(θ) - J(initial)) / (J(limit of ascent) - J(initial)), [mdps]
    """

    params: Tensor
    meta_gradient: Tensor
    outer_gradient: Tensor
    h12_share: Tensor
    return_fraction: Tensor


class Truths:
    """Stages of training on a family of MDPs, found by exact gradient ascent from one initial policy.

    A stage is the point of an ascent that has come a given share of the way from the initial value to the limit. On the
    ``return`` every MDP has its own ascent, on the ``adapted_return`` of formulation I the whole family has one, on its
    mean. The limit is where this ascent ends: policies do not see the time, so the optimum over plans that
    do may be out of their reach. Parameters are rounded to float32, in which the estimators compute.
    """

    def __init__(self, exact: Exact, horizon: int, initial: Tensor, mdps: int) -> None:
        self._exact = exact
        self._horizon = horizon
        self._initial = initial.double().expand(mdps, -1)
        self._own = ascent(exact.expected_return, self._initial)
        self._family: dict[float, Path] = {}

    def at(self, stage: StageEntry, inner_lr: float) -> Truth:
        """The truth at a stage, for an inner step α in units of J̄."""
        exact, rate = self._exact, inner_lr / self._horizon
        params = self._params(stage, inner_lr).float().double()
        outer = exact.gradient(exact.adapted(params, rate)) / self._horizon
        whole = exact.meta_gradient(params, rate) / self._horizon
        missed = rate * torch.einsum("mde,me->md", exact.curvature(params).cross(), outer)
        first, last = self._own.values[0], self._own.values[-1]
        with torch.no_grad():
            reached = (exact.expected_return(params) - first) / (last - first)
        share = torch.linalg.vector_norm(missed, dim=1) / torch.linalg.vector_norm(whole, dim=1)
        return Truth(params, whole, outer, share, reached)

    def _params(self, stage: StageEntry, inner_lr: float) -> Tensor:
        if stage.objective == "return":
            return along(self._exact.expected_return, self._own, stage.progress)
        mdps, rate = self._initial.shape[0], inner_lr / self._horizon

        def mean_adapted_return(shared: Tensor) -> Tensor:
            everywhere = shared.expand(mdps, -1)
            return self._exact.adapted_return(everywhere, rate).mean().unsqueeze(0)

        if inner_lr not in self._family:
            self._family[inner_lr] = ascent(mean_adapted_return, self._initial[:1])
        return along(mean_adapted_return, self._family[inner_lr], stage.progress).expand(mdps, -1)


class Path(NamedTuple):
    """The points of an ascent, params [steps, B, D], and their values [steps, B]."""

    params: Tensor
    values: Tensor


def ascent(objective: Objective, start: Tensor) -> Path:
    """Gradient ascent from ``start`` [B, D] to its limit, every row with its own step size.

    A step is taken where it gains at least half of what the gradient promises (Armijo 1966); the next one is then half
    as large again, else half. Steps so small keep to the path that leads uphill, and do not jump to another summit.
    """
    point, rate = start, torch.ones(start.shape[0], 1, dtype=start.dtype)
    value, gradient = _with_gradient(objective, point)
    points, values = [point], [value]
    for step in range(1, MOST_STEPS + 1):
        trial = point + rate * gradient
        reached, slope = _with_gradient(objective, trial)
        promised = rate.squeeze(-1) * gradient.square().sum(-1)
        taken = (reached - value >= 0.5 * promised).unsqueeze(-1)
        point, gradient = torch.where(taken, trial, point), torch.where(taken, slope, gradient)
        value, rate = torch.where(taken.squeeze(-1), reached, value), torch.where(taken, 1.5 * rate, 0.5 * rate)
        points.append(point)
        values.append(value)
        if step > 50 and bool((value - values[-51] <= SETTLED * (value - values[0]).abs()).all()):
            break
    return Path(torch.stack(points), torch.stack(values))


def along(objective: Objective, path: Path, progress: float) -> Tensor:
    """The point [B, D] where an ascent has come ``progress`` of the way from its first value to its last.

    Between the two steps on either side it is found by bisection.
    """
    first, last = path.values[0], path.values[-1]
    wanted = first + progress * (last - first)
    after = (path.values >= wanted).double().argmax(0)
    before = (after - 1).clamp(min=0)
    row = torch.arange(len(wanted))
    low, high = path.params[before, row], path.params[after, row]
    with torch.enable_grad():  # the objective may differentiate inside
        for _ in range(60):
            middle = 0.5 * (low + high)
            above = (objective(middle).detach() >= wanted).unsqueeze(-1)
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return high


def _with_gradient(objective: Objective, params: Tensor) -> tuple[Tensor, Tensor]:
    leaves = params.detach().clone().requires_grad_()
    values = objective(leaves)
    return values.detach(), torch.autograd.grad(values.sum(), leaves)[0]

"""What the best policy gets that knows its corner: mean returns over the random start, in float64.

Returns are averaged over starts by Gauss-Legendre quadrature: the return is a smooth function of the start, but for
small kinks where one step more or less is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog, lsq_linear
from torch import Tensor

from suites.point_corners import CORNERS

Array = NDArray[np.float64]

DENSE = math.inf
"""The radius of a reward that has none: minus the distance, everywhere."""
CORNER = CORNERS[-1][0]
"""Distance of a corner from the origin along each axis."""
NODES = 2
"""Starts per dimension in the momentum dynamics: four instead change the means by less than 0.02."""
FINE_NODES = 20
"""Starts per dimension in the position dynamics."""
WINDOW = 32
"""Steps after which the optimum rests on the corner; three times as many as getting there takes."""
DIRECTIONS = 32
"""Sides of the polygon that stands for a circle."""
LATER = 1
"""Arrivals later than the first possible one that are tried: to brake in time can be worth waiting."""


def quadrature(bounds: tuple[float, ...], nodes: int) -> tuple[Array, Array]:
    """Gauss-Legendre on the box [-bound, bound] per dimension: points [points, dim] and weights that sum to 1."""
    at, weight = np.polynomial.legendre.leggauss(nodes)
    points = np.array(list(product(at, repeat=len(bounds)))) * np.array(bounds)
    return points, np.prod(list(product(weight / 2.0, repeat=len(bounds))), axis=1)


def direct_return(
    horizon: int,
    strongest: float,
    start: tuple[float, ...],
    goal: Tensor,
    reward: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> float:
    """Return of the direct walk in the position dynamics: each axis at full speed until its coordinate is exact.

    No other path has a smaller offset along any axis at any time, so this is the optimum of every reward that falls
    with the distance.
    """
    points, weights = quadrature(start, FINE_NODES)
    position = torch.as_tensor(points)
    total = torch.zeros(len(points), dtype=torch.float64)
    for _ in range(horizon):
        old, position = position, position + (goal - position).clamp(-strongest, strongest)
        total += reward(goal, old, position)
    return float(total @ torch.as_tensor(weights))


def progress_bound(horizon: int, strongest: float, start: tuple[float, ...], goal: Tensor) -> float:
    """No policy gets more than this from the progress reward of the position dynamics.

    A step changes the distance d by at most c = √2 · strongest. Of H steps n are paid, c each at most; and what they
    pay is d_0 - d_H plus what the H - n unpaid ones moved away, again c each at most:

        return ≤ max_n min(c n, d_0 + c (H - n))

    About half of all steps can be paid: walking away costs nothing inside the diamond, or beside an axis in a
    neighbour's quarter, and walking back is paid every time. (Ours; the released reward is meant to pay each piece of
    the way once, which is the return of the direct walk.)
    """
    points, weights = quadrature(start, FINE_NODES)
    most, paid = math.sqrt(2.0) * strongest, np.arange(horizon + 1)
    away = np.linalg.norm(points - goal.cpu().numpy(), axis=1, keepdims=True)
    return float(weights @ np.minimum(most * paid, away + most * (horizon - paid)).max(1))


@lru_cache
def momentum_optimum(
    horizon: int, strongest: float, start: tuple[float, ...], radius: float, squared: bool = False
) -> float:
    """The optimum in the momentum dynamics, for a reward of max(radius - d, 0), -d (``DENSE``) or -d² (``squared``).

    From a known start everything is determined, so the best policy is the best sequence of actions.
    """
    if squared:  # a sum over axes that have nothing to do with each other
        points, weights = quadrature(start[::2], NODES)
        axis = [squared_axis(horizon, strongest, offset - CORNER, velocity) for offset, velocity in points]
        return 2.0 * float(weights @ np.array(axis))
    points, weights = quadrature(start, NODES)
    values: dict[tuple[float, ...], float] = {}
    for point in points:
        mirrored = tuple(point[[1, 0, 3, 2]])  # the diagonal through the corner
        known = values.get(mirrored)
        values[tuple(point)] = best_control(horizon, strongest, point, radius)[0] if known is None else known
    return float(weights @ np.array([values[tuple(point)] for point in points]))


def squared_axis(horizon: int, strongest: float, offset: float, velocity: float) -> float:
    """Least squares with bounded actions along one axis."""
    lag, coasting = _dynamics(horizon, offset, velocity)
    return -2.0 * float(lsq_linear(lag, -coasting, (-strongest, strongest), method="bvls").cost)


def _dynamics(steps: int, offset: float, velocity: float) -> tuple[Array, Array]:
    """Offsets after steps 1 ... K are ``lag @ actions + coasting``: o_t = o_0 + t v_0 + Σ_{s ≤ t} (t - s + 1) a_s."""
    time = np.arange(1.0, steps + 1)
    return np.maximum(time[:, None] - time + 1.0, 0.0), offset + velocity * time


def best_control(horizon: int, strongest: float, point: Array, radius: float) -> tuple[float, float, Array]:
    """Best actions from a start (x, y, vx, vy): (their return, an upper bound on it, actions [2, steps]).

    Where the agent arrives at time T and stays within the radius, the return is concave in the actions: minus the sum
    of the distances from T on, a linear program once a polygon stands for the circle. Its actions are measured with
    the true distance; with the polygon's, which is never larger, they give the bound, which holds for all that arrive
    at the times tried, stay, and rest on the corner from the end of the window on.
    """
    steps = min(horizon, WINDOW)
    lag, coasting = zip(*(_dynamics(steps, point[axis] - CORNER, point[2 + axis]) for axis in (0, 1)), strict=True)
    time = np.arange(1, steps + 1)
    pull = strongest * time * (time + 1) / 2.0
    nearest = np.hypot(*(np.maximum(np.abs(axis) - pull, 0.0) for axis in coasting))
    possible = np.flatnonzero(nearest < radius)
    best = (0.0, 0.0, np.zeros((2, steps)))
    if not len(possible):
        return best
    arrivals = [0] if radius == DENSE else range(possible[0], min(possible[0] + LATER + 1, steps))
    tried = []
    for arrival in arrivals:
        actions, polygon = _closest(lag, coasting, strongest, arrival, rest=steps < horizon)
        distance = np.hypot(*(lag[axis] @ actions[axis] + coasting[axis] for axis in (0, 1)))
        if radius == DENSE:
            tried.append((-float(distance.sum()), -polygon, actions))
        else:
            hovering, paying = radius * (horizon - steps), steps - arrival
            value = float(np.maximum(radius - distance, 0.0).sum())
            tried.append((hovering + value, hovering + radius * paying - polygon, actions))
    value, _, actions = max(tried, key=lambda one: one[0])
    return value, max(bound for _, bound, _ in tried), actions


def _closest(
    lag: tuple[Array, ...], coasting: tuple[Array, ...], strongest: float, arrival: int, rest: bool
) -> tuple[Array, float]:
    """Actions [2, steps] with the least sum of distances from ``arrival`` on, and that sum as the polygon has it.

    Variables: actions along x, along y, distances d. For every side with the normal (cos φ, sin φ):

        cos φ o_x + sin φ o_y ≤ d

    With ``rest`` the last step must end on the corner and at rest.
    """
    steps = len(lag[0])
    paying = np.arange(steps) >= arrival
    angles = 2.0 * math.pi * np.arange(DIRECTIONS) / DIRECTIONS
    sides = [np.hstack([math.cos(a) * lag[0], math.sin(a) * lag[1], -np.eye(steps)])[paying] for a in angles]
    limits = [-(math.cos(a) * coasting[0] + math.sin(a) * coasting[1])[paying] for a in angles]
    equal, target = None, None
    if rest:
        equal, target = np.zeros((4, 3 * steps)), np.zeros(4)
        for axis in (0, 1):
            for row, end in ((axis, steps - 1), (2 + axis, steps - 2)):  # the same place twice: no velocity is left
                equal[row, axis * steps : (axis + 1) * steps] = lag[axis][end]
                target[row] = -coasting[axis][end]
    found = linprog(
        np.concatenate([np.zeros(2 * steps), paying.astype(float)]),
        A_ub=np.vstack(sides),
        b_ub=np.concatenate(limits),
        A_eq=equal,
        b_eq=target,
        bounds=[(-strongest, strongest)] * (2 * steps) + [(0.0, None)] * steps,
        method="highs",
    )
    return found.x[: 2 * steps].reshape(2, steps), float(found.fun)

"""The objective between trials: a local estimate, how rough it is, and where the printed point lies in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.tuning.trials import StageInfo, best_of, complete

NEIGHBOURS = 8
"""Trials that an estimate rests on."""
NEAR = float(np.log(2))
"""In every parameter, a trial further away than this, a factor of 2, says nothing of a point."""
SHARE = 0.05
"""Of the range: what counts as no worse."""
ROOM = 1.5
"""A parameter that can be changed by this factor either way, and nothing is lost: a plateau."""
STEEP = 10.0
"""Tolerances: where this much or more is lost within that factor, there is a cliff."""
STEP = 0.02
FEWEST_RANDOM = 5
DAMPING = 1e-3
"""Added to the normal equations: a slope that the neighbours do not determine is 0."""
NAN = float("nan")


@dataclass(frozen=True)
class Landscape:
    """The complete trials of a stage in natural logarithms of their parameters.

    names: the parameters, those that are numbers above 0. points: [trials, names]. values: [trials].
    """

    names: tuple[str, ...]
    points: np.ndarray
    values: np.ndarray

    def near(self, point: np.ndarray) -> np.ndarray:
        """Which trials are within a factor of 2 of a point in every parameter: [trials]."""
        return np.asarray((np.abs(self.points - point) <= NEAR).all(axis=1))

    def estimate(self, point: np.ndarray) -> float:
        """The objective at a point; NaN where fewer than NEIGHBOURS trials are near.

            ŷ(x) = b_0 of  min_b Σ_i w_i (y_i - b_0 - b · (x_i - x))²,   w_i = (1 - (d_i / h)³)³

        over the NEIGHBOURS nearest trials, d_i the Euclidean distance and h that of the next one beyond them
        (Cleveland 1979, locally weighted regression). Never beyond the values of these trials.
        """
        if self.near(point).sum() < NEIGHBOURS:
            return NAN
        distance = np.sqrt(((self.points - point) ** 2).sum(axis=1))
        order = np.argsort(distance, kind="stable")
        chosen = order[:NEIGHBOURS]
        beyond = distance[order[min(NEIGHBOURS, len(order) - 1)]]
        width = max(float(beyond), float(distance[chosen[-1]]) * 1.001, 1e-9)
        weight = (1 - (distance[chosen] / width) ** 3) ** 3
        design = np.column_stack([np.ones(NEIGHBOURS), self.points[chosen] - point])
        normal = design.T @ (weight[:, None] * design) + np.diag([0.0, *[DAMPING] * len(self.names)])
        level = np.linalg.solve(normal, design.T @ (weight * self.values[chosen]))[0]
        return float(np.clip(level, self.values[chosen].min(), self.values[chosen].max()))

    def roughness(self) -> float:
        """What the estimate is off by at a trial that it does not know: 1.4826 times the median of |y_i - ŷ_-i(x_i)|.

        NaN where no trial has enough others near it.
        """
        rows = np.arange(len(self.values))
        others = [Landscape(self.names, self.points[rows != i], self.values[rows != i]) for i in rows]
        errors = [abs(self.values[i] - other.estimate(self.points[i])) for i, other in enumerate(others)]
        known = [one for one in errors if np.isfinite(one)]
        return 1.4826 * float(np.median(known)) if known else NAN


@dataclass(frozen=True)
class Scale:
    """What a difference between two values means in a stage.

    spread: the best value minus the median of the random trials: what searching gained over drawing once.
    """

    best: float
    median: float
    roughness: float

    @property
    def spread(self) -> float:
        return self.best - self.median

    @property
    def tolerance(self) -> float:
        """What counts as no worse: SHARE of the spread, or twice the roughness where that is more."""
        rough = 0.0 if np.isnan(self.roughness) else 2 * self.roughness
        return max(SHARE * self.spread, rough)


@dataclass(frozen=True)
class Place:
    """Where the printed point lies.

    near, around, better: how many trials are near, their worst and best value, and the share of the random trials that
    are better than the estimate, or than all that are near where there is none.
    parameter: along which `fall`, `down` and `up` are measured, the others kept. fall: by how much the estimate drops
    at most over a factor of ROOM either way. down, up: log units until it has dropped by more than the tolerance.
    fall_open, down_open, up_open: trials end before this is known. away: log units from here to the best trial.
    """

    point: dict[str, float]
    near: int
    around: tuple[float, float]
    estimate: float
    better: float
    parameter: str
    away: float
    fall: float
    fall_open: bool
    down: float
    up: float
    down_open: bool
    up_open: bool


def landscape(trials: pd.DataFrame, names: Sequence[str]) -> Landscape:
    """The complete trials in some of their parameters."""
    finished = complete(trials)
    points = np.log(finished[list(names)].to_numpy(dtype=float).reshape(len(finished), len(names)))
    return Landscape(tuple(names), points, finished["value"].to_numpy(dtype=float))


def positive(info: StageInfo) -> list[str]:
    """The parameters that have a logarithm."""
    return [name for name in info.ranges() if info.space[name]["low"] > 0]


def random_values(trials: pd.DataFrame, info: StageInfo) -> pd.Series:
    """Values of the trials that were drawn at random; of all complete ones where too few are left of them."""
    finished = complete(trials)
    drawn = finished.loc[finished["trial"] < info.random_trials, "value"]
    return drawn if len(drawn) >= FEWEST_RANDOM else finished["value"]


def scale_of(trials: pd.DataFrame, info: StageInfo) -> Scale | None:
    """Best, median and roughness of a stage; None where no trial is complete."""
    best = best_of(trials)
    if best is None:
        return None
    names = positive(info)
    roughness = landscape(trials, names).roughness() if names else NAN
    return Scale(float(best["value"]), float(random_values(trials, info).median()), roughness)


def printed_point(info: StageInfo) -> dict[str, float] | None:
    """The parameters whose products are the printed rates; None where these do not determine them.

    In logarithms a product is a sum, so that the parameters solve linear equations.
    """
    rates = [rate for rate in info.assign if rate in info.printed]
    names = [name for name in info.space if any(name in info.assign[rate] for rate in rates)]
    if not names or not set(names) <= set(positive(info)) or min(info.printed[rate] for rate in rates) <= 0:
        return None
    counts = np.array([[info.assign[rate].count(name) for name in names] for rate in rates], dtype=float)
    logs = np.log([info.printed[rate] for rate in rates])
    solved, _, rank, _ = np.linalg.lstsq(counts, logs, rcond=None)
    if rank < len(names) or not np.allclose(counts @ solved, logs):
        return None
    return dict(zip(names, np.exp(solved).tolist(), strict=True))


def place_of(trials: pd.DataFrame, info: StageInfo, scale: Scale) -> Place | None:
    """Where the printed point lies among the trials; None where no point is printed."""
    point = printed_point(info)
    if point is None:
        return None
    land = landscape(trials, list(point))
    at = np.log(list(point.values()))
    near, estimate = land.near(at), land.estimate(at)
    around = (float(land.values[near].min()), float(land.values[near].max())) if near.any() else (NAN, NAN)
    bar = around[1] if np.isnan(estimate) else estimate
    better = NAN if np.isnan(bar) else float(random_values(trials, info).gt(bar).mean())
    fall, fall_open = _fall(land, at, estimate)
    down, down_open = _room(land, at, estimate - scale.tolerance, -1)
    up, up_open = _room(land, at, estimate - scale.tolerance, 1)
    name = next(iter(point))
    away = float(land.points[int(land.values.argmax()), 0] - at[0])
    return Place(
        point, int(near.sum()), around, estimate, better, name, away, fall, fall_open, down, up, down_open, up_open
    )


def _along(land: Landscape, start: np.ndarray, units: float) -> float:
    """The estimate so many log units away along the first parameter."""
    there = start.copy()
    there[0] += units
    return land.estimate(there)


def _fall(land: Landscape, start: np.ndarray, here: float) -> tuple[float, bool]:
    """By how much the estimate drops at most within a factor of ROOM, and whether trials end before that."""
    if np.isnan(here):
        return NAN, True
    end = float(np.log(ROOM))
    there = np.array([_along(land, start, units) for units in np.linspace(-end, end, 2 * int(end / STEP) + 1)])
    return float(max(0.0, here - np.nanmin(there))), bool(np.isnan(there).any())


def _room(land: Landscape, start: np.ndarray, floor: float, sign: int) -> tuple[float, bool]:
    """Log units along the first parameter until the estimate is below a floor, and whether trials end before that."""
    if np.isnan(floor):
        return NAN, True
    steps = 0
    while True:
        value = _along(land, start, sign * STEP * (steps + 1))
        if np.isnan(value) or value < floor:
            return STEP * steps, bool(np.isnan(value))
        steps += 1

"""Tasks of every kind: how they are drawn, checked, and told to an oracle."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from harness.api import Tasks
from suites.locomotion.environments import DIRECTION, PARAMETERS, PLANE_DIRECTION, POSITION, VELOCITY, Goals

SCALE_BASE = {"body_mass": 1.5, "body_inertia": 1.5, "geom_friction": 1.5, "dof_damping": 1.3}
"""What the exponents are exponents of, for each array of parameters."""
NAMES = {DIRECTION: "direction", PLANE_DIRECTION: "direction", VELOCITY: "velocity"}


def draw(goals: Goals, count: int, rng: Generator, model: mujoco.MjModel, log_scale_limit: float) -> Tasks:
    """``count`` tasks.

    direction        {"direction": [count]}, -1 or 1, equally likely
    plane_direction  {"direction": [count, 2]}, unit vectors
    velocity         {"velocity": [count]}, m/s
    position         {"goal": [count, 2]}, m: disc r = high √U, circle r = high, or square [-high, high]²
    parameters       {array: [count, ...]}, factors base^x, x uniform within ± the limit, every entry its own
    """
    if goals.kind == DIRECTION:
        return {"direction": torch.randint(2, (count,), generator=rng) * 2.0 - 1.0}
    if goals.kind == PLANE_DIRECTION:
        return {"direction": torch.nn.functional.normalize(torch.randn(count, 2, generator=rng), dim=-1)}
    if goals.kind == VELOCITY:
        return {"velocity": goals.low + (goals.high - goals.low) * torch.rand(count, generator=rng)}
    if goals.kind == PARAMETERS:
        shapes = {name: getattr(model, name).shape for name in goals.arrays}
        exponents = {
            name: (2.0 * torch.rand(count, *shape, generator=rng) - 1.0) * log_scale_limit
            for name, shape in shapes.items()
        }
        return {name: SCALE_BASE[name] ** exponent for name, exponent in exponents.items()}
    unit = torch.rand(count, 2, generator=rng)
    if goals.shape == "square":
        return {"goal": (2.0 * unit - 1.0) * goals.high}
    radius = goals.high * (unit[:, :1].sqrt() if goals.shape == "disc" else 1.0)
    angle = 2.0 * math.pi * unit[:, 1:]
    return {"goal": radius * torch.cat([angle.cos(), angle.sin()], dim=-1)}


def balanced(goals: Goals, count: int) -> Tasks | None:
    """As many tasks of either kind where there are but two, backwards first; None where tasks have to be drawn."""
    if goals.kind != DIRECTION:
        return None
    return {"direction": torch.arange(count) % 2 * 2.0 - 1.0}


def refuse(goals: Goals, tasks: Tasks) -> None:
    """Errors: ValueError for a task that makes no sense."""
    if goals.kind in (DIRECTION, PLANE_DIRECTION):
        direction = tasks["direction"].unsqueeze(-1) if goals.kind == DIRECTION else tasks["direction"]
        length = torch.linalg.vector_norm(direction, dim=-1)
        if not torch.allclose(length, torch.ones_like(length), atol=1e-4):
            what = "-1 or 1" if goals.kind == DIRECTION else "a vector of length 1"
            raise ValueError(f"direction must be {what}, found {tasks['direction'].tolist()}")
    if goals.kind == PARAMETERS:
        for name, factors in tasks.items():
            if not bool((factors > 0).all()):
                raise ValueError(
                    f"{name} holds factors on the body's own values: all above 0, found {float(factors.min())}"
                )


def told(goals: Goals, tasks: Tasks) -> Tensor:
    """What an oracle sees of its task, [tasks, features]."""
    goal: Tensor = tasks[NAMES.get(goals.kind, "goal")]
    return goal.reshape(len(goal), -1)


def wanted(goals: Goals, tasks: Tasks, task: int) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Where a task has the body run, a unit vector, and where it has it go, m: [2] each, None where it says nothing."""
    if goals.kind == POSITION:
        return None, tasks["goal"][task].double().cpu().numpy()
    if goals.kind == DIRECTION:
        return np.array([float(tasks["direction"][task]), 0.0]), None
    return (tasks["direction"][task].double().cpu().numpy(), None) if goals.kind == PLANE_DIRECTION else (None, None)


class ScaledModels:
    """One compiled model per task, whose parameters are the body's own times the task's factors."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._known: tuple[bytes, list[mujoco.MjModel], NDArray[np.uintp]] | None = None

    def addresses(self, tasks: Mapping[str, Tensor]) -> NDArray[np.uintp]:
        """Where the models of the tasks lie, [tasks]; kept until other tasks are asked for.

        Constants that MuJoCo derives when it compiles a model (masses of subtrees, inverse inertias) follow.
        """
        factors = {name: tensor.cpu().numpy() for name, tensor in sorted(tasks.items())}
        key = b"".join(array.tobytes() for array in factors.values())
        if self._known is None or self._known[0] != key:
            count = len(next(iter(factors.values())))
            models = [self._scaled({name: array[task] for name, array in factors.items()}) for task in range(count)]
            self._known = key, models, np.array([one._address for one in models], dtype=np.uintp)
        return self._known[2]

    def of(self, tasks: Mapping[str, Tensor]) -> list[mujoco.MjModel]:
        """The models themselves."""
        self.addresses(tasks)
        assert self._known is not None
        return self._known[1]

    def _scaled(self, factors: dict[str, NDArray[np.float32]]) -> mujoco.MjModel:
        model = copy.copy(self._model)
        for name, factor in factors.items():
            getattr(model, name)[:] *= factor
        mujoco.mj_setConst(model, self._data)
        return model

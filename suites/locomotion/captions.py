"""Tasks and what came of an episode, in a few words."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from harness.api import Tasks
from suites.locomotion.environments import DIRECTION, PLANE_DIRECTION, POSITION, VELOCITY, Goals
from suites.locomotion.physics import Array


def caption(goals: Goals, tasks: Tasks, task: int, moved: Array, end: Array, duration_s: float) -> tuple[str, str]:
    """What a task asks for, and how far an episode has come.

    Shapes:
        moved: [2], m, from start to end
        end: [2], m, the last place
    """
    along = _metres(float(moved[0]), "forward", "backward")
    if goals.kind == DIRECTION:
        return f"run {'forward' if float(tasks['direction'][task]) > 0 else 'backward'}", along
    if goals.kind == PLANE_DIRECTION:
        unit = _numbers(tasks["direction"][task])
        angle = math.degrees(math.atan2(unit[1], unit[0]))
        return f"run towards {angle:.0f}°", _metres(float(moved @ unit), "that way", "the other way")
    if goals.kind == VELOCITY:
        speed = f" ({moved[0] / duration_s:.1f} m/s)" if duration_s > 0 else ""
        return f"run at {float(tasks['velocity'][task]):.1f} m/s", along + speed
    if goals.kind == POSITION:
        goal = _numbers(tasks["goal"][task])
        return f"go to ({goal[0]:.1f}, {goal[1]:.1f}) m", f"ends {np.linalg.norm(goal - end):.1f} m from it"
    return f"body {task + 1}", along


def _metres(length: float, onwards: str, back: str) -> str:
    shown = f"{abs(length):.1f} m"
    return shown if shown == "0.0 m" else f"{shown} {onwards if length > 0 else back}"


def _numbers(tensor: Tensor) -> Array:
    numbers: Array = tensor.double().cpu().numpy()
    return numbers

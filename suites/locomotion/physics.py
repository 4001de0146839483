"""Many MuJoCo states at once: native code steps a whole batch on several threads, each state under a model of its own.

MuJoCo's own ``rollout`` does that too, but hands back positions, velocities and sensors only. What gymnasium's ant and
humanoid observe and are paid for (contact forces, centres of mass, composite inertias) is left over from the last stage
of the last Runge-Kutta step, where no sensor is evaluated, and the humanoid's solver, which stops before it converges,
starts from where the previous step left it. Both stay here in a state's row. So a step equals gymnasium's bit by bit,
and a row alone decides what follows it, whatever thread it is stepped on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import llvmlite.binding
import mujoco
import numpy as np
from numba import njit, types
from numpy.typing import NDArray

Array = NDArray[np.float64]

STATE = int(mujoco.mjtState.mjSTATE_FULLPHYSICS | mujoco.mjtState.mjSTATE_WARMSTART)
"""What of a row is MuJoCo's state: time, positions, velocities, actuators, and where the solver starts."""
TIME = 0
"""Where a row has its time, in seconds."""
BEGIN = 1.0
"""The time of a start. MuJoCo starts a simulation that it gives up anew, at zero: no other state is so early."""
FROM_FORCES = frozenset({"cacc", "cfrc_int", "cfrc_ext"})
"""Arrays of ``mjData`` that nothing but ``mj_rnePostConstraint`` fills, and that MuJoCo's steps do not read."""
CHUNKS_PER_THREAD = 8

NATIVE = re.compile(r"(lib)?mujoco\b.*\.(so|dylib|dll)(\.[0-9.]+)?")
"""MuJoCo's own library beside its Python package, as Linux, macOS and Windows name it."""
_library = next(path for path in sorted(Path(mujoco.__file__).parent.iterdir()) if NATIVE.fullmatch(path.name))
llvmlite.binding.load_library_permanently(str(_library))


def _function(name: str, *arguments: Any) -> Any:
    return types.ExternalFunction(name, types.void(*arguments))


_address, _int = types.uintp, types.int32
_reset = _function("mj_resetData", _address, _address)
_forward = _function("mj_forward", _address, _address)
_step = _function("mj_step", _address, _address)
_forces = _function("mj_rnePostConstraint", _address, _address)
_set_state = _function("mj_setState", _address, _address, _address, _int)
_get_state = _function("mj_getState", _address, _address, _address, _int)
_copy = _function("mju_copy", _address, _address, _int)


@njit(nogil=True, cache=True)
def _start(models, data, state, rows, sources, counts, state_size):  # type: ignore[no-untyped-def]
    """Derive everything from the positions and velocities of fresh rows, in place."""
    for index in range(rows.shape[0]):
        _reset(models[index], data)
        _set_state(models[index], data, rows[index].ctypes.data, state)
        _forward(models[index], data)
        _keep(models[index], data, state, rows[index], sources, counts, state_size)


@njit(nogil=True, cache=True)
def _advance(  # type: ignore[no-untyped-def]
    models, data, state, rows, controls, control, frame_skip, forces, sources, counts, state_size
):
    """``frame_skip`` steps of every row whose last entry is 0, in place."""
    for index in range(rows.shape[0]):
        if rows[index, -1] != 0.0:
            continue
        _set_state(models[index], data, rows[index].ctypes.data, state)
        _copy(control, controls[index].ctypes.data, controls.shape[1])
        for _ in range(frame_skip):
            _step(models[index], data)
        if forces:
            _forces(models[index], data)
        _keep(models[index], data, state, rows[index], sources, counts, state_size)


@njit(nogil=True, cache=True)
def _keep(model, data, state, row, sources, counts, state_size):  # type: ignore[no-untyped-def]
    _get_state(model, data, row.ctypes.data, state)
    place = state_size
    for source in range(sources.shape[0]):
        _copy(row[place:].ctypes.data, sources[source], counts[source])
        place += counts[source]


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="physics")


@cache
def quiet() -> None:
    """Keep MuJoCo from writing of every unstable simulation into a file in the working folder: it ends its episode."""
    settings = mujoco.MjLogConfig.get()
    settings.logto_console = settings.logto_file = False
    mujoco.MjLogConfig.set(settings)


class Physics:
    """Steps rows of states of one body.

    A row: MuJoCo's state, then the ``kept`` arrays, then 0, or 1 where the row is not to be stepped any more.

    ``kept``: arrays of ``mjData`` by name, each with the number of leading rows that are left out.
    """

    def __init__(self, model: mujoco.MjModel, frame_skip: int, kept: Sequence[tuple[str, int]]) -> None:
        quiet()
        self.model = model
        self._frame_skip = frame_skip
        self._kept = kept
        self._forces = any(name in FROM_FORCES for name, _ in kept)
        self._state_size = mujoco.mj_stateSize(model, STATE)
        self._data: list[mujoco.MjData] = []
        self._grow(1)
        self.slices: dict[str, slice] = {
            "qpos": slice(1, 1 + model.nq),
            "qvel": slice(1 + model.nq, 1 + model.nq + model.nv),
        }
        place = self._state_size
        for name, skipped in kept:
            size = getattr(self._data[0], name)[skipped:].size
            self.slices[name] = slice(place, place + size)
            place += size
        self.width = place + 1
        self._counts = np.array(
            [part.stop - part.start for name, part in self.slices.items() if name not in ("qpos", "qvel")],
            dtype=np.int32,
        )

    def _grow(self, count: int) -> None:
        while len(self._data) < count:
            self._data.append(mujoco.MjData(self.model))

    def start(self, models: NDArray[np.uintp], positions: Array, velocities: Array, threads: int) -> Array:
        """Rows of states at rest but for ``velocities``; models [n] are addresses, returns [n, width]."""
        rows = np.zeros((len(positions), self.width))
        rows[:, TIME] = BEGIN
        rows[:, self.slices["qpos"]] = positions
        rows[:, self.slices["qvel"]] = velocities

        def work(part: slice, data: mujoco.MjData) -> None:
            _start(models[part], data._address, STATE, rows[part], self._sources(data), self._counts, self._state_size)

        self._in_parts(work, len(rows), threads)
        return rows

    def advance(self, models: NDArray[np.uintp], rows: Array, controls: Array, threads: int) -> Array:
        """The rows [n, width] after one control step under controls [n, controls]; no argument changes."""
        rows = rows.copy()

        def work(part: slice, data: mujoco.MjData) -> None:
            _advance(
                models[part], data._address, STATE, rows[part], controls[part], data.ctrl.ctypes.data,
                self._frame_skip, self._forces, self._sources(data), self._counts, self._state_size,
            )  # fmt: skip

        self._in_parts(work, len(rows), threads)
        return rows

    def _sources(self, data: mujoco.MjData) -> NDArray[np.uintp]:
        return np.array([getattr(data, name)[skipped:].ctypes.data for name, skipped in self._kept], dtype=np.uintp)

    def _in_parts(self, work: Any, count: int, threads: int) -> None:
        """All rows, in parts that the threads take in turn; which thread has which row changes no bit of it."""
        if threads == 1:
            work(slice(0, count), self._data[0])
            return
        self._grow(threads)
        bounds = np.linspace(0, count, min(count, threads * CHUNKS_PER_THREAD) + 1, dtype=int)
        parts = iter([slice(first, last) for first, last in pairwise(bounds)])

        def take(data: mujoco.MjData) -> None:
            for part in parts:
                work(part, data)

        list(_threads(threads).map(take, self._data[:threads]))

"""Bodies drawn offscreen by MuJoCo, seen by a camera that goes with them.

Where a context for drawing cannot be made, the attempt may end the process that makes it, and the first OpenGL platform
that a process loads is the only one that it can ever use. So what there is to draw with is found out in a process of
its own, and nothing of it is touched before somebody asks for a picture.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from suites.locomotion.physics import Array

Image = NDArray[np.uint8]
PLATFORMS = ("egl", "osmesa")
CHOICE = "MUJOCO_GL"
"""MuJoCo's own environment variable: the one platform that is tried, such as ``egl``; ``disabled`` for none."""
UNSAID = ("", "1", "on", "true", "enable", "enabled")
INSTALL = "apt-get install libegl1 libgl1-mesa-dri (EGL), or libosmesa6 (OSMesa)"
PROBE = """\
import importlib, sys
context = importlib.import_module("mujoco." + sys.argv[1]).GLContext(8, 8)
context.make_current()
import mujoco
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), 100)
"""
PATIENCE_S = 60.0

SKY, FLOOR, LINE = (0.93, 0.95, 0.97), (0.66, 0.69, 0.71, 1.0), (0.47, 0.51, 0.55, 1.0)
START, WANTED = (0.0, 0.27, 0.5, 1.0), (0.84, 0.3, 0.0, 1.0)
LINES, ACROSS = 7, 3.5
"""A line across the floor every metre, so many to either side, half as long: without, no body would seem to move."""
SUN = np.array([0.28, 0.19, -0.94])
LIT = 6.0
"""How far around the body there are shadows, m."""
FINER = 2


def lacking() -> str:
    """Why nothing can be drawn here, in a line that says what to install; empty where it can."""
    if platform():
        return ""
    return f"MuJoCo finds nothing to draw with here (tried: {', '.join(_candidates())}); {INSTALL}"


def platform() -> str:
    """The first platform with which MuJoCo can draw here; empty if there is none."""
    return next((name for name in _candidates() if _draws(name)), "")


def _candidates() -> tuple[str, ...]:
    asked = os.environ.get(CHOICE, "").strip().lower()
    return PLATFORMS if asked in UNSAID else (asked,)


@cache
def _draws(name: str) -> bool:
    command, environment = [sys.executable, "-c", PROBE, name], os.environ | {CHOICE: name}
    try:
        with tempfile.TemporaryDirectory() as folder:  # where MuJoCo leaves a log of what went wrong
            subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=PATIENCE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


@dataclass(frozen=True)
class Scene:
    """A body at moments of an episode, the first that of its start.

    ``direction``: where it is to run, a unit vector; ``goal``: where it is to be; None where there is none.

    Shapes:
        positions: [moments, nq], as MuJoCo has them
        places: [moments, 2], m, where the camera looks
        direction, goal: [2]
    """

    model: mujoco.MjModel
    positions: Array
    places: Array
    direction: Array | None = None
    goal: Array | None = None


@dataclass(frozen=True)
class View:
    """How a body is looked at.

    The camera is ``distance`` m away from a point ``height`` m above the body's place, ``elevation`` degrees above the
    horizontal. ``arrow``: m, how high the direction is shown. ``plane``: whether the body leaves its track.
    """

    distance: float
    height: float
    elevation: float
    arrow: float
    plane: bool = False


VIEWS = {
    "half_cheetah": View(2.7, height=0.5, elevation=14.0, arrow=1.1),
    "walker": View(3.4, height=0.75, elevation=10.0, arrow=1.6),
    "hopper": View(3.2, height=0.7, elevation=10.0, arrow=1.6),
    "ant": View(4.2, height=0.3, elevation=35.0, arrow=1.0, plane=True),
    "humanoid": View(4.0, height=0.8, elevation=16.0, arrow=1.8, plane=True),
}


def drawn(scenes: Sequence[Scene], view: View, width: int, height: int) -> Image:
    """Pictures [scenes, moments, height, width, 3].

    They are drawn larger, and averaged: smooth without what only some platforms offer.

    Errors: RuntimeError where nothing can be drawn; see :func:`lacking`.
    """
    with _context(width * FINER, height * FINER):
        large = np.stack([_drawn(scene, view, width * FINER, height * FINER) for scene in scenes])
    parts = large.reshape(*large.shape[:2], height, FINER, width, FINER, 3)
    return np.round(parts.mean((3, 5))).astype(np.uint8)


@contextlib.contextmanager
def _context(width: int, height: int) -> Iterator[None]:
    if not (name := platform()):
        raise RuntimeError(lacking())
    context = importlib.import_module(f"mujoco.{name}").GLContext(width, height)
    context.make_current()
    try:
        yield
    finally:
        context.free()


def _drawn(scene: Scene, view: View, width: int, height: int) -> Image:
    model = _dressed(scene.model, width, height)
    data, world, camera = mujoco.MjData(model), mujoco.MjvScene(model, maxgeom=200), mujoco.MjvCamera()
    camera.azimuth, camera.elevation, camera.distance = 90.0, -view.elevation, view.distance
    context, whole = mujoco.MjrContext(model, 100), mujoco.MjrRect(0, 0, width, height)
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
    pictures = np.empty((len(scene.positions), height, width, 3), dtype=np.uint8)
    for picture, positions, place in zip(pictures, scene.positions, scene.places, strict=True):
        data.qpos[:] = positions
        for derive in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight):
            derive(model, data)
        camera.lookat[:] = *place, view.height
        mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, camera, mujoco.mjtCatBit.mjCAT_ALL, world)
        _light(world, place)
        _mark(world, scene, place, view)
        mujoco.mjr_render(whole, world, context)
        mujoco.mjr_readPixels(picture, None, whole, context)
    context.free()
    return pictures[:, ::-1]


def _dressed(model: mujoco.MjModel, width: int, height: int) -> mujoco.MjModel:
    """A copy under a plain sky on a plain floor, quick to draw; the model itself goes on to be simulated."""
    model = copy.copy(model)
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    model.vis.quality.offsamples, model.vis.quality.shadowsize = 0, 1024
    model.vis.map.shadowclip = LIT / model.stat.extent
    model.mat_reflectance[:] = 0.0
    for geom in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE):
        model.geom_matid[geom] = -1
        model.geom_rgba[geom] = FLOOR
    for texture in np.flatnonzero(model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX):
        size = model.tex_height[texture] * model.tex_width[texture] * model.tex_nchannel[texture]
        texels = model.tex_data[model.tex_adr[texture] :][:size].reshape(-1, model.tex_nchannel[texture])
        texels[:, :3] = np.array(SKY) * 255
    return model


def _light(world: mujoco.MjvScene, place: Array) -> None:
    """The sun goes along as well: a shadow is only cast near to where it stands."""
    for number in range(world.nlight):
        light = world.lights[number]
        if not light.headlight:
            light.pos[:] = np.array([*place, 0.0]) - 4.0 * SUN
            light.dir[:] = SUN


def _mark(world: mujoco.MjvScene, scene: Scene, place: Array, view: View) -> None:
    """Lines on the floor, and what the task asks for."""
    start, box = scene.places[0], mujoco.mjtGeom.mjGEOM_BOX
    middle = start + np.round(place - start)
    for shift in range(-LINES, LINES + 1):
        _put(world, box, (0.015, ACROSS, 0.001), (middle[0] + shift, middle[1], 0.0), LINE)
        if view.plane:
            _put(world, box, (ACROSS, 0.015, 0.001), (middle[0], middle[1] + shift, 0.0), LINE)
    _put(world, box, (0.05, 0.3 if view.plane else ACROSS, 0.002), (*start, 0.0), START)
    if scene.goal is not None:
        _put(world, mujoco.mjtGeom.mjGEOM_CYLINDER, (0.15, 0.15, 0.01), (*scene.goal, 0.0), WANTED)
    if scene.direction is not None:
        arrow, foot = mujoco.mjtGeom.mjGEOM_ARROW, np.array([*place, view.arrow])
        geom = _put(world, arrow, (1.0, 1.0, 1.0), foot, WANTED)
        mujoco.mjv_connector(geom, arrow, 0.04, foot, foot + 0.7 * np.array([*scene.direction, 0.0]))


def _put(world: mujoco.MjvScene, kind: Any, size: Any, place: Any, colour: Any) -> Any:
    geom = world.geoms[world.ngeom]
    turned = np.eye(3).ravel()
    mujoco.mjv_initGeom(geom, kind, np.array(size), np.array(place), turned, np.array(colour, dtype=np.float32))
    geom.category = mujoco.mjtCatBit.mjCAT_DECOR  # casts no shadow
    world.ngeom += 1
    return geom

"""The bodies: gymnasium's models, and what of their state a policy observes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gymnasium
import mujoco

from suites.locomotion.physics import quiet

ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"


@dataclass(frozen=True)
class Body:
    """A model of gymnasium's, and how its ``v5`` environments observe it.

    Of its two walkers this is the elder, whose feet differ in friction, as in the released code.

    ``file``: of the model. ``coordinates``: leading positions that are not observed, 1 along a track, 2 in a plane.
    ``tracked``: array of ``mjData`` and its row whose position in the world is the body's; empty: the first position.
    ``kept``: arrays that are observed beside positions and velocities, and how many leading rows are left out.
    ``clip_velocities``, ``clip_kept``: bounds on what is observed.
    ``noise``: of a start, uniform for positions. ``normal_velocities``: its velocities have a normal distribution.
    """

    file: str
    coordinates: int
    noise: float
    tracked: tuple[str, int] | None = None
    kept: tuple[tuple[str, int], ...] = ()
    clip_velocities: float = float("inf")
    clip_kept: float = float("inf")
    normal_velocities: bool = False

    @property
    def file_path(self) -> str:
        """Where the model lies."""
        return str(ASSETS / self.file)

    def load(self) -> mujoco.MjModel:
        """Compile the model."""
        quiet()
        return mujoco.MjModel.from_xml_path(self.file_path)


FORCES = "cfrc_ext"
BODIES = {
    "half_cheetah": Body("half_cheetah.xml", coordinates=1, noise=0.1, normal_velocities=True),
    "ant": Body(
        "ant.xml", coordinates=2, noise=0.1, normal_velocities=True,
        tracked=("xpos", 1), kept=((FORCES, 1),), clip_kept=1.0,
    ),
    "humanoid": Body(
        "humanoid.xml", coordinates=2, noise=0.01, tracked=("subtree_com", 1),
        kept=(("cinert", 1), ("cvel", 1), ("qfrc_actuator", 6), (FORCES, 1)),
    ),
    "hopper": Body("hopper.xml", coordinates=1, noise=0.005, clip_velocities=10.0),
    "walker": Body("walker2d.xml", coordinates=1, noise=0.005, clip_velocities=10.0),
}  # fmt: skip

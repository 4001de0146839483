"""Point-mass corner tasks: a point has to find out which of four corners pays (Rothfuss et al. 2019, figure 5)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.api import Declaration, Settings

CORNERS = ((-2.0, -2.0), (2.0, -2.0), (-2.0, 2.0), (2.0, 2.0))
"""The goals, in units of the plane."""
DEFAULT_RADIUS = 1.0


class PointCornersSettings(Settings):
    """Settings of the suite; lengths are in the units of the plane."""

    horizon: Annotated[int, Field(ge=1)] = 100
    dynamics: Literal["momentum", "position"] = "momentum"
    """``momentum``: an action changes the velocity, by at most 0.1 per axis, and the agent sees both.
    ``position``: an action changes the position, by at most 0.2 per axis."""
    reward: Literal["sparse", "goal_radius", "dense", "dense_squared"] = "sparse"
    """``sparse``: what the released environment of these dynamics pays, see :mod:`suites.point_corners.simulation`.
    ``goal_radius``: max(goal_radius - distance, 0). Appendix D.2 of the paper has a reward only near the goal, equal to
    the distance; no released environment does that, and it would pay for staying away, so this is the nearest variant.
    ``dense``: minus the distance. ``dense_squared``: minus its square."""
    goal_radius: Annotated[float, Field(gt=0)] = DEFAULT_RADIUS
    """How near the own corner the reward ``goal_radius`` begins; without meaning for the other rewards."""
    policy_range: Annotated[float, Field(gt=0)] = 10.0
    """Actions in [-policy_range, policy_range] cover all that an action may change; those beyond are clipped. The
    released wrapper has 10, so that one unit of the policy is a tenth of the strongest action."""

    @model_validator(mode="after")
    def _radius_has_a_meaning(self) -> "PointCornersSettings":
        if self.reward != "goal_radius" and self.goal_radius != DEFAULT_RADIUS:
            raise ValueError(f"goal_radius belongs to the reward goal_radius and has no meaning with {self.reward}")
        return self


SUITE = Declaration(
    name="point_corners",
    version=1,
    settings=PointCornersSettings,
    build="suites.point_corners.simulation:PointCorners",
)

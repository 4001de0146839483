"""The 1D toy task: a point that may jump anywhere on a line, and a goal at one of two places that it cannot see.

(Rothfuss et al. 2019, section 7.4)
"""

from typing import Annotated

from pydantic import Field

from harness.api import Declaration, Settings


class Point1DSettings(Settings):
    """Settings of the suite."""

    horizon: Annotated[int, Field(ge=1)] = 5


SUITE = Declaration(
    name="point_1d",
    version=1,
    settings=Point1DSettings,
    build="suites.point_1d.simulation:Point1D",
    provides=frozenset({"a line to act on"}),
)

"""2D navigation: a point agent that has to find a goal which it cannot see (Finn et al. 2017, section 5.3)."""

from typing import Annotated, Literal

from pydantic import Field

from harness.api import Declaration, Settings


class TestGoals(Settings):
    """Where the meta-test goals come from.

    ``numpy``: draws ``skip + 1`` to ``skip + count`` of NumPy's legacy generator ``RandomState(seed)``, uniform on the
    goal square: the stream that the published codes use, so that the goals are theirs.
    ``stream``: drawn by this project from the evaluation seed.
    """

    source: Literal["numpy", "stream"] = "stream"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    skip: Annotated[int, Field(ge=0)] = 0


class NavigationSettings(Settings):
    """Settings of the suite; lengths are in the units of the plane."""

    horizon: Annotated[int, Field(ge=1)] = 100
    goal_range: Annotated[float, Field(gt=0)] = 0.5
    """Goals are uniform on [-goal_range, goal_range]^2."""
    action_scale: Annotated[float, Field(gt=0)] = 0.1
    """The policy acts in [-1, 1]; actions are multiplied by this, then clipped to [-action_scale, action_scale]."""
    terminate_at_goal: bool = True
    """End the episode when both coordinates are within ``goal_tolerance`` of the goal."""
    goal_tolerance: Annotated[float, Field(gt=0)] = 0.01
    observe_goal: bool = False
    """The oracle's observation: (x, y, goal x, goal y) instead of (x, y)."""
    test_goals: TestGoals = TestGoals()


SUITE = Declaration(
    name="navigation", version=1, settings=NavigationSettings, build="suites.navigation.simulation:Navigation"
)

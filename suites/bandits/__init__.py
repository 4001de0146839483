"""Bernoulli bandits: K arms of unknown mean, N pulls to find out (Duan et al. 2016; Deleu et al. 2018, section 4.1)."""

from typing import Annotated

from pydantic import Field

from harness.api import Declaration, Settings


class BanditSettings(Settings):
    """Settings of the suite. The number of pulls N is a budget: ``episodes_per_task``, one pull per episode."""

    arms: Annotated[int, Field(ge=1, le=1000)]
    """K; at most 1000, for which the reference values are still exact and quick."""
    constant_input: float = 0.0
    """What the policy sees, always: a bandit has nothing to observe. The released code of Deleu et al. feeds 0, so that
    a network with zero biases has no feature at all, and only its output bias ever gets a gradient."""


SUITE = Declaration(
    name="bandits",
    version=1,
    settings=BanditSettings,
    build="suites.bandits.simulation:Bandits",
    provides=frozenset({"a finite set of actions", "independent arms"}),
)

"""Posterior sampling for reinforcement learning (Osband et al. 2013), and planning on the posterior means: *greedy*.

policy: a plan per episode on tables drawn from the posterior, or on its means · nothing to train.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from algorithms.settings import FixedSettings
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.candidates import CandidateSearch


class PSRLSettings(FixedSettings):
    """What the posterior starts from, and whether it is drawn from."""

    prior_mean: float = 0.0
    """Prior mean of the rewards. The RL² evaluation planned with 0, though the tasks have mean 1."""
    prior_strength: Annotated[float, Field(gt=0)] = 1.0
    """Weight of the prior, in visits: of the reward's mean, and of each next state."""
    sample: bool = True
    """Draw the tables from the posterior; off: plan on its means."""
    random_ties: bool = False
    """Of equal plans take any; off: the first actions."""


def build(settings: PSRLSettings, suite: Suite) -> CandidateSearch:
    """PSRL, or greedy planning, on a suite of tabular MDPs."""
    from algorithms.candidates import CandidateSearch
    from algorithms.planning_policies import PosteriorPlanningPolicy

    return CandidateSearch(PosteriorPlanningPolicy(suite, settings))


PSRL = Declaration(
    name="psrl",
    version=1,
    settings=PSRLSettings,
    build="algorithms.psrl:build",
    requires=frozenset({"tables to plan on"}),
)

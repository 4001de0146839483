"""Thompson sampling: pull the arm that is best in one draw from the posterior (Thompson 1933).

policy: posterior draw under a uniform prior, as in the RL² evaluation · nothing to choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from algorithms.settings import FixedSettings
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.candidates import CandidateSearch


def build(settings: FixedSettings, suite: Suite) -> CandidateSearch:
    """Thompson sampling on a suite with independent Bernoulli arms."""
    from algorithms.bandit_policies import ThompsonPolicy
    from algorithms.candidates import CandidateSearch

    return CandidateSearch(ThompsonPolicy(suite))


THOMPSON = Declaration(
    name="thompson",
    version=1,
    settings=FixedSettings,
    build="algorithms.thompson:build",
    requires=frozenset({"independent arms"}),
)

"""ε-greedy on the posterior mean, as in the RL² evaluation; *greedy* is the same with ε = 0.

policy: best mean, sometimes any arm · chosen on training tasks: ε; the RL² evaluation chose among the same values on
its test tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from algorithms.settings import CandidateSettings
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.candidates import CandidateSearch


class EpsilonGreedySettings(CandidateSettings):
    """``candidates`` are probabilities ε of a uniform arm."""

    candidates: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(strict=False, min_length=1, max_length=1000)
    ] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    random_ties: bool = False
    """Of equal means take any; off: the first, as the RL² evaluation does."""


def build(settings: EpsilonGreedySettings, suite: Suite) -> CandidateSearch:
    """ε-greedy on a suite with independent Bernoulli arms."""
    from algorithms.bandit_policies import EpsilonGreedyPolicy
    from algorithms.candidates import CandidateSearch

    return CandidateSearch(EpsilonGreedyPolicy(suite, settings.candidates, settings.random_ties), settings.candidates)


EPSILON_GREEDY = Declaration(
    name="epsilon_greedy",
    version=1,
    settings=EpsilonGreedySettings,
    build="algorithms.epsilon_greedy:build",
    requires=frozenset({"independent arms"}),
)

"""UCB1 on the posterior mean, as in the RL² evaluation (after Auer et al. 2002).

policy: mean plus bonus · chosen on training tasks: the weight c of the bonus; the RL² evaluation chose among the same
values on its test tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from algorithms.settings import CandidateSettings
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.candidates import CandidateSearch


class UCB1Settings(CandidateSettings):
    """``candidates`` are weights c of the bonus."""

    candidates: Annotated[
        tuple[Annotated[float, Field(ge=0)], ...], Field(strict=False, min_length=1, max_length=1000)
    ] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def build(settings: UCB1Settings, suite: Suite) -> CandidateSearch:
    """UCB1 on a suite with independent Bernoulli arms."""
    from algorithms.bandit_policies import UpperConfidencePolicy
    from algorithms.candidates import CandidateSearch

    return CandidateSearch(UpperConfidencePolicy(suite, settings.candidates), settings.candidates)


UCB1 = Declaration(
    name="ucb1",
    version=1,
    settings=UCB1Settings,
    build="algorithms.ucb1:build",
    requires=frozenset({"independent arms"}),
)

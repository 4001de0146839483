"""MAML for reinforcement learning as its papers run it: with TRPO outside (Finn et al. 2017, section 5.3).

inner surrogate: score function · adaptation: gradient steps on fresh data · outer objective: post-update return,
differentiated through the adaptation · outer optimiser: TRPO.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from algorithms.settings import TrustRegionMethodSettings
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner


def build(settings: TrustRegionMethodSettings, suite: Suite) -> MetaLearner:
    """MAML-TRPO on a suite."""
    from algorithms.meta_learner import MetaLearner
    from algorithms.outer_updates import TrustRegionUpdate
    from algorithms.values import LinearBaseline

    return MetaLearner(
        settings, suite, LinearBaseline(settings, suite), TrustRegionUpdate(settings, through_adaptation=True)
    )


MAML_TRPO = Declaration(
    name="maml_trpo", version=1, settings=TrustRegionMethodSettings, build="algorithms.maml_trpo:build"
)

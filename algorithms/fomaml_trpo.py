"""First-order MAML with TRPO outside: the adaptation counts as a constant shift, in the gradient and in the metric.

inner surrogate: score function · adaptation: gradient steps on fresh data · outer objective: post-update return,
differentiated at the adapted parameters only · outer optimiser: TRPO.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from algorithms.settings import TrustRegionMethodSettings
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner


def build(settings: TrustRegionMethodSettings, suite: Suite) -> MetaLearner:
    """FOMAML-TRPO on a suite."""
    from algorithms.meta_learner import MetaLearner
    from algorithms.outer_updates import TrustRegionUpdate
    from algorithms.values import LinearBaseline

    return MetaLearner(
        settings, suite, LinearBaseline(settings, suite), TrustRegionUpdate(settings, through_adaptation=False)
    )


FOMAML_TRPO = Declaration(
    name="fomaml_trpo", version=1, settings=TrustRegionMethodSettings, build="algorithms.fomaml_trpo:build"
)

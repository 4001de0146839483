"""Regular TRPO over the task distribution, no inner step: MAML-TRPO with zero adaptation steps.

With zero meta-iterations it is the *random* baseline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from algorithms.settings import TrustRegionMethodSettings
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner


class PretrainedSettings(TrustRegionMethodSettings):
    """As for MAML-TRPO, without adaptation in training; the inner rate serves the meta-test only."""

    adaptation_steps: int = Field(default=0, ge=0, le=0)


def build(settings: PretrainedSettings, suite: Suite) -> MetaLearner:
    """Pretraining with TRPO on a suite."""
    from algorithms.meta_learner import MetaLearner
    from algorithms.outer_updates import TrustRegionUpdate
    from algorithms.values import LinearBaseline

    return MetaLearner(
        settings, suite, LinearBaseline(settings, suite), TrustRegionUpdate(settings, through_adaptation=False)
    )


PRETRAINED_TRPO = Declaration(
    name="pretrained_trpo", version=1, settings=PretrainedSettings, build="algorithms.pretrained_trpo:build"
)

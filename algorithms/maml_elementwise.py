"""What the replication report's released code computes under the name MAML; it contains no second derivative.

inner surrogate: score function · adaptation: one gradient step on fresh data · outer objective: post-update loss, its
gradient multiplied element by element with (1 - α g_0) · outer optimiser: Adam.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from algorithms.settings import GradientMethodSettings
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner


class ElementwiseSettings(GradientMethodSettings):
    """As for MAML, with exactly the one adaptation step that the released code knows."""

    adaptation_steps: int = Field(default=1, ge=1, le=1)


def build(settings: ElementwiseSettings, suite: Suite) -> MetaLearner:
    """The released code's rule on a suite."""
    from algorithms.meta_gradients import elementwise
    from algorithms.meta_learner import MetaLearner
    from algorithms.outer_updates import AdamUpdate
    from algorithms.values import Critic

    return MetaLearner(settings, suite, Critic(settings, suite), AdamUpdate(settings.outer_adam(), elementwise))


MAML_ELEMENTWISE = Declaration(
    name="maml_elementwise", version=1, settings=ElementwiseSettings, build="algorithms.maml_elementwise:build"
)

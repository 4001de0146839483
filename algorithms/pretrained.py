"""Regular training over the task distribution: a policy gradient on every batch of tasks, no inner step.

It is MAML with zero adaptation steps (the replication report, section 3.1.2). With zero meta-iterations it is the
*random* baseline, and with an observation that shows the goal it is the *oracle*: a study says so, no other code is
needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from algorithms.settings import GradientMethodSettings
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner


class PretrainedSettings(GradientMethodSettings):
    """As for MAML, without adaptation in training; the inner rates serve the ``inner_rule`` meta-test only."""

    adaptation_steps: int = Field(default=0, ge=0, le=0)


def build(settings: PretrainedSettings, suite: Suite) -> MetaLearner:
    """Pretraining on a suite."""
    from algorithms.meta_gradients import first_order
    from algorithms.meta_learner import MetaLearner
    from algorithms.outer_updates import AdamUpdate
    from algorithms.values import Critic

    return MetaLearner(settings, suite, Critic(settings, suite), AdamUpdate(settings.outer_adam(), first_order))


PRETRAINED = Declaration(name="pretrained", version=1, settings=PretrainedSettings, build="algorithms.pretrained:build")

"""First-order MAML: the adaptation counts as a constant shift (Finn et al. 2017, section 5.2).

inner surrogate: score function · adaptation: gradient steps on fresh data · outer objective: post-update loss,
differentiated at the adapted parameters only · outer optimiser: Adam.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from algorithms.settings import GradientMethodSettings
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner


def build(settings: GradientMethodSettings, suite: Suite) -> MetaLearner:
    """FOMAML on a suite."""
    from algorithms.meta_gradients import first_order
    from algorithms.meta_learner import MetaLearner
    from algorithms.outer_updates import AdamUpdate
    from algorithms.values import Critic

    return MetaLearner(settings, suite, Critic(settings, suite), AdamUpdate(settings.outer_adam(), first_order))


FOMAML = Declaration(name="fomaml", version=1, settings=GradientMethodSettings, build="algorithms.fomaml:build")

"""MAML for reinforcement learning, with the true second derivative of its inner loss (Finn et al. 2017, algorithm 3).

inner surrogate: score function · adaptation: gradient steps on fresh data · outer objective: post-update loss,
differentiated through the adaptation · outer optimiser: Adam.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from algorithms.settings import GradientMethodSettings
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner


def build(settings: GradientMethodSettings, suite: Suite) -> MetaLearner:
    """MAML on a suite."""
    from algorithms.meta_gradients import second_order
    from algorithms.meta_learner import MetaLearner
    from algorithms.outer_updates import AdamUpdate
    from algorithms.values import Critic

    return MetaLearner(settings, suite, Critic(settings, suite), AdamUpdate(settings.outer_adam(), second_order))


MAML = Declaration(name="maml", version=1, settings=GradientMethodSettings, build="algorithms.maml:build")

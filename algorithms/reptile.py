"""Reptile: move towards where the tasks' own adaptation leads (Nichol et al. 2018; Deleu et al. 2018, algorithm 2).

inner surrogate: score function · adaptation: several gradient steps, on the same data in Deleu et al. · outer
objective: none, the way to the adapted parameters serves as gradient · outer optimiser: Adam.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from algorithms.settings import ReptileSettings
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner


def build(settings: ReptileSettings, suite: Suite) -> MetaLearner:
    """Reptile on a suite."""
    from algorithms.meta_gradients import towards_adapted
    from algorithms.meta_learner import MetaLearner
    from algorithms.outer_updates import AdamUpdate
    from algorithms.values import LinearBaseline

    return MetaLearner(
        settings, suite, LinearBaseline(settings, suite), AdamUpdate(settings.outer_adam(), towards_adapted)
    )


REPTILE = Declaration(name="reptile", version=1, settings=ReptileSettings, build="algorithms.reptile:build")

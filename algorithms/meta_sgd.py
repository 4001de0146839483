"""Meta-SGD: every parameter has a step size of its own, meta-learned with the initialisation (Li et al. 2017).

inner surrogate: score function · adaptation: gradient steps on fresh data, θ' = θ - α ⊙ ∇L(θ) · outer objective:
post-update loss as a function of θ and α · outer optimiser: Adam on both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from algorithms.settings import AdamSettings, GradientMethodSettings, MetaGradientName, PositiveRate
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner


class MetaSGDSettings(GradientMethodSettings):
    """As for MAML; the inner learning rates are where the step sizes of actor and critic begin.

    The paper moves θ and α at one outer rate, as ``rate_lr_factor`` 1 does, and clamps nothing.
    """

    adaptation_steps: Annotated[int, Field(ge=1)] = 1
    meta_gradient: MetaGradientName
    rate_lr_factor: PositiveRate = 1.0
    """Outer learning rates of the step sizes, as a multiple of those of the networks they belong to."""

    def step_size_adam(self) -> AdamSettings:
        """The outer optimiser of the step sizes."""
        return self.adam(self.rate_lr_factor * self.actor_outer_lr, self.rate_lr_factor * self.critic_outer_lr)


def build(settings: MetaSGDSettings, suite: Suite) -> MetaLearner:
    """Meta-SGD on a suite."""
    from algorithms.step_sizes import LearnedSteps, StepSizeUpdate
    from algorithms.values import Critic

    return LearnedSteps(settings, suite, Critic(settings, suite), StepSizeUpdate(settings))


META_SGD = Declaration(name="meta_sgd", version=1, settings=MetaSGDSettings, build="algorithms.meta_sgd:build")

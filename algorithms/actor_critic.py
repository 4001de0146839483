"""The family of the replication report, policy and meta-learned critic: any inner surrogate, by composition.

    inner surrogate   score_function, lvc, likelihood_ratio, dice, clipped; with an early stop by divergence
    adaptation        any number of gradient steps, on fresh or reused data
    outer objective   post-update loss, differentiated through the adaptation or at the adapted parameters only
    outer optimiser   Adam, the tasks weighted equally or by agreement; or TRPO for the actor and Adam for the critic

``fomaml`` and ``maml`` are the score function on fresh data with equal weights, first and second order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from algorithms.settings import (
    ActorCriticMethodSettings,
    AdamSettings,
    MetaGradientName,
    OuterAdamSettings,
    PositiveRate,
    TrustRegionSettings,
)
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner, OuterUpdate
    from algorithms.surrogates import Surrogate


class ActorCriticChoices(ActorCriticMethodSettings):
    """What an adaptation step of the actor descends, and whether the meta-gradient passes through it.

    A step from the policy that sampled has a likelihood ratio of 1: ``clip_ratio`` and ``target_kl`` act from the
    second step on the same data on, that is with ``adaptation_data: reused``.
    """

    inner_surrogate: Literal["score_function", "lvc", "likelihood_ratio", "dice", "clipped"]
    clip_ratio: PositiveRate | None = None
    """ε of the clipped surrogate."""
    target_kl: PositiveRate | None = None
    """Stop the actor of a task on a batch once it has diverged by 1.5 times this; null: never."""
    meta_gradient: MetaGradientName

    @model_validator(mode="after")
    def _keys_of_the_surrogate(self) -> Self:
        name = self.inner_surrogate
        if (self.clip_ratio is not None) != (name == "clipped"):
            raise ValueError("clip_ratio is required with the clipped surrogate and has no meaning without it")
        if self.target_kl is not None and name not in ("clipped", "likelihood_ratio"):
            raise ValueError(f"target_kl belongs to clipped and likelihood_ratio; the inner surrogate is {name}")
        if name == "dice" and self.unused_slots != "excluded":
            raise ValueError(f"unused_slots: dice multiplies along an episode, {self.unused_slots} slots are of none")
        return self


class ActorCriticSettings(ActorCriticChoices, OuterAdamSettings):
    """Adam outside, on actor and critic."""

    actor_outer_lr: PositiveRate
    critic_outer_lr: PositiveRate
    task_weights: Literal["equal", "agreement"] = "equal"
    """``agreement``: a task counts for as much as its gradient agrees with the others (Eshratifar et al. 2018)."""

    def outer_adam(self) -> AdamSettings:
        """The outer optimiser's part of these settings."""
        return self.adam(self.actor_outer_lr, self.critic_outer_lr)


class ActorCriticTRPOSettings(ActorCriticChoices, TrustRegionSettings, OuterAdamSettings):
    """TRPO on the actor outside, Adam on the critic: its rate, and all keys of Adam, are the critic's."""

    critic_outer_lr: PositiveRate

    def outer_adam(self) -> AdamSettings:
        """The critic's optimiser; there is no actor in it whose rate could matter."""
        return self.adam(self.critic_outer_lr, self.critic_outer_lr)


def build(settings: ActorCriticSettings, suite: Suite) -> MetaLearner:
    """A learner with Adam outside."""
    from algorithms.outer_updates import AdamUpdate
    from algorithms.task_weights import weighted

    meta_gradient = weighted(settings.meta_gradient, settings.task_weights)
    return _learner(settings, suite, AdamUpdate(settings.outer_adam(), meta_gradient))


def build_trpo(settings: ActorCriticTRPOSettings, suite: Suite) -> MetaLearner:
    """A learner with TRPO on the actor and Adam on the critic outside."""
    from algorithms.actor_trust_region import ActorTrustRegion
    from algorithms.meta_gradients import first_order, second_order

    through = settings.meta_gradient == "second_order"
    outer = ActorTrustRegion(settings, settings.outer_adam(), second_order if through else first_order, through)
    return _learner(settings, suite, outer)


def _learner(settings: ActorCriticChoices, suite: Suite, outer: OuterUpdate) -> MetaLearner:
    from algorithms.meta_learner import MetaLearner, Objectives
    from algorithms.values import Critic

    objectives = Objectives(
        inner=_inner(settings, suite.horizon),
        old_policy=settings.inner_surrogate in ("likelihood_ratio", "clipped"),
        stepwise=settings.inner_surrogate not in ("dice", "clipped"),
    )
    return MetaLearner(settings, suite, Critic(settings, suite), outer, objectives)


def _inner(settings: ActorCriticChoices, horizon: int) -> Surrogate:
    from functools import partial

    from algorithms.surrogates import clipped, surrogate, until_moved

    if settings.inner_surrogate == "clipped":
        assert settings.clip_ratio is not None
        chosen: Surrogate = partial(clipped, clip_ratio=settings.clip_ratio)
    else:
        chosen = surrogate(settings.inner_surrogate, horizon)
    if settings.target_kl is None:
        return chosen
    return partial(until_moved, surrogate=chosen, target_kl=settings.target_kl)


ACTOR_CRITIC = Declaration(
    name="actor_critic", version=1, settings=ActorCriticSettings, build="algorithms.actor_critic:build"
)
ACTOR_CRITIC_TRPO = Declaration(
    name="actor_critic_trpo", version=1, settings=ActorCriticTRPOSettings, build="algorithms.actor_critic:build_trpo"
)

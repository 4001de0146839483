"""The family of the ProMP paper (Rothfuss et al. 2019): any inner surrogate, any outer optimiser, by composition.

    inner surrogate   score_function, lvc, likelihood_ratio, dice
    adaptation        any number of gradient steps, on fresh or reused data, differentiated through
    outer objective   post-update return; beside it a credit to the pre-update policies (formulation II), or a penalty
                      on how far they move
    outer optimiser   gradient descent or Adam (VPG), TRPO, several clipped Adam steps

``policy_search_vpg``, ``policy_search_trpo`` and ``policy_search_proximal`` leave every choice to the study. The named
methods of the papers fix theirs: see lvc.py, dice.py, emaml.py, maml_vpg.py and promp.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from algorithms.settings import (
    BaselineMethodSettings,
    BaselineName,
    CreditName,
    OuterAdamSettings,
    PositiveRate,
    Rate,
    SurrogateName,
    TrustRegionMethodSettings,
)
from harness.api import Declaration, Settings, Suite

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner, OuterUpdate
    from algorithms.pre_update import PreUpdateTerm
    from algorithms.surrogates import Surrogate


class InnerChoice(BaselineMethodSettings):
    """The inner surrogate and the baseline of its advantages."""

    inner_surrogate: SurrogateName
    baseline: BaselineName = "linear_features"


class VPGSettings(InnerChoice, OuterAdamSettings):
    """Vanilla policy gradient outside: one step of Adam, or of plain gradient descent."""

    credit: CreditName
    outer_optimiser: Literal["adam", "sgd"] = "adam"
    outer_lr: PositiveRate

    @model_validator(mode="after")
    def _adam_keys(self) -> Self:
        # By their values: settings that went through a file name every key.
        fields = OuterAdamSettings.model_fields.items()
        mine = sorted(name for name, field in fields if getattr(self, name) != field.default)
        if self.outer_optimiser == "sgd" and mine:
            raise ValueError(f"{mine[0]} belongs to Adam; the outer optimiser is sgd")
        return self


class TRPOSettings(InnerChoice, TrustRegionMethodSettings):
    """TRPO on the post-update policies outside."""

    credit: CreditName


class ProximalSettings(InnerChoice, OuterAdamSettings):
    """Several Adam steps on the clipped post-update objective, held near the pre-update policies that sampled."""

    outer_lr: PositiveRate
    outer_steps: Annotated[int, Field(ge=1)] = 5
    clip_ratio: PositiveRate = 0.3
    kl_coefficient: Rate = 0.0005
    """η of the penalty on KL(π_old, π) of every pre-update policy; with several rounds each has η over their number."""
    kl_target: PositiveRate | None = None
    """Halve or double η after every meta-iteration so that the divergence comes to about this; null: η is fixed."""

    @model_validator(mode="after")
    def _something_to_adapt(self) -> Self:
        if self.kl_target is not None and self.kl_coefficient == 0.0:
            raise ValueError("kl_target: a kl_coefficient of 0 stays 0, however often it is doubled")
        return self


def build_vpg(settings: VPGSettings, suite: Suite) -> MetaLearner:
    """A learner with vanilla policy gradient outside."""
    from algorithms.optimisers import Adam, Sgd
    from algorithms.outer_updates import SeveralSteps
    from algorithms.surrogates import score_function

    adam = settings.outer_optimiser == "adam"
    optimiser = Adam(settings.adam(settings.outer_lr, settings.outer_lr)) if adam else Sgd(settings.outer_lr)
    return _learner(settings, suite, SeveralSteps(optimiser, 1), score_function, _credit(settings, suite))


def build_trpo(settings: TRPOSettings, suite: Suite) -> MetaLearner:
    """A learner with TRPO outside."""
    from algorithms.outer_updates import TrustRegionUpdate
    from algorithms.surrogates import score_function

    outer = TrustRegionUpdate(settings, through_adaptation=True)
    return _learner(settings, suite, outer, score_function, _credit(settings, suite))


def build_proximal(settings: ProximalSettings, suite: Suite) -> MetaLearner:
    """A learner with several clipped Adam steps outside."""
    from functools import partial

    from algorithms.optimisers import Adam
    from algorithms.outer_updates import SeveralSteps
    from algorithms.pre_update import ProximityPenalty
    from algorithms.surrogates import clipped

    outer = SeveralSteps(Adam(settings.adam(settings.outer_lr, settings.outer_lr)), settings.outer_steps)
    post = partial(clipped, clip_ratio=settings.clip_ratio)
    return _learner(settings, suite, outer, post, ProximityPenalty(settings.kl_coefficient, settings.kl_target))


def _credit(settings: VPGSettings | TRPOSettings, suite: Suite) -> PreUpdateTerm | None:
    from algorithms.pre_update import PreUpdateCredit

    if settings.credit == "none":
        return None
    return PreUpdateCredit(settings.credit, settings.inner_lr, suite.horizon)


def _learner(
    settings: InnerChoice, suite: Suite, outer: OuterUpdate, post: Surrogate, beside: PreUpdateTerm | None
) -> MetaLearner:
    from algorithms.meta_learner import MetaLearner, Objectives
    from algorithms.surrogates import score_function, surrogate
    from algorithms.values import LinearBaseline

    proximal = post is not score_function
    objectives = Objectives(
        inner=surrogate(settings.inner_surrogate, suite.horizon),
        outer=post,
        beside=beside,
        old_policy=proximal or settings.inner_surrogate == "likelihood_ratio",
        stepwise=not proximal and settings.inner_surrogate != "dice" and (beside is None or beside.stepwise),
    )
    return MetaLearner(settings, suite, LinearBaseline(settings, suite, settings.baseline), outer, objectives)


def method(name: str, settings: type[Settings], outer: Literal["vpg", "trpo", "proximal"]) -> Declaration:
    """A registry entry of the family."""
    return Declaration(name=name, version=1, settings=settings, build=f"algorithms.policy_search:build_{outer}")


POLICY_SEARCH_VPG = method("policy_search_vpg", VPGSettings, "vpg")
POLICY_SEARCH_TRPO = method("policy_search_trpo", TRPOSettings, "trpo")
POLICY_SEARCH_PROXIMAL = method("policy_search_proximal", ProximalSettings, "proximal")

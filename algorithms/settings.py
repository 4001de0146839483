"""Settings of the methods: every hyperparameter that a study file may name. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from harness.api import Settings

Rate = Annotated[float, Field(ge=0)]
PositiveRate = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Sizes = Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(strict=False)]
Betas = Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]], Field(strict=False)]
Schedule = Literal["constant", "cosine"]
SurrogateName = Literal["score_function", "lvc", "likelihood_ratio", "dice"]
"""Inner objectives; see :mod:`algorithms.surrogates`."""
MetaGradientName = Literal["first_order", "second_order"]
"""Whether the adaptation is differentiated through; see :mod:`algorithms.meta_gradients`."""
BaselineName = Literal["linear_features", "linear_time", "none"]
"""What is subtracted from returns; see :class:`algorithms.values.LinearBaseline`."""
CreditName = Literal["none", "paper", "derived", "released"]
"""Pre-update credits of formulation II; see :class:`algorithms.pre_update.PreUpdateCredit`."""


def _require_period(schedule: Schedule, period: int | None, key: str, info: ValidationInfo) -> None:
    """A period with a cosine and only there, and not over before the training is: the cosine would rise again."""
    if (schedule == "cosine") != (period is not None):
        raise ValueError(f"{key} is required with a cosine schedule and has no meaning without one")
    updates = (info.context or {}).get("updates", 0)
    if period is not None and period < updates:
        raise ValueError(f"{key} is {period}, but there are {updates} updates: the rate would rise again")


class AdamSettings(Settings):
    """Adam with separate rates for actor and critic (Kingma & Ba 2015), optionally annealed.

    ``cosine``: rate * (1 + cos(π k / period)) / 2 at update k = 0, 1, ... (Loshchilov & Hutter 2017, eq. 5).
    """

    actor_lr: PositiveRate
    critic_lr: PositiveRate
    betas: Betas = (0.9, 0.999)
    epsilon: PositiveRate = 1e-8
    schedule: Schedule = "constant"
    schedule_period: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _period(self, info: ValidationInfo) -> AdamSettings:
        _require_period(self.schedule, self.schedule_period, "schedule_period", info)
        return self


class InnerRuleSettings(Settings):
    """The adaptation rule that was meta-trained: no settings of its own."""


class ScaledInnerRuleSettings(Settings):
    """The adaptation rule that was meta-trained, with step sizes of its own: shorter ones after the first, say."""

    factors: Annotated[tuple[Rate, ...], Field(strict=False, min_length=1)]
    """What the inner learning rates are multiplied with, one factor for every update of the protocol."""

    @model_validator(mode="after")
    def _one_for_every_update(self, info: ValidationInfo) -> Self:
        updates = (info.context or {}).get("updates")
        if updates is not None and updates != len(self.factors):
            raise ValueError(f"factors: one is needed for each of the {updates} updates, found {len(self.factors)}")
        return self


class ActorSettings(Settings):
    """The policy network. Where actions are vectors it is a Gaussian with a learned standard deviation that does not
    depend on the state, adapted in the inner loop like every other parameter; where they are finitely many, a softmax.
    """

    actor_hidden_sizes: Sizes = (100, 100)
    hidden_activation: Literal["relu", "tanh"] = "relu"
    actor_output_activation: Literal["tanh", "linear"] = "tanh"
    initial_log_std: float = -0.5
    initialisation: Literal["uniform_fan_in", "xavier_uniform"] = "uniform_fan_in"
    """``uniform_fan_in`` draws weights and biases, ``xavier_uniform`` weights only and leaves the biases at zero."""

    @model_validator(mode="after")
    def _gaussian_keys(self, info: ValidationInfo) -> Self:
        for key in ("actor_output_activation", "initial_log_std"):
            if "a finite set of actions" in (info.context or {}).get("provides", ()) and key in self.model_fields_set:
                raise ValueError(f"{key} belongs to a Gaussian policy; this suite has a finite set of actions")
        return self


class AdvantageSettings(Settings):
    """How returns become advantages; see :mod:`algorithms.advantages`."""

    discount: Annotated[float, Field(gt=0, le=1)] = 0.99
    gae_lambda: Fraction = 0.97
    standardise_advantages: bool = True


class OuterAdamSettings(Settings):
    """Adam on the meta-parameters, apart from its rates."""

    outer_betas: Betas = (0.9, 0.999)
    outer_epsilon: PositiveRate = 1e-8
    outer_schedule: Schedule = "constant"
    outer_schedule_period: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _outer_period(self, info: ValidationInfo) -> Self:
        _require_period(self.outer_schedule, self.outer_schedule_period, "outer_schedule_period", info)
        return self

    def adam(self, actor_lr: float, critic_lr: float) -> AdamSettings:
        """These settings with rates."""
        return AdamSettings(
            actor_lr=actor_lr,
            critic_lr=critic_lr,
            betas=self.outer_betas,
            epsilon=self.outer_epsilon,
            schedule=self.outer_schedule,
            schedule_period=self.outer_schedule_period,
        )


class LearnedCriticSettings(ActorSettings, AdvantageSettings):
    """Actor and critic as separate networks, both adapted and meta-learned."""

    critic_hidden_sizes: Sizes = (100, 100)
    bootstrap_timeouts: bool = True
    """Add the critic's value of the last observation where the horizon cut an episode, also when the goal was reached
    exactly at that step, as the released code does; off: a time-out counts as an end."""
    unused_slots: Literal["excluded", "zeros", "stale"] = "excluded"
    """What fills the time steps after an early termination: nothing (every mean is over valid steps), zeros, or what
    was left in a re-used buffer. ``stale`` is the released code's way: a fresh buffer, zeros, for the inner update of
    meta-training; one buffer for all tasks and iterations after it, and in pretraining; one per task at meta-test."""

    adaptation_steps: Annotated[int, Field(ge=0)] = 1
    actor_inner_lr: Rate
    critic_inner_lr: Rate

    @model_validator(mode="after")
    def _slots_fit_the_meta_test(self, info: ValidationInfo) -> Self:
        """Where a protocol counts steps, tasks have different numbers of episodes: there is no buffer of fixed size."""
        if self.unused_slots != "excluded" and (steps := (info.context or {}).get("steps")):
            raise ValueError(
                f"unused_slots is {self.unused_slots}, but protocol {steps[0]} has steps_per_task; make it excluded, "
                "or say under protocols of the method which others it is measured under"
            )
        return self

    @property
    def inner_rates(self) -> tuple[float, float]:
        """Inner learning rates of actor and critic."""
        return self.actor_inner_lr, self.critic_inner_lr


class GradientMethodSettings(LearnedCriticSettings, OuterAdamSettings):
    """The methods of the replication report; names as in its Tables 3.2 and A.1."""

    actor_outer_lr: PositiveRate
    critic_outer_lr: PositiveRate

    @property
    def adaptation_data(self) -> str:
        """Every step has its own data."""
        return "fresh"

    def outer_adam(self) -> AdamSettings:
        """The outer optimiser's part of these settings."""
        return self.adam(self.actor_outer_lr, self.critic_outer_lr)


class ActorCriticMethodSettings(LearnedCriticSettings):
    """The same networks, where a study chooses on which data the adaptation steps are taken."""

    adaptation_data: Literal["fresh", "reused"] = "fresh"
    """Whether every adaptation step samples its own episodes, or all steps are epochs on the same ones."""


class BaselineMethodSettings(ActorSettings, AdvantageSettings):
    """A policy network beside a linear baseline that is fitted anew to every batch and not meta-learned."""

    baseline_ridge: PositiveRate = 1e-5
    """Penalty of the baseline's least squares."""
    adaptation_steps: Annotated[int, Field(ge=0)] = 1
    adaptation_data: Literal["fresh", "reused"] = "fresh"
    """Whether every adaptation step samples its own episodes, or all steps are taken on the same ones."""
    inner_lr: Rate

    @property
    def inner_rates(self) -> tuple[float, float]:
        """Inner learning rate; there is no critic to adapt."""
        return self.inner_lr, self.inner_lr


class TrustRegionSettings(Settings):
    """A step of TRPO (Schulman et al. 2015, appendix C); defaults as in the released code of Deleu et al."""

    max_kl: PositiveRate = 0.01
    cg_iterations: Annotated[int, Field(ge=1)] = 10
    cg_damping: Rate = 1e-5
    line_search_steps: Annotated[int, Field(ge=1)] = 15
    line_search_factor: Annotated[float, Field(gt=0, lt=1)] = 0.8


class TrustRegionMethodSettings(TrustRegionSettings, BaselineMethodSettings):
    """TRPO outside."""


class ReptileSettings(BaselineMethodSettings, OuterAdamSettings):
    """Adam on the way from the meta-parameters to the adapted ones."""

    outer_lr: PositiveRate

    def outer_adam(self) -> AdamSettings:
        """The outer optimiser's part of these settings."""
        return self.adam(self.outer_lr, self.outer_lr)


class FixedSettings(Settings):
    """A learner with nothing to choose, and so nothing to train."""

    @model_validator(mode="after")
    def _no_meta_iterations(self, info: ValidationInfo) -> Self:
        if updates := (info.context or {}).get("updates", 0):
            raise ValueError(f"there is nothing to train: the budget must have 0 meta_iterations, not {updates}")
        return self


class CandidateSettings(Settings):
    """Values to choose from, in one meta-iteration."""

    candidates: Annotated[tuple[float, ...], Field(strict=False, min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _one_meta_iteration(self, info: ValidationInfo) -> Self:
        updates, needed = (info.context or {}).get("updates"), int(len(self.candidates) > 1)
        if updates is not None and updates != needed:
            raise ValueError(
                f"{len(self.candidates)} candidates need meta_iterations: {needed} in their budget, not {updates}"
            )
        return self

"""Settings of the methods: every hyperparameter that a study file may name. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, model_validator

from harness.api import Settings

Rate = Annotated[float, Field(ge=0)]
PositiveRate = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Sizes = Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(strict=False)]
Betas = Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]], Field(strict=False)]
Schedule = Literal["constant", "cosine"]


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


class GradientMethodSettings(Settings):
    """What every gradient-based method here has; names follow the replication report's Tables 3.2 and A.1.

    Actor and critic are separate networks. The actor is a Gaussian with a learned standard deviation that does not
    depend on the state; it is adapted in the inner loop like every other parameter.
    """

    actor_hidden_sizes: Sizes = (100, 100)
    critic_hidden_sizes: Sizes = (100, 100)
    hidden_activation: Literal["relu", "tanh"] = "relu"
    actor_output_activation: Literal["tanh", "linear"] = "tanh"
    initial_log_std: float = -0.5
    initialisation: Literal["uniform_fan_in", "xavier_uniform"] = "uniform_fan_in"

    discount: Fraction = 0.99
    gae_lambda: Fraction = 0.97
    bootstrap_timeouts: bool = True
    """Add the critic's value of the last observation where the horizon cut an episode, also when the goal was reached
    exactly at that step, as the released code does; off: a time-out counts as an end."""
    standardise_advantages: bool = True
    unused_slots: Literal["excluded", "zeros", "stale"] = "excluded"
    """What fills the time steps after an early termination: nothing (every mean is over valid steps), zeros, or what
    was left in a re-used buffer. ``stale`` is the released code's way: a fresh buffer, zeros, for the inner update of
    meta-training; one buffer for all tasks and iterations after it, and in pretraining; one per task at meta-test."""

    adaptation_steps: Annotated[int, Field(ge=0)] = 1
    actor_inner_lr: Rate
    critic_inner_lr: Rate

    actor_outer_lr: PositiveRate
    critic_outer_lr: PositiveRate
    outer_betas: Betas = (0.9, 0.999)
    outer_epsilon: PositiveRate = 1e-8
    outer_schedule: Schedule = "constant"
    outer_schedule_period: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _outer_period(self, info: ValidationInfo) -> GradientMethodSettings:
        _require_period(self.outer_schedule, self.outer_schedule_period, "outer_schedule_period", info)
        return self

    def outer_adam(self) -> AdamSettings:
        """The outer optimiser's part of these settings."""
        return AdamSettings(
            actor_lr=self.actor_outer_lr,
            critic_lr=self.critic_outer_lr,
            betas=self.outer_betas,
            epsilon=self.outer_epsilon,
            schedule=self.outer_schedule,
            schedule_period=self.outer_schedule_period,
        )

"""Locomotion: bodies that have to run, each task in its own way (Finn et al. 2017; Rothfuss et al. 2019)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from harness.api import Declaration, Settings
from suites.locomotion.environments import LOG_SCALE_LIMIT, PARAMETERS, Environment, environment, variants_of

EnvironmentName = Literal[
    "half_cheetah_fwd_back",
    "ant_fwd_back",
    "walker_fwd_back",
    "humanoid_fwd_back",
    "ant_rand_direc",
    "humanoid_rand_direc",
    "ant_rand_goal",
    "hopper_rand_params",
    "walker_rand_params",
    "walker_rand_vel",
    "half_cheetah_goal_direction",
    "half_cheetah_goal_velocity",
    "ant_goal_direction",
    "ant_goal_velocity",
    "ant_goal_position",
]
"""The ten of Rothfuss et al. 2019, of which WalkerRandVel is in their code only; then those of Finn et al. 2017, to
whose code the ant's positions came after the paper."""


class LocomotionSettings(Settings):
    """Settings of the suite."""

    environment: EnvironmentName
    """Body, tasks, reward and ends; see :mod:`suites.locomotion.environments`."""
    variant: Literal["released", "paper", "deadline"] = "released"
    """``released``: as the released code has it. ``paper``: as the paper's text has it, where that differs.
    ``deadline``: the goal velocities of the code of Finn et al. at the time of the paper."""
    horizon: Annotated[int, Field(ge=1)] | None = None
    """Control steps of an episode; null: the environment's own."""
    policy_range: Annotated[float, Field(gt=0)] | None = None
    """Actions in [-policy_range, policy_range] cover the range of the body's controls; those beyond are clipped. Costs
    are of the controls, not of the actions. Null: the environment's own, 10 in the code of Rothfuss et al., 1 in that
    of Finn et al."""
    observe_task: bool = False
    """Whether the policy is told its task: the oracle of Finn et al."""
    log_scale_limit: Annotated[float, Field(gt=0, le=10)] = LOG_SCALE_LIMIT
    """Largest exponent of the factors on the body's parameters; only for environments that draw these."""

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        known = variants_of(self.environment)
        if self.variant not in known:
            raise ValueError(f"{self.environment} has no variant {self.variant!r}; it has {' and '.join(known)}")
        draws_parameters = self.described.goals.kind == PARAMETERS
        if self.log_scale_limit != LOG_SCALE_LIMIT and not draws_parameters:
            raise ValueError(f"log_scale_limit: {self.environment} draws no parameters of the body")
        if self.observe_task and draws_parameters:
            raise ValueError(f"observe_task: the tasks of {self.environment} are bodies, not goals to be told")
        return self

    @property
    def described(self) -> Environment:
        """What the name and the variant stand for."""
        return environment(self.environment, self.variant)


SUITE = Declaration(
    name="locomotion",
    version=1,
    settings=LocomotionSettings,
    build="suites.locomotion.simulation:Locomotion",
    provides=frozenset({"pictures of its tasks"}),
    packages=("mujoco", "numba"),
)

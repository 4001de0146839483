"""What each environment asks of which body: tasks, reward, ends and sizes, as data.

Sources: Rothfuss et al. 2019, appendix D.2, and the environments released with it; the package of bodies with random
parameters that these use; the environments that Finn et al. 2017 released, on rllab's models. What a paper's text and
its released code say differently is a variant.

``v`` is the velocity of the torso (half-cheetah, hopper, walker: along the track; ant: in the plane) or of the centre
of mass (humanoid), over one control step; ``a`` are the controls; ``f`` the contact forces on all bodies, clipped to
±1 for the ant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

LOG_SCALE_LIMIT = 3.0
"""Published limit of the exponents by which parameters of bodies are scaled."""
DIRECTION, PLANE_DIRECTION, VELOCITY, POSITION, PARAMETERS = (
    "direction",
    "plane_direction",
    "velocity",
    "position",
    "parameters",
)


@dataclass(frozen=True)
class Goals:
    """How a task is drawn.

    ``direction``: -1 or 1. ``plane_direction``: a unit vector, uniform. ``velocity``: uniform between ``low`` and
    ``high``. ``position``: uniform in the ``shape``. ``parameters``: a factor for every entry of the named arrays.
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    shape: str = ""
    arrays: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reward:
    """Pay of a control step.

    direction, plane_direction, parameters   progress · ⟨u, v⟩             u: the task, or forward
    velocity                                 offset - |v - g|
    position                                 offset - ‖p - g‖              L1 or Euclidean (``norm``)
    and in all cases                         + alive - control_cost Σ a² - min(contact_cost Σ f², contact_most)
    """

    control_cost: float
    contact_cost: float = 0.0
    contact_most: float = float("inf")
    alive: float = 0.0
    progress: float = 1.0
    offset: float = 0.0
    norm: float = 1.0


@dataclass(frozen=True)
class Healthy:
    """Outside of these an episode ends; bounds of the height belong to the healthy side where ``closed``.

    ``rest``: most that any other position or velocity may be, beyond the coordinates along which the body travels.
    """

    height: tuple[float, float]
    angle: float = float("inf")
    rest: float = float("inf")
    closed: bool = False


@dataclass(frozen=True)
class Environment:
    """Everything but the body itself, which is gymnasium's."""

    body: str
    goals: Goals
    reward: Reward
    healthy: Healthy | None
    frame_skip: int
    horizon: int
    policy_range: float = 10.0
    sees_position: bool = False
    normal_start: tuple[float, float] | None = None
    """Standard deviations of positions and velocities at the start, where they are not the body's own."""


_TWO_WAYS = Goals(DIRECTION)
_ANY_WAY = Goals(PLANE_DIRECTION)
_ANT_COSTS = Reward(control_cost=0.5, contact_cost=5e-4, alive=1.0)
_ANT_UPRIGHT = Healthy((0.0, 1.0), closed=True)
_WALKER_UPRIGHT = Healthy((0.8, 2.0), angle=1.0)
_HOPPER_UPRIGHT = Healthy((0.7, float("inf")), angle=0.2, rest=100.0)
_HUMANOID_COSTS = Reward(control_cost=0.1, contact_cost=5e-7, contact_most=10.0, alive=5.0, progress=1.25)
_HUMANOID_UPRIGHT = Healthy((1.0, 2.0), closed=True)
_DYNAMICS = Goals(PARAMETERS, arrays=("body_mass", "body_inertia", "geom_friction", "dof_damping"))
_RUNNING = Reward(control_cost=1e-3, alive=1.0)
_FINN_ANT = Reward(control_cost=5e-3, contact_cost=5e-4, alive=0.05)
_FINN_UPRIGHT = Healthy((0.2, 1.0), closed=True)

# The released bodies with random parameters have a time step of 0.004 s and four of them per control step;
# gymnasium's have 0.002 s, hence eight.
_PROMP = {
    "half_cheetah_fwd_back": Environment("half_cheetah", _TWO_WAYS, Reward(control_cost=0.05), None, 5, 100),
    "ant_fwd_back": Environment("ant", _TWO_WAYS, _ANT_COSTS, _ANT_UPRIGHT, 5, 100),
    "walker_fwd_back": Environment("walker", _TWO_WAYS, _RUNNING, _WALKER_UPRIGHT, 8, 200),
    "humanoid_fwd_back": Environment("humanoid", _TWO_WAYS, _HUMANOID_COSTS, _HUMANOID_UPRIGHT, 5, 200),
    "ant_rand_direc": Environment("ant", _ANY_WAY, _ANT_COSTS, _ANT_UPRIGHT, 5, 100),
    "humanoid_rand_direc": Environment("humanoid", _ANY_WAY, _HUMANOID_COSTS, _HUMANOID_UPRIGHT, 5, 200),
    "ant_rand_goal": Environment(
        "ant", Goals(POSITION, high=3.0, shape="disc"), Reward(control_cost=0.1, contact_cost=5e-4), None, 5, 200,
        sees_position=True,
    ),
    "hopper_rand_params": Environment("hopper", _DYNAMICS, _RUNNING, _HOPPER_UPRIGHT, 8, 200),
    "walker_rand_params": Environment("walker", _DYNAMICS, _RUNNING, _WALKER_UPRIGHT, 8, 200),
    "walker_rand_vel": Environment(
        "walker", Goals(VELOCITY, high=10.0), Reward(control_cost=1e-3, alive=15.0), _WALKER_UPRIGHT, 8, 200
    ),
}  # fmt: skip


def _finn(body: str, goals: Goals, reward: Reward, healthy: Healthy | None, frame_skip: int) -> Environment:
    """An environment of Finn et al.: control steps of rllab's models, positions observed, its starts."""
    return Environment(
        body, goals, reward, healthy, frame_skip, 200, policy_range=1.0, sees_position=True, normal_start=(0.01, 0.1)
    )


# One step of rllab's models per control step: 0.01 s for the half-cheetah, 0.02 s for the ant.
_FINN = {
    "half_cheetah_goal_direction": _finn("half_cheetah", _TWO_WAYS, Reward(control_cost=0.05), None, 1),
    "half_cheetah_goal_velocity": _finn("half_cheetah", Goals(VELOCITY, high=2.0), Reward(control_cost=0.05), None, 1),
    "ant_goal_direction": _finn("ant", _TWO_WAYS, _FINN_ANT, _FINN_UPRIGHT, 2),
    "ant_goal_velocity": _finn("ant", Goals(VELOCITY, high=3.0), replace(_FINN_ANT, offset=1.0), _FINN_UPRIGHT, 2),
    "ant_goal_position": _finn(
        "ant", Goals(POSITION, high=3.0, shape="square"), replace(_FINN_ANT, offset=4.0), _FINN_UPRIGHT, 2
    ),
}
_DEADLINE = Goals(VELOCITY, low=0.1, high=0.8)
_RELEASED = _PROMP | _FINN


def _without_bonus(found: Environment) -> Environment:
    """The reward as appendix D.2 has it: velocity minus control costs."""
    return replace(found, reward=replace(found.reward, contact_cost=0.0, alive=0.0, progress=1.0))


_VARIANTS: dict[str, dict[str, Environment]] = {
    "paper": {
        name: _without_bonus(_PROMP[name])
        for name in ("ant_fwd_back", "walker_fwd_back", "humanoid_fwd_back", "ant_rand_direc", "humanoid_rand_direc")
    }
    | {
        # "randomly chosen from a circle", "a penalty equal to the distance"; how large the circle is it does not say.
        "ant_rand_goal": replace(
            _PROMP["ant_rand_goal"],
            goals=Goals(POSITION, high=3.0, shape="circle"),
            reward=Reward(control_cost=0.0, norm=2.0),
        )
    }
    | {
        # "friction, joint mass, and inertia", "a reward equal to its velocity".
        name: replace(
            _PROMP[name],
            goals=Goals(PARAMETERS, arrays=("body_mass", "body_inertia", "geom_friction")),
            reward=Reward(control_cost=0.0),
        )
        for name in ("hopper_rand_params", "walker_rand_params")
    },
    "deadline": {
        name: replace(_FINN[name], goals=_DEADLINE) for name in ("half_cheetah_goal_velocity", "ant_goal_velocity")
    },
}


def variants_of(name: str) -> list[str]:
    """The variants that an environment has, ``released`` first."""
    return ["released", *(variant for variant, known in _VARIANTS.items() if name in known)]


def environment(name: str, variant: str) -> Environment:
    """An environment by name and variant. Errors: KeyError for an unknown one."""
    return _RELEASED[name] if variant == "released" else _VARIANTS[variant][name]

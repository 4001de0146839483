"""Every suite as gymnasium environments, over the very dynamics that the harness simulates.

Importing this module registers them. ``gymnasium.make("metarepro/Navigation2D-v0", observe_goal=True)`` takes a
suite's settings as keywords; ``gymnasium.make_vec(..., num_envs=8, vectorization_mode="vector_entry_point")`` steps all
copies as one batch.

An episode does not choose its task. The first ``reset`` draws one, later resets keep it, ``reset(seed=...)`` draws
again, and ``reset(options={"task": {...}})`` sets it (``"tasks"``, with a leading axis of copies, for the vector
environment).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, Space
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from harness.api import Suite, Tasks
from suites import SUITES
from suites.locomotion import EnvironmentName

Array = NDArray[Any]

LOCOMOTION = {
    f"metarepro/{''.join(part.capitalize() for part in name.split('_'))}-v0": name for name in get_args(EnvironmentName)
}
"""HalfCheetahFwdBack, AntRandGoal, ...: each of the locomotion environments under its paper's name."""
ENVIRONMENTS = {
    "metarepro/Navigation2D-v0": "navigation",
    "metarepro/BernoulliBandit-v0": "bandits",
    "metarepro/TabularMDP-v0": "tabular_mdp",
    "metarepro/Point1D-v0": "point_1d",
    "metarepro/PointCorners-v0": "point_corners",
} | dict.fromkeys(LOCOMOTION, "locomotion")
"""Gymnasium ids, and the suites behind them."""
DEFAULTS: dict[str, dict[str, Any]] = {"metarepro/BernoulliBandit-v0": {"arms": 5}} | {
    name: {"environment": environment} for name, environment in LOCOMOTION.items()
}
"""Settings that an environment has unless the caller says otherwise, where the suite itself has no default."""


def _suite(name: str, settings: dict[str, Any]) -> Suite:
    """Errors: ValueError (pydantic's) for settings; ImportError for a package that is not installed."""
    declaration = SUITES[name]
    if lacking := declaration.lacking():
        raise ImportError(lacking)
    suite: Suite = declaration.load()(declaration.settings.model_validate(settings))
    return suite


def _spaces(suite: Suite) -> tuple[Space[Any], Space[Any]]:
    """Observation and action space: whole numbers where there are finitely many, else vectors.

    Actions are within the suite's ``action_bound``, or within 1 where it names none.
    """
    observation: Space[Any] = Box(-np.inf, np.inf, (suite.observation_dim,), np.float32)
    if suite.observation_table is not None:
        observation = Discrete(suite.observation_table.shape[0])
    if suite.num_actions is not None:
        return observation, Discrete(suite.num_actions)
    bound = float(getattr(suite, "action_bound", 1.0))
    return observation, Box(-bound, bound, (suite.action_dim,), np.float32)


def _actions(suite: Suite, given: Any, copies: int) -> torch.Tensor:
    """Actions of all copies as the suite takes them, [copies, 1, action_dim].

    Errors: ValueError for an action outside a finite set, or for one of another shape or that is not finite.
    """
    if suite.num_actions is None:
        shapes = ((copies, suite.action_dim), (suite.action_dim,) if copies == 1 else ())
        vector = np.asarray(given)
        if vector.dtype.kind not in "fiu" or vector.shape not in shapes or not np.isfinite(vector).all():
            expected = shapes[copies == 1]
            raise ValueError(f"actions here are finite numbers of shape {expected}, found {given!r}")
        return torch.as_tensor(vector.astype(np.float32)).view(copies, 1, -1)
    chosen = np.asarray(given)
    if not np.issubdtype(chosen.dtype, np.integer) or not ((chosen >= 0) & (chosen < suite.num_actions)).all():
        raise ValueError(f"an action here is a whole number from 0 to {suite.num_actions - 1}, found {given!r}")
    return torch.as_tensor(chosen, dtype=torch.int64).view(copies, 1, 1)


def _observations(suite: Suite, observation: torch.Tensor) -> Array:
    """Observations [copies, 1, ...] of all copies as gymnasium gives them."""
    rows: Array = observation[:, 0].numpy().copy()
    return rows if suite.observation_table is None else rows[:, 0]


def _generator(random: np.random.Generator) -> torch.Generator:
    """A torch generator that the environment's own generator determines."""
    return torch.Generator().manual_seed(int(random.integers(2**31)))


def _given(options: dict[str, Any] | None, key: str, like: Tasks) -> dict[str, torch.Tensor] | None:
    """The task under ``key`` of the reset options, checked against the names and shapes of a drawn one; None if absent.

    Errors: ValueError for another option, another name, a wrong shape, or what is not a finite number.
    """
    if not options:
        return None
    if set(options) != {key}:
        raise ValueError(f"the only reset option here is {key!r}, found {sorted(options)}")
    task = options[key]
    if not isinstance(task, dict) or task.keys() != like.keys():
        raise ValueError(f"a task here is a dictionary with the keys {sorted(like)}, found {task!r}")
    tensors = {}
    for name, value in task.items():
        try:
            tensors[name] = torch.as_tensor(np.asarray(value, dtype=np.float64), dtype=like[name].dtype)
        except (TypeError, ValueError):
            raise ValueError(f"{name} must be numbers, found {value!r}") from None
        if tensors[name].shape != like[name].shape:
            raise ValueError(f"{name} must have shape {tuple(like[name].shape)}, found {tuple(tensors[name].shape)}")
        if not torch.isfinite(tensors[name]).all():
            raise ValueError(f"{name} must be finite, found {value!r}")
    return tensors


def _seeds(seed: int | Sequence[int | None] | None, copies: int) -> list[int | None]:
    """One seed, or None, per copy."""
    if seed is None:
        return [None] * copies
    if isinstance(seed, int | np.integer):
        return [int(seed) + index for index in range(copies)]
    if len(seed) != copies:
        raise ValueError(f"{copies} copies need as many seeds, found {len(seed)}")
    return list(seed)


class SuiteEnv(gymnasium.Env[Any, Any]):
    """One episode of one task at a time."""

    metadata = {"render_modes": []}  # noqa: RUF012  (gymnasium's own convention)

    def __init__(self, suite: str, **settings: Any) -> None:
        self._suite = _suite(suite, settings)
        self.observation_space, self.action_space = _spaces(self._suite)
        self._tasks: Tasks | None = None
        self._state: Any = None
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see the module's text for how the task is chosen."""
        super().reset(seed=seed)
        self._rng = _generator(self.np_random)
        drawn = self._suite.sample_tasks(1, self._rng)
        given = _given(options, "task", {name: tensor[0] for name, tensor in drawn.items()})
        tasks = self._tasks
        if given is not None:
            tasks = {name: value.unsqueeze(0) for name, value in given.items()}
        elif tasks is None or seed is not None:
            tasks = drawn
        self._state, observation = self._suite.reset(tasks, 1, self._rng)
        self._tasks = tasks  # not before: what the suite refuses is not kept
        self._steps = 0
        return _observations(self._suite, observation)[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step; the horizon truncates."""
        if self._tasks is None:
            raise RuntimeError("reset the environment before the first step")
        batch = _actions(self._suite, action, 1)
        self._state, observation, reward, terminated = self._suite.step(self._tasks, self._state, batch, self._rng)
        self._steps += 1
        ended = bool(terminated)
        truncated = self._steps >= self._suite.horizon and not ended
        return _observations(self._suite, observation)[0], float(reward), ended, truncated, {}


class SuiteVectorEnv(gymnasium.vector.VectorEnv[Array, Array, Array]):
    """Many tasks at once, one episode each, as one tensor program.

    A copy whose episode ended starts its next one on the following call of ``step`` (``AutoresetMode.NEXT_STEP``).
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(self, suite: str, num_envs: int = 1, **settings: Any) -> None:
        self._suite = _suite(suite, settings)
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = _spaces(self._suite)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._tasks: Tasks | None = None
        self._state: Any = None
        self._randoms = [np.random.default_rng() for _ in range(num_envs)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode in every copy; an integer seed gives copy i the seed + i, a list one seed or None each.

        A copy's seed draws its task; starts are drawn for the whole batch, by the seed of the first.
        """
        seeds = _seeds(seed, self.num_envs)
        for index, one in enumerate(seeds):
            if one is not None:
                self._randoms[index] = gymnasium.utils.seeding.np_random(one)[0]
        generators = [_generator(random) for random in self._randoms]
        drawn = [self._suite.sample_tasks(1, generator) for generator in generators]
        every = {name: torch.cat([one[name] for one in drawn]) for name in drawn[0]}
        tasks = _given(options, "tasks", every)
        if tasks is None and self._tasks is None:
            tasks = every
        elif tasks is None:
            fresh = torch.tensor([one is not None for one in seeds])
            tasks = {
                name: torch.where(fresh.view(-1, *[1] * (tensor.dim() - 1)), every[name], tensor)
                for name, tensor in (self._tasks or {}).items()
            }
        # One generator serves the whole batch: a suite with random dynamics draws for all copies at once.
        self._rng = generators[0]
        self._state, observation = self._suite.reset(tasks, 1, self._rng)
        self._tasks = tasks
        self._steps = np.zeros(self.num_envs, dtype=np.int64)
        self._ended = np.zeros(self.num_envs, dtype=bool)
        return _observations(self._suite, observation), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One step in every copy, or a reset in those whose episode had ended."""
        if self._tasks is None:
            raise RuntimeError("reset the environment before the first step")
        fresh = torch.from_numpy(self._ended)
        batch = _actions(self._suite, actions, self.num_envs)
        state, observation, reward, terminated = self._suite.step(self._tasks, self._state, batch, self._rng)
        if fresh.any():
            start, first = self._suite.reset(self._tasks, 1, self._rng)
            state, observation = (
                torch.where(fresh.view(-1, *[1] * (old.dim() - 1)), new, old)
                for new, old in ((start, state), (first, observation))
            )
            reward, terminated = reward.masked_fill(fresh.view(-1, 1), 0.0), terminated & ~fresh.view(-1, 1)
        self._state = state
        self._steps = np.where(self._ended, 0, self._steps + 1)
        ended = terminated[:, 0].numpy().copy()
        truncated = (self._steps >= self._suite.horizon) & ~ended
        self._ended = ended | truncated
        return _observations(self._suite, observation), reward[:, 0].double().numpy(), ended, truncated, {}


for _id, _name in ENVIRONMENTS.items():
    gymnasium.register(
        id=_id,
        entry_point=f"{__name__}:{SuiteEnv.__name__}",
        vector_entry_point=f"{__name__}:{SuiteVectorEnv.__name__}",
        kwargs={"suite": _name} | DEFAULTS.get(_id, {}),
    )

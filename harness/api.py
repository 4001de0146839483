"""The contracts: what a suite, a policy and an algorithm are, and what every axis means.

Axes are always ``[tasks, episodes, horizon, dim]``, in that order of meaning.

* **Tasks are data**: a dictionary of tensors with a leading ``tasks`` axis (goal positions, arm probabilities, ...).
  A task is an argument of ``reset`` and ``step``, never hidden state.
* **Parameters are data**: a flat dictionary of tensors. ``[...]`` is one set for all tasks, ``[tasks, ...]`` one set
  per task.
* **Randomness is data**: what may be random takes a :class:`torch.Generator`, or noise that was drawn from one.
  Nothing reads a global generator.

Everything here is pure: the same arguments give the same result, and no argument is changed. This module imports no
torch, so that a study can be read and its state shown without it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Generator, Tensor

Params = dict[str, "Tensor"]
Tasks = Mapping[str, "Tensor"]
Metrics = dict[str, float]


class Settings(BaseModel):
    """Base of every block of settings: frozen, strictly typed, finite, and refusing keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Transition(NamedTuple):
    """What one step of the whole batch gives.

    Shapes:
        state: whatever the suite needs to go on, leading axes [tasks, episodes]
        observation: [tasks, episodes, observation_dim]
        reward: [tasks, episodes], suite units
        terminated: [tasks, episodes] bool, True where the task itself ended the episode (a time-out is not one)
    """

    state: Any
    observation: Tensor
    reward: Tensor
    terminated: Tensor


class Trajectories(NamedTuple):
    """Episodes as they were experienced; steps after the end of an episode are marked, not cut.

    Shapes:
        observations: [tasks, episodes, horizon, observation_dim], before the step
        actions: [tasks, episodes, horizon, action_dim], as the policy gave them
        rewards: [tasks, episodes, horizon], zero after the end
        valid: [tasks, episodes, horizon] bool, True up to and including the step that ended the episode
        final_observation: [tasks, episodes, observation_dim], after the last step of the horizon
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    valid: Tensor
    final_observation: Tensor

    def episode_returns(self) -> Tensor:
        """Undiscounted sum of rewards per episode, [tasks, episodes]."""
        return self.rewards.sum(-1)

    def lengths(self) -> Tensor:
        """Number of steps per episode, [tasks, episodes]."""
        return self.valid.sum(-1)


class Suite(Protocol):
    """A family of tasks, simulated for all tasks and episodes at once."""

    observation_dim: int
    action_dim: int
    horizon: int

    def sample_tasks(self, count: int, rng: Generator) -> Tasks:
        """Draw ``count`` tasks for meta-training."""

    def meta_test_tasks(self, count: int, rng: Generator) -> Tasks:
        """The ``count`` tasks of the meta-test. ``rng`` serves suites that draw them; a published list ignores it."""

    def reset(self, tasks: Tasks, episodes: int, rng: Generator) -> tuple[Any, Tensor]:
        """Start ``episodes`` episodes of every task: (state, observation [tasks, episodes, observation_dim])."""

    def step(self, tasks: Tasks, state: Any, action: Tensor, rng: Generator) -> Transition:
        """Advance every episode by one step; ``action``: [tasks, episodes, action_dim]."""


class Policy(Protocol):
    """A distribution over actions. ``memory`` is what it carries from step to step, None for feed-forward ones."""

    def draw_noise(self, rng: Generator, tasks: int, episodes: int, horizon: int) -> Tensor:
        """All random numbers that ``act`` needs for one rollout: [horizon, tasks, episodes, ...]."""

    def initial_memory(self, tasks: int, episodes: int) -> Any:
        """Memory before the first step."""

    def act(self, params: Params, observation: Tensor, memory: Any, noise: Tensor) -> tuple[Tensor, Any]:
        """Actions [tasks, episodes, action_dim] and the next memory, without gradients."""


class AdaptationRule(Protocol):
    """How parameters move on one task: the inner step of meta-training, or what a meta-test protocol uses instead."""

    def init(self, params: Params) -> Params:
        """Memory before the first update (optimiser moments), empty for a rule without any."""

    def update(self, params: Params, memory: Params, samples: Any) -> tuple[Params, Params]:
        """One update of the per-task parameters ``[tasks, ...]`` on the samples of those tasks."""


@dataclass(frozen=True)
class State:
    """What meta-training carries from one meta-iteration to the next; every field is a flat dictionary of tensors.

    ``params``: the meta-parameters. ``optimiser``: moments and step counts. ``slots``: a sample buffer that outlives an
    iteration, for methods that define one.
    """

    params: Params
    optimiser: Params = field(default_factory=dict)
    slots: Params = field(default_factory=dict)


class MetaBatch(NamedTuple):
    """The data of one meta-iteration.

    ``pre_update``: one entry per adaptation step, each the samples on which that step was taken.
    ``adapted``: the parameters that those steps led to, [tasks, ...].
    ``post_update``: samples of the adapted policies.
    """

    pre_update: tuple[Any, ...]
    adapted: Params
    post_update: Any


class Algorithm(Protocol):
    """A method: a frozen configuration and pure functions.

    Samples are opaque to the harness: ``prepare`` makes them from trajectories (values, advantages, masks), and only
    the algorithm reads them.
    """

    policy: Policy
    adaptation_steps: int

    def init(self, rng: Generator) -> State:
        """State before the first meta-iteration."""

    def prepare(
        self, params: Params, trajectories: Trajectories, slots: Params, shared_slots: bool
    ) -> tuple[Any, Params]:
        """Turn trajectories into samples, without gradients.

        ``slots`` is the sample buffer that unused time steps fall back on; ``shared_slots`` says whether one buffer
        serves all tasks in turn (meta-training) or each task has its own (adaptation). Returns (samples, new slots).
        """

    def rule(self, settings: Settings) -> AdaptationRule:
        """The adaptation rule that ``settings`` describes; see ``Registries.rules``."""

    def adapt(self, params: Params, samples: Any) -> Params:
        """The inner step of meta-training on per-task parameters [tasks, ...]."""

    def meta_update(self, state: State, data: MetaBatch, iteration: int) -> tuple[State, Metrics]:
        """One step of the meta-parameters.

        Recomputes the adaptation inside its objective where it differentiates it: no graph crosses the sampler.
        """


@dataclass(frozen=True)
class Declaration:
    """A registry entry: name, version, the schema of its settings, and where the implementation is.

    ``version`` goes up whenever a change moves numbers: older records then no longer count.
    ``build`` is ``"module:function"``, imported only when a run starts, so that reading a study needs no torch.
    """

    name: str
    version: int
    settings: type[Settings]
    build: str

    def load(self) -> Any:
        """Import the implementation and return its factory."""
        module, _, attribute = self.build.partition(":")
        return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True)
class Registries:
    """What a study may name: suites, algorithms, and the adaptation rules of meta-test protocols."""

    suites: Mapping[str, Declaration]
    algorithms: Mapping[str, Declaration]
    rules: Mapping[str, type[Settings]]

"""The contracts: what a suite, a policy and an algorithm are, and what every axis means.

Axes are always ``[tasks, episodes, horizon, dim]``, in that order of meaning.

* **Tasks are data**: a dictionary of tensors with a leading ``tasks`` axis (goal positions, arm probabilities, ...).
  A task is an argument of ``reset`` and ``step``, never hidden state.
* **Parameters are data**: a flat dictionary of tensors. ``[...]`` is one set for all tasks, ``[tasks, ...]`` one set
  per task.
* **Randomness is data**: what may be random takes a :class:`torch.Generator`, or noise that was drawn from one.
  Nothing reads a global generator.
* **Where it computes is not said**: tensors are created without a device and land where the run computes. What comes
  from NumPy enters through ``torch.as_tensor``, what goes there leaves through ``.cpu()``.
* **A finite choice is a whole number**: where a suite has finitely many observations or actions, they are int64 row
  numbers with a last axis of size 1, and the suite's ``observation_table`` says what a network sees.

Everything here is pure: the same arguments give the same result, and no argument is changed. This module imports no
torch, so that a study can be read and its state shown without it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
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
        observation: [tasks, episodes, observation_dim], or [tasks, episodes, 1] row numbers of the observation table
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
        observations: [tasks, episodes, horizon, observation_dim or 1], before the step
        actions: [tasks, episodes, horizon, action_dim], as the policy gave them
        rewards: [tasks, episodes, horizon], zero after the end
        valid: [tasks, episodes, horizon] bool, True up to and including the step that ended the episode
        final_observation: [tasks, episodes, observation_dim or 1], after the last step of the horizon
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


class Experience(NamedTuple):
    """One step as a policy with memory sees it afterwards.

    Shapes:
        observation: [tasks, episodes, observation_dim or 1], before the step
        action: [tasks, episodes, action_dim]
        reward: [tasks, episodes], suite units, zero after the end
        next_observation: like observation, after the step
        valid: [tasks, episodes] bool, False after the end of the episode
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    valid: Tensor


class Suite(Protocol):
    """A family of tasks, simulated for all tasks and episodes at once.

    ``observation_dim``: features of an observation as a network sees it. ``observation_table``: None where observations
    are vectors; else all that there are, [observations, observation_dim], and an observation is a row number.
    ``num_actions``: None where actions are vectors of ``action_dim``; else an action is one of 0 ... num_actions - 1.
    """

    observation_dim: int
    observation_table: Tensor | None
    action_dim: int
    num_actions: int | None
    horizon: int

    def sample_tasks(self, count: int, rng: Generator) -> Tasks:
        """Draw ``count`` tasks for meta-training."""

    def meta_test_tasks(self, count: int, rng: Generator) -> Tasks:
        """The ``count`` tasks of the meta-test. ``rng`` serves suites that draw them; a published list ignores it."""

    def reset(self, tasks: Tasks, episodes: int, rng: Generator) -> tuple[Any, Tensor]:
        """Start ``episodes`` episodes of every task: (state, observation [tasks, episodes, observation_dim])."""

    def step(self, tasks: Tasks, state: Any, action: Tensor, rng: Generator) -> Transition:
        """Advance every episode by one step; ``action``: [tasks, episodes, action_dim]."""

    def references(self, tasks: Tasks, episodes: int) -> dict[str, Tensor]:
        """What is known exactly about each task: mean undiscounted return per episode, {name: [tasks]} in float64.

        ``optimal_return``: of the best policy that knows the task. Others depend on the suite, and may depend on the
        number of ``episodes`` that a learner has. {} where nobody knows anything.
        """

    def measures(self, tasks: Tasks, trajectories: Trajectories) -> dict[str, Tensor]:
        """What the episodes of each task say beyond their return, {name: [tasks]} in float64; {} if nothing."""

    def paths(self, trajectories: Trajectories) -> Tensor | None:
        """Where the agent was, [tasks, episodes, horizon + 1, 2]; None where it does not move in a plane."""


class Policy(Protocol):
    """A distribution over actions. ``memory`` is what it carries from step to step, None for feed-forward ones.

    ``sequential``: the policy learns within a task by remembering, so that the episodes of a task come one after
    another and the memory outlives each; otherwise they are independent and run side by side.
    """

    sequential: bool

    def draw_noise(self, rng: Generator, tasks: int, episodes: int, horizon: int) -> Tensor:
        """All random numbers that ``act`` needs for one rollout: [horizon, tasks, episodes, ...].

        A tasks axis of size 1 is shared by all tasks.
        """

    def initial_memory(self, tasks: int, episodes: int) -> Any:
        """Memory before the first step of a task."""

    def act(self, params: Params, observation: Tensor, memory: Any, noise: Tensor) -> tuple[Tensor, Any]:
        """Actions [tasks, episodes, action_dim] and the next memory, without gradients."""

    def remember(self, memory: Any, experience: Experience) -> Any:
        """The memory after a step; asked of sequential policies only."""


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

    ``pre_update``: one entry per adaptation round, each the samples on which it adapted.
    ``adapted``: the parameters that those rounds led to, [tasks, ...].
    ``post_update``: samples of the adapted policies.
    """

    pre_update: tuple[Any, ...]
    adapted: Params
    post_update: Any


class Algorithm(Protocol):
    """A method: a frozen configuration and pure functions.

    ``adaptation_rounds``: how often meta-training samples and adapts before it samples the adapted policies.

    Samples are opaque to the harness: ``prepare`` makes them from trajectories (values, advantages, masks), and only
    the algorithm reads them.
    """

    policy: Policy
    adaptation_rounds: int

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
        """One adaptation round of meta-training; returns per-task parameters [tasks, ...]."""

    def meta_update(self, state: State, data: MetaBatch, iteration: int) -> tuple[State, Metrics]:
        """One step of the meta-parameters.

        Recomputes the adaptation inside its objective where it differentiates it: no graph crosses the sampler.
        """


@dataclass(frozen=True)
class Declaration:
    """A registry entry: name, version, the schema of its settings, and where the implementation is.

    ``version`` goes up whenever a change moves numbers: older records then no longer count.
    ``build`` is ``"module:function"``, imported only when a run starts, so that reading a study needs no torch; or the
    function itself, in a file that is not a module anybody could import.
    ``provides``: what a suite has that not every suite has. ``requires``: what an algorithm needs of a suite.
    ``packages``: Python packages that must be there for it to run, beyond those of every installation.
    ``origin``: None for this project's own; else set by :mod:`harness.extensions`, never by who declares.
    """

    name: str
    version: int
    settings: type[Settings]
    build: str | Callable[..., Any]
    provides: frozenset[str] = frozenset()
    requires: frozenset[str] = frozenset()
    packages: tuple[str, ...] = ()
    origin: str | None = None

    def lacking(self) -> str:
        """The first of ``packages`` that is not installed, as a line that says what to do; empty if none is lacking."""
        for name in self.packages:
            if importlib.util.find_spec(name) is None:
                extra = f"'metarepro[{self.name}]'" if self.origin is None else name
                return f"suite {self.name} needs the package {name}, which is not installed: pip install {extra}"
        return ""

    def load(self) -> Any:
        """Import the implementation and return its factory."""
        if callable(self.build):
            return self.build
        module, _, attribute = self.build.partition(":")
        return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True)
class Registries:
    """What a study may name: suites, algorithms, and the adaptation rules of meta-test protocols."""

    suites: Mapping[str, Declaration]
    algorithms: Mapping[str, Declaration]
    rules: Mapping[str, type[Settings]]

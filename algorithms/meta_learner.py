"""The composition: policy, value function, inner surrogate, adaptation and outer update make a method."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Generator, Tensor

from algorithms.adaptation import AdamRule, InnerRule
from algorithms.meta_gradients import repeat, task_gradients
from algorithms.networks import Params
from algorithms.optimisers import gradient_step
from algorithms.policies import make_policy
from algorithms.samples import Samples, condense, per_task
from algorithms.settings import AdamSettings, BaselineMethodSettings, GradientMethodSettings
from algorithms.surrogates import score_function
from algorithms.values import Value
from harness.api import AdaptationRule, MetaBatch, Metrics, Settings, State, Suite, Trajectories


class OuterUpdate(Protocol):
    """How the data of a meta-iteration move the meta-parameters."""

    def init(self, params: Params) -> Params:
        """The optimiser's memory before the first update."""

    def step(self, learner: MetaLearner, state: State, data: MetaBatch) -> tuple[Params, Params, Metrics]:
        """(new meta-parameters, new memory, what to plot)."""


class MetaLearner:
    """Gradient steps on the policy-gradient loss inside, any :class:`OuterUpdate` outside.

    A value function with parameters of its own is adapted and meta-learned like the policy: one inner step on its
    regression, the meta-gradient of the same loss after it (the replication report, section 3.1.2).
    """

    def __init__(
        self, settings: GradientMethodSettings | BaselineMethodSettings, suite: Suite, value: Value, outer: OuterUpdate
    ) -> None:
        self.settings = settings
        self.policy = make_policy(settings, suite)
        self.value = value
        self.outer = outer
        reused = settings.adaptation_data == "reused"
        self.adaptation_rounds = min(settings.adaptation_steps, 1) if reused else settings.adaptation_steps
        self.steps_per_round = settings.adaptation_steps if reused else 1
        # Finitely many pairs of observation and action: equal samples are put together.
        table, actions = suite.observation_table, suite.num_actions
        self._pairs = None if table is None or actions is None else (table.shape[0], actions)
        # Shapes only: which tensors would carry how many axes without the one of tasks.
        probe = self._init_params(torch.Generator().manual_seed(0))
        self._dims = {name: tensor.dim() for name, tensor in probe.items()}

    def _init_params(self, rng: Generator) -> Params:
        return self.policy.init(rng) | self.value.init(rng)

    def init(self, rng: Generator) -> State:
        """Initial networks, fresh outer memory."""
        params = self._init_params(rng)
        return State(params=params, optimiser=self.outer.init(params))

    def prepare(
        self, params: Params, trajectories: Trajectories, slots: Params, shared_slots: bool
    ) -> tuple[Samples, Params]:
        """Values, advantages and returns; see :mod:`algorithms.values`."""
        params = per_task(params, trajectories.rewards.shape[0], self._dims)
        samples, slots = self.value.prepare(params, trajectories, slots, shared_slots)
        return (samples if self._pairs is None else condense(samples, *self._pairs)), slots

    def rule(self, settings: Settings) -> AdaptationRule:
        """The rule of a meta-test protocol."""
        if isinstance(settings, AdamSettings):
            return AdamRule(settings, self._inner_gradients)
        return InnerRule(self.adapt)

    def inner_loss(self, params: Params, samples: Samples) -> Tensor:
        """What an adaptation step descends, [tasks]; the terms share no parameter."""
        actor, value = score_function(self.policy, params, samples), self.value.loss(params, samples)
        return actor if value is None else actor + value

    def outer_loss(self, params: Params, samples: Samples) -> Tensor:
        """The same loss, on post-update samples and adapted parameters."""
        return self.inner_loss(params, samples)

    def adaptation(self, params: Params, samples: Samples) -> Params:
        """The inner steps θ' = θ - α ∇L(θ) on one round of samples, differentiable.

        On parameters [tasks, ...] that require gradients.
        """
        for _ in range(self.steps_per_round):
            loss = self.inner_loss(params, samples).sum()
            gradients = torch.autograd.grad(loss, list(params.values()), create_graph=True)
            params = gradient_step(params, dict(zip(params, gradients, strict=True)), *self.settings.inner_rates)
        return params

    def adapt(self, params: Params, samples: Samples) -> Params:
        """The same steps on every task, without a graph; params [...] or [tasks, ...], returns [tasks, ...]."""
        params = per_task(params, samples.weights.shape[0], self._dims)
        for _ in range(self.steps_per_round):
            gradients = self._inner_gradients(params, samples)
            with torch.no_grad():
                params = gradient_step(params, gradients, *self.settings.inner_rates)
        return params

    def adapt_through(self, params: Params, rounds: tuple[Samples, ...]) -> Params:
        """Shared parameters [...] adapted on recorded samples round by round, without a graph; returns [tasks, ...]."""
        adapted = repeat(params, slice(0, rounds[0].weights.shape[0])) if rounds else params
        for samples in rounds:
            adapted = self.adapt(adapted, samples)
        return adapted

    def _inner_gradients(self, params: Params, samples: Samples) -> Params:
        return task_gradients(self.inner_loss, params, samples)

    def meta_update(self, state: State, data: MetaBatch, iteration: int) -> tuple[State, Metrics]:
        """One outer update."""
        params, optimiser, metrics = self.outer.step(self, state, data)
        return State(params, optimiser, state.slots), metrics | self.policy.metrics(state.params)

"""The composition: policy, value function, inner surrogate, adaptation and outer update make a method."""

from __future__ import annotations

from copy import copy
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from algorithms.adaptation import rule_of
from algorithms.meta_gradients import leaves_of, repeat, second_order_by_task, task_gradients
from algorithms.networks import Params
from algorithms.optimisers import gradient_step
from algorithms.outer_updates import bound_term
from algorithms.policies import make_policy
from algorithms.pre_update import PreUpdateTerm
from algorithms.samples import Samples, blocks, condense, per_task
from algorithms.settings import ActorCriticMethodSettings, BaselineMethodSettings, GradientMethodSettings
from algorithms.surrogates import Surrogate, score_function
from algorithms.values import Value
from harness.api import AdaptationRule, MetaBatch, Metrics, Settings, State, Suite, Trajectories

Part = Literal["actor", "critic"]


class OuterUpdate(Protocol):
    """How the data of a meta-iteration move the meta-parameters."""

    def init(self, params: Params) -> Params:
        """The optimiser's memory before the first update."""

    def step(self, learner: MetaLearner, state: State, data: MetaBatch) -> tuple[Params, Params, Metrics]:
        """(new meta-parameters, new memory, what to plot)."""


class Objectives(NamedTuple):
    """What a method descends.

    ``inner``: surrogate of an adaptation step. ``outer``: surrogate of the post-update loss. ``beside``: what the outer
    objective has beside that loss, None for nothing. ``old_policy``: a surrogate asks for the log-probabilities of the
    policy that sampled. ``stepwise``: every surrogate is linear in the advantages of single steps, so that equal steps
    may be put together.
    """

    inner: Surrogate = score_function
    outer: Surrogate = score_function
    beside: PreUpdateTerm | None = None
    old_policy: bool = False
    stepwise: bool = True


class MetaLearner:
    """Gradient steps on a policy-gradient surrogate inside, any :class:`OuterUpdate` outside.

    A value function with parameters of its own is adapted and meta-learned like the policy: one inner step on its
    regression, the meta-gradient of the same loss after it (the replication report, section 3.1.2).
    """

    def __init__(
        self,
        settings: GradientMethodSettings | ActorCriticMethodSettings | BaselineMethodSettings,
        suite: Suite,
        value: Value,
        outer: OuterUpdate,
        objectives: Objectives | None = None,
    ) -> None:
        self.settings = settings
        self.policy = make_policy(settings, suite)
        self.value = value
        self.outer = outer
        self.objectives = objectives or Objectives()
        self._part: Part | None = None
        reused = settings.adaptation_data == "reused"
        self.adaptation_rounds = min(settings.adaptation_steps, 1) if reused else settings.adaptation_steps
        self.steps_per_round = settings.adaptation_steps if reused else 1
        # Finitely many pairs of observation and action: equal samples are put together.
        table, actions = suite.observation_table, suite.num_actions
        self._pairs = None
        if table is not None and actions is not None and self.objectives.stepwise:
            self._pairs = (table.shape[0], actions)
        # Shapes only: which tensors would carry how many axes without the one of tasks.
        probe = self._init_params(torch.Generator().manual_seed(0))
        self._dims = {name: tensor.dim() for name, tensor in probe.items()}

    def _init_params(self, rng: Generator) -> Params:
        return self.policy.init(rng) | self.value.init(rng)

    def init(self, rng: Generator) -> State:
        """Initial networks, fresh outer memory."""
        params, beside = self._init_params(rng), self.objectives.beside
        memory = {} if beside is None else beside.init(self.adaptation_rounds)
        return State(params=params, optimiser=self.outer.init(params) | memory)

    def prepare(
        self, params: Params, trajectories: Trajectories, slots: Params, shared_slots: bool
    ) -> tuple[Samples, Params]:
        """Values, advantages and returns; see :mod:`algorithms.values`."""
        params = per_task(params, trajectories.rewards.shape[0], self._dims)
        samples, slots = self.value.prepare(params, trajectories, slots, shared_slots)
        if self._pairs is not None:
            samples = condense(samples, *self._pairs)
        if self.objectives.old_policy:
            samples = samples._replace(old_log_prob=self._log_prob_by_blocks(params, samples))
        return samples, slots

    @torch.no_grad()
    def _log_prob_by_blocks(self, params: Params, samples: Samples) -> Tensor:
        return torch.cat(
            [
                self.log_prob({name: tensor[block] for name, tensor in params.items()}, samples.slice_tasks(block))
                for block in blocks(*samples.weights.shape)
            ]
        )

    def rule(self, settings: Settings) -> AdaptationRule:
        """The rule of a meta-test protocol."""
        return rule_of(settings, self.adapt, self._inner_gradients)

    def log_prob(self, params: Params, samples: Samples) -> Tensor:
        """log π(a|s) of the samples, [tasks, slots]."""
        return self.policy.log_prob(params, samples.observations, samples.actions)

    def inner_loss(self, params: Params, samples: Samples) -> Tensor:
        """What an adaptation step descends, [tasks]; the terms share no parameter."""
        return self._with_value(self.objectives.inner, params, samples)

    def outer_loss(self, params: Params, samples: Samples) -> Tensor:
        """What the meta-parameters descend, on post-update samples and adapted parameters, [tasks]."""
        return self._with_value(self.objectives.outer, params, samples)

    def _with_value(self, surrogate: Surrogate, params: Params, samples: Samples) -> Tensor:
        value = None if self._part == "actor" else self.value.loss(params, samples)
        if self._part == "critic":
            assert value is not None
            return value
        actor = surrogate(self.log_prob(params, samples), samples)
        return actor if value is None else actor + value

    def only(self, part: Part) -> MetaLearner:
        """A view of this learner whose losses are those of one part, for parameters that hold this part alone.

        Actor and critic share no parameter: each has the gradients that it has beside the other.
        """
        view = copy(self)
        view._part = part
        return view

    def adaptation(self, params: Params, samples: Samples) -> Params:
        """The inner steps θ' = θ - α ∇L(θ) on one round of samples, differentiable.

        On parameters [tasks, ...] that require gradients.
        """
        for _ in range(self.steps_per_round):
            loss = self.inner_loss(params, samples).sum()
            gradients = torch.autograd.grad(loss, list(params.values()), create_graph=True)
            params = gradient_step(params, dict(zip(params, gradients, strict=True)), *self.settings.inner_rates)
        return params

    def adapt(self, params: Params, samples: Samples, factor: float = 1.0) -> Params:
        """The same steps on every task, without a graph; params [...] or [tasks, ...], returns [tasks, ...].

        ``factor``: on the inner learning rates.
        """
        params = per_task(params, samples.weights.shape[0], self._dims)
        actor_lr, critic_lr = (factor * rate for rate in self.settings.inner_rates)
        for _ in range(self.steps_per_round):
            gradients = self._inner_gradients(params, samples)
            with torch.no_grad():
                params = gradient_step(params, gradients, actor_lr, critic_lr)
        return params

    def path(self, params: Params, rounds: tuple[Samples, ...], tasks: int) -> list[Params]:
        """Shared parameters [...] and what each round of recorded samples makes of them, without a graph.

        All [tasks, ...]; one more than there are rounds.
        """
        path = [repeat(params, slice(0, tasks))]
        for samples in rounds:
            path.append(self.adapt(path[-1], samples))
        return path

    def _inner_gradients(self, params: Params, samples: Samples) -> Params:
        return task_gradients(self.inner_loss, params, samples)

    def meta_gradients(self, state: State, data: MetaBatch, through_adaptation: bool = True) -> Params:
        """The gradient of every task's own outer objective, a loss, whose mean over tasks an outer update follows.

        ``through_adaptation``: off, it is that of the post-update loss at the adapted parameters, taken as if they were
        the meta-parameters; ValueError if the objective has a term beside it. Returns [tasks, ...].
        """
        if not through_adaptation:
            if self.objectives.beside is not None:
                raise ValueError("a term in the pre-update policies needs the gradient through the adaptation")
            return task_gradients(self.outer_loss, data.adapted, data.post_update)
        return second_order_by_task(self, state.params, data, bound_term(self, state, data))

    def pull_back(self, params: Params, rounds: tuple[Samples, ...], vectors: Params) -> Params:
        """Vectors at the adapted parameters, taken back to the meta-parameters through every task's own adaptation.

            ∏_{i<k} (I - α ∇²L_i(θ_i)) v          what :meth:`meta_gradients` does to the post-update gradient v

        Params, vectors [...]; at least one round; returns [tasks, ...].
        """

        def of_block(block: slice) -> tuple[Tensor, ...]:
            leaves = adapted = leaves_of(repeat(params, block))
            for samples in rounds:
                adapted = self.adaptation(adapted, samples.slice_tasks(block))
            outputs = repeat({name: vectors[name] for name in adapted}, block)
            return torch.autograd.grad(list(adapted.values()), list(leaves.values()), list(outputs.values()))

        each = [of_block(block) for block in blocks(*rounds[0].weights.shape)]
        return {name: torch.cat(parts) for name, parts in zip(params, zip(*each, strict=True), strict=True)}

    def meta_update(self, state: State, data: MetaBatch, iteration: int) -> tuple[State, Metrics]:
        """One outer update."""
        params, optimiser, metrics = self.outer.step(self, state, data)
        return State(params, optimiser, state.slots), metrics | self.policy.metrics(state.params)

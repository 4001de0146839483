"""The composition: policy, inner surrogate, adaptation, meta-gradient and outer optimiser make a method."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from algorithms.adaptation import AdamRule, InnerRule
from algorithms.meta_gradients import MetaGradient, task_gradients
from algorithms.networks import Params
from algorithms.optimisers import Adam, gradient_step
from algorithms.policies import Critic, GaussianPolicy
from algorithms.samples import Samples, make_samples, per_task
from algorithms.settings import AdamSettings, GradientMethodSettings
from algorithms.surrogates import score_function, value_regression
from harness.api import AdaptationRule, MetaBatch, Metrics, Settings, State, Suite, Trajectories


class MetaLearner:
    """Actor-critic meta-learning with gradient steps inside and Adam outside.

    The critic is meta-learned like the actor: one inner step on its regression, the meta-gradient of the same loss
    after it (the replication report, section 3.1.2). ``meta_gradient`` is what tells MAML, FOMAML and the others apart.
    """

    def __init__(self, settings: GradientMethodSettings, suite: Suite, meta_gradient: MetaGradient) -> None:
        self.settings = settings
        self.policy = GaussianPolicy(settings, suite.observation_dim, suite.action_dim)
        self.critic = Critic(settings, suite.observation_dim)
        self.adaptation_steps = settings.adaptation_steps
        self._meta_gradient = meta_gradient
        self._outer = Adam(settings.outer_adam())
        # Shapes only: which tensors would carry how many axes without the one of tasks.
        probe = self._init_params(torch.Generator().manual_seed(0))
        self._dims = {name: tensor.dim() for name, tensor in probe.items()}

    def _init_params(self, rng: Generator) -> Params:
        return self.policy.init(rng) | self.critic.init(rng)

    def init(self, rng: Generator) -> State:
        """Initial actor and critic, fresh outer moments."""
        params = self._init_params(rng)
        return State(params=params, optimiser=self._outer.init(params))

    def prepare(
        self, params: Params, trajectories: Trajectories, slots: Params, shared_slots: bool
    ) -> tuple[Samples, Params]:
        """Values, advantages and returns; see :func:`algorithms.samples.make_samples`."""
        params = per_task(params, trajectories.rewards.shape[0], self._dims)
        return make_samples(self.settings, self.critic, params, trajectories, slots, shared_slots)

    def rule(self, settings: Settings) -> AdaptationRule:
        """The rule of a meta-test protocol."""
        if isinstance(settings, AdamSettings):
            return AdamRule(settings, self._inner_gradients)
        return InnerRule(self.adapt)

    def inner_loss(self, params: Params, samples: Samples) -> Tensor:
        """What an adaptation step descends, [tasks]; the terms share no parameter."""
        actor = score_function(self.policy, params, samples)
        return actor + value_regression(self.critic, params, samples)

    def outer_loss(self, params: Params, samples: Samples) -> Tensor:
        """The same loss, on post-update samples and adapted parameters."""
        return self.inner_loss(params, samples)

    def adaptation(self, params: Params, samples: Samples) -> Params:
        """One inner step θ' = θ - α ∇L(θ), differentiable, on parameters [tasks, ...] that require gradients."""
        loss = self.inner_loss(params, samples).sum()
        gradients = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        named = dict(zip(params, gradients, strict=True))
        return gradient_step(params, named, self.settings.actor_inner_lr, self.settings.critic_inner_lr)

    def adapt(self, params: Params, samples: Samples) -> Params:
        """One inner step on every task, without a graph; params [...] or [tasks, ...], returns [tasks, ...]."""
        params = per_task(params, samples.weights.shape[0], self._dims)
        gradients = self._inner_gradients(params, samples)
        with torch.no_grad():
            return gradient_step(params, gradients, self.settings.actor_inner_lr, self.settings.critic_inner_lr)

    def _inner_gradients(self, params: Params, samples: Samples) -> Params:
        return task_gradients(self.inner_loss, params, samples)

    def meta_update(self, state: State, data: MetaBatch, iteration: int) -> tuple[State, Metrics]:
        """One outer Adam step on the meta-gradient averaged over tasks."""
        gradients = self._meta_gradient(self, state.params, data)
        annealing = self._outer.annealing(int(state.optimiser["count"]))
        params, optimiser = self._outer.step(state.params, gradients, state.optimiser)
        metrics = {
            "meta_gradient_norm_actor": _norm(gradients, "actor/"),
            "meta_gradient_norm_critic": _norm(gradients, "critic/"),
            "action_std": float(state.params["actor/log_std"].exp().mean()),
            "outer_annealing": annealing,
        }
        return State(params, optimiser, state.slots), metrics


def _norm(gradients: Params, prefix: str) -> float:
    return math.sqrt(sum(float(g.double().square().sum()) for name, g in gradients.items() if name.startswith(prefix)))

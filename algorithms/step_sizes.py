"""Step sizes as meta-parameters: a learner that adapts by them, and the update that moves them.

The step sizes of ``actor/0/weight`` are the tensor ``actor/inner_lr/0/weight`` of the same shape: they travel with the
parameters, also into the per-task copies, and an adaptation leaves them as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from algorithms.meta_gradients import mean_over_tasks, task_gradients
from algorithms.meta_learner import MetaLearner
from algorithms.networks import Params
from algorithms.optimisers import Adam, rate_of
from algorithms.outer_updates import gradient_norms
from algorithms.samples import Samples, per_task
from harness.api import MetaBatch, Metrics, State

if TYPE_CHECKING:
    from algorithms.meta_sgd import MetaSGDSettings


def step_size_of(name: str) -> str:
    """The name of a parameter's step sizes."""
    part, _, rest = name.partition("/")
    return f"{part}/inner_lr/{rest}"


def networks_of(params: Params) -> Params:
    """The parameters that are adapted."""
    return {name: tensor for name, tensor in params.items() if "/inner_lr/" not in name}


def step_sizes_of(params: Params) -> Params:
    """α, under their own names."""
    return {name: tensor for name, tensor in params.items() if "/inner_lr/" in name}


class LearnedSteps(MetaLearner):
    """Meta-SGD's learner (Li et al. 2017, section 3, algorithm 2).

        θ' = θ - α ⊙ ∇L(θ),   ∇_α L(θ') = -∇L(θ) ⊙ ∇L(θ')       α and θ have one shape; α may become negative

    Its adaptation with equal step sizes is MAML's, bit for bit.
    """

    def _init_params(self, rng: Generator) -> Params:
        networks = super()._init_params(rng)
        rates = {name: rate_of(name, *self.settings.inner_rates) for name in networks}
        return networks | {step_size_of(name): torch.full_like(one, rates[name]) for name, one in networks.items()}

    def adaptation(self, params: Params, samples: Samples) -> Params:
        """The inner steps, differentiable in θ and α; see :meth:`MetaLearner.adaptation`."""
        networks, step_sizes = networks_of(params), step_sizes_of(params)
        for _ in range(self.steps_per_round):
            loss = self.inner_loss(networks, samples).sum()
            gradients = torch.autograd.grad(loss, list(networks.values()), create_graph=True)
            networks = _moved(networks, dict(zip(networks, gradients, strict=True)), step_sizes)
        return networks | step_sizes

    def adapt(self, params: Params, samples: Samples, factor: float = 1.0) -> Params:
        """The same without a graph; ``factor``: on the step sizes. See :meth:`MetaLearner.adapt`."""
        return self.followed(params, samples, factor)[0]

    def followed(self, params: Params, samples: Samples, factor: float = 1.0) -> tuple[Params, Params]:
        """What :meth:`adapt` gives, and the sum of the gradients that it followed, both [tasks, ...]."""
        params = per_task(params, samples.weights.shape[0], self._dims)
        networks, step_sizes = networks_of(params), step_sizes_of(params)
        scaled = {name: factor * tensor for name, tensor in step_sizes.items()}
        total = {name: torch.zeros_like(tensor) for name, tensor in networks.items()}
        for _ in range(self.steps_per_round):
            gradients = task_gradients(self.inner_loss, networks, samples)
            with torch.no_grad():
                networks = _moved(networks, gradients, scaled)
                total = {name: total[name] + gradients[name] for name in total}
        return networks | step_sizes, total

    def _inner_gradients(self, params: Params, samples: Samples) -> Params:
        # Zero for the step sizes: no rule of a meta-test moves them.
        found = task_gradients(self.inner_loss, networks_of(params), samples)
        return found | {name: torch.zeros_like(tensor) for name, tensor in step_sizes_of(params).items()}

    def meta_gradients(self, state: State, data: MetaBatch, through_adaptation: bool = True) -> Params:
        """In θ and α, [tasks, ...]; see :meth:`MetaLearner.meta_gradients`.

        Without ``through_adaptation`` the gradients that the adaptation followed count as constants:

            ∇_θ L(θ_k) ≈ ∇L(θ_k),   ∇_α L(θ_k) ≈ -∇L(θ_k) ⊙ Σ_{i<k} ∇L_i(θ_i)

        With one step, the second is exact.
        """
        if through_adaptation:
            return super().meta_gradients(state, data)
        after = task_gradients(self.outer_loss, networks_of(data.adapted), data.post_update)
        before = {name: torch.zeros_like(tensor) for name, tensor in after.items()}
        current = state.params
        for samples in data.pre_update:
            current, followed = self.followed(current, samples)
            before = {name: before[name] + followed[name] for name in before}
        return after | {step_size_of(name): -after[name] * before[name] for name in after}


class StepSizeUpdate:
    """One Adam step of the networks and of their step sizes, which have outer rates of their own."""

    def __init__(self, settings: MetaSGDSettings) -> None:
        self._through_adaptation = settings.meta_gradient == "second_order"
        self._networks = Adam(settings.outer_adam())
        self._step_sizes = Adam(settings.step_size_adam())

    def init(self, params: Params) -> Params:
        """Zero moments, and one count for both."""
        return self._networks.init(params)

    def step(self, learner: MetaLearner, state: State, data: MetaBatch) -> tuple[Params, Params, Metrics]:
        """See :class:`algorithms.meta_learner.OuterUpdate`."""
        gradients = mean_over_tasks(learner.meta_gradients(state, data, self._through_adaptation))
        annealing = self._networks.annealing(int(state.optimiser["count"]))
        networks, memory = self._networks.step(networks_of(state.params), gradients, state.optimiser)
        step_sizes, beside = self._step_sizes.step(step_sizes_of(state.params), gradients, state.optimiser)
        metrics = gradient_norms(networks_of(gradients)) | _spread_of(step_sizes)
        return networks | step_sizes, memory | beside, metrics | {"outer_annealing": annealing}


def _moved(networks: Params, gradients: Params, step_sizes: Params) -> Params:
    """θ - α ⊙ g."""
    return {name: one - step_sizes[step_size_of(name)] * gradients[name] for name, one in networks.items()}


def _spread_of(step_sizes: Params) -> Metrics:
    """Mean step size of actor and critic, and the share of those that climb."""
    metrics = Metrics()
    for part in ("actor", "critic"):
        mine: Tensor = torch.cat([one.flatten() for name, one in step_sizes.items() if name.startswith(f"{part}/")])
        metrics[f"inner_lr_mean_{part}"] = float(mine.double().mean())
        metrics[f"inner_lr_negative_{part}"] = float((mine < 0.0).double().mean())
    return metrics

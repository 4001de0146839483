"""Meta-batches from the registries, and their derivatives written with plain torch operations."""

import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from algorithms import ALGORITHMS
from algorithms.settings import TrustRegionMethodSettings
from algorithms.trust_region import flatten
from harness.api import MetaBatch
from harness.rollout import rollout
from suites import SUITES
from tests.reference.plain_actor_critic import network

SMALL = {
    "bandits": {"arms": 4, "constant_input": 1.0},
    "tabular_mdp": {"states": 3, "actions": 3, "horizon": 4},
    "navigation": {"horizon": 5},
}
METHOD = {"actor_hidden_sizes": [5, 4], "hidden_activation": "tanh", "inner_lr": 0.7}
ADAPTATIONS = {
    "no step": {"adaptation_steps": 0},
    "one step": {"adaptation_steps": 1},
    "two fresh steps": {"adaptation_steps": 2},
    "two reused steps": {"adaptation_steps": 2, "adaptation_data": "reused"},
}

every_suite = pytest.mark.parametrize("suite_name", sorted(SMALL))
every_adaptation = pytest.mark.parametrize("adaptation", ADAPTATIONS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def build(registry, name, *arguments, **settings):
    return registry[name].load()(registry[name].settings.model_validate(settings), *arguments)


def double(values):
    """A dictionary or named tuple of tensors with float64 where there are floats; None stays None."""

    def cast(tensor):
        return tensor.double() if tensor is not None and tensor.is_floating_point() else tensor

    if isinstance(values, dict):
        return {name: cast(tensor) for name, tensor in values.items()}
    return type(values)(*map(cast, values))


def collected(suite_name, method, tasks=3, episodes=9, seed=0, cast=double, **settings):
    """A learner, its initial parameters, and the data of its first meta-iteration."""
    suite = build(SUITES, suite_name, **SMALL[suite_name])
    learner = build(ALGORITHMS, method, suite, **METHOD | settings)
    learner.horizon = suite.horizon
    rng = generator(seed)
    params, drawn = cast(learner.init(rng).params), suite.sample_tasks(tasks, rng)

    def sample(given):
        single = {name: tensor.float() for name, tensor in given.items()}
        noise = learner.policy.draw_noise(rng, tasks, episodes, suite.horizon)
        trajectories = rollout(suite, learner.policy, single, drawn, episodes, rng, noise)
        samples = cast(learner.prepare(single, trajectories, {}, shared_slots=False)[0])
        if samples.old_log_prob is None:
            return samples
        # In the same precision: a ratio that should be 1 is then 1 to its last digits.
        every = {
            name: one if one.dim() > params[name].dim() else one.expand(tasks, *one.shape)
            for name, one in given.items()
        }
        return samples._replace(old_log_prob=learner.log_prob(every, samples))

    adapted, current = {name: tensor.expand(tasks, *tensor.shape) for name, tensor in params.items()}, params
    pre_update = []
    for _ in range(learner.adaptation_rounds):
        pre_update.append(sample(current))
        current = adapted = learner.adapt(current, pre_update[-1])
    return learner, params, MetaBatch(tuple(pre_update), adapted, sample(current))


def random_like(params, seed=1):
    rng = generator(seed)
    return {name: torch.randn(tensor.shape, generator=rng, dtype=tensor.dtype) for name, tensor in params.items()}


def tasks_of(data):
    """Number of tasks of a meta-batch."""
    return data.post_update.weights.shape[0]


def dot(one, other):
    return float(flatten(one) @ flatten(other))


def distance(one, other):
    """Size of the difference relative to the size."""
    return float((flatten(one) - flatten(other)).norm() / flatten(other).norm())


# Conjugate gradient and the step, on quadratics.


def plain_distribution(learner, params, observations):
    """Of one task, at its samples [slots]; parameters without a tasks axis."""
    table = learner.policy._table
    inputs = observations if table is None else table.to(params["actor/0/bias"].dtype)[observations.squeeze(-1)]
    outputs = network(params, "actor", inputs, learner.settings.hidden_activation)
    if table is None:
        return Independent(Normal(outputs.tanh(), params["actor/log_std"].exp().expand_as(outputs)), 1)
    return Categorical(logits=outputs)


def plain_log_prob(learner, params, samples, task):
    actions = samples.actions[task]
    chosen = actions if learner.policy._table is None else actions.squeeze(-1)
    return plain_distribution(learner, params, samples.observations[task]).log_prob(chosen)


def average(values, samples, task):
    return (values * samples.weights[task]).sum() / samples.weights[task].sum()


def plain_dice(log_prob, samples, task, horizon):
    """Σ_t (∏_{u≤t} π_u / sg π_u) r_t over the number of steps, for the rewards r of which A_t is what is to come."""
    ratios, advantages, weights = (
        log_prob.exp() / log_prob.exp().detach(),
        samples.advantages[task],
        samples.weights[task],
    )
    total = 0.0
    for start in range(0, len(ratios), horizon):
        product = 1.0
        for t in range(start, start + horizon):
            if weights[t] == 0.0:
                break
            product = product * ratios[t]
            last = t + 1 == start + horizon or weights[t + 1] == 0.0
            total = total + weights[t] * product * (advantages[t] - (0.0 if last else advantages[t + 1]))
    return total / weights.sum()


def plain_surrogate(name, learner, params, samples, task):
    """An inner loss of one task as the papers write it; the value of DiCE differs by a constant."""
    log_prob = plain_log_prob(learner, params, samples, task)
    if name == "dice":
        return -plain_dice(log_prob, samples, task, learner.horizon)
    per_step = {
        "score_function": lambda: log_prob,
        "lvc": lambda: log_prob.exp() / log_prob.exp().detach(),
        "likelihood_ratio": lambda: log_prob.exp() / samples.old_log_prob[task].exp(),
    }[name]()
    return -average(per_step * samples.advantages[task], samples, task)


def plain_path(learner, params, data, task, inner="score_function"):
    """θ_0 = θ, θ_1, ... of one task, after every round of adaptation; differentiable in θ."""
    path = [params]
    for samples in data.pre_update:
        for _ in range(learner.settings.adaptation_steps if learner.settings.adaptation_data == "reused" else 1):
            loss = plain_surrogate(inner, learner, params, samples, task)
            gradients = torch.autograd.grad(loss, list(params.values()), create_graph=True)
            params = {
                name: params[name] - learner.settings.inner_lr * gradient
                for name, gradient in zip(params, gradients, strict=True)
            }
        path.append(params)
    return path


def plain_adaptation(learner, params, data, task):
    """θ' of one task under the score function, differentiable in θ."""
    return plain_path(learner, params, data, task)[-1]


def plain_credit(form, learner, params, data, index, task):
    """What a pre-update policy is credited with, as a loss of one task; ``params`` are those after ``index`` rounds."""
    samples, after = data.pre_update[index], data.post_update
    total = (plain_log_prob(learner, params, samples, task) * samples.weights[task]).sum()
    if form != "released":
        scale = {"derived": 1.0, "paper": learner.settings.inner_lr / learner.horizon}[form]
        return -scale * total * average(after.rewards[task], after, task)
    if index > 0:
        return 0.0 * total
    every = after.rewards[after.weights > 0]
    adjusted = (after.rewards[task] - every.mean()) / (every.std(correction=0) + 1e-8)
    return -(total / samples.weights[task].sum()) * average(adjusted, after, task)


def plain_divergence(learner, old, new, samples, task):
    """Mean over the steps of one task of KL(old ‖ new)."""
    before, after = (plain_distribution(learner, one, samples.observations[task]) for one in (old, new))
    return average(kl_divergence(before, after), samples, task)


def plain_gradient(objective, params, tasks):
    """Gradient of the mean over tasks of ``objective(params, task)``."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    loss = torch.stack([objective(leaves, task) for task in range(tasks)]).mean()
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def ended_early(learner, params, data, seed=4):
    """The same steps as if episodes had ended after 1 ... horizon of them, and what adaptation then makes of θ."""
    rng, tasks = generator(seed), data.post_update.weights.shape[0]
    current = {name: tensor.expand(tasks, *tensor.shape) for name, tensor in params.items()}

    def cut(samples):
        lengths = torch.randint(
            1, learner.horizon + 1, (tasks, samples.weights.shape[1] // learner.horizon, 1), generator=rng
        )
        mask = (torch.arange(learner.horizon) < lengths).flatten(1).to(samples.weights.dtype)
        samples = samples._replace(weights=mask, advantages=samples.advantages * mask, rewards=samples.rewards * mask)
        if samples.old_log_prob is None:
            return samples
        return samples._replace(old_log_prob=learner.log_prob(current, samples))

    pre_update = []
    for samples in data.pre_update:
        pre_update.append(cut(samples))
        current = learner.adapt(current, pre_update[-1])
    return MetaBatch(tuple(pre_update), current, cut(data.post_update))


def old_params(data, task):
    return {name: tensor[task].detach() for name, tensor in data.adapted.items()}


def plain_loss_and_kl(learner, params, data, through_adaptation=True):
    """Mean over tasks of the likelihood-ratio loss and of KL(old ‖ adapted θ)."""
    samples, losses, divergences = data.post_update, [], []
    for task in range(samples.weights.shape[0]):
        old = old_params(data, task)
        if through_adaptation:
            new = plain_adaptation(learner, params, data, task)
        else:  # the adaptation as a constant shift
            new = {name: old[name] + params[name] - params[name].detach() for name in params}
        ratio = (plain_log_prob(learner, new, samples, task) - plain_log_prob(learner, old, samples, task)).exp()
        losses.append(-average(ratio * samples.advantages[task], samples, task))
        before, after = (plain_distribution(learner, one, samples.observations[task]) for one in (old, new))
        divergences.append(average(kl_divergence(before, after), samples, task))
    return torch.stack(losses).mean(), torch.stack(divergences).mean()


def plain_products(learner, params, data, vector, through_adaptation=True):
    """Gradient of the loss, and by double backprop the Hessian of the divergence times a vector."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    every = list(leaves.values())
    loss, divergence = plain_loss_and_kl(learner, leaves, data, through_adaptation)
    gradient = torch.autograd.grad(loss, every, retain_graph=True)
    slope = torch.autograd.grad(divergence, every, create_graph=True)
    along = sum((one * vector[name]).sum() for name, one in zip(leaves, slope, strict=True))
    product = torch.autograd.grad(along, every)
    return tuple(dict(zip(leaves, parts, strict=True)) for parts in (gradient, product))


def trust_region(**settings):
    return TrustRegionMethodSettings(**{"inner_lr": 0.0, "cg_iterations": 20, "cg_damping": 0.0} | settings)

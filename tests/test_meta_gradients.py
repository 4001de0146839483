"""Meta-gradients: closed forms, finite differences, plain autograd, and where the methods must agree."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from algorithms.meta_gradients import elementwise, first_order, second_order
from algorithms.samples import Samples
from harness.api import MetaBatch, State
from tests.reference.plain_actor_critic import loss

ACTOR_RATE, CRITIC_RATE = 0.3, 0.2
METHODS = {"maml": second_order, "fomaml": first_order, "maml_elementwise": elementwise}


@pytest.fixture
def setting(make_suite, make_learner, collect):
    """``setting(name, ...)``: learner, initial parameters and first meta-batch of a small problem, in float64."""

    def of(name="maml", tasks=3, horizon=12, **settings):
        suite = make_suite(horizon=horizon)
        learner = make_learner(name, suite, **{"hidden_activation": "tanh"} | settings)
        state, data = collect(learner, suite, tasks=tasks)
        return learner, state.params, data

    return of


def flat(gradients):
    return torch.cat([gradients[name].flatten() for name in sorted(gradients)])


def distance(one, other):
    """Size of the difference relative to the size."""
    return float((flat(one) - flat(other)).norm() / flat(other).norm())


def step(params, gradients):
    """θ - α g with the two rates of these tests."""
    rates = {name: ACTOR_RATE if name.startswith("actor/") else CRITIC_RATE for name in params}
    return {name: params[name] - rates[name] * gradients[name] for name in params}


def plain_gradients(params, samples, task, activation, **options):
    """Gradient of the plain loss of one task."""
    value = loss(params, *(tensor[task] for tensor in samples[:4]), activation)
    return dict(zip(params, torch.autograd.grad(value, list(params.values()), **options), strict=True))


def plain_meta_gradient(params, data, activation, create_graph):
    """∇_θ of the loss after adaptation (or, without a graph, ∇ at the adapted parameters), averaged over tasks."""
    each = []
    for task in range(data.post_update.weights.shape[0]):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
        adapted = leaves
        for samples in data.pre_update:
            gradients = plain_gradients(adapted, samples, task, activation, create_graph=create_graph)
            adapted = step(adapted, gradients)
        if not create_graph:
            leaves = adapted = {name: tensor.detach().requires_grad_() for name, tensor in adapted.items()}
        value = loss(adapted, *(tensor[task] for tensor in data.post_update[:4]), activation)
        each.append(dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True)))
    return {name: torch.stack([one[name] for one in each]).mean(0) for name in params}


def for_task(data, task):
    """The meta-batch of one task."""
    block = slice(task, task + 1)
    pre_update = tuple(samples.slice_tasks(block) for samples in data.pre_update)
    adapted = {name: tensor[block] for name, tensor in data.adapted.items()}
    return MetaBatch(pre_update, adapted, data.post_update.slice_tasks(block))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_second_order_equals_plain_autograd_through_the_adaptation(setting, steps, activation):
    learner, params, data = setting(adaptation_steps=steps, hidden_activation=activation)
    plain = plain_meta_gradient(params, data, activation, create_graph=True)
    assert distance(second_order(learner, params, data), plain) < 1e-10


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_first_order_is_the_plain_gradient_at_the_adapted_parameters(setting, steps):
    learner, params, data = setting("fomaml", adaptation_steps=steps)
    plain = plain_meta_gradient(params, data, "tanh", create_graph=False)
    assert distance(first_order(learner, params, data), plain) < 1e-10


def test_elementwise_is_g1_times_one_minus_alpha_g0(setting):
    learner, params, data = setting("maml_elementwise")
    each = []
    for task in range(3):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
        before = plain_gradients(leaves, data.pre_update[0], task, "tanh")
        adapted = {name: tensor.detach().requires_grad_() for name, tensor in step(leaves, before).items()}
        after = plain_gradients(adapted, data.post_update, task, "tanh")
        shrunk = step({name: torch.ones_like(tensor) for name, tensor in params.items()}, before)  # 1 - α g0
        each.append({name: after[name] * shrunk[name] for name in params})
    by_hand = {name: torch.stack([one[name] for one in each]).mean(0) for name in params}
    assert distance(elementwise(learner, params, data), by_hand) < 1e-10
    assert distance(elementwise(learner, params, data), first_order(learner, params, data)) > 1e-3


@pytest.mark.parametrize("steps", [1, 2])
def test_second_order_equals_central_differences_of_the_loss_after_adaptation(setting, steps):
    learner, params, data = setting(adaptation_steps=steps)

    def after_adaptation(theta):
        for samples in data.pre_update:
            theta = learner.adapt(theta, samples)
        with torch.no_grad():
            return float(learner.outer_loss(theta, data.post_update).mean())

    gradients, width = second_order(learner, params, data), 1e-5
    rng = torch.Generator().manual_seed(0)
    for prefix in ("actor/", "critic/"):
        direction = {
            name: torch.randn(tensor.shape, generator=rng).double() * name.startswith(prefix)
            for name, tensor in params.items()
        }
        ahead, behind = (
            after_adaptation({name: params[name] + sign * width * direction[name] for name in params})
            for sign in (1, -1)
        )
        analytic = sum(float((gradients[name] * direction[name]).sum()) for name in params)
        assert analytic == pytest.approx((ahead - behind) / (2 * width), rel=1e-6)


def test_without_an_inner_rate_the_three_methods_are_one(setting):
    learner, params, data = setting("maml_elementwise", actor_inner_lr=0.0, critic_inner_lr=0.0)
    reference = first_order(learner, params, data)
    assert distance(second_order(learner, params, data), reference) < 1e-12
    assert distance(elementwise(learner, params, data), reference) < 1e-12


def test_with_an_inner_rate_the_three_methods_differ(setting):
    learner, params, data = setting("maml_elementwise")
    gradients = [flat(method(learner, params, data)) for method in (first_order, second_order, elementwise)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert float((gradients[one] - gradients[other]).norm() / gradients[one].norm()) > 1e-3


@pytest.mark.parametrize("name", sorted(METHODS))
def test_without_an_inner_rate_the_adapted_policy_is_the_initial_one(setting, name):
    _, params, data = setting(name, actor_inner_lr=0.0, critic_inner_lr=0.0)
    for key, tensor in params.items():
        assert torch.equal(data.adapted[key], tensor.expand(3, *tensor.shape))


def test_with_an_inner_rate_every_parameter_of_every_task_moves_and_differently(setting):
    _, params, data = setting()
    for key, tensor in params.items():
        moved = data.adapted[key]
        assert not any(torch.equal(moved[task], tensor) for task in range(3))
        assert not torch.equal(moved[0], moved[1])


def test_adaptation_descends_the_inner_loss_of_its_task(setting):
    learner, params, data = setting(actor_inner_lr=1e-3, critic_inner_lr=1e-3)
    repeated = {name: tensor.expand(3, *tensor.shape) for name, tensor in params.items()}
    before = learner.inner_loss(repeated, data.pre_update[0])
    after = learner.inner_loss(data.adapted, data.pre_update[0])
    gradients = {name: (repeated[name] - data.adapted[name]) / 1e-3 for name in params}
    squares = sum(gradient.square().flatten(1).sum(1) for gradient in gradients.values())
    torch.testing.assert_close(before - after, 1e-3 * squares, rtol=0.05, atol=0)


def test_maml_without_adaptation_steps_makes_the_update_of_pretrained(make_suite, make_learner, collect):
    suite = make_suite(horizon=12)
    updated = []
    for name in ("maml", "fomaml", "pretrained"):
        learner = make_learner(name, suite, adaptation_steps=0)
        state, data = collect(learner, suite)
        updated.append(learner.meta_update(state, data, 0)[0])
    for state in updated[:2]:
        assert all(torch.equal(state.params[key], updated[2].params[key]) for key in state.params)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_meta_gradient_of_a_batch_is_the_mean_over_its_tasks(setting, name):
    learner, params, data = setting(name, tasks=5)
    every = METHODS[name](learner, params, data)
    each = [METHODS[name](learner, params, for_task(data, task)) for task in range(5)]
    mean = {key: torch.stack([one[key] for one in each]).mean(0) for key in params}
    assert distance(every, mean) < 1e-13


def test_adaptation_of_a_batch_equals_its_tasks_one_by_one(setting):
    learner, params, data = setting(tasks=5)
    for task in range(5):
        alone = learner.adapt(params, data.pre_update[0].slice_tasks(slice(task, task + 1)))
        assert all(torch.equal(alone[key][0], data.adapted[key][task]) for key in params)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_permuting_the_tasks_leaves_the_meta_gradient(setting, name):
    learner, params, data = setting(name, tasks=5, unused_slots="excluded")
    order = torch.tensor([4, 2, 0, 3, 1])
    permuted = MetaBatch(
        tuple(samples.slice_tasks(order) for samples in data.pre_update),
        {key: tensor[order] for key, tensor in data.adapted.items()},
        data.post_update.slice_tasks(order),
    )
    assert distance(METHODS[name](learner, params, permuted), METHODS[name](learner, params, data)) < 1e-6


@pytest.mark.parametrize("name", sorted(METHODS))
def test_samples_that_do_not_count_have_no_part_in_the_meta_gradient(setting, name):
    learner, params, data = setting(name)

    def with_rubbish(samples):
        size = (samples.weights.shape[0], 4)
        rubbish = [torch.full((*size, *tensor.shape[2:]), 7.0, dtype=tensor.dtype) for tensor in samples[:4]]
        rubbish.append(torch.zeros(size, dtype=torch.float64))
        fields = [tensor for tensor in samples if tensor is not None]
        return Samples(*(torch.cat([one, extra], 1) for one, extra in zip(fields, rubbish, strict=True)))

    padded = MetaBatch(tuple(map(with_rubbish, data.pre_update)), data.adapted, with_rubbish(data.post_update))
    assert distance(METHODS[name](learner, params, padded), METHODS[name](learner, params, data)) < 1e-12


def test_one_step_with_a_quadratic_reward_in_closed_form(make_learner):
    """a ~ N(μ, σ²), r = -(a - g)²: every expectation is exact by Gauss-Hermite quadrature.

    J = -(μ - g)² - σ², so μ' = μ + 2α(g - μ) and ω' = ω - 2ασ² for ω = log σ. With A = r the score function's second
    derivative is H2 = E[∇² log π r]: -E[r]/σ² and 4(μ - g) for (μ, μ) and (μ, ω), where the true one is -2 and 0.
    """
    mu, omega, goal, rate = 0.4, -0.7, 1.0, 0.1
    line = SimpleNamespace(observation_dim=1, observation_table=None, action_dim=1, num_actions=None, horizon=1)
    learner = make_learner(
        "maml_elementwise", line, actor_hidden_sizes=[], actor_output_activation="linear", actor_inner_lr=rate
    )
    params = {name: tensor.double() for name, tensor in learner.init(torch.Generator().manual_seed(0)).params.items()}
    params["actor/0/bias"], params["actor/log_std"] = torch.tensor([[mu], [omega]], dtype=torch.float64)
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(12))

    def samples(mean, log_std):
        actions = (mean + np.exp(log_std) * nodes).view(1, -1, 1)
        rewards = -((actions.squeeze(-1) - goal) ** 2)
        return Samples(torch.zeros_like(actions), actions, rewards, torch.zeros_like(rewards), weights.view(1, -1))

    before = samples(mu, omega)
    adapted = learner.adapt(params, before)
    variance = np.exp(2 * omega)
    mu_after, omega_after = mu + 2 * rate * (goal - mu), omega - 2 * rate * variance
    assert float(adapted["actor/0/bias"]) == pytest.approx(mu_after, rel=1e-10)
    assert float(adapted["actor/log_std"]) == pytest.approx(omega_after, rel=1e-10)

    data = MetaBatch((before,), adapted, samples(mu_after, omega_after))
    of_mu, of_omega = 2 * (mu_after - goal), 2 * np.exp(2 * omega_after)  # ∇L at θ', L = -J
    expected = {
        first_order: of_mu,
        second_order: of_mu * (1 + rate * ((mu - goal) ** 2 + variance) / variance) + of_omega * rate * 4 * (mu - goal),
        elementwise: of_mu * (1 - rate * 2 * (mu - goal)),
    }
    for method, value in expected.items():
        assert float(method(learner, params, data)["actor/0/bias"]) == pytest.approx(value, rel=1e-10)


def test_a_meta_update_is_one_adam_step_against_the_meta_gradient(setting):
    learner, params, data = setting()
    gradients = second_order(learner, params, data)
    state, metrics = learner.meta_update(State(params, learner.outer.init(params)), data, 0)
    # The first step of Adam moves every parameter by its rate, 0.01 or 0.02, against the sign of its gradient.
    for name, tensor in params.items():
        rate = 0.01 if name.startswith("actor/") else 0.02
        torch.testing.assert_close(state.params[name], tensor - rate * gradients[name].sign(), rtol=0, atol=1e-4)
    actor = {name: gradient for name, gradient in gradients.items() if name.startswith("actor/")}
    assert metrics["meta_gradient_norm_actor"] == pytest.approx(float(flat(actor).norm()))

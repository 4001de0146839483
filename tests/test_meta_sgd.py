"""Meta-SGD: MAML where the step sizes stand still, and the gradient in them where they do not."""

import pytest
import torch

from algorithms import ALGORITHMS, RULES
from algorithms.meta_gradients import mean_over_tasks
from algorithms.step_sizes import networks_of, step_size_of, step_sizes_of
from harness.api import State
from tests.plain_autograd import build, distance
from tests.test_actor_critic import NETWORKS, of, part, same, trained

RATES = {"actor_inner_lr": 0.25, "critic_inner_lr": 0.125, "actor_outer_lr": 0.01, "critic_outer_lr": 0.02}
FROZEN = {"rate_lr_factor": 1e-30}
"""A rate whose steps are below the resolution of floats."""
ORDERS = {"first_order": "fomaml", "second_order": "maml"}
every_order = pytest.mark.parametrize("order", ORDERS)
every_count = pytest.mark.parametrize("steps", [1, 2])


@pytest.fixture
def suite(make_suite):
    return make_suite(horizon=12)


def learner_of(suite, **settings):
    return build(ALGORITHMS, "meta_sgd", suite, **RATES | NETWORKS | {"meta_gradient": "first_order"} | settings)


def uneven(state, seed=3):
    """The same state with step sizes that differ, some of them negative."""
    rng = torch.Generator().manual_seed(seed)
    drawn = {
        name: 0.3 * torch.randn(one.shape, generator=rng, dtype=one.dtype)
        for name, one in step_sizes_of(state.params).items()
    }
    return State(state.params | drawn, state.optimiser)


@pytest.fixture
def drawn(suite, collect, monkeypatch):
    """``drawn(steps, ...)``: a learner with uneven step sizes, their parameters and first meta-batch, in float64."""

    def meet(steps=1, **settings):
        learner = learner_of(suite, adaptation_steps=steps, **settings)
        initial = learner.init
        monkeypatch.setattr(learner, "init", lambda rng: uneven(initial(rng)))
        state, data = collect(learner, suite)
        return learner, state, data

    return meet


def test_every_parameter_has_step_sizes_that_begin_at_the_inner_rate_and_the_networks_are_mamls(suite):
    params = learner_of(suite).init(torch.Generator().manual_seed(0)).params
    networks = of(suite, "maml").init(torch.Generator().manual_seed(0)).params
    assert same(networks_of(params), networks)
    assert set(step_sizes_of(params)) == {step_size_of(name) for name in networks}
    for name, tensor in networks.items():
        rate = 0.25 if name.startswith("actor/") else 0.125
        assert torch.equal(params[step_size_of(name)], torch.full_like(tensor, rate))


@every_count
@every_order
def test_with_step_sizes_that_stand_still_training_is_mamls_bit_by_bit(make_suite, order, steps):
    where = make_suite(horizon=12, goal_tolerance=0.2)
    own = trained(where, learner_of(where, meta_gradient=order, adaptation_steps=steps, **FROZEN))
    maml = trained(where, of(where, ORDERS[order], adaptation_steps=steps))
    assert same(networks_of(own.params), maml.params)
    assert all((tensor == (0.25 if name < "b" else 0.125)).all() for name, tensor in step_sizes_of(own.params).items())
    free = trained(where, learner_of(where, meta_gradient=order, adaptation_steps=steps))
    assert distance(networks_of(free.params), maml.params) > 1e-4


@every_count
def test_an_adaptation_multiplies_element_by_element_and_keeps_the_step_sizes(drawn, suite, steps):
    _, state, data = drawn(steps)
    maml = of(suite, "maml", actor_inner_lr=1.0, critic_inner_lr=1.0)
    expected = {name: tensor.expand(3, *tensor.shape) for name, tensor in networks_of(state.params).items()}
    for samples in data.pre_update:
        whole = maml.adapt(expected, samples)  # θ - g
        expected = {
            name: one - state.params[step_size_of(name)] * (one - whole[name]) for name, one in expected.items()
        }
    assert distance(networks_of(data.adapted), expected) < 1e-12
    for name, tensor in step_sizes_of(state.params).items():
        assert torch.equal(data.adapted[name], tensor.expand(3, *tensor.shape))


@every_count
@every_order
def test_the_gradient_in_the_step_sizes_in_closed_form(drawn, order, steps):
    """With one step -∇L(θ) ⊙ ∇L(θ') of either order; with two, the first order adds up the inner gradients."""
    learner, state, data = drawn(steps)
    found = step_sizes_of(learner.meta_gradients(state, data, through_adaptation=order == "second_order"))
    after = learner._inner_gradients(data.adapted, data.post_update)
    at, followed = {name: one.expand(3, *one.shape) for name, one in state.params.items()}, []
    for samples in data.pre_update:
        followed.append(learner._inner_gradients(at, samples))
        at = learner.adapt(at, samples)
    expected = {
        step_size_of(name): -after[name] * sum(gradients[name] for gradients in followed)
        for name in networks_of(state.params)
    }
    if order == "first_order" or steps == 1:
        assert distance(found, expected) < 1e-12
    else:
        assert distance(found, expected) > 1e-3


@every_count
def test_the_second_order_equals_central_differences_in_networks_and_step_sizes(drawn, steps):
    learner, state, data = drawn(steps)
    gradient, width = mean_over_tasks(learner.meta_gradients(state, data)), 1e-5
    for choose in (networks_of, step_sizes_of):
        rng = torch.Generator().manual_seed(0)
        direction = {k: torch.randn(v.shape, generator=rng, dtype=v.dtype) for k, v in choose(state.params).items()}

        def after_adaptation(sign, direction=direction):
            moved = state.params | {k: state.params[k] + sign * width * v for k, v in direction.items()}
            for samples in data.pre_update:
                moved = learner.adapt(moved, samples)
            with torch.no_grad():
                return float(learner.outer_loss(moved, data.post_update).mean())

        slope = (after_adaptation(1) - after_adaptation(-1)) / (2 * width)
        assert sum(float((gradient[k] * v).sum()) for k, v in direction.items()) == pytest.approx(slope, rel=1e-6)


@every_order
def test_an_update_is_one_adam_step_of_both_at_their_own_rates(drawn, order):
    learner, state, data = drawn(meta_gradient=order, rate_lr_factor=0.1)
    gradient = mean_over_tasks(learner.meta_gradients(state, data, through_adaptation=order == "second_order"))
    state = State(state.params, learner.outer.init(state.params))
    new, metrics = learner.meta_update(state, data, 0)
    for name, tensor in state.params.items():
        rate = (0.01 if name.startswith("actor/") else 0.02) * (0.1 if "/inner_lr/" in name else 1.0)
        step = rate * gradient[name] / (gradient[name].abs() + 1e-8)  # Adam's first
        torch.testing.assert_close(new.params[name], tensor - step, rtol=0, atol=1e-9)
    assert int(new.optimiser["count"]) == 1
    for name in ("actor", "critic"):
        mine = torch.cat([one.flatten() for one in part(name, step_sizes_of(new.params)).values()])
        assert metrics[f"inner_lr_mean_{name}"] == pytest.approx(float(mine.mean()))
        assert 0.0 < metrics[f"inner_lr_negative_{name}"] < 1.0


def test_at_meta_test_the_inner_rules_use_the_learned_steps_and_a_factor_multiplies_them(drawn):
    learner, state, data = drawn()
    given = {name: one.expand(3, *one.shape) for name, one in state.params.items()}
    (samples,) = data.pre_update
    inner = learner.rule(RULES["inner"]()).update(given, {}, samples)[0]
    assert same(inner, data.adapted)
    rule = learner.rule(RULES["inner_scaled"](factors=[0.5, 0.0]))
    half, memory = rule.update(given, rule.init(given), samples)
    for name, one in networks_of(given).items():
        torch.testing.assert_close(half[name], (one + inner[name]) / 2, rtol=1e-12, atol=1e-14)
    assert same(step_sizes_of(half), step_sizes_of(given))
    assert same(rule.update(half, memory, samples)[0], half)


def test_adam_at_meta_test_is_mamls_and_leaves_the_step_sizes(drawn, suite):
    learner, state, data = drawn()
    settings, moved = RULES["adam"](actor_lr=0.1, critic_lr=0.05), []
    for one in (learner, of(suite, "maml")):
        params = state.params if one is learner else networks_of(state.params)
        given = {name: tensor.expand(3, *tensor.shape) for name, tensor in params.items()}
        rule = one.rule(settings)
        memory = rule.init(given)
        for _ in range(2):
            given, memory = rule.update(given, memory, data.pre_update[0])
        moved.append(given)
    assert same(networks_of(moved[0]), moved[1])
    for name, tensor in step_sizes_of(state.params).items():
        assert torch.equal(moved[0][name], tensor.expand(3, *tensor.shape))

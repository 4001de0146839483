"""Reptile, and adaptation in several steps on the same samples: plain gradient descent, one step at a time."""

import pytest
import torch

from algorithms.fisher import PostUpdateGeometry
from algorithms.meta_gradients import second_order, towards_adapted
from harness.api import MetaBatch, State
from tests.plain_autograd import SMALL, average, collected, distance, plain_log_prob

REPTILE = {"outer_lr": 0.01, "inner_lr": 0.4, "adaptation_steps": 3, "adaptation_data": "reused"}

every_suite = pytest.mark.parametrize("suite_name", sorted(SMALL))


def plain_loss(learner, params, samples, task):
    """-mean log π A of one task."""
    return -average(plain_log_prob(learner, params, samples, task) * samples.advantages[task], samples, task)


def descended(learner, params, samples, task, steps, rate):
    """Parameters after plain gradient descent, differentiable in the first."""
    for _ in range(steps):
        loss = plain_loss(learner, params, samples, task)
        gradients = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        params = {name: params[name] - rate * part for name, part in zip(params, gradients, strict=True)}
    return params


def leaves_of(params):
    return {name: tensor.clone().requires_grad_() for name, tensor in params.items()}


@every_suite
def test_three_reused_steps_are_three_steps_of_gradient_descent_on_the_same_samples(suite_name):
    learner, params, data = collected(suite_name, "reptile", **REPTILE)
    assert (learner.adaptation_rounds, len(data.pre_update)) == (1, 1)
    for task in range(3):
        plain = descended(learner, leaves_of(params), data.pre_update[0], task, steps=3, rate=0.4)
        one = {name: tensor[task] for name, tensor in data.adapted.items()}
        assert distance(one, {name: tensor.detach() for name, tensor in plain.items()}) < 1e-12
    again = learner.adapt(params, data.pre_update[0])
    assert all(torch.equal(again[name], data.adapted[name]) for name in params)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_reused_steps_need_one_round_of_samples_and_fresh_ones_a_round_each(steps):
    fresh = collected("bandits", "reptile", **REPTILE | {"adaptation_steps": steps, "adaptation_data": "fresh"})
    reused = collected("bandits", "reptile", **REPTILE | {"adaptation_steps": steps})
    assert (fresh[0].adaptation_rounds, fresh[0].steps_per_round) == (steps, 1)
    assert reused[0].adaptation_rounds == min(steps, 1)
    assert [len(data.pre_update) for _, _, data in (fresh, reused)] == [steps, min(steps, 1)]
    for learner, params, data in (fresh, reused):
        through = learner.path(params, data.pre_update, tasks=3)[-1]
        assert all(torch.equal(through[name], data.adapted[name]) for name in params)


@every_suite
def test_the_gradient_is_the_way_back_from_the_mean_of_the_adapted_parameters(suite_name):
    learner, params, data = collected(suite_name, "reptile", **REPTILE)
    gradient = towards_adapted(learner, params, data)
    for name, tensor in params.items():
        ways = [tensor - data.adapted[name][task] for task in range(3)]
        torch.testing.assert_close(gradient[name], sum(ways) / 3, rtol=1e-12, atol=1e-14)
    # To first order in the inner rate it is three times the rate times the mean gradient of the tasks.
    learner, params, data = collected(suite_name, "reptile", **REPTILE | {"inner_lr": 1e-6})
    leaves = leaves_of(params)
    mean_loss = sum(plain_loss(learner, leaves, data.pre_update[0], task) for task in range(3)) / 3
    slopes = torch.autograd.grad(mean_loss, list(leaves.values()))
    expected = {name: 3e-6 * slope for name, slope in zip(leaves, slopes, strict=True)}
    assert distance(towards_adapted(learner, params, data), expected) < 1e-4


def test_the_post_update_samples_have_no_part_in_the_update():
    learner, params, data = collected("bandits", "reptile", **REPTILE)
    rubbish = data.post_update._replace(advantages=-7.0 * data.post_update.advantages)
    start = State(params, learner.outer.init(params))
    one, other = (
        learner.outer.step(learner, start, MetaBatch(data.pre_update, data.adapted, samples))[0]
        for samples in (data.post_update, rubbish)
    )
    assert all(torch.equal(one[name], other[name]) for name in params)


@every_suite
def test_an_update_is_an_adam_step_towards_the_adapted_parameters(suite_name):
    learner, params, data = collected(suite_name, "reptile", **REPTILE)
    start = State(params, learner.outer.init(params))
    moved, memory, metrics = learner.outer.step(learner, start, data)
    way = {name: data.adapted[name].mean(0) - tensor for name, tensor in params.items()}
    for name, tensor in params.items():
        # The first step of Adam moves every parameter by its rate, here in the direction of its way.
        expected = 0.01 * way[name] / (way[name].abs() + 1e-8)
        torch.testing.assert_close(moved[name] - tensor, expected, rtol=1e-6, atol=1e-12)
    assert int(memory["count"]) == 1
    assert metrics["meta_gradient_norm_actor"] == pytest.approx(
        sum(float(part.square().sum()) for part in way.values()) ** 0.5
    )


def test_without_an_inner_rate_nothing_moves():
    learner, params, data = collected("tabular_mdp", "reptile", **REPTILE | {"inner_lr": 0.0})
    moved, _, _ = learner.outer.step(learner, State(params, learner.outer.init(params)), data)
    assert all(torch.equal(moved[name], params[name]) for name in params)


@pytest.mark.parametrize("steps", [2, 3])
@every_suite
def test_the_gradient_through_reused_steps_equals_plain_autograd(suite_name, steps):
    settings = {"adaptation_steps": steps, "adaptation_data": "reused", "inner_lr": 0.4}
    learner, params, data = collected(suite_name, "maml_trpo", **settings)
    leaves, total = leaves_of(params), 0.0
    for task in range(3):
        adapted = descended(learner, leaves, data.pre_update[0], task, steps, rate=0.4)
        total = total + plain_loss(learner, adapted, data.post_update, task) / 3
    plain = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
    assert distance(second_order(learner, params, data), plain) < 1e-10
    assert distance(PostUpdateGeometry(learner, params, data, True).gradient(), plain) < 1e-10


def test_every_reused_step_has_its_own_gradient():
    learner, params, data = collected("tabular_mdp", "reptile", **REPTILE)
    samples, rounds = data.pre_update[0], []
    for steps in (1, 2, 3):
        learner.steps_per_round = steps
        rounds.append(learner.adapt(params, samples))
    moves = [
        {name: later[name] - earlier[name] for name in params}
        for earlier, later in ((params, rounds[0]), (rounds[0], rounds[1]), (rounds[1], rounds[2]))
    ]
    assert distance(moves[1], moves[0]) > 1e-3
    assert distance(moves[2], moves[1]) > 1e-3
    # An adaptation from per-task parameters goes on from there.
    learner.steps_per_round = 1
    onwards = learner.adapt(learner.adapt(rounds[0], samples), samples)
    assert distance(onwards, rounds[2]) < 1e-14

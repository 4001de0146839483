"""Gradient and Fisher metric through the adaptation, against plain autograd and finite differences."""

import pytest

from algorithms.fisher import PostUpdateGeometry
from algorithms.meta_gradients import first_order, second_order
from algorithms.trust_region import flatten, unflatten
from tests.plain_autograd import (
    ADAPTATIONS,
    collected,
    distance,
    dot,
    every_adaptation,
    every_suite,
    plain_loss_and_kl,
    plain_products,
    random_like,
)


@every_adaptation
@every_suite
def test_gradient_and_metric_equal_double_backprop_in_plain_autograd(suite_name, adaptation):
    learner, params, data = collected(suite_name, "maml_trpo", **ADAPTATIONS[adaptation])
    vector = random_like(params)
    geometry = PostUpdateGeometry(learner, params, data, through_adaptation=True)
    gradient, product = plain_products(learner, params, data, vector)
    assert distance(geometry.gradient(), gradient) < 1e-9
    assert distance(geometry.fisher_product(vector), product) < 1e-9


@pytest.mark.parametrize("adaptation", ["one step", "two reused steps"])
@every_suite
def test_fomaml_takes_the_adaptation_for_a_constant_shift(suite_name, adaptation):
    learner, params, data = collected(suite_name, "fomaml_trpo", **ADAPTATIONS[adaptation])
    vector = random_like(params)
    geometry = PostUpdateGeometry(learner, params, data, through_adaptation=False)
    gradient, product = plain_products(learner, params, data, vector, through_adaptation=False)
    assert distance(geometry.gradient(), gradient) < 1e-9
    assert distance(geometry.fisher_product(vector), product) < 1e-9
    assert distance(geometry.gradient(), first_order(learner, params, data)) < 1e-9
    through = PostUpdateGeometry(learner, params, data, through_adaptation=True)
    assert distance(through.fisher_product(vector), product) > 1e-3


@every_adaptation
@every_suite
def test_gradient_and_metric_equal_central_differences_of_what_the_line_search_measures(suite_name, adaptation):
    learner, params, data = collected(suite_name, "maml_trpo", **ADAPTATIONS[adaptation])
    geometry, start = PostUpdateGeometry(learner, params, data, through_adaptation=True), flatten(params)

    def measured(move):
        return learner.outer._loss_and_kl(learner, unflatten(start + move, params), data, None)

    assert measured(0.0 * start)[1] == pytest.approx(0.0, abs=1e-15)
    for seed in (1, 2):
        vector = random_like(params, seed)
        along = flatten(vector)
        slope = (measured(1e-5 * along)[0] - measured(-1e-5 * along)[0]) / 2e-5
        assert dot(geometry.gradient(), vector) == pytest.approx(slope, rel=1e-5, abs=1e-9)
        width = 1e-3  # KL is zero and flat at the start: v'Fv = (KL(hv) + KL(-hv)) / h²
        curvature = (measured(width * along)[1] + measured(-width * along)[1]) / width**2
        assert dot(vector, geometry.fisher_product(vector)) == pytest.approx(curvature, rel=1e-3)


@every_adaptation
@every_suite
def test_the_line_search_measures_what_plain_operations_measure(suite_name, adaptation):
    learner, params, data = collected(suite_name, "maml_trpo", **ADAPTATIONS[adaptation])
    moved = {
        name: tensor + 0.1 * move
        for (name, tensor), move in zip(params.items(), random_like(params).values(), strict=True)
    }
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in moved.items()}
    plain = [float(one.detach()) for one in plain_loss_and_kl(learner, leaves, data)]
    loss, divergence = learner.outer._loss_and_kl(learner, moved, data, None)
    assert (loss, divergence) == pytest.approx(plain, rel=1e-9)
    assert divergence > 1e-4


@every_adaptation
@every_suite
def test_the_metric_is_symmetric_and_positive(suite_name, adaptation):
    learner, params, data = collected(suite_name, "maml_trpo", **ADAPTATIONS[adaptation])
    geometry = PostUpdateGeometry(learner, params, data, through_adaptation=True)
    u, v = random_like(params, 1), random_like(params, 2)
    fu, fv = geometry.fisher_product(u), geometry.fisher_product(v)
    assert dot(u, fv) == pytest.approx(dot(v, fu), rel=1e-10)
    assert dot(u, fu) > 0
    both = {name: 2.0 * u[name] - 3.0 * v[name] for name in u}
    linear = {name: 2.0 * fu[name] - 3.0 * fv[name] for name in u}
    assert distance(geometry.fisher_product(both), linear) < 1e-12


@pytest.mark.parametrize("adaptation", ["one step", "two fresh steps"])
@every_suite
def test_without_an_inner_rate_the_metric_of_fomaml_is_that_of_maml(suite_name, adaptation):
    learner, params, data = collected(suite_name, "maml_trpo", inner_lr=0.0, **ADAPTATIONS[adaptation])
    one, other = (PostUpdateGeometry(learner, params, data, through) for through in (True, False))
    vector = random_like(params)
    assert distance(one.fisher_product(vector), other.fisher_product(vector)) < 1e-12
    assert distance(one.gradient(), other.gradient()) < 1e-12


@every_adaptation
@every_suite
def test_the_gradient_is_that_of_the_adam_methods(suite_name, adaptation):
    learner, params, data = collected(suite_name, "maml_trpo", **ADAPTATIONS[adaptation])
    of_trpo = PostUpdateGeometry(learner, params, data, through_adaptation=True).gradient()
    assert distance(of_trpo, second_order(learner, params, data)) < 1e-10


# Whole updates, in float32 as a run makes them.

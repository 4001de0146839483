"""Conjugate gradient and the step: closed forms, acceptance, rejection."""

import pytest
import torch

from algorithms.trust_region import conjugate_gradient, flatten, trust_region_step, unflatten
from tests.plain_autograd import (
    generator,
    trust_region,
)


def positive_definite(size, seed=0):
    root = torch.randn(size, size, generator=generator(seed), dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_conjugate_gradient_solves_a_system_of_n_equations_in_n_steps(size):
    matrix = positive_definite(size)
    b = torch.randn(size, generator=generator(1), dtype=torch.float64)
    x, residual = conjugate_gradient(lambda vector: matrix @ vector, b, size)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b), rtol=1e-6, atol=1e-8)
    assert float(residual.norm()) < 1e-6
    early, residual = conjugate_gradient(lambda vector: matrix @ vector, b, max(1, size // 2))
    torch.testing.assert_close(residual, b - matrix @ early, rtol=1e-9, atol=1e-9)


def counted(product):
    calls = []

    def with_count(vector):
        calls.append(vector.clone())
        return product(vector)

    return with_count, calls


def test_conjugate_gradient_stops_when_it_is_done_and_at_zero():
    product, calls = counted(lambda vector: 2.0 * vector)
    b = torch.tensor([3.0, -4.0])
    x, residual = conjugate_gradient(product, b, 10)
    assert (x.tolist(), residual.tolist(), len(calls)) == ([1.5, -2.0], [0.0, 0.0], 1)
    x, residual = conjugate_gradient(lambda vector: 2.0 * vector, torch.zeros(2), 10)
    assert x.tolist() == residual.tolist() == [0.0, 0.0]


def test_a_small_right_hand_side_is_solved_as_well_as_a_large_one():
    matrix = positive_definite(4)
    tiny = 1e-9 * torch.ones(4, dtype=torch.float64)
    x, _ = conjugate_gradient(lambda vector: matrix @ vector, tiny, 1)
    length = (tiny @ tiny) / (tiny @ matrix @ tiny)
    torch.testing.assert_close(x, length * tiny, rtol=1e-10, atol=0)


def test_a_matrix_that_is_not_positive_definite_gives_no_direction():
    for product in (lambda vector: -vector, lambda vector: 0.0 * vector, lambda vector: vector * torch.nan):
        assert not conjugate_gradient(product, torch.ones(3), 5)[0].any()


START = {"a": torch.tensor([1.0, -2.0], dtype=torch.float64), "b": torch.tensor([[0.5, 3.0]], dtype=torch.float64)}


def quadratic(metric, gradient, kl_factor):
    """A linear loss and ``kl_factor`` times the quadratic that the metric promises, both around the start."""

    def trial(params):
        move = flatten(params) - flatten(START)
        return float(7.0 + gradient @ move), float(kl_factor * 0.5 * move @ metric @ move)

    return trial


@pytest.mark.parametrize("damping", [0.0, 0.5])
@pytest.mark.parametrize(("kl_factor", "backtracks"), [(0.9, 0), (1.5, 1), (2.0, 2)])
def test_the_step_has_its_closed_form(damping, kl_factor, backtracks):
    # f^2j · factor ≤ 1 for f = 0.8: 1.5 · 0.64 = 0.96, 2 · 0.64 = 1.28, 2 · 0.4096 = 0.82.
    metric = positive_definite(4)
    damped = metric + damping * torch.eye(4, dtype=torch.float64)
    gradient = torch.tensor([0.3, -1.0, 0.2, 0.05], dtype=torch.float64)
    product = lambda vector: unflatten(metric @ flatten(vector), START)  # noqa: E731
    # With damping the promised quadratic is that of the damped metric.
    trial = quadratic(damped, gradient, kl_factor)
    settings = trust_region(max_kl=0.02, cg_damping=damping)
    params, report = trust_region_step(START, unflatten(gradient, START), product, trial, settings)
    direction = torch.linalg.solve(damped, gradient)
    step = 0.8**backtracks * (2 * 0.02 / (direction @ gradient)).sqrt() * direction
    torch.testing.assert_close(flatten(params), flatten(START) - step, rtol=1e-7, atol=1e-9)
    assert {name: tensor.shape for name, tensor in params.items()} == {"a": (2,), "b": (1, 2)}
    assert (report.accepted, report.backtracks, report.loss_before) == (True, backtracks, 7.0)
    assert report.loss == pytest.approx(7.0 - float(gradient @ step))
    assert report.kl == pytest.approx(kl_factor * 0.02 * 0.64**backtracks)


@pytest.mark.parametrize(
    "answer", [lambda loss, kl: (loss + 1.0, 0.0), lambda loss, kl: (loss, 0.0), lambda loss, kl: (loss - 1.0, 0.011)],
    ids=["larger loss", "equal loss", "too large a divergence"],
)  # fmt: skip
def test_a_line_search_that_finds_nothing_leaves_the_very_same_parameters(answer):
    gradient, tried = torch.ones(4, dtype=torch.float64), []

    def trial(params):
        tried.append(params)
        return (7.0, 0.0) if len(tried) == 1 else answer(7.0, 0.0)

    params, report = trust_region_step(START, unflatten(gradient, START), lambda v: v, trial, trust_region())
    assert params is START
    assert report == (False, 15, 7.0, 7.0, 0.0)
    moves = [flatten(START) - flatten(one) for one in tried[1:]]
    # δ = 0.01, F = I, g'g = 4: a first step of √(0.02) along g / 2, each of the next 0.8 times the one before.
    for j, move in enumerate(moves):
        torch.testing.assert_close(move, 0.8**j * 0.02**0.5 * gradient / 2)
    assert len(moves) == 15


@pytest.mark.parametrize("gradient", [0.0, torch.nan, torch.inf])
def test_without_a_finite_gradient_no_step_is_tried(gradient):
    given = unflatten(torch.full((4,), gradient, dtype=torch.float64), START)
    tried = []

    def trial(params):
        tried.append(params)
        return 7.0, 0.0

    params, report = trust_region_step(START, given, lambda vector: vector, trial, trust_region())
    assert params is START
    assert report == (False, 0, 7.0, 7.0, 0.0)
    assert len(tried) == 1


def test_a_divergence_at_the_bound_is_within_it():
    gradient = {"a": torch.ones(2, dtype=torch.float64)}
    at = {"a": torch.zeros(2, dtype=torch.float64)}
    trial = lambda params: (float(params["a"].sum()), 0.01 if params["a"].any() else 0.0)  # noqa: E731
    assert trust_region_step(at, gradient, lambda vector: vector, trial, trust_region())[1].backtracks == 0


def test_the_length_of_the_gradient_does_not_matter():
    metric = positive_definite(4)
    gradient = torch.tensor([0.3, -1.0, 0.2, 0.05], dtype=torch.float64)
    steps = []
    for scale in (1.0, 1e-3, 1e3):
        trial = quadratic(metric, scale * gradient, 0.9)
        product = lambda vector: unflatten(metric @ flatten(vector), START)  # noqa: E731
        params, report = trust_region_step(
            START, unflatten(scale * gradient, START), product, trial, trust_region(cg_iterations=4)
        )
        assert report.accepted
        steps.append(flatten(params) - flatten(START))
    torch.testing.assert_close(steps[0], steps[2], rtol=1e-5, atol=1e-8)
    # A small gradient is solved less exactly, but it is no reason for a small step.
    assert float(steps[1].norm()) > 0.3 * float(steps[0].norm())


# The adapted policies in plain operations, one task at a time.


def test_flat_vectors_keep_names_shapes_and_order():
    like = {"b": torch.zeros(2, 2), "a": torch.zeros(3), "c": torch.zeros(())}
    vector = torch.arange(8.0)
    back = unflatten(vector, like)
    assert list(back) == ["b", "a", "c"]
    assert back["b"].tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert back["c"].shape == ()
    assert torch.equal(flatten(back), vector)
    with pytest.raises((ValueError, RuntimeError)):
        unflatten(torch.arange(7.0), like)
    assert back["a"].tolist() == [4.0, 5.0, 6.0]

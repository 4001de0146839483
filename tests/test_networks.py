"""The hand-written derivatives of the networks are those of ordinary automatic differentiation."""

import pytest
import torch

from algorithms.networks import forward, init_mlp, layers, mlp
from tests.reference.plain_actor_critic import network

SIZES = [(2, 3), (3, 6, 2), (2, 5, 4, 3), (2, 4, 3, 5, 1)]
ACTIVATIONS = ["relu", "tanh"]
both = pytest.mark.parametrize("activation", ACTIVATIONS)
every_depth = pytest.mark.parametrize("sizes", SIZES, ids=[f"depth{len(sizes) - 1}" for sizes in SIZES])


def weights_and_inputs(sizes, tasks=2, samples=7, dtype=torch.float64):
    """Different weights for every task: [tasks, in, out], [tasks, out], ...; inputs [tasks, samples, in]."""
    rng = torch.Generator().manual_seed(3)
    drawn = [init_mlp(rng, sizes, "uniform_fan_in", dtype) for _ in range(tasks)]
    weights = [torch.stack([one[name] for one in drawn]).requires_grad_() for name in drawn[0]]
    return weights, torch.randn(tasks, samples, sizes[0], dtype=dtype, generator=rng)


def plain(weights, inputs, activation):
    """The same networks through nested torch operations, task by task."""
    names = [f"n/{index // 2}/{('weight', 'bias')[index % 2]}" for index in range(len(weights))]
    each = [
        network({name: tensor[task] for name, tensor in zip(names, weights, strict=True)}, "n", one, activation)
        for task, one in enumerate(inputs)
    ]
    return torch.stack(each)


def derivatives(function, weights, inputs, activation):
    """Value, gradient of a curved loss, and that gradient's product with a fixed direction differentiated again."""
    value = function(weights, inputs, activation)
    gradient = torch.autograd.grad((value**3 + value).sum(), weights, create_graph=True)
    rng = torch.Generator().manual_seed(8)
    along = sum((g * torch.randn(g.shape, dtype=g.dtype, generator=rng)).sum() for g in gradient)
    return [value, *gradient, *torch.autograd.grad(along, weights)]


@both
@every_depth
def test_first_and_second_derivatives_equal_finite_differences(sizes, activation):
    weights, inputs = weights_and_inputs(sizes, samples=4)
    assert torch.autograd.gradcheck(lambda *w: mlp(w, inputs, activation), weights)
    assert torch.autograd.gradgradcheck(lambda *w: mlp(w, inputs, activation), weights)


@both
@every_depth
def test_value_gradient_and_hessian_vector_product_equal_plain_autograd(sizes, activation):
    weights, inputs = weights_and_inputs(sizes)
    ours = derivatives(mlp, weights, inputs, activation)
    for mine, reference in zip(ours, derivatives(plain, weights, inputs, activation), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-12, atol=1e-12)


@both
def test_second_derivative_of_a_loss_that_is_linear_in_the_output_is_right_too(activation):
    """The gradient that comes in is then a constant, and only the hidden layers carry curvature."""
    weights, inputs = weights_and_inputs((2, 5, 4, 3))

    def products(function):
        gradient = torch.autograd.grad(function(weights, inputs, activation).sum(), weights, create_graph=True)
        return torch.autograd.grad(sum((g**2).sum() for g in gradient), weights, materialize_grads=True)

    for mine, reference in zip(products(mlp), products(plain), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-12, atol=1e-12)


@both
@every_depth
def test_forward_equals_mlp_for_per_task_and_for_shared_parameters(sizes, activation):
    weights, inputs = weights_and_inputs(sizes, dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(forward(weights, inputs, activation), mlp(weights, inputs, activation))
        shared = [tensor[0] for tensor in weights]
        repeated = [tensor[:1].expand_as(tensor) for tensor in weights]
        torch.testing.assert_close(forward(shared, inputs, activation), mlp(repeated, inputs, activation))


@both
@every_depth
def test_evaluation_changes_neither_weights_nor_inputs(sizes, activation):
    weights, inputs = weights_and_inputs(sizes)
    kept = [tensor.detach().clone() for tensor in (*weights, inputs)]
    derivatives(mlp, weights, inputs, activation)
    with torch.no_grad():
        forward(weights, inputs, activation)
        forward([tensor[0] for tensor in weights], inputs, activation)
    assert all(torch.equal(now, before) for now, before in zip((*weights, inputs), kept, strict=True))


def test_a_tasks_output_and_gradient_do_not_depend_on_the_other_tasks():
    weights, inputs = weights_and_inputs((2, 5, 3), tasks=3)
    batched = torch.autograd.grad(mlp(weights, inputs, "tanh").square().sum(), weights)
    for task in range(3):
        own = [tensor[task : task + 1].detach().requires_grad_() for tensor in weights]
        alone = torch.autograd.grad(mlp(own, inputs[task : task + 1], "tanh").square().sum(), own)
        assert all(torch.equal(one[0], every[task]) for one, every in zip(alone, batched, strict=True))


def test_a_two_layer_network_by_hand():
    # h = relu([1, 2] W + b) with W = [[1, -1], [1, -1]], b = [0, 1]: (3, 0 because -3 + 1 < 0); z = 2 * 3 + 5 * 0 - 1.
    weights = [torch.tensor(t) for t in ([[[1.0, -1.0], [1.0, -1.0]]], [[0.0, 1.0]], [[[2.0], [5.0]]], [[-1.0]])]
    assert mlp(weights, torch.tensor([[[1.0, 2.0]]]), "relu").tolist() == [[[5.0]]]
    assert forward([t[0] for t in weights], torch.tensor([[[1.0, 2.0]]]), "relu").tolist() == [[[5.0]]]


def test_layers_come_in_order_and_from_one_prefix_only():
    params = {f"a/{layer}/{kind}": torch.tensor(0.0) for layer in range(11) for kind in ("bias", "weight")}
    params |= {"b/0/weight": torch.tensor(1.0), "a/log_std": torch.tensor(1.0)}
    found = layers(params, "a")
    assert [id(tensor) for tensor in found] == [
        id(params[f"a/{layer}/{kind}"]) for layer in range(11) for kind in ("weight", "bias")
    ]


@pytest.mark.parametrize(
    ("scheme", "weight_bound", "bias_bound"),
    [("uniform_fan_in", 0.1, 0.1), ("xavier_uniform", (6.0 / 300.0) ** 0.5, 0.0)],
)
def test_initial_values_fill_their_bounds(scheme, weight_bound, bias_bound):
    params = init_mlp(torch.Generator().manual_seed(0), (100, 200), scheme)
    weight, bias = params["0/weight"], params["0/bias"]
    assert (weight.shape, bias.shape) == ((100, 200), (200,))
    assert 0.999 * weight_bound < float(weight.abs().max()) <= weight_bound * (1 + 1e-6)
    assert 0.95 * bias_bound <= float(bias.abs().max()) <= bias_bound * (1 + 1e-6)
    # The SD of U(-b, b) is b / sqrt(3).
    assert float(weight.std()) == pytest.approx(weight_bound / 3**0.5, rel=0.02)
    assert abs(float(weight.mean())) < 4 * weight_bound / 3**0.5 / 20_000**0.5


def test_initial_values_depend_on_the_generator_and_differ_between_layers():
    one, same, other = (
        init_mlp(torch.Generator().manual_seed(seed), (3, 3, 3), "uniform_fan_in") for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["0/weight"], one["1/weight"])

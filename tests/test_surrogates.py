"""What the surrogates have in common, their first derivative, and what tells them apart; see also their Hessians."""

import itertools
import math

import pytest
import torch

from algorithms.samples import Samples
from algorithms.surrogates import clipped, dice, likelihood_ratio, lvc, score_function, surrogate
from tests.plain_autograd import collected, distance, ended_early, plain_surrogate, random_like

NAMES = ["score_function", "lvc", "likelihood_ratio", "dice"]
both_policies = pytest.mark.parametrize("suite_name", ["navigation", "tabular_mdp"])


@pytest.fixture
def case():
    """``case(suite, early)``: learner, parameters of every task, and whole episodes that these parameters played."""

    def of(suite_name, early=True):
        learner, params, data = collected(suite_name, "policy_search_proximal", inner_surrogate="dice", outer_lr=0.1)
        data = ended_early(learner, params, data) if early else data
        weights = data.post_update.weights
        assert early == bool((weights[:, :-1] < weights[:, 1:]).any())  # zeros in the middle
        return learner, data.adapted, data.post_update

    return of


def derivatives(function, learner, params, samples, direction):
    """Value, gradient, and the Hessian times a direction, of a loss [tasks] in the parameters of every task."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in params.items()}
    loss = function(learner.log_prob(leaves, samples), samples)
    gradient = torch.autograd.grad(loss.sum(), list(leaves.values()), create_graph=True)
    along = sum((one * direction[name]).sum() for name, one in zip(leaves, gradient, strict=True))
    product = torch.autograd.grad(along, list(leaves.values()))
    first, second = ({n: t.detach() for n, t in zip(leaves, parts, strict=True)} for parts in (gradient, product))
    return loss.detach(), first, second


@pytest.mark.parametrize("early", [False, True])
@both_policies
def test_all_have_the_same_first_derivative_where_the_policy_is_the_one_that_sampled(case, suite_name, early):
    learner, params, samples = case(suite_name, early)
    functions = {name: surrogate(name, learner.horizon) for name in NAMES}
    functions["clipped"] = lambda log_prob, given: clipped(log_prob, given, 0.2)
    found = {name: derivatives(f, learner, params, samples, random_like(params)) for name, f in functions.items()}
    for name, (_, gradient, _) in found.items():
        assert distance(gradient, found["score_function"][1]) < 1e-10, name
    # Two of them have the same second derivative too; the others differ from them and from each other.
    products = {name: product for name, (_, _, product) in found.items()}
    for name in ("likelihood_ratio", "clipped"):
        assert distance(products[name], products["lvc"]) < 1e-10
        torch.testing.assert_close(found[name][0], found["lvc"][0], rtol=1e-12, atol=1e-12)
    for one, other in itertools.combinations(("score_function", "lvc", "dice"), 2):
        assert distance(products[one], products[other]) > 1e-2


@both_policies
@pytest.mark.parametrize("name", NAMES)
def test_each_is_what_its_paper_writes_for_both_derivatives(case, suite_name, name):
    """DiCE: products of ratios times rewards; its value, which no step depends on, differs by a constant."""
    learner, params, samples = case(suite_name)
    direction = random_like(params)
    value, gradient, product = derivatives(surrogate(name, learner.horizon), learner, params, samples, direction)
    for task in range(len(value)):
        leaves = {key: tensor[task].detach().clone().requires_grad_() for key, tensor in params.items()}
        plain = plain_surrogate(name, learner, leaves, samples, task)
        first = torch.autograd.grad(plain, list(leaves.values()), create_graph=True)
        along = sum((one * direction[key][task]).sum() for key, one in zip(leaves, first, strict=True))
        second = torch.autograd.grad(along, list(leaves.values()))
        for mine, theirs in ((gradient, first), (product, second)):
            given = {key: part.detach() for key, part in zip(leaves, theirs, strict=True)}
            assert distance({key: mine[key][task] for key in leaves}, given) < 1e-10
        expected = 0.0 if name == "dice" else float(plain.detach())
        assert float(value[task]) == pytest.approx(expected, abs=1e-12)


@both_policies
def test_after_a_move_the_ratio_weighs_by_how_much_likelier_an_action_has_become_and_lvc_does_not(case, suite_name):
    learner, params, samples = case(suite_name)
    moved = {name: params[name] + 0.1 * step for name, step in random_like(params).items()}
    direction = random_like(params, 2)
    found = {
        name: derivatives(surrogate(name, learner.horizon), learner, moved, samples, direction)
        for name in ("lvc", "likelihood_ratio", "score_function")
    }
    weighted = learner.log_prob(moved, samples).exp() / samples.old_log_prob.exp()
    again = samples._replace(advantages=samples.advantages * weighted)
    by_hand = derivatives(lvc, learner, moved, again, direction)
    for mine, theirs in zip(found["likelihood_ratio"][1:], by_hand[1:], strict=True):
        assert distance(mine, theirs) < 1e-10
    torch.testing.assert_close(found["likelihood_ratio"][0], by_hand[0], rtol=1e-10, atol=1e-12)
    assert distance(found["lvc"][1], found["score_function"][1]) < 1e-10  # blind to the move
    assert distance(found["likelihood_ratio"][1], found["lvc"][1]) > 1e-2


@both_policies
def test_in_single_precision_dice_is_as_exact_as_the_others_over_a_hundred_steps(suite_name):
    """M_t - M_{t-1} is a difference of ones, but of exact ones."""
    learner, params, _ = collected(suite_name, "policy_search_vpg", inner_surrogate="dice", credit="none", outer_lr=0.1)
    rng = torch.Generator().manual_seed(2)
    shape = (2, 3 * 100)
    drawn = torch.randn(*shape, 2, generator=rng, dtype=torch.float64)
    seen, done = (drawn, drawn.flip(1)) if suite_name == "navigation" else ((drawn[..., :1] > 0).long(),) * 2
    advantages = torch.randn(shape, generator=rng, dtype=torch.float64)
    samples = Samples(seen, done, advantages, advantages, torch.ones(shape, dtype=torch.float64))
    params = {name: tensor.expand(2, *tensor.shape) for name, tensor in params.items()}
    direction = random_like(params)

    def single(values):
        return {name: tensor.float() for name, tensor in values.items()}

    given = Samples(*(one if one is None or one.dtype == torch.int64 else one.float() for one in samples))
    losses = {"dice": surrogate("dice", 100), "lvc": lvc}
    for function in losses.values():
        exact = derivatives(function, learner, params, samples, direction)
        rounded = derivatives(function, learner, single(params), given, single(direction))
        for mine, theirs in zip(rounded[1:], exact[1:], strict=True):
            assert distance({name: tensor.double() for name, tensor in mine.items()}, theirs) < 1e-5
    first, second = (derivatives(f, learner, params, samples, direction)[1] for f in losses.values())
    assert distance(first, second) < 1e-11


# The clipped likelihood ratio, number by number: ε = 0.3.
@pytest.mark.parametrize(
    ("ratio", "advantage", "gained", "slope"),
    [
        (0.5, 2.0, 1.0, 1.0),  # worse than before, and free to come back
        (0.9, 2.0, 1.8, 1.8),
        (1.0, 2.0, 2.0, 2.0),
        (1.25, 2.0, 2.5, 2.5),
        (1.5, 2.0, 2.6, 0.0),  # far enough
        (0.5, -2.0, -1.4, 0.0),
        (0.75, -2.0, -1.5, -1.5),
        (1.0, -2.0, -2.0, -2.0),
        (1.5, -2.0, -3.0, -3.0),
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_what_a_step_gains_is_clipped_where_it_would_reward_a_further_move(ratio, advantage, gained, slope):
    one = torch.ones(1, 1, dtype=torch.float64)
    old = -0.4 * one
    samples = Samples(one, one, advantage * one, one, one, old_log_prob=old)
    log_prob = (old + math.log(ratio)).requires_grad_()
    loss = clipped(log_prob, samples, 0.3)
    assert float(-loss.detach()) == pytest.approx(gained, abs=1e-12)
    # dρ/d log π = ρ
    assert float(-torch.autograd.grad(loss.sum(), log_prob)[0]) == pytest.approx(slope, abs=1e-12)


@pytest.mark.parametrize(("advantage", "gained"), [(2.0, 2.6), (0.0, 0.0)])
def test_a_ratio_beyond_all_floats_leaves_a_clipped_step_without_a_gradient(advantage, gained):
    one = torch.ones(1, 1)
    samples = Samples(one, one, advantage * one, one, one, old_log_prob=-1000.0 * one)
    log_prob = torch.zeros(1, 1, requires_grad=True)
    loss = clipped(log_prob, samples, 0.3)
    assert float(-loss.detach()) == pytest.approx(gained)
    assert torch.autograd.grad(loss.sum(), log_prob)[0].tolist() == [[0.0]]


@both_policies
def test_within_the_bounds_clipping_changes_nothing(case, suite_name):
    learner, params, samples = case(suite_name)
    moved = {name: params[name] + 0.05 * step for name, step in random_like(params).items()}
    ratios = (learner.log_prob(moved, samples) - samples.old_log_prob).exp()[samples.weights > 0]
    widest = float((ratios - 1.0).abs().max())
    assert widest > 0.02
    direction = random_like(params, 2)
    plain = derivatives(likelihood_ratio, learner, moved, samples, direction)
    for bound, same in ((widest * 1.01, True), (widest * 0.3, False)):
        limited = derivatives(lambda *a, e=bound: clipped(*a, clip_ratio=e), learner, moved, samples, direction)
        assert torch.allclose(limited[0], plain[0], rtol=1e-12, atol=0) is same
        assert (distance(limited[1], plain[1]) < 1e-12) is same


def test_a_step_that_does_not_count_leaves_the_product_of_an_episode_as_it_is():
    """Two episodes of three steps; the second lacks its middle, with anything in its slot."""
    log_prob = torch.tensor([[-0.1, -0.5, -2.0, -0.3, -7.0, -9.0]], dtype=torch.float64)
    advantages = torch.tensor([[1.0, -2.0, 0.5, 3.0, 8.0, -4.0]], dtype=torch.float64)
    weights = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0, 1.0]], dtype=torch.float64)
    samples = Samples(weights, weights, advantages, advantages, weights)
    hessian = torch.autograd.functional.hessian(lambda given: -5.0 * dice(given, samples, 3).sum(), log_prob).view(6, 6)
    # M_t - M_{t-1} = M_{t-1} (π_t / sg π_t - 1): its second derivative by l_u and l_v is 1 where max(u, v) = t.
    expected = torch.zeros(6, 6, dtype=torch.float64)
    for episode in ((0, 1, 2), (3, 5)):
        for u, v in itertools.product(episode, repeat=2):
            expected[u, v] = advantages[0, max(u, v)]
    torch.testing.assert_close(hessian, expected, rtol=1e-13, atol=1e-14)
    assert float(score_function(log_prob, samples)) == pytest.approx(-(-0.1 + 1.0 - 1.0 - 0.9 + 36.0) / 5.0)

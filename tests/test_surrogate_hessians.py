"""Hessians of the surrogates in exact expectation: a softmax bandit in closed form, and two steps by enumeration."""

import pytest
import torch

from algorithms.policies import CategoricalPolicy
from algorithms.samples import Samples
from algorithms.surrogates import surrogate
from tests.test_policies import LOGITS, REWARDS, actor, exact_hessian, expected_derivatives, suite_like

NAMES = ["score_function", "lvc", "likelihood_ratio", "dice"]

# The one-step softmax bandit, in exact expectation.


def of_bandit(name):
    function = surrogate(name, 1)

    def loss(policy, params, samples):
        log_prob = policy.log_prob(params, samples.observations, samples.actions)
        return function(log_prob, samples._replace(old_log_prob=log_prob.detach()))

    return loss


@pytest.mark.parametrize("shift", [0.0, -3.0])
@pytest.mark.parametrize("name", NAMES)
def test_in_episodes_of_one_step_all_but_the_score_function_have_the_exact_hessian(name, shift):
    p, advantages = LOGITS.softmax(0), REWARDS - shift
    gradient, hessian = expected_derivatives(of_bandit(name), advantages)
    torch.testing.assert_close(gradient, p * (REWARDS - p @ REWARDS), rtol=1e-12, atol=1e-14)
    only_h2 = -(p @ advantages) * (torch.diag(p) - torch.outer(p, p))
    expected = only_h2 if name == "score_function" else exact_hessian()
    torch.testing.assert_close(hessian, expected, rtol=1e-12, atol=1e-14)


# Two steps of two actions, four trajectories: rewards r_0(a_0) and r_1(a_0, a_1).
FIRST = torch.tensor([1.0, -0.5], dtype=torch.float64)
SECOND = torch.tensor([[0.3, 2.0], [1.2, -0.7]], dtype=torch.float64)
TRAJECTORIES = [(0, 0), (0, 1), (1, 0), (1, 1)]
CHAINS = {"one state per step": (0, (1, 1)), "a state for every action": (0, (1, 2))}
"""Row of the table that is seen at first, and those seen after either action."""
every_chain = pytest.mark.parametrize("chain", CHAINS)
TABLE = torch.tensor([[1.0, 0.2], [-0.4, 1.0], [0.5, -0.7]], dtype=torch.float64)
FLAT = torch.tensor([0.4, -0.3, 0.8, 0.1, -0.6, 0.5], dtype=torch.float64)
"""Weights [2, 2] and biases [2]: all states share them."""


def unflatten(flat):
    return {"actor/0/weight": flat[:4].view(1, 2, 2), "actor/0/bias": flat[4:].view(1, 2)}


def log_policy(flat, row):
    """log π(. | row), [actions]."""
    params = unflatten(flat)
    return (TABLE[row] @ params["actor/0/weight"][0] + params["actor/0/bias"][0]).log_softmax(0)


def expected_return(flat, chain):
    """Σ over the four trajectories of probability times return."""
    start, after = CHAINS[chain]
    first = log_policy(flat, start).exp()
    total = 0.0
    for a, b in TRAJECTORIES:
        total = total + first[a] * log_policy(flat, after[a]).exp()[b] * (FIRST[a] + SECOND[a, b])
    return total


def parts_of_the_hessian(chain):
    """H1, H2 and H12 of Rothfuss et al. 2019, eq. 6, from their definitions."""
    start, after = CHAINS[chain]
    hessian, jacobian = torch.autograd.functional.hessian, torch.autograd.functional.jacobian
    h1, h2, h12 = (torch.zeros(6, 6, dtype=torch.float64) for _ in range(3))
    for a, b in TRAJECTORIES:
        probability = log_policy(FLAT, start).exp()[a] * log_policy(FLAT, after[a]).exp()[b]
        for row, action, to_go in ((start, a, FIRST[a] + SECOND[a, b]), (after[a], b, SECOND[a, b])):
            score = jacobian(lambda flat, r=row, x=action: log_policy(flat, r)[x], FLAT)
            h1 += probability * to_go * torch.outer(score, score)
            h2 += probability * to_go * hessian(lambda flat, r=row, x=action: log_policy(flat, r)[x], FLAT)
        # Q_1(a_1) = r_1 does not depend on θ.
        score = jacobian(lambda flat, x=a: log_policy(flat, start)[x], FLAT)
        of_q = jacobian(lambda flat, x=a: FIRST[x] + log_policy(flat, after[x]).exp() @ SECOND[x], FLAT)
        h12 += probability * torch.outer(score, of_q)
    return h1, h2, h12


def expected_hessian(name, chain, advantages=None):
    """Of what a surrogate maximises, summed over the steps of an episode: the four, weighted by their probabilities."""
    start, after = CHAINS[chain]
    policy = CategoricalPolicy(actor(actor_hidden_sizes=[]), suite_like(TABLE, num_actions=2))
    rows = torch.tensor([[start, after[a]] for a, _ in TRAJECTORIES]).view(1, 8, 1)
    actions = torch.tensor(TRAJECTORIES).view(1, 8, 1)
    to_go = torch.stack([torch.stack([FIRST[a] + SECOND[a, b], SECOND[a, b]]) for a, b in TRAJECTORIES])
    given = to_go if advantages is None else advantages(to_go, rows.view(4, 2))
    probability = policy.log_prob(unflatten(FLAT), rows, actions).view(4, 2).sum(-1).exp()
    weights = probability.repeat_interleave(2).unsqueeze(0)
    old = policy.log_prob(unflatten(FLAT), rows, actions)
    samples = Samples(rows, actions, given.reshape(1, 8), to_go.view(1, 8), weights, old_log_prob=old)
    steps = weights.sum()  # the losses are means over steps
    assert float(steps) == pytest.approx(2.0)
    leaf, function = FLAT.clone().requires_grad_(), surrogate(name, 2)
    total = -steps * function(policy.log_prob(unflatten(leaf), rows, actions), samples).sum()
    (gradient,) = torch.autograd.grad(total, leaf, create_graph=True)
    return gradient.detach(), torch.stack([torch.autograd.grad(one, leaf, retain_graph=True)[0] for one in gradient])


def exact(chain):
    given = (lambda flat: expected_return(flat, chain)), FLAT
    return torch.autograd.functional.jacobian(*given), torch.autograd.functional.hessian(*given)


@every_chain
def test_the_exact_hessian_has_the_four_parts_and_what_actions_do_to_later_steps_is_one_of_them(chain):
    h1, h2, h12 = parts_of_the_hessian(chain)
    torch.testing.assert_close(exact(chain)[1], h1 + h2 + h12 + h12.T, rtol=1e-12, atol=1e-14)
    assert float((h12 + h12.T).abs().max()) > 0.1


@every_chain
@pytest.mark.parametrize("name", NAMES)
def test_over_two_steps_every_surrogate_has_its_own_parts_of_the_hessian(name, chain):
    h1, h2, h12 = parts_of_the_hessian(chain)
    gradient, hessian = expected_hessian(name, chain)
    torch.testing.assert_close(gradient, exact(chain)[0], rtol=1e-12, atol=1e-14)
    contained = {"score_function": h2, "lvc": h1 + h2, "likelihood_ratio": h1 + h2, "dice": h1 + h2 + h12 + h12.T}
    torch.testing.assert_close(hessian, contained[name], rtol=1e-12, atol=1e-13)


@every_chain
@pytest.mark.parametrize("name", ["lvc", "likelihood_ratio", "dice"])
def test_a_baseline_of_the_state_leaves_the_expected_hessian_and_a_scale_scales_it(name, chain):
    plain = expected_hessian(name, chain)
    baseline = torch.tensor([1.7, -0.6, 0.9], dtype=torch.float64)
    for shifted, factor in (
        (lambda to_go, rows: to_go - baseline[rows], 1.0),
        (lambda to_go, rows: (to_go - 0.8) / 2.5, 2.5),  # standardised by constants
    ):
        for one, other in zip(expected_hessian(name, chain, shifted), plain, strict=True):
            torch.testing.assert_close(factor * one, other, rtol=1e-12, atol=1e-13)


@every_chain
def test_the_score_functions_second_derivative_hangs_on_the_baseline(chain):
    shifted = expected_hessian("score_function", chain, lambda to_go, rows: to_go - 1.0)[1]
    assert float((shifted - expected_hessian("score_function", chain)[1]).abs().max()) > 0.05

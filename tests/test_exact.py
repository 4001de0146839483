"""Exact returns, gradients, Hessians and meta-gradients on tables: by hand, by enumeration, by finite differences."""

import itertools
import math

import pytest
import torch

from suites.tabular_mdp import TabularMDPSettings
from suites.tabular_mdp.exact import ExactMDPs
from suites.tabular_mdp.simulation import TabularMDP

STATES, ACTIONS, HORIZON = 3, 2, 4


def close(found, expected, tolerance=1e-10):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.float64), rtol=0, atol=tolerance)


def logits_policy(params):
    """One logit per state and action."""
    return params.unflatten(-1, (STATES, ACTIONS)).log_softmax(-1)


def bent_policy(params):
    """Logits that are not linear in three parameters which all states share."""
    rows = torch.arange(1.0, STATES * ACTIONS + 1.0, dtype=torch.float64).view(STATES, ACTIONS, 1)
    return torch.tanh(params[..., None, None, :] * rows.sin()).sum(-1).mul(rows.squeeze(-1).cos()).log_softmax(-1)


def random_mdps(count, log_policy=logits_policy, size=STATES * ACTIONS, horizon=HORIZON):
    suite = TabularMDP(TabularMDPSettings(states=STATES, actions=ACTIONS, horizon=horizon))
    rng = torch.Generator().manual_seed(1)
    exact = suite.exact(suite.sample_tasks(count, rng), log_policy)
    return exact, torch.randn(count, size, generator=rng, dtype=torch.float64)


def differences(function, params, step=1e-5):
    """Central differences of function [count, ...] in params [count, D], [count, ..., D]."""
    columns = []
    for index in range(params.shape[-1]):
        shift = torch.zeros_like(params)
        shift[..., index] = step
        columns.append((function(params + shift) - function(params - shift)) / (2.0 * step))
    return torch.stack(columns, dim=-1)


def test_a_bandit_of_one_step_by_hand():
    # p = (1/4, 1/2, 1/4), r = (1, 2, 4): J = 9/4, ∇J = p (r - J), no H12 because Q does not depend on θ.
    exact = ExactMDPs(
        torch.ones(1, 3, 1, dtype=torch.float64),
        torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64),
        1,
        lambda params: params.unsqueeze(-2).log_softmax(-1),
    )
    params = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64).log()
    close(exact.expected_return(params), 2.25)
    close(exact.gradient(params), [-0.3125, -0.125, 0.4375])
    hessian = [[-0.15625, 0.1875, -0.03125], [0.1875, 0.0, -0.1875], [-0.03125, -0.1875, 0.21875]]
    close(exact.hessian(params), hessian)
    terms = exact.curvature(params)
    close(terms.h12, torch.zeros(3, 3))
    close(terms.hessian(), hessian)
    # H2 = -J (diag p - p pᵀ): what the original MAML has.
    close(terms.h2, [[-0.421875, 0.28125, 0.140625], [0.28125, -0.5625, 0.28125], [0.140625, 0.28125, -0.421875]])


def chain():
    """State 0: action 0 pays 1 and stays, action 1 pays 0 and leads to state 1, which pays 2 or 5; two steps.

    With p = σ(x), q = σ(y) the probabilities of action 1 in the two states, J = 2 - p + p² + 3 p q.
    """
    transition = torch.zeros(2, 2, 2, dtype=torch.float64)
    transition[0, 0, 0] = transition[0, 1, 1] = transition[1, :, 1] = 1.0
    reward = torch.tensor([[1.0, 0.0], [2.0, 5.0]], dtype=torch.float64)
    return ExactMDPs(transition, reward, 2, lambda xy: torch.stack([-xy, xy], dim=-1).sigmoid().log())


def test_a_chain_of_two_steps_by_hand():
    exact, zero = chain(), torch.zeros(2, dtype=torch.float64)
    close(exact.expected_return(zero), 2.5)
    close(exact.gradient(zero), [0.375, 0.375])
    close(exact.hessian(zero), [[0.125, 0.1875], [0.1875, 0.0]])
    terms = exact.curvature(zero)
    # All of this Hessian is what the first action does to the second: LVC sees nothing of it.
    close(terms.h12, [[0.0625, 0.1875], [0.0, 0.0]])
    close(terms.h1 + terms.h2, torch.zeros(2, 2))
    # (I + α ∇²J) ∇J(θ'), θ' = α (3/8, 3/8): the derivative of J(σ(x'), σ(y')) by hand.
    alpha = 0.8
    p = q = 1.0 / (1.0 + math.exp(-alpha * 0.375))
    after = [p * (1 - p) * (-1 + 2 * p + 3 * q), q * (1 - q) * 3 * p]
    close(exact.adapted(zero, alpha), [0.3, 0.3])
    close(
        exact.meta_gradient(zero, alpha),
        [after[0] * (1 + alpha * 0.125) + after[1] * alpha * 0.1875, after[1] + after[0] * alpha * 0.1875],
    )


def by_enumeration(exact, params, mdp):
    """(probability, return) of every trajectory of one MDP, differentiable."""
    policy = exact.log_policy(params)[mdp].exp()
    found = [(torch.ones((), dtype=torch.float64), 0.0, 0)]
    for _ in range(exact.horizon):
        grown = []
        for (chance, total, state), action in itertools.product(found, range(ACTIONS)):
            for following in range(STATES):
                move = chance * policy[state, action] * exact.transition[mdp, state, action, following]
                grown.append((move, total + exact.reward[mdp, state, action], following))
        found = grown
    return torch.stack([chance for chance, _, _ in found]), torch.stack([total for _, total, _ in found])


def test_the_return_and_its_derivatives_are_sums_over_all_trajectories():
    exact, params = random_mdps(2, horizon=3)
    for mdp in range(2):

        def summed(leaves, mdp=mdp):
            chance, total = by_enumeration(exact, leaves, mdp)
            return (chance * total).sum()

        close(exact.expected_return(params)[mdp], summed(params))
        close(exact.gradient(params)[mdp], torch.autograd.functional.jacobian(summed, params)[mdp])
        close(exact.hessian(params)[mdp], torch.autograd.functional.hessian(summed, params)[mdp, :, mdp])


@pytest.mark.parametrize(("policy", "size"), [(logits_policy, STATES * ACTIONS), (bent_policy, 3)])
def test_the_hessian_is_the_sum_of_its_terms(policy, size):
    exact, params = random_mdps(5, policy, size)
    terms = exact.curvature(params)
    close(terms.hessian(), exact.hessian(params))
    close(exact.hessian(params), differences(exact.gradient, params), 1e-8)
    for term in (terms.h1, terms.h2, terms.cross()):
        close(term, term.mT)
    assert float(torch.linalg.matrix_norm(terms.cross()).min()) > 1e-3


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_meta_gradient_has_the_finite_differences_of_the_adapted_return(steps):
    exact, params = random_mdps(4)
    close(
        exact.meta_gradient(params, 0.7, steps),
        differences(lambda p: exact.adapted_return(p, 0.7, steps), params),
        1e-8,
    )


def test_one_step_is_the_outer_gradient_times_identity_plus_hessian_and_no_step_is_none():
    exact, params = random_mdps(4)
    adapted = exact.adapted(params, 0.7)
    close(adapted, params + 0.7 * exact.gradient(params))
    assert not adapted.requires_grad
    outer = exact.gradient(adapted)
    close(exact.meta_gradient(params, 0.7), outer + 0.7 * torch.einsum("mde,me->md", exact.hessian(params), outer))
    close(exact.meta_gradient(params, 0.0), exact.gradient(params))


def test_a_batch_of_mdps_is_each_of_them():
    exact, params = random_mdps(3)
    for mdp in range(3):
        alone = ExactMDPs(exact.transition[mdp], exact.reward[mdp], HORIZON, logits_policy)
        close(alone.meta_gradient(params[mdp], 0.5), exact.meta_gradient(params, 0.5)[mdp])
        close(alone.curvature(params[mdp]).h12, exact.curvature(params).h12[mdp])


def test_uniform_actions_earn_what_the_suite_says():
    suite = TabularMDP(TabularMDPSettings(states=STATES, actions=ACTIONS))
    tasks = suite.sample_tasks(3, torch.Generator().manual_seed(0))
    exact = suite.exact(tasks, logits_policy)
    zeros = torch.zeros(3, STATES * ACTIONS, dtype=torch.float64)
    close(exact.expected_return(zeros), suite.references(tasks, 1)["random_return"])

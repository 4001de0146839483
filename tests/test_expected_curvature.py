"""Meta-gradients in expectation, without sampling: every trajectory of a small MDP, as often as it is likely."""

import itertools

import pytest
import torch

from algorithms import ALGORITHMS
from algorithms.samples import condense
from harness.api import MetaBatch, State, Trajectories
from harness.audit_truth import Layout
from suites.tabular_mdp import TabularMDPSettings
from suites.tabular_mdp.simulation import TabularMDP
from tests.conftest import double

HORIZON, RATE = 2, 0.8
PLAIN = {
    "actor_hidden_sizes": [], "discount": 1.0, "gae_lambda": 1.0, "standardise_advantages": False, "baseline": "none",
    "outer_optimiser": "sgd", "outer_lr": 1.0, "credit": "none", "inner_lr": RATE,
}  # fmt: skip


def learner_of(suite, **choices):
    declaration = ALGORITHMS["policy_search_vpg"]
    return declaration.load()(declaration.settings.model_validate(PLAIN | choices), suite)


def in_float64(samples):
    """Samples with their numbers in float64; row numbers and what is not there stay."""
    fields = samples._asdict().items()
    return samples._replace(**{name: t.double() for name, t in fields if t is not None and t.is_floating_point()})


def joined(samples):
    """Samples of one task each as those of many tasks, in float64."""
    present = [name for name, tensor in samples[0]._asdict().items() if tensor is not None]
    return in_float64(samples[0]._replace(**{n: torch.cat([getattr(one, n) for one in samples]) for n in present}))


class Enumerated:
    """One MDP of two states, two actions and two steps, and all of its eight trajectories."""

    def __init__(self) -> None:
        self.suite = TabularMDP(TabularMDPSettings(states=2, actions=2, horizon=HORIZON))
        rng = torch.Generator().manual_seed(3)
        self.tasks = self.suite.sample_tasks(1, rng)
        self.dice = learner_of(self.suite, inner_surrogate="dice")
        self.params = double(self.dice.init(rng).params)
        self.layout = Layout(self.params)
        self.exact = self.suite.exact(self.tasks, self.log_policy)
        moves = list(itertools.product(range(2), range(2), range(2)))  # first action, second state, second action
        self.states = torch.tensor([[0, state] for _, state, _ in moves])
        self.actions = torch.tensor([[first, second] for first, _, second in moves])

    def log_policy(self, params):
        rows = torch.arange(2).view(1, -1, 1).expand(len(params), -1, 1)
        return self.dice.policy.distribution(self.layout.tree(params), rows)[0]

    def flat(self):
        return self.layout.flat({name: tensor.unsqueeze(0) for name, tensor in self.params.items()})

    def chances(self, params):
        """Probability of every trajectory, [tasks, 8]; params [tasks, D]; differentiable."""
        policy = self.log_policy(params).exp()
        moved = self.exact.transition[0][0, self.actions[:, 0], self.states[:, 1]]
        return policy[:, 0, self.actions[:, 0]] * moved * policy[:, self.states[:, 1], self.actions[:, 1]]

    def trajectories(self, tasks, kept=slice(None)):
        """The trajectories of every task with their mean rewards, [tasks, 8, 2]."""
        states, actions = self.states[kept].expand(tasks, -1, -1), self.actions[kept].expand(tasks, -1, -1)
        return Trajectories(
            states.unsqueeze(-1),
            actions.unsqueeze(-1),
            self.exact.reward[0][states, actions],
            torch.ones_like(states, dtype=torch.bool),
            states[:, :, -1:],
        )

    def weighted(self, learner, params, weights):
        """All trajectories as samples that count as much as they are likely, weights [tasks, 8]."""
        samples = learner.prepare(self.layout.tree(params), self.trajectories(len(params)), {}, False)[0]
        return in_float64(samples)._replace(weights=weights.repeat_interleave(HORIZON, dim=1))

    def expected_hessian(self, learner, samples):
        """What the learner's inner curvature is in expectation, for J̄ = J / horizon, from its own adaptation."""
        basis = torch.eye(self.flat().shape[1], dtype=torch.float64)
        pulled = [learner.pull_back(self.params, (samples,), self.layout.tree(unit)) for unit in basis]
        return (torch.cat([self.layout.flat(one) for one in pulled]) - basis) / RATE


@pytest.fixture(scope="module")
def enumerated():
    return Enumerated()


def close(found, expected, tolerance=1e-8):
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("surrogate", ["score_function", "lvc", "likelihood_ratio", "dice"])
def test_the_expected_hessian_of_every_inner_surrogate_is_exactly_what_it_is_said_to_be(enumerated, surrogate):
    case, learner = enumerated, learner_of(enumerated.suite, inner_surrogate=surrogate)
    flat = case.flat()
    terms = case.exact.curvature(flat)
    expected = {
        "score_function": terms.h2,
        "lvc": terms.h1 + terms.h2,
        "likelihood_ratio": terms.h1 + terms.h2,
        "dice": terms.hessian(),
    }[surrogate]
    samples = case.weighted(case.dice, flat, case.chances(flat).detach())
    if surrogate == "likelihood_ratio":
        samples = samples._replace(old_log_prob=case.dice.log_prob(case.layout.tree(flat), samples))
    close(case.expected_hessian(learner, samples), expected[0] / HORIZON)
    # All have one first derivative, the exact one.
    adapted = case.layout.flat(learner.adapt(case.params, samples))
    close(adapted, case.exact.adapted(flat, RATE / HORIZON))
    if surrogate in ("score_function", "lvc"):  # as the learner has them: equal steps put together
        counted = samples._replace(weights=samples.weights * 1e6, old_log_prob=None)
        close(case.expected_hessian(learner, condense(counted, 2, 2)), expected[0] / HORIZON)
    assert float(terms.cross().abs().max()) > 0.01


@pytest.mark.parametrize("surrogate", ["lvc", "dice"])
def test_a_baseline_of_the_state_moves_no_expected_hessian_but_that_of_the_score_function(enumerated, surrogate):
    case, flat = enumerated, enumerated.flat()
    raw = case.weighted(case.dice, flat, case.chances(flat).detach())
    baseline = torch.tensor([0.7, -1.3], dtype=torch.float64)[raw.observations.squeeze(-1)]
    below = raw._replace(advantages=raw.advantages - baseline)
    learner, primitive = (learner_of(case.suite, inner_surrogate=name) for name in (surrogate, "score_function"))
    close(case.expected_hessian(learner, below), case.expected_hessian(learner, raw))
    moved = case.expected_hessian(primitive, below) - case.expected_hessian(primitive, raw)
    assert float(moved.abs().max()) > 0.1


def test_with_the_exact_hessian_in_it_the_whole_meta_gradient_is_exact(enumerated):
    """DiCE on all pre-update trajectories, then the outer gradient on all post-update trajectories."""
    case, flat = enumerated, enumerated.flat()
    before = case.weighted(case.dice, flat, case.chances(flat).detach())
    adapted = case.dice.adapt(case.params, before)
    after_flat = case.layout.flat(adapted)
    after = case.weighted(case.dice, after_flat, case.chances(after_flat).detach())
    state = State(case.params, case.dice.init(torch.Generator()).optimiser)
    data = MetaBatch((before,), adapted, after)
    found = case.layout.flat(case.dice.meta_gradients(state, data))
    close(-found, case.exact.meta_gradient(flat, RATE / HORIZON) / HORIZON)
    first = case.layout.flat(case.dice.meta_gradients(state, data, through_adaptation=False))
    close(-first, case.exact.gradient(after_flat) / HORIZON)
    outer = case.layout.tree(case.exact.gradient(after_flat)[0] / HORIZON)
    close(case.layout.flat(case.dice.pull_back(case.params, (before,), outer)), -found)


def formulation_two(case, flat):
    """J̄_II(θ) of one pre-update episode, Σ_τ P_θ(τ) J̄(θ'(τ)), differentiable in θ; and P_θ(τ) [8], θ'(τ) [8, D]."""
    returns = case.exact.reward[0][case.states, case.actions]
    to_go = returns.flip(1).cumsum(1).flip(1)
    log_prob = case.log_policy(flat)[0][case.states, case.actions]
    rows = [
        torch.autograd.grad((log_prob[n] * to_go[n]).mean(), flat, create_graph=True)[0] for n in range(len(returns))
    ]
    adapted = flat + RATE * torch.cat(rows)
    mean_return = (case.chances(adapted) * returns.sum(1)).sum(1) / HORIZON
    chances = case.chances(flat)[0]
    return (chances * mean_return).sum(), chances.detach(), adapted.detach()


@pytest.mark.parametrize(("credit", "exact"), [("derived", True), ("paper", False), ("none", False)])
def test_the_derived_credit_has_exactly_the_gradient_of_formulation_two(enumerated, credit, exact):
    case = enumerated
    learner = learner_of(case.suite, inner_surrogate="score_function", credit=credit)
    flat = case.flat().requires_grad_()
    value, chances, adapted = formulation_two(case, flat)
    truth = torch.autograd.grad(value, flat)[0][0]
    # One task per pre-update episode; after it, all post-update episodes, weighted with how likely they are.
    each = [case.dice.prepare(case.params, case.trajectories(1, slice(n, n + 1)), {}, False)[0] for n in range(8)]
    before = joined(each)
    after = case.weighted(case.dice, adapted, case.chances(adapted))
    found_adapted = learner.adapt(case.params, before)
    close(case.layout.flat(found_adapted), adapted)
    state = State(case.params, learner.init(torch.Generator()).optimiser)
    by_task = learner.meta_gradients(state, MetaBatch((before,), found_adapted, after))
    found = -(chances.unsqueeze(1) * case.layout.flat(by_task)).sum(0)
    difference = float((found - truth).abs().max())
    assert difference < 1e-8 if exact else difference > 0.01

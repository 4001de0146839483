"""Bernoulli bandits: what a pull does, and the optima against enumeration, Monte Carlo and published values."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats

from suites.bandits import BanditSettings
from suites.bandits.optima import (
    EXACT_PULLS,
    balanced_exploration_return,
    bayes_optimal_return,
    expected_best_mean,
)
from suites.bandits.simulation import Bandits

SIGMAS = 4.0
"""Tolerance of what is simulated, in standard errors."""


def bandits(arms, **settings):
    return Bandits(BanditSettings(arms=arms, **settings))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pull(suite, tasks, actions, rng):
    """Rewards [tasks, pulls] of given arms [tasks, pulls]."""
    state, _ = suite.reset(tasks, actions.shape[1], rng)
    return suite.step(tasks, state, actions.unsqueeze(-1), rng).reward


def mean_and_error(values):
    return float(values.double().mean()), float(values.double().std()) / len(values) ** 0.5


def test_an_episode_is_one_pull_that_ends_it():
    suite, rng = bandits(3, constant_input=0.25), generator()
    assert (suite.horizon, suite.num_actions, suite.action_dim, suite.observation_dim) == (1, 3, 1, 1)
    assert suite.observation_table.tolist() == [[0.25]]
    tasks = suite.sample_tasks(4, rng)
    assert (tasks["mean"].shape, tasks["mean"].dtype) == ((4, 3), torch.float32)
    state, observation = suite.reset(tasks, 5, rng)
    transition = suite.step(tasks, state, torch.randint(3, (4, 5, 1), generator=rng), rng)
    for seen in (observation, transition.observation):
        assert (seen.shape, seen.dtype) == ((4, 5, 1), torch.int64)
        assert not seen.any()
    assert (transition.reward.shape, transition.reward.dtype) == ((4, 5), torch.float32)
    assert set(transition.reward.flatten().tolist()) == {0.0, 1.0}
    assert transition.terminated.all()


def test_an_arm_pays_as_often_as_its_mean_says():
    means = [0.0, 0.1, 0.5, 0.9, 1.0]
    actions = torch.arange(5).repeat_interleave(20_000).unsqueeze(0)
    paid = pull(bandits(5), {"mean": torch.tensor([means])}, actions, generator()).view(5, -1).sum(1).tolist()
    assert (paid[0], paid[4]) == (0, 20_000)
    for mean, count in zip(means, paid, strict=True):
        assert abs(count - 20_000 * mean) <= SIGMAS * (20_000 * mean * (1 - mean)) ** 0.5


def test_a_pull_pays_where_a_uniform_number_is_below_the_mean_of_its_arm():
    suite, rng = bandits(4), generator(3)
    tasks, actions = suite.sample_tasks(6, rng), torch.randint(4, (6, 7), generator=rng)
    rewards = pull(suite, tasks, actions, generator(9))
    uniform = torch.rand(6, 7, generator=generator(9)).tolist()
    for task, number in itertools.product(range(6), range(7)):
        mean = float(tasks["mean"][task, actions[task, number]])
        assert float(rewards[task, number]) == (uniform[task][number] < mean)


def test_a_batch_equals_its_tasks_one_by_one():
    suite, rng = bandits(4), generator(3)
    tasks, actions = suite.sample_tasks(6, rng), torch.randint(4, (6, 7), generator=rng)
    together, one_stream = pull(suite, tasks, actions, generator(9)), generator(9)
    for task in range(6):
        alone = pull(suite, {"mean": tasks["mean"][task : task + 1]}, actions[task : task + 1], one_stream)
        assert torch.equal(alone[0], together[task])


def test_permuting_the_tasks_permutes_the_rewards():
    suite, order = bandits(3), torch.tensor([2, 0, 3, 1])
    tasks = {"mean": torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])}
    actions = torch.randint(3, (4, 30), generator=generator(1))
    straight = pull(suite, tasks, actions, generator(2))
    permuted = pull(suite, {"mean": tasks["mean"][order]}, actions[order], generator(2))
    assert torch.equal(permuted, straight[order])
    assert straight.tolist() == tasks["mean"].gather(1, actions).tolist()


def test_the_means_are_uniform_and_independent():
    means = bandits(5).sample_tasks(10_000, generator())["mean"].double().numpy()
    assert stats.kstest(means.ravel(), "uniform").pvalue > 1e-3
    between = np.corrcoef(means.T)[np.triu_indices(5, 1)]
    assert np.abs(between).max() < SIGMAS / 10_000**0.5
    assert torch.equal(
        bandits(5).meta_test_tasks(3, generator(7))["mean"], bandits(5).sample_tasks(3, generator(7))["mean"]
    )


def test_pulls_at_random_pay_half_of_the_time():
    suite, rng = bandits(5), generator()
    tasks = suite.sample_tasks(20_000, rng)
    totals = pull(suite, tasks, torch.randint(5, (20_000, 10), generator=rng), rng).sum(1)
    mean, error = mean_and_error(totals)
    assert abs(mean - 5.0) < SIGMAS * error < 0.1


def value_of_tree(tree, arms, pulls):
    """Exact expected reward of a decision tree {outcomes so far: arm}, every arm with a uniform mean.

    P(s successes and f failures in a given order) = ∫ p^s (1-p)^f dp = s! f! / (s+f+1)!
    """
    total = Fraction(0)
    for outcomes in itertools.product((0, 1), repeat=pulls):
        tally = [[0, 0] for _ in range(arms)]
        for n, outcome in enumerate(outcomes):
            tally[tree[outcomes[:n]]][outcome] += 1
        chances = (Fraction(1, (f + s + 1) * math.comb(f + s, s)) for f, s in tally)
        total += math.prod(chances) * sum(outcomes)
    return total


@pytest.mark.parametrize(("pulls", "arms"), [(1, 2), (2, 1), (2, 2), (2, 3), (3, 2), (3, 3)])
def test_the_bayes_optimum_is_the_best_of_all_decision_trees(pulls, arms):
    histories = [outcomes for n in range(pulls) for outcomes in itertools.product((0, 1), repeat=n)]
    trees = (
        dict(zip(histories, choice, strict=True)) for choice in itertools.product(range(arms), repeat=len(histories))
    )
    best = max(value_of_tree(tree, arms, pulls) for tree in trees)
    assert bayes_optimal_return(pulls, arms) == pytest.approx(float(best), rel=1e-14)


def test_the_bayes_optimum_by_hand():
    # One arm teaches nothing; two pulls: stay after a success (mean 2/3), change after a failure (mean 1/2).
    assert bayes_optimal_return(7, 1) == pytest.approx(3.5)
    assert bayes_optimal_return(1, 4) == 0.5
    assert bayes_optimal_return(2, 2) == pytest.approx(1 / 2 + (2 / 3 + 1 / 2) / 2)


@pytest.mark.parametrize(("arms", "fact"), [(5, 6.660), (10, 6.714), (50, 6.714)])
def test_the_bayes_optimum_of_ten_pulls(arms, fact):
    assert bayes_optimal_return(10, arms) == pytest.approx(fact, abs=5e-4)


@pytest.mark.parametrize("arms", [1, 2, 5, 10, 50])
def test_the_clairvoyant_gets_k_over_k_plus_one_per_pull(arms):
    nodes, weights = np.polynomial.legendre.leggauss(60)
    integral = 1.0 - float(weights @ ((nodes + 1.0) / 2.0) ** arms) / 2.0  # E[max] = ∫ 1 - x^K dx
    assert expected_best_mean(arms) == pytest.approx(integral, rel=1e-12)
    suite = bandits(arms)
    best = suite.references(suite.sample_tasks(20_000, generator()), 10)["optimal_return"]
    mean, error = mean_and_error(best)
    assert abs(mean - arms / (arms + 1)) < SIGMAS * error < 0.01


def committed(allocation):
    """Exact expected mean of the arm that is best a posteriori after n_k pulls of arm k; an untouched one has 1/2."""
    counts = itertools.product(*(range(n + 1) for n in allocation))
    means = [max(Fraction(s + 1, n + 2) for s, n in zip(successes, allocation, strict=True)) for successes in counts]
    return sum(means) / len(means)


def balanced(pulls, used, arms):
    n, longer = divmod(pulls, used)
    return [n + 1] * longer + [n] * (used - longer) + [0] * (arms - used)


@pytest.mark.parametrize("arms", [1, 2, 3])
@pytest.mark.parametrize("pulls", range(1, 7))
def test_balanced_exploration_is_the_best_of_all_numbers_of_arms(pulls, arms):
    best = max(committed(balanced(pulls, used, arms)) for used in range(1, min(pulls, arms) + 1))
    assert balanced_exploration_return(pulls, arms) == pytest.approx(float(best), rel=1e-14)


def test_balanced_exploration_by_hand():
    # One pull of one of two arms: 2/3 after a success, else the other's 1/2. Three pulls: both arms, 1 and 2 times.
    assert balanced_exploration_return(1, 1) == pytest.approx(1 / 2)
    assert balanced_exploration_return(1, 2) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert balanced_exploration_return(3, 2) == pytest.approx((1 / 3 + 1 / 2 + 3 / 4 + 2 / 3 + 2 / 3 + 3 / 4) / 6)


@pytest.mark.parametrize(
    ("pulls", "arms", "fact"),
    [
        (10, 5, 7.2326),
        (10, 10, 7.2531),
        (10, 50, 7.2531),
        (100, 5, 81.73),
        (100, 10, 86.87),
        (500, 5, 415.01),
        (500, 10, 450.45),
    ],
)
def test_balanced_exploration_reaches_its_reference_value(pulls, arms, fact):
    digits = 5e-5 if pulls == 10 else 6e-3
    assert pulls * balanced_exploration_return(pulls, arms) == pytest.approx(fact, abs=digits)


@pytest.mark.parametrize(("pulls", "arms", "fact"), [(100, 50, 87.06), (500, 50, 468.07), (1000, 50, 953.65)])
def test_pulls_that_do_not_divide_evenly_are_worth_a_little_more_than_equal_ones(pulls, arms, fact):
    assert fact < pulls * balanced_exploration_return(pulls, arms) < 1.004 * fact


@pytest.mark.parametrize(("pulls", "arms", "used"), [(10, 5, 4), (10, 50, 6), (100, 5, 5), (100, 10, 10)])
def test_committing_after_balanced_pulls_is_worth_what_is_calculated(pulls, arms, used):
    suite, rng, count = bandits(arms), generator(), 20_000
    tasks, allocation = suite.sample_tasks(count, rng), torch.tensor(balanced(pulls, used, arms))
    actions = torch.arange(arms).repeat_interleave(allocation).expand(count, -1)
    successes = torch.zeros(count, arms).scatter_add_(1, actions, pull(suite, tasks, actions, rng))
    chosen = ((successes + 1) / (allocation + 2)).argmax(1, keepdim=True)
    mean, error = mean_and_error(tasks["mean"].gather(1, chosen).squeeze(1))
    assert abs(mean - balanced_exploration_return(pulls, arms)) < SIGMAS * error < 0.01


def test_the_bounds_are_ordered():
    for pulls, arms in itertools.product((1, 2, 5, 10), (2, 5, 10)):
        learning = bayes_optimal_return(pulls, arms) / pulls
        assert 0.5 <= learning < balanced_exploration_return(pulls, arms) < expected_best_mean(arms)


def test_references_are_per_pull_and_per_task():
    suite = bandits(3)
    tasks = {"mean": torch.tensor([[0.25, 0.75, 0.5], [0.125, 0.0, 0.0625]])}
    known = suite.references(tasks, EXACT_PULLS)
    assert known["optimal_return"].tolist() == [0.75, 0.125]
    assert known["expected_optimal_return"].tolist() == [0.75, 0.75]
    assert known["bayes_optimal_return"].tolist() == [bayes_optimal_return(EXACT_PULLS, 3) / EXACT_PULLS] * 2
    assert known["balanced_exploration_return"].tolist() == [balanced_exploration_return(EXACT_PULLS, 3)] * 2
    assert {values.dtype for values in known.values()} == {torch.float64}
    beyond = suite.references(tasks, EXACT_PULLS + 1)
    assert set(beyond) == set(known) - {"bayes_optimal_return"}
    assert beyond["balanced_exploration_return"].tolist() == [balanced_exploration_return(EXACT_PULLS + 1, 3)] * 2


@pytest.mark.parametrize(("pulls", "arms"), [(0, 2), (EXACT_PULLS + 1, 2), (3, 0)])
def test_what_is_not_exact_is_refused(pulls, arms):
    with pytest.raises(ValueError, match=rf"exact for 1 to {EXACT_PULLS} pulls .* found {pulls} and {arms}$"):
        bayes_optimal_return(pulls, arms)


@pytest.mark.parametrize(("pulls", "arms"), [(0, 2), (3, 0)])
def test_balanced_exploration_of_nothing_is_refused(pulls, arms):
    with pytest.raises(ValueError, match=rf"at least 1 pull and 1 arm .* found {pulls} and {arms}$"):
        balanced_exploration_return(pulls, arms)

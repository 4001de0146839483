"""Tabular MDPs: the tables and the steps that are drawn, and planning against enumeration and published values."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from harness.rollout import rollout
from suites.tabular_mdp import TabularMDPSettings
from suites.tabular_mdp.planning import finite_horizon_plan, policy_values, value_iteration
from suites.tabular_mdp.simulation import TabularMDP

SIGMAS = 4.0
"""Tolerance of what is simulated, in standard errors."""
MANY = 4000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def suite_of(**settings):
    return TabularMDP(TabularMDPSettings(**settings))


def random_mdps(count, states, actions, seed=0):
    """Transition and reward tables in float64."""
    tasks = suite_of(states=states, actions=actions).sample_tasks(count, generator(seed))
    transition = tasks["transition"].double()
    return transition / transition.sum(-1, keepdim=True), tasks["reward"].double()


@pytest.fixture(scope="module")
def many():
    """Many tasks of the published size, and what is known of them."""
    tasks = suite_of().sample_tasks(MANY, generator())
    return tasks, suite_of().references(tasks, 10)


def assert_mean(values, expected, largest_error):
    """The mean is as expected within its standard error, which is small enough to say so."""
    values = values.double().flatten()
    error = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean()) - expected) < SIGMAS * error < largest_error


class Uniform:
    """Any action; the noise is uniform on [0, 1)."""

    sequential = False

    def __init__(self, actions) -> None:
        self.actions = actions

    def initial_memory(self, tasks, episodes):
        return None

    def act(self, params, observation, memory, noise):
        return (noise * self.actions).long().unsqueeze(-1), None


class Planned:
    """A plan [tasks, horizon, states], followed from the first step on."""

    sequential = False

    def __init__(self, plan) -> None:
        self.plan = plan

    def initial_memory(self, tasks, episodes):
        return 0

    def act(self, params, observation, memory, noise):
        return self.plan[:, memory].gather(1, observation.squeeze(-1)).unsqueeze(-1), memory + 1


def test_the_published_size_is_the_default():
    suite = suite_of()
    assert (suite.observation_dim, suite.num_actions, suite.horizon, suite.action_dim) == (10, 5, 10, 1)
    assert torch.equal(suite.observation_table, torch.eye(10))


def test_transition_rows_are_flat_dirichlet(many):
    rows = many[0]["transition"].double()
    assert rows.shape == (MANY, 10, 5, 10)
    assert float((rows.sum(-1) - 1.0).abs().max()) < 1e-6
    assert float(rows.min()) >= 0.0
    # One coordinate of a flat Dirichlet vector of ten is Beta(1, 9); two coordinates have correlation -1/9.
    sample = rows[:, 3, 2].numpy()
    assert stats.kstest(sample[:, 4], stats.beta(1, 9).cdf).pvalue > 1e-3
    assert np.corrcoef(sample.T)[np.triu_indices(10, 1)].mean() == pytest.approx(-1 / 9, abs=2e-3)
    other = rows[:, 3, 3, 4].numpy()
    assert abs(np.corrcoef(sample[:, 4], other)[0, 1]) < SIGMAS / MANY**0.5


def test_mean_rewards_are_normal_with_mean_1_and_variance_1(many):
    rewards = many[0]["reward"].double()
    assert rewards.shape == (MANY, 10, 5)
    assert_mean(rewards, 1.0, 0.01)
    assert_mean((rewards - 1.0).square(), 1.0, 0.02)
    assert stats.kstest(rewards[:, 7, 1].numpy(), stats.norm(1, 1).cdf).pvalue > 1e-3
    assert torch.equal(
        suite_of().meta_test_tasks(3, generator(7))["reward"], suite_of().sample_tasks(3, generator(7))["reward"]
    )


def test_every_episode_starts_in_state_0_and_none_ends_early():
    suite, rng = suite_of(states=4, actions=3, horizon=6), generator()
    tasks, noise = suite.sample_tasks(50, rng), torch.rand(6, 50, 8, generator=rng)
    for _ in range(2):
        trajectories = rollout(suite, Uniform(3), {}, tasks, 8, rng, noise)
        assert (trajectories.observations.dtype, trajectories.rewards.dtype) == (torch.int64, torch.float32)
        assert trajectories.observations.shape == (50, 8, 6, 1)
        assert not trajectories.observations[:, :, 0].any()
        assert set(trajectories.observations[:, :, 1:].flatten().tolist()) == {0, 1, 2, 3}
        assert trajectories.valid.all()


def test_a_step_is_a_normal_number_around_the_table_and_a_uniform_one_against_the_cumulated_row():
    suite, rng = suite_of(states=4, actions=3), generator(3)
    tasks = suite.sample_tasks(5, rng)
    state = torch.randint(4, (5, 7, 1), generator=rng)
    action = torch.randint(3, (5, 7, 1), generator=rng)
    moved = suite.step(tasks, state, action, generator(9))
    again = generator(9)
    noise, uniform = torch.randn(5, 7, generator=again), torch.rand(5, 7, 1, generator=again).squeeze(-1)
    for task, episode in itertools.product(range(5), range(7)):
        s, a = int(state[task, episode]), int(action[task, episode])
        reward = float(tasks["reward"][task, s, a]) + float(noise[task, episode])
        assert float(moved.reward[task, episode]) == pytest.approx(reward, abs=1e-6)
        row, following = tasks["transition"][task, s, a].tolist(), 0
        while following < 3 and float(uniform[task, episode]) >= sum(row[: following + 1]):
            following += 1
        assert int(moved.observation[task, episode]) == int(moved.state[task, episode]) == following
    assert not moved.terminated.any()


def test_next_states_are_as_frequent_as_the_table_says():
    suite, rng = suite_of(states=5, actions=2), generator(1)
    tasks, count = suite.sample_tasks(2, rng), 20_000
    for state, action in ((0, 0), (3, 1)):
        where = torch.full((2, count, 1), state)
        moved = suite.step(tasks, where, torch.full((2, count, 1), action), rng)
        for task in range(2):
            expected = tasks["transition"][task, state, action].double().numpy()
            counts = moved.observation[task].flatten().bincount(minlength=5).numpy()
            assert stats.chisquare(counts, count * expected / expected.sum()).pvalue > 1e-3
            assert_mean(moved.reward[task] - tasks["reward"][task, state, action], 0.0, 0.05)
            assert_mean((moved.reward[task] - tasks["reward"][task, state, action]).square(), 1.0, 0.06)


def test_a_state_without_probability_is_never_entered():
    suite = suite_of(states=3, actions=1)
    row = torch.tensor([0.0, 0.5, 0.5 - 1e-6])  # as if float32 had lost a little of the sum
    tasks = {"transition": row.expand(1, 3, 1, 3), "reward": torch.zeros(1, 3, 1)}
    where = torch.zeros(1, 200_000, 1, dtype=torch.int64)
    assert set(suite.step(tasks, where, where, generator()).observation.flatten().tolist()) == {1, 2}


def test_permuting_the_tasks_permutes_the_steps():
    suite, order = suite_of(states=4, actions=3, horizon=5), torch.tensor([2, 0, 3, 1])
    rng = generator(5)
    target = torch.randint(4, (4, 4, 3), generator=rng)
    reward = torch.randn(4, 4, 3, generator=rng)
    tasks = {"transition": torch.nn.functional.one_hot(target, 4).float(), "reward": reward}
    noise = torch.rand(5, 4, 6, generator=rng)
    straight = rollout(suite, Uniform(3), {}, tasks, 6, generator(), noise)
    shuffled = {name: table[order] for name, table in tasks.items()}
    permuted = rollout(suite, Uniform(3), {}, shuffled, 6, generator(), noise[:, order])
    assert torch.equal(permuted.observations, straight.observations[order])
    assert torch.equal(permuted.actions, straight.actions[order])
    # The normal noise belongs to the place in the batch; the means that are left belong to the task.
    means = [mean_rewards(one, table) for one, table in ((straight, reward), (permuted, reward[order]))]
    assert torch.equal(means[1], means[0][order])
    torch.testing.assert_close(permuted.rewards - means[1], straight.rewards - means[0], rtol=0, atol=1e-6)


def mean_rewards(trajectories, reward):
    """Mean reward of every recorded state and action."""
    task = torch.arange(len(reward)).view(-1, 1, 1)
    return reward[task, trajectories.observations.squeeze(-1), trajectories.actions.squeeze(-1)]


@pytest.mark.parametrize(
    ("name", "fact", "of_the_fact"),
    [
        ("optimal_return", 21.84, 0.016),
        ("optimal_return_discount_0_99", 20.88, 0.015),
        ("optimal_return_discount_0_95", 17.51, 0.013),
        ("random_return", 9.996, 0.011),
    ],
)
def test_the_optima_have_their_reference_values(many, name, fact, of_the_fact):
    values = many[1][name]
    error = (float(values.var()) / MANY + of_the_fact**2) ** 0.5
    assert abs(float(values.mean()) - fact) < 3 * error < 0.15


def test_the_stationary_policy_of_discount_0_95_loses_0_02(many):
    loss = many[1]["optimal_return"] - many[1]["stationary_0_95_return"]
    assert float(loss.min()) >= -1e-9
    assert float(loss.mean()) == pytest.approx(0.02, abs=0.002)


def test_an_optimum_is_what_its_plan_collects_and_no_more(many):
    suite, count = suite_of(), 1000
    tasks = {name: table[:count] for name, table in many[0].items()}
    plan = suite.plan(tasks["transition"].double(), tasks["reward"].double())
    assert (plan.shape, plan.dtype) == ((count, 10, 10), torch.int64)
    rng = generator(4)
    noise = torch.rand(10, count, 20, generator=rng)
    for policy, name in ((Planned(plan), "optimal_return"), (Uniform(5), "random_return")):
        returns = rollout(suite, policy, {}, tasks, 20, rng, noise).episode_returns().double().mean(1)
        assert_mean(returns - many[1][name][:count], 0.0, 0.15)


def brute_force(transition, reward, horizon, discount):
    """Largest V_0 of every state over all time-dependent deterministic policies."""
    states, actions = reward.shape
    rules = list(itertools.product(range(actions), repeat=states))
    best = np.full(states, -np.inf)
    for plan in itertools.product(rules, repeat=horizon):
        values = np.zeros(states)
        for rule in reversed(plan):
            chosen = (np.arange(states), np.array(rule))
            values = reward[chosen] + discount * transition[chosen] @ values
        best = np.maximum(best, values)
    return best


@pytest.mark.parametrize(("states", "actions", "horizon"), [(2, 2, 3), (2, 3, 2), (3, 2, 2)])
@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_a_finite_horizon_plan_is_the_best_of_all_plans(states, actions, horizon, discount):
    transition, reward = random_mdps(4, states, actions)
    values, plan = finite_horizon_plan(transition, reward, horizon, discount)
    assert plan.shape == (4, horizon, states)
    for task in range(4):
        best = brute_force(transition[task].numpy(), reward[task].numpy(), horizon, discount)
        np.testing.assert_allclose(values[task].numpy(), best, rtol=1e-12)
        followed = torch.zeros(states, dtype=torch.float64)
        for rule in reversed(plan[task].unbind(0)):
            where = torch.arange(states)
            followed = reward[task][where, rule] + discount * transition[task][where, rule] @ followed
        torch.testing.assert_close(followed, values[task], rtol=1e-12, atol=0)


def test_a_plan_may_change_its_mind_towards_the_end_and_takes_the_first_of_equal_actions():
    # State 0: action 0 pays 1 and stays; action 1 pays 0 and leads to state 1, where every action pays 10 and stays.
    transition = torch.zeros(2, 3, 2)
    transition[0, 0, 0] = transition[0, 1, 1] = transition[0, 2, 0] = 1.0
    transition[1, :, 1] = 1.0
    reward = torch.tensor([[1.0, 0.0, 1.0], [10.0, 10.0, 10.0]])
    values, plan = finite_horizon_plan(transition, reward, 3)
    assert values.tolist() == [20.0, 30.0]
    assert plan.tolist() == [[1, 0], [1, 0], [0, 0]]
    # Of equal ones that with the largest tie: actions 0 and 2 of state 0 at the end, all of state 1 at any time.
    ties = 1e-9 * torch.tensor([[[9.0, 0.0, 9.0], [0.0, 1.0, 0.0]]] * 2 + [[[0.0, 9.0, 1.0], [0.0, 0.0, 1.0]]])
    broken, plan = finite_horizon_plan(transition.double(), reward.double(), 3, ties=ties.double())
    assert plan.tolist() == [[1, 1], [1, 1], [2, 2]]
    torch.testing.assert_close(broken, values.double(), rtol=0, atol=1e-7)


def stationary_values(transition, reward, rule, discount):
    """(I - γ P_π)⁻¹ r_π"""
    chosen = (np.arange(len(rule)), np.array(rule))
    return np.linalg.solve(np.eye(len(rule)) - discount * transition[chosen], reward[chosen])


@pytest.mark.parametrize(("states", "actions"), [(2, 2), (3, 2), (3, 3)])
@pytest.mark.parametrize("discount", [0.5, 0.95])
def test_value_iteration_finds_the_best_of_all_stationary_policies(states, actions, discount):
    transition, reward = random_mdps(5, states, actions, seed=2)
    tolerance = 1e-9
    values, rule = value_iteration(transition, reward, discount, tolerance)
    for task in range(5):
        tables = transition[task].numpy(), reward[task].numpy()
        rules = itertools.product(range(actions), repeat=states)
        best = np.max([stationary_values(*tables, one, discount) for one in rules], axis=0)
        np.testing.assert_allclose(values[task].numpy(), best, rtol=0, atol=tolerance / (1 - discount))
        reached = stationary_values(*tables, rule[task].tolist(), discount)
        np.testing.assert_allclose(reached, best, rtol=1e-12)


@pytest.mark.parametrize(("discount", "tolerance"), [(1.0, 1e-5), (0.0, 1e-5), (1.5, 1e-5), (0.9, 0.0), (0.9, -1.0)])
def test_a_value_iteration_that_would_not_end_is_refused(discount, tolerance):
    transition, reward = random_mdps(1, 2, 2)
    with pytest.raises(ValueError, match=f"discount in .* found {discount} and {tolerance}$"):
        value_iteration(transition, reward, discount, tolerance)


@pytest.mark.parametrize("discount", [1.0, 0.6])
@pytest.mark.parametrize("horizon", [0, 1, 4])
def test_the_value_of_a_stationary_policy_is_a_sum_of_matrix_powers(horizon, discount):
    transition, reward = random_mdps(3, 4, 3, seed=1)
    policy = torch.rand(3, 4, 3, generator=generator(), dtype=torch.float64).softmax(-1)
    values = policy_values(transition, reward, policy, horizon, discount)
    for task in range(3):
        chain = np.einsum("sa,sat->st", policy[task].numpy(), transition[task].numpy())
        gain = (policy[task].numpy() * reward[task].numpy()).sum(-1)
        powers = (discount**t * np.linalg.matrix_power(chain, t) @ gain for t in range(horizon))
        np.testing.assert_allclose(values[task].numpy(), sum(powers, np.zeros(4)), rtol=1e-12)


def test_a_table_alone_and_in_a_batch_have_the_same_plan():
    transition, reward = random_mdps(3, 4, 3)
    together = [*finite_horizon_plan(transition, reward, 5), *value_iteration(transition, reward, 0.9, 1e-10)]
    for task in range(3):
        alone = [*finite_horizon_plan(transition[task], reward[task], 5)]
        alone += value_iteration(transition[task], reward[task], 0.9, 1e-10)
        for one, every in zip(alone, together, strict=True):
            torch.testing.assert_close(one, every[task], rtol=0, atol=1e-8)


def test_references_by_hand():
    # One state, two actions that pay 3 and -1 on average, horizon 3.
    suite = suite_of(states=1, actions=2, horizon=3)
    tasks = {"transition": torch.ones(1, 1, 2, 1), "reward": torch.tensor([[[3.0, -1.0]]])}
    known = suite.references(tasks, 7)
    assert {name: float(value) for name, value in known.items()} == pytest.approx(
        {
            "optimal_return": 9.0,
            "optimal_return_discount_0_99": 3 * (1 + 0.99 + 0.9801),
            "optimal_return_discount_0_95": 3 * (1 + 0.95 + 0.9025),
            "stationary_0_95_return": 9.0,
            "random_return": 3.0,
        }
    )
    assert {(value.shape, value.dtype) for value in known.values()} == {((1,), torch.float64)}


def test_references_start_in_state_0():
    suite = suite_of(states=2, actions=1, horizon=4)
    stay = torch.eye(2).view(1, 2, 1, 2)
    known = suite.references({"transition": stay, "reward": torch.tensor([[[1.0], [100.0]]])}, 1)
    assert float(known["optimal_return"]) == float(known["random_return"]) == 4.0

"""Learners that plan on a posterior over tables: its arithmetic by hand, when they plan, and what they collect."""

import functools

import pytest
import torch
from scipy import stats

from algorithms import ALGORITHMS
from harness.api import Experience
from harness.rollout import rollout, simulate
from suites import SUITES

SIGMAS = 3.0
"""Tolerance of what is simulated, in standard errors."""
TASKS = 1000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def build(registry, name, *arguments, **settings):
    return registry[name].load()(registry[name].settings.model_validate(settings), *arguments)


class Planner:
    """Two states, two actions, horizon 3; keeps the tables on which it was asked to plan."""

    observation_table = torch.eye(2)
    num_actions = 2
    horizon = 3

    def __init__(self) -> None:
        self.asked = []

    def plan(self, transition, reward, ties):
        assert ties is None
        self.asked.append((transition, reward))
        # Time t: action t % 2 in state 0, action 1 in state 1.
        rule = torch.tensor([[0, 1], [1, 1], [0, 1]])
        return rule.expand(*reward.shape[:2], 3, 2)


def policy_on(planner, **settings):
    return build(ALGORITHMS, "psrl", planner, **settings).policy


def lived(policy, memory, steps):
    """The memory of one task after steps (state, action, reward, next state, valid)."""
    for step in steps:
        state, action, _, following, _ = (torch.tensor([[[value]]]) for value in step)
        reward, valid = torch.tensor([[step[2]]]), torch.tensor([[step[4]]])
        memory = policy.remember(memory, Experience(state, action, reward, following, valid))
    return memory


EPISODE = [(0, 0, 2.0, 1, True), (1, 1, -1.0, 1, True), (1, 1, 0.5, 0, True)]
AFTER_THE_END = [(0, 0, 100.0, 1, False), (1, 0, 100.0, 0, False), (0, 1, 100.0, 0, False)]


def seed_noise(seed=5):
    return torch.tensor([[[seed]]])


def act(policy, memory, state=0, seed=5):
    action, memory = policy.act({}, torch.tensor([[[state]]]), memory, seed_noise(seed))
    return int(action), memory


@pytest.mark.parametrize("k", [1.0, 0.5, 1e-4])
@pytest.mark.parametrize("prior_mean", [0.0, 1.0, -3.0])
def test_the_posterior_mean_by_hand(prior_mean, k):
    planner = Planner()
    policy = policy_on(planner, prior_mean=prior_mean, prior_strength=k, sample=False)
    memory = policy.initial_memory(1, 1)
    act(policy, memory)
    act(policy, lived(policy, memory, EPISODE))
    act(policy, lived(policy, memory, EPISODE + EPISODE))
    (before, once, twice) = [[table[0, 0].tolist() for table in tables] for tables in planner.asked]
    unseen = pytest.approx([0.5, 0.5])
    assert before == [[[unseen] * 2] * 2, [pytest.approx([prior_mean] * 2)] * 2]
    # Dirichlet(k + n): (0, 0) went to 1 once; (1, 1) to 1 once and to 0 once.
    assert once[0] == [[pytest.approx([k / (2 * k + 1), (k + 1) / (2 * k + 1)]), unseen], [unseen, unseen]]
    assert twice[0] == [[pytest.approx([k / (2 * k + 2), (k + 2) / (2 * k + 2)]), unseen], [unseen, unseen]]
    # (k μ0 + Σ r) / (k + n): one reward of 2, and two of -1 and 0.5.
    prior = k * prior_mean
    assert once[1] == [
        pytest.approx([(prior + 2.0) / (k + 1), prior_mean]),
        pytest.approx([prior_mean, (prior - 0.5) / (k + 2)]),
    ]
    assert twice[1] == [
        pytest.approx([(prior + 4.0) / (k + 2), prior_mean]),
        pytest.approx([prior_mean, (prior - 1.0) / (k + 4)]),
    ]


def test_steps_after_the_end_of_an_episode_teach_nothing_but_pass_the_time():
    policy = policy_on(Planner(), sample=False)
    memory = lived(policy, policy.initial_memory(1, 1), EPISODE)
    later = lived(policy, memory, AFTER_THE_END)
    assert torch.equal(later["transitions"], memory["transitions"])
    assert torch.equal(later["reward_sum"], memory["reward_sum"])
    assert (int(memory["step"]), int(later["step"])) == (3, 6)


def copies_of(memory, count):
    """As many tasks with the same memory."""
    return {
        name: tensor.expand(count, *tensor.shape[1:]) if tensor.dim() else tensor for name, tensor in memory.items()
    }


@pytest.mark.parametrize("k", [1.0, 3.0])
def test_draws_have_the_distribution_of_the_posterior(k):
    planner, count = Planner(), 20_000
    policy = policy_on(planner, prior_mean=1.0, prior_strength=k, sample=True)
    memory = copies_of(lived(policy, policy.initial_memory(1, 1), EPISODE * 2), count)
    policy.act({}, torch.zeros(count, 1, 1, dtype=torch.int64), memory, seed_noise())
    transition, reward = (table[:, 0] for table in planner.asked[0])
    torch.testing.assert_close(transition.sum(-1), torch.ones(count, 2, 2, dtype=torch.float64))
    for state, action, to_0, to_1, total, visits in (
        (0, 0, 0, 2, 4.0, 2),
        (1, 1, 2, 2, -1.0, 4),
        (0, 1, 0, 0, 0.0, 0),
        (1, 0, 0, 0, 0.0, 0),
    ):
        assert stats.kstest(transition[:, state, action, 0].numpy(), stats.beta(k + to_0, k + to_1).cdf).pvalue > 1e-3
        posterior = stats.norm((k + total) / (k + visits), (k + visits) ** -0.5)
        assert stats.kstest(reward[:, state, action].numpy(), posterior.cdf).pvalue > 1e-3
    # Tables of different pairs are drawn independently of each other.
    assert abs(float(torch.corrcoef(torch.stack([reward[:, 0, 1], reward[:, 1, 0]]))[0, 1])) < 4 / count**0.5


@pytest.mark.parametrize("random_ties", [False, True])
def test_of_equal_plans_the_first_actions_are_taken_or_any(random_ties):
    suite, count = build(SUITES, "tabular_mdp", states=3, actions=4, horizon=2), 5000
    policy = build(ALGORITHMS, "psrl", suite, sample=False, random_ties=random_ties).policy
    start = policy.initial_memory(count, 1)
    nothing_seen = torch.zeros(count, 1, 1, dtype=torch.int64)
    plan = policy.act({}, nothing_seen, start, seed_noise())[1]["plan"]
    pairs = (4 * plan[:, 0, 0, 0] + plan[:, 0, 1, 0]).bincount(minlength=16).tolist()
    if random_ties:  # at every step anew
        assert stats.chisquare(pairs).pvalue > 1e-3
    else:
        assert pairs == [count] + [0] * 15
    # A reward that is better by a little, is no tie.
    better = start | {"reward_sum": start["reward_sum"].clone()}
    better["reward_sum"][:, :, 0, 2] = 1e-6
    plan = policy.act({}, nothing_seen, better, seed_noise())[1]["plan"]
    assert plan[:, 0, :, 0].unique().tolist() == [2]


def test_a_seed_decides_the_draw():
    planner = Planner()
    policy = policy_on(planner, sample=True)
    memory = policy.initial_memory(1, 1)
    for seed in (5, 5, 6):
        act(policy, memory, seed=seed)
    first, again, other = (reward for _, reward in planner.asked)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_episode_has_a_seed_of_its_own():
    policy = policy_on(Planner(), sample=True)
    noise = policy.draw_noise(generator(1), 6, 50, 3)
    assert (noise.shape, noise.dtype) == ((3, 1, 50, 1), torch.int64)
    assert len(noise.unique()) == 150
    assert torch.equal(noise, policy.draw_noise(generator(1), 6, 50, 3))
    assert not torch.equal(noise, policy.draw_noise(generator(2), 6, 50, 3))


@pytest.mark.parametrize("sample", [True, False])
def test_a_new_plan_is_made_at_the_start_of_an_episode_only_and_followed_in_time(sample):
    planner = Planner()
    policy = policy_on(planner, sample=sample)
    memory, actions = policy.initial_memory(1, 1), []
    for step in EPISODE * 3:
        action, memory = act(policy, memory)
        actions.append(action)
        memory = lived(policy, memory, [step])
    assert len(planner.asked) == 3
    assert actions == [0, 1, 0] * 3
    assert act(policy, memory, state=1)[0] == 1
    if not sample:  # the second plan knows the first episode and nothing of the second
        assert [float(reward[0, 0, 0, 0]) for _, reward in planner.asked] == pytest.approx([0.0, 2 / 2, 4 / 3, 6 / 4])


def test_tasks_learn_from_their_own_episodes_only():
    suite = build(SUITES, "tabular_mdp", states=4, actions=3, horizon=5)
    policy = build(ALGORITHMS, "psrl", suite, sample=False).policy
    rng = generator()
    tasks = suite.sample_tasks(6, rng)
    noise = policy.draw_noise(rng, 6, 7, 5)
    trajectories, memory = simulate(suite, policy, {}, tasks, 7, rng, noise)
    visits, rewards = torch.zeros(6, 4, 3, 4), torch.zeros(6, 4, 3)
    for task in range(6):
        for episode in range(7):
            states = [*trajectories.observations[task, episode, :, 0].tolist()]
            states.append(int(trajectories.final_observation[task, episode]))
            for step in range(5):
                action = int(trajectories.actions[task, episode, step])
                visits[task, states[step], action, states[step + 1]] += 1
                rewards[task, states[step], action] += trajectories.rewards[task, episode, step]
    assert torch.equal(memory["transitions"][:, 0], visits.double())
    torch.testing.assert_close(memory["reward_sum"][:, 0], rewards.double(), rtol=1e-5, atol=1e-5)
    assert int(memory["step"]) == 35


def test_with_much_experience_greedy_collects_the_optimum():
    suite = build(SUITES, "tabular_mdp", states=3, actions=2, horizon=4)
    policy = build(ALGORITHMS, "psrl", suite, sample=False).policy
    tasks = suite.sample_tasks(50, generator())
    memory = policy.initial_memory(50, 1) | {
        # As if every pair had been seen 10^7 times.
        "transitions": 1e7 * tasks["transition"].double().unsqueeze(1),
        "reward_sum": 1e7 * tasks["reward"].double().unsqueeze(1),
    }
    planned = policy.act({}, torch.zeros(50, 1, 1, dtype=torch.int64), memory, seed_noise())[1]["plan"][:, 0]
    assert torch.equal(planned, suite.plan(tasks["transition"].double(), tasks["reward"].double()))


@functools.cache
def totals(**settings):
    """Total reward after every number of episodes up to 25 [tasks, episodes], and the optimum per episode."""
    suite = build(SUITES, "tabular_mdp")
    policy = build(ALGORITHMS, "psrl", suite, **settings).policy
    rng = generator(11)
    tasks = suite.sample_tasks(TASKS, rng)
    noise = policy.draw_noise(rng, TASKS, 25, 10)
    returns = rollout(suite, policy, {}, tasks, 25, rng, noise).episode_returns()
    return returns.double().cumsum(1), suite.references(tasks, 25)["optimal_return"]


OPTIMUM = 21.84
"""Mean optimal return over tasks; the difference of each task's own is taken from its totals."""
LEARNERS = {
    # Settings, reference values for 10 and 25 episodes.
    "psrl, prior 0": ({"sample": True, "prior_mean": 0.0}, 137.8, 406.3),
    "psrl, prior 1": ({"sample": True, "prior_mean": 1.0}, 134.3, 404.8),
    "greedy, prior 0": ({"sample": False, "prior_mean": 0.0}, 128.7, 342.5),
    "greedy, prior 1": ({"sample": False, "prior_mean": 1.0}, 149.9, 424.0),
    "greedy, published": ({"sample": False, "prior_strength": 1e-4, "random_ties": True}, 134.8, 368.8),
}


@pytest.mark.parametrize("episodes", [10, 25])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_collects_its_reference_reward(name, episodes):
    settings, *facts = LEARNERS[name]
    every, optimum = totals(**settings)
    total = every[:, episodes - 1]
    corrected = total - episodes * (optimum - OPTIMUM)
    # The reference is a mean over 1000 tasks, too, without that correction.
    error = (float(corrected.var()) / TASKS + float(total.var()) / 1000) ** 0.5
    assert abs(float(corrected.mean()) - facts[episodes == 25]) < SIGMAS * error < 0.03 * facts[episodes == 25]


def test_a_true_prior_mean_helps_greedy_more_than_it_matters_to_posterior_sampling():
    psrl, greedy = (
        float((totals(sample=sample, prior_mean=1.0)[0] - totals(sample=sample, prior_mean=0.0)[0])[:, 24].mean())
        for sample in (True, False)
    )
    assert greedy > 60.0
    assert abs(psrl) < 10.0

"""Learners of bandits: their indices by hand, their rewards against published values, and what they remember."""

import functools
import itertools
from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from torch import Tensor

from algorithms import ALGORITHMS, RULES
from algorithms.candidates import CandidateSearch
from harness.api import Experience, MetaBatch
from harness.evaluation import evaluate
from harness.rollout import rollout, simulate
from harness.runner import Clock, Training, meta_iteration
from harness.spec import RunSpec
from harness.streams import Streams
from suites import SUITES
from suites.bandits.optima import bayes_optimal_return

SIGMAS = 3.5
"""Tolerance of what is simulated, in standard errors; of thirty comparisons one in seventy would fail by chance."""


def tasks_for(arms, pulls):
    """Number of tasks that is quick enough to simulate."""
    return {10: 20_000, 100: 8000 if arms < 50 else 4000, 500: 2000}[pulls]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def build(registry, name, *arguments, **settings):
    return registry[name].load()(registry[name].settings.model_validate(settings), *arguments)


def learner(name, arms, **settings):
    """(suite, algorithm)"""
    suite = build(SUITES, "bandits", arms=arms)
    return suite, build(ALGORITHMS, name, suite, **settings)


def in_use(position=0):
    return {"candidate": torch.tensor(float(position))}


def memory_of(successes, pulls):
    """One task and episode with given counts."""
    counts = {"successes": successes, "pulls": pulls}
    return {name: torch.tensor([[values]], dtype=torch.float64) for name, values in counts.items()}


def acts(policy, memory, count, rng=None):
    """The arms that ``count`` independent copies of one memory pull next."""
    copies = {name: tensor.expand(count, 1, -1) for name, tensor in memory.items()}
    noise = policy.draw_noise(rng or generator(), count, 1, 1)[0]
    chosen, kept = policy.act(in_use(), torch.zeros(count, 1, 1, dtype=torch.int64), copies, noise)
    assert kept is copies
    assert chosen.shape == (count, 1, 1)
    return chosen.flatten()


@functools.cache
def simulated(name, arms, pulls, settings=()):
    """Total reward after every number of pulls up to ``pulls`` [tasks, pulls], and the best mean of every task."""
    count, rng = tasks_for(arms, pulls), generator(arms)
    suite, algorithm = learner(name, arms, **dict(settings))
    tasks = suite.sample_tasks(count, rng)
    noise = algorithm.policy.draw_noise(rng, count, pulls, 1)
    rewards = rollout(suite, algorithm.policy, in_use(), tasks, pulls, rng, noise).rewards.squeeze(-1)
    return rewards.double().cumsum(1), tasks["mean"].double().amax(1)


def mean_and_errors(name, arms, pulls, **settings):
    """Mean total reward, its standard error, and the SD of the totals themselves.

    N (max_k p_k - K/(K+1)) is taken from every total: it is zero on average, and all that the clairvoyant owes to the
    draw of the tasks.
    """
    totals, best = simulated(name, arms, pulls, tuple(sorted(settings.items())))
    total = totals[:, pulls - 1]
    corrected = total - pulls * (best - arms / (arms + 1))
    return float(corrected.mean()), float(corrected.std()) / len(total) ** 0.5, float(total.std())


FACTS = {
    # (K, N): Thompson sampling, greedy with random ties, UCB1 and its bonus
    (5, 10): (5.80, 6.62, 6.66, 0.1),
    (10, 10): (5.59, 6.70, 6.69, 0.2),
    (50, 10): (5.11, 6.76, 6.70, 0.2),
    (5, 100): (75.21, 76.15, 78.60, 0.2),
    (10, 100): (77.21, 78.99, 83.42, 0.2),
    (50, 100): (64.59, 80.26, 84.83, 0.2),
    (5, 500): (402.3, 386.5, 407.0, 0.3),
    (10, 500): (430.6, 407.0, 439.6, 0.2),
    (50, 500): (425.8, 411.5, 457.3, 0.2),
}
LEARNERS = {"thompson": {}, "epsilon_greedy": {"candidates": (0.0,), "random_ties": True}, "ucb1": {}}
CELLS = [
    (name, *cell)
    for name, cell in itertools.product(LEARNERS, FACTS)
    if (name, *cell) != ("thompson", 50, 500)  # fifty million beta draws
]


@pytest.mark.parametrize(("name", "arms", "pulls"), CELLS)
def test_a_learner_collects_its_reference_reward(name, arms, pulls):
    *facts, bonus = FACTS[arms, pulls]
    fact = facts[list(LEARNERS).index(name)]
    settings = {"candidates": (bonus,)} if name == "ucb1" else LEARNERS[name]
    mean, error, spread = mean_and_errors(name, arms, pulls, **settings)
    of_the_fact = spread / (4000 if arms * pulls <= 5000 else 2000) ** 0.5
    assert abs(mean - fact) < SIGMAS * (error**2 + of_the_fact**2) ** 0.5 < 0.025 * fact + 0.05


@pytest.mark.parametrize(("arms", "published", "random_ties"), [(5, 74.8, 76.15), (10, 77.1, 78.99), (50, 78.0, 80.26)])
def test_greedy_with_the_first_of_equal_arms_is_the_published_greedy(arms, published, random_ties):
    mean, error, spread = mean_and_errors("epsilon_greedy", arms, 100, candidates=(0.0,))
    assert abs(mean - published) < SIGMAS * (error**2 + spread**2 / 1000) ** 0.5
    assert abs(mean - published) < abs(mean - random_ties)
    fair, fair_error, _ = mean_and_errors("epsilon_greedy", arms, 100, candidates=(0.0,), random_ties=True)
    assert fair - mean > SIGMAS * (error**2 + fair_error**2) ** 0.5


@pytest.mark.parametrize("arms", [5, 10, 50])
@pytest.mark.parametrize("name", [*LEARNERS, "gittins"])
def test_no_learner_collects_more_than_the_bayes_optimum(name, arms, tmp_path, monkeypatch):
    monkeypatch.setenv("METAREPRO_CACHE", str(tmp_path))
    settings = {"ucb1": {"candidates": (0.1,)}, "gittins": {"candidates": (0.9,), "table_pulls": 60}}
    mean, error, _ = mean_and_errors(name, arms, 10, **settings.get(name, LEARNERS.get(name, {})))
    optimum = bayes_optimal_return(10, arms)
    assert mean < optimum + SIGMAS * error
    assert error < 0.02
    if name == "gittins":  # nearly optimal
        assert mean > optimum - 0.06 - SIGMAS * error


@pytest.mark.parametrize("name", ["thompson", "epsilon_greedy", "ucb1"])
def test_a_hand_made_history_is_counted(name):
    _, algorithm = learner(name, 3)
    policy = algorithm.policy
    memory = policy.initial_memory(2, 1)
    assert {key: tensor.shape for key, tensor in memory.items()} == dict.fromkeys(("successes", "pulls"), (2, 1, 3))
    assert not any(tensor.any() for tensor in memory.values())
    start, nothing = memory, torch.zeros(2, 1, 1, dtype=torch.int64)
    for arms, rewards, valid in [
        ((0, 2), (1.0, 0.0), (True, True)),
        ((0, 1), (0.0, 1.0), (True, True)),
        ((2, 1), (1.0, 1.0), (True, True)),
        ((1, 0), (0.0, 0.0), (False, True)),  # after the end of an episode nothing counts
    ]:
        action, reward = torch.tensor(arms).view(2, 1, 1), torch.tensor(rewards).view(2, 1)
        memory = policy.remember(memory, Experience(nothing, action, reward, nothing, torch.tensor(valid).view(2, 1)))
    assert memory["successes"].tolist() == [[[1, 0, 1]], [[0, 2, 0]]]
    assert memory["pulls"].tolist() == [[[2, 0, 1]], [[1, 2, 1]]]
    assert not any(tensor.any() for tensor in start.values())


def index(policy, memory, position=0):
    noise = policy.draw_noise(generator(), 1, 1, 1)[0]
    return policy.index(in_use(position), memory["successes"], memory["pulls"], noise).flatten().tolist()


def test_ucb1_is_the_mean_plus_a_bonus():
    policy = learner("ucb1", 3, candidates=(0.5, 0.0))[1].policy
    memory = memory_of([2, 0, 1], [3, 1, 1])
    # t = 5: 2 ln 5 = 3.2188758; means 3/5, 1/3, 2/3; bonuses 0.5 √(3.2188758 / 5), ... / 3.
    assert index(policy, memory) == pytest.approx([1.0011780, 0.8512519, 1.1845852], abs=1e-7)
    assert index(policy, memory, 1) == pytest.approx([0.6, 1 / 3, 2 / 3])
    # Before the first pull and after it all arms have the same bonus as far as they have the same counts.
    assert index(policy, memory_of([0, 0, 0], [0, 0, 0])) == pytest.approx([0.5, 0.5, 0.5])
    assert index(policy, memory_of([1, 0, 0], [1, 0, 0])) == pytest.approx([2 / 3, 0.5, 0.5])
    assert acts(policy, memory_of([0, 0, 0], [0, 0, 0]), 5).tolist() == [0] * 5


def test_a_seldom_pulled_arm_is_pulled_for_its_bonus():
    policy = learner("ucb1", 2, candidates=(1.0,))[1].policy
    assert acts(policy, memory_of([30, 0], [50, 1]), 1).tolist() == [1]
    assert acts(learner("ucb1", 2, candidates=(0.0,))[1].policy, memory_of([30, 0], [50, 1]), 1).tolist() == [0]


def test_greedy_takes_the_best_mean_and_of_equal_ones_the_first():
    policy = learner("epsilon_greedy", 4, candidates=(0.0,))[1].policy
    assert set(acts(policy, memory_of([1, 3, 0, 0], [2, 4, 0, 3]), 100).tolist()) == {1}
    # A success and a failure leave the mean of an untouched arm.
    assert set(acts(policy, memory_of([0, 1, 0, 0], [1, 2, 0, 0]), 100).tolist()) == {1}


def test_greedy_with_random_ties_takes_any_of_the_best_equally_often():
    policy = learner("epsilon_greedy", 4, candidates=(0.0,), random_ties=True)[1].policy
    counts = acts(policy, memory_of([0, 1, 0, 2], [1, 2, 0, 4]), 30_000).bincount(minlength=4)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > 1e-3
    # A mean that is better by as little as 10^4 pulls allow is better.
    assert set(acts(policy, memory_of([5000, 0, 5001, 0], [10_000, 1, 10_000, 1]), 100).tolist()) == {2}


@pytest.mark.parametrize("random_ties", [False, True])
def test_with_epsilon_1_every_arm_is_equally_likely_whatever_was_seen(random_ties):
    policy = learner("epsilon_greedy", 5, candidates=(1.0,), random_ties=random_ties)[1].policy
    for memory in (memory_of([0] * 5, [0] * 5), memory_of([9, 0, 0, 1, 0], [9, 9, 0, 2, 0])):
        assert stats.chisquare(acts(policy, memory, 30_000).bincount(minlength=5)).pvalue > 1e-3


def test_with_epsilon_0_3_seven_in_ten_pulls_are_greedy_and_the_others_anywhere():
    policy = learner("epsilon_greedy", 4, candidates=(0.3,))[1].policy
    counts = acts(policy, memory_of([0, 3, 0, 0], [0, 3, 0, 0]), 30_000).bincount(minlength=4)
    assert stats.chisquare(counts, [2250, 22_500 + 750, 2250, 2250]).pvalue > 1e-3


def test_exploration_reaches_every_arm_and_none_beyond_for_all_noise():
    policy = learner("epsilon_greedy", 7, candidates=(1.0,))[1].policy
    edge = float(torch.tensor(1.0).nextafter(torch.tensor(0.0)))
    for uniform, arm in ((0.0, 0), (edge, 6)):
        noise = torch.tensor([[[0.0, uniform]]])
        chosen = policy.act(in_use(), None, memory_of([0] * 7, [0] * 7), noise)[0]
        assert chosen.tolist() == [[[arm]]]


def test_thompson_pulls_an_arm_as_often_as_it_is_the_best():
    policy = learner("thompson", 2)[1].policy
    # P(X > U) = E[X] for a uniform U: 2/3 for Beta(2, 1), 1/5 for Beta(1, 4).
    for successes, pulls, chance in ((1, 1, 2 / 3), (0, 3, 1 / 5), (0, 0, 1 / 2)):
        first = int((acts(policy, memory_of([successes, 0], [pulls, 0]), 30_000) == 0).sum())
        assert stats.binomtest(first, 30_000, chance).pvalue > 1e-3


def test_thompson_draws_anew_for_every_arm_task_and_pull():
    suite, algorithm = learner("thompson", 50)
    rng = generator()
    noise = algorithm.policy.draw_noise(rng, 200, 2, 1)
    trajectories = rollout(suite, algorithm.policy, in_use(), {"mean": torch.zeros(200, 50)}, 2, rng, noise)
    first, second = trajectories.actions[:, :, 0, 0].unbind(1)
    assert min(len(set(first.tolist())), len(set(second.tolist()))) > 40
    assert int((first == second).sum()) < 20


def test_gittins_looks_its_index_up_and_asks_for_a_table_once():
    asked = []

    def table(discount, pulls, grid):
        asked.append((discount, pulls, grid))
        return torch.arange(pulls, dtype=torch.float64).unsqueeze(1) * 10 - torch.arange(pulls) * discount

    suite = SimpleNamespace(num_actions=3, gittins_table=table)
    policy = build(ALGORITHMS, "gittins", suite, candidates=(0.25, 0.5), table_pulls=9, table_grid=11).policy
    assert asked == []
    memory = memory_of([2, 3, 3], [3, 6, 4])
    assert index(policy, memory) == [20 - 0.25, 30 - 0.75, 30 - 0.25]
    assert index(policy, memory, 1) == [20 - 0.5, 30 - 1.5, 30 - 0.5]
    assert acts(policy, memory, 2).tolist() == [2, 2]
    assert asked == [(0.25, 9, 11), (0.5, 9, 11)]


def test_gittins_prefers_the_arm_of_which_less_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("METAREPRO_CACHE", str(tmp_path))
    policy = learner("gittins", 2, candidates=[0.9], table_pulls=40)[1].policy
    assert acts(policy, memory_of([9, 0], [18, 0]), 1).tolist() == [1]  # both means are 1/2
    assert acts(policy, memory_of([12, 0], [18, 0]), 1).tolist() == [1]  # 13/20 against an index of 0.703
    assert acts(policy, memory_of([15, 0], [18, 0]), 1).tolist() == [0]


class NoPolicy:
    sequential = True


@pytest.mark.parametrize(
    ("scores", "winner"),
    [
        ([1.0, 3.0, 2.0], 1),
        ([3.0, 3.0, 2.0], 0),
        ([1.0, 2.0, 2.0], 1),
        ([0.0, 0.0], 0),
        ([-5.0, -7.0, -4.0], 2),
        ([0.0], 0),
    ],
)
def test_the_search_tries_every_candidate_once_and_keeps_the_first_of_the_best(scores, winner):
    search = CandidateSearch(NoPolicy(), tuple(10.0 * number for number in range(len(scores))))
    state = search.init(generator())
    params, tried, each = state.params, [], [torch.tensor([score - 1.0, score + 1.0]) for score in scores]
    assert search.adaptation_rounds == len(scores) - 1
    for samples in each[:-1]:
        tried.append(params["candidate"].unique().tolist())
        params = search.adapt(params, samples)
        assert params["candidate"].shape == (2,)
    tried.append(params["candidate"].unique().tolist())
    assert tried == [[float(number)] for number in range(len(scores))]
    new, metrics = search.meta_update(state, MetaBatch(tuple(each[:-1]), params, each[-1]), 0)
    assert metrics == {"candidate": 10.0 * winner, "candidate_return": scores[winner]}
    assert int(new.params["candidate"]) == winner
    for one in (state, new):
        assert {(tensor.shape, tensor.dtype) for tensor in one.params.values()} == {((), torch.float32)}
        assert one.params["candidate"].isfinite()
        assert one.optimiser == one.slots == {}
    assert int(state.params["candidate"]) == 0


def spec_of(iterations, tasks, episodes, updates=1, protocols=("adapted",)):
    component = {"name": "any", "version": 1, "settings": {}}
    rule = {"rule": "inner", "updates": updates, "settings": {}}
    evaluation = {"seed": 1, "meta_test_tasks": tasks, "episodes_per_task": episodes, "shared_noise": False}
    budget = {"meta_iterations": iterations, "meta_batch_size": tasks, "episodes_per_task": episodes}
    return RunSpec.model_validate(
        {"suite": component, "algorithm": component, "seed": 0, "budget": budget}
        | {"evaluation": evaluation | {"protocols": dict.fromkeys(protocols, rule)}}
    )


def trained(suite, algorithm, spec):
    """The training after one meta-iteration, and its metrics."""
    streams = Streams(0)
    training = Training(algorithm.init(streams["init"]), streams)
    training.state, metrics = meta_iteration(suite, algorithm, spec, training, Clock())
    return training, metrics


def test_meta_training_of_a_search_keeps_the_candidate_with_the_highest_mean_return():
    # ε = 1 is uniform, ε = 0 greedy: half of the pulls pay, or 0.751; over 400 tasks a standard error of 0.01.
    for candidates, best in (((1.0, 0.0, 0.9), 1), ((0.0, 1.0), 0), ((1.0, 0.9, 0.8, 0.0), 3)):
        suite, algorithm = learner("epsilon_greedy", 5, candidates=candidates)
        training, metrics = trained(suite, algorithm, spec_of(1, 400, 100))
        assert int(training.state.params["candidate"]) == best
        assert metrics["candidate"] == 0.0
        assert metrics["candidate_return"] == pytest.approx(0.751, abs=0.04)
        if candidates[0] == 1.0:
            assert metrics["pre_update_return"] == pytest.approx(0.5, abs=0.03)
        assert training.environment_steps == len(candidates) * 400 * 100


def test_all_candidates_meet_the_same_tasks():
    suite, algorithm = learner("ucb1", 5, candidates=(0.1, 0.2, 0.3, 0.4))
    drawn = []

    def sample_tasks(count, rng):
        drawn.append(count)
        return type(suite).sample_tasks(suite, count, rng)

    suite.sample_tasks = sample_tasks
    trained(suite, algorithm, spec_of(1, 7, 3))
    assert drawn == [7]


def test_a_learner_with_nothing_to_choose_stays_as_it_is():
    algorithm = learner("thompson", 5)[1]
    assert algorithm.adaptation_rounds == 0
    rule = algorithm.rule(RULES["inner"]())
    start = {"candidate": torch.zeros(4)}
    assert rule.update(start, rule.init(start), None) == (start, {})


class Recorder:
    """A policy of given actions that keeps every experience, and notes how many it had at each step."""

    sequential = True

    def __init__(self, script=None) -> None:
        self.script, self.sizes, self.beginnings = script, [], 0

    def draw_noise(self, rng, tasks, episodes, horizon):
        return torch.rand(horizon, tasks, episodes, 1, generator=rng)

    def initial_memory(self, tasks: int, episodes: int) -> tuple[Experience, ...]:
        assert episodes == 1
        self.beginnings += 1
        return ()

    def act(self, params, observation: Tensor, memory, noise: Tensor):
        self.sizes.append(len(memory))
        return self.script(noise) if self.script else noise, memory

    def remember(self, memory, experience: Experience):
        return (*memory, experience)


def transitions(trajectories):
    """What the trajectories record, in the order in which a sequential policy lives through it."""
    _, episodes, horizon = trajectories.rewards.shape
    for episode, step in itertools.product(range(episodes), range(horizon)):
        now = slice(episode, episode + 1)
        following = trajectories.observations[:, now, step + 1] if step + 1 < horizon else None
        yield Experience(
            observation=trajectories.observations[:, now, step],
            action=trajectories.actions[:, now, step],
            reward=trajectories.rewards[:, now, step],
            next_observation=trajectories.final_observation[:, now] if following is None else following,
            valid=trajectories.valid[:, now, step],
        )


def three_arms(noise):
    return (noise * 3).long()


BANDITS = build(SUITES, "bandits", arms=3)
MDPS = build(SUITES, "tabular_mdp", states=4, actions=3, horizon=5)
NAVIGATION = build(SUITES, "navigation", horizon=12)
# A step of navigation below is about a tenth of the way to the goal: episodes end there, or pass it by.
GOALS = {"goal": torch.tensor([[0.15, 0.1], [-0.12, 0.3], [5.0, 0.0]])}


@pytest.mark.parametrize("suite", [BANDITS, MDPS, NAVIGATION], ids=["bandits", "tabular_mdp", "navigation"])
def test_a_policy_with_memory_sees_exactly_what_the_trajectories_record(suite):
    rng = generator()
    tasks = GOALS if suite is NAVIGATION else suite.sample_tasks(3, rng)
    policy = Recorder(None if suite is NAVIGATION else three_arms)
    noise = torch.rand(suite.horizon, 3, 4, 1, generator=rng)
    if suite is NAVIGATION:
        noise = (0.8 + 0.4 * noise) * tasks["goal"].unsqueeze(1)
    trajectories, memory = simulate(suite, policy, {}, tasks, 4, rng, noise)
    assert len(set(trajectories.lengths().flatten().tolist())) >= (3 if suite is NAVIGATION else 1)
    expected = list(transitions(trajectories))
    assert len(memory) == len(expected) == 4 * suite.horizon
    for seen, recorded in zip(memory, expected, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(seen, recorded, strict=True))
    assert policy.sizes == list(range(4 * suite.horizon))
    assert policy.beginnings == 1


def test_two_halves_with_the_memory_in_between_are_one_whole():
    suite, algorithm = learner("epsilon_greedy", 4, candidates=(0.0,))
    tasks = suite.sample_tasks(50, generator())
    noise = algorithm.policy.draw_noise(generator(1), 50, 20, 1)
    whole, end = simulate(suite, algorithm.policy, in_use(), tasks, 20, generator(2), noise)
    rng = generator(2)
    first, memory = simulate(suite, algorithm.policy, in_use(), tasks, 8, rng, noise[:, :, :8])
    second, last = simulate(suite, algorithm.policy, in_use(), tasks, 12, rng, noise[:, :, 8:], memory)
    assert torch.equal(torch.cat([first.actions, second.actions], 1), whole.actions)
    assert torch.equal(torch.cat([first.rewards, second.rewards], 1), whole.rewards)
    assert all(torch.equal(last[name], end[name]) for name in end)
    assert end["pulls"].sum(-1).unique().tolist() == [20]
    forgetful = simulate(suite, algorithm.policy, in_use(), tasks, 12, generator(3), noise[:, :, 8:])[0]
    assert set(forgetful.actions[:, 0].flatten().tolist()) == {0} != set(second.actions[:, 0].flatten().tolist())


def test_the_meta_test_carries_the_memory_from_block_to_block_and_starts_every_protocol_without():
    suite, policy = MDPS, Recorder(three_arms)
    evaluation = spec_of(0, 3, 4, updates=2, protocols=("one", "two")).evaluation
    measured = evaluate(suite, CandidateSearch(policy), {"last": in_use()}, evaluation, RULES)
    assert [one.returns.shape for one in measured] == [(3, 3, 4)] * 2
    assert policy.sizes == 2 * list(range(3 * 4 * suite.horizon))
    assert policy.beginnings == 2
    assert torch.equal(measured[0].returns, measured[1].returns)


def test_the_blocks_of_a_meta_test_go_on_learning():
    suite, algorithm = learner("ucb1", 5, candidates=(0.2,))
    (measured,) = evaluate(suite, algorithm, {"last": in_use()}, spec_of(0, 2000, 10, updates=3).evaluation, RULES)
    blocks = measured.returns.mean((1, 2)).tolist()
    # Rewards per pull of pulls 1-10, 11-20, ...: 0.666 while nothing is known yet, and towards 5/6 later.
    assert blocks[0] == pytest.approx(0.666, abs=0.02)
    assert blocks[1] > blocks[0] + 0.05
    assert blocks[3] > blocks[1] + 0.01


def test_every_candidate_starts_without_memory():
    policy, search_over = Recorder(three_arms), (0.0, 1.0, 2.0)
    trained(MDPS, CandidateSearch(policy, search_over), spec_of(1, 3, 4))
    assert policy.sizes == 3 * list(range(4 * MDPS.horizon))
    assert policy.beginnings == 3

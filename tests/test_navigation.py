"""2D navigation: reference values, one hand-computed step at a time, and batches that equal loops."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.api import Trajectories
from harness.rollout import rollout


class Scripted:
    """Steps of ``mean(observation)`` plus Gaussian noise, both in units of the plane."""

    sequential = False

    def __init__(self, towards_goal: bool, noise: float) -> None:
        self.towards_goal, self.noise = towards_goal, noise

    def initial_memory(self, tasks: int, episodes: int) -> None:
        return None

    def act(self, params: Any, observation: Tensor, memory: None, noise: Tensor) -> tuple[Tensor, None]:
        step = self.noise * noise
        if self.towards_goal:
            step = step + (observation[..., 2:] - observation[..., :2]).clamp(-0.1, 0.1)
        return step / 0.1, memory


REPLAY = SimpleNamespace(
    sequential=False, initial_memory=lambda *sizes: None, act=lambda params, seen, memory, noise: (noise, None)
)
"""A policy whose actions are the noise that it is given."""

CORNER = {"goal": torch.tensor([[0.3, -0.4]])}


def mean_and_error(make_suite, policy, goals, terminate=True, episodes=8) -> tuple[float, float]:
    """Mean return and its standard error over tasks."""
    suite = make_suite(observe_goal=True, terminate_at_goal=terminate)
    rng = torch.Generator().manual_seed(1)
    tasks = suite.sample_tasks(goals, rng) if isinstance(goals, int) else goals
    count = tasks["goal"].shape[0]
    noise = torch.randn(suite.horizon, count, episodes, 2, generator=rng)
    returns = rollout(suite, policy, {}, tasks, episodes, rng, noise).episode_returns().double().mean(1)
    return float(returns.mean()), float(returns.std()) / count**0.5


def replay(suite, tasks, actions) -> Trajectories:
    """Trajectories of given actions [horizon, tasks, episodes, 2]."""
    return rollout(suite, REPLAY, {}, tasks, actions.shape[2], torch.Generator(), actions)


def published_goals(make_suite, skip=0):
    suite = make_suite(test_goals={"source": "numpy", "seed": 1, "skip": skip})
    return suite.meta_test_tasks(40, torch.Generator())


@pytest.mark.parametrize(
    ("towards_goal", "noise", "terminate", "fact"),
    [
        (True, 0.05, True, -2.55),
        (True, 0.05, False, -6.21),
        (True, 0.1, True, -6.70),
        (True, 0.1, False, -10.22),
        (True, 1.0, True, -62.0),
        (True, 1.0, False, -62.8),
        (False, 0.02, True, -41.6),
        (False, 0.1, True, -71.1),
        (False, 1.0, True, -90.4),
    ],
)
def test_noisy_policies_reach_their_reference_return(make_suite, towards_goal, noise, terminate, fact):
    mean, error = mean_and_error(make_suite, Scripted(towards_goal, noise), 400, terminate)
    tolerance = 3 * error + 0.02
    assert abs(mean - fact) < tolerance < 0.06 * abs(fact)


@pytest.mark.parametrize("terminate", [True, False])
def test_deterministic_optimum_is_minus_0_506_on_random_goals(make_suite, terminate):
    mean, error = mean_and_error(make_suite, Scripted(True, 0.0), 20_000, terminate, episodes=1)
    assert abs(mean + 0.506) < 3 * error < 0.01


def test_standing_still_costs_38_26_on_random_goals(make_suite):
    mean, error = mean_and_error(make_suite, Scripted(False, 0.0), 20_000, episodes=1)
    assert abs(mean + 38.26) < 3 * error < 0.4


def test_on_the_published_goals_the_optimum_is_minus_0_544_and_standing_still_minus_40_08(make_suite):
    goals = published_goals(make_suite)
    assert mean_and_error(make_suite, Scripted(True, 0.0), goals)[0] == pytest.approx(-0.544, abs=5e-4)
    assert mean_and_error(make_suite, Scripted(False, 0.0), goals)[0] == pytest.approx(-40.08, abs=5e-3)
    assert float(make_suite().references(goals, 1)["optimal_return"].mean()) == pytest.approx(-0.544, abs=5e-4)


def test_the_released_codes_goals_are_the_published_ones_one_draw_later(make_suite):
    goals, later = published_goals(make_suite)["goal"], published_goals(make_suite, skip=1)["goal"]
    assert torch.equal(later[:39], goals[1:])
    # First two numbers of RandomState(1).random_sample: 0.417022004702574, 0.7203244934421581.
    torch.testing.assert_close(goals[0], torch.tensor([-0.082977995, 0.220324493]), rtol=0, atol=1e-8)


@pytest.mark.parametrize("terminate", [True, False])
def test_optimal_return_is_what_the_best_policy_gets_task_by_task(make_suite, terminate):
    suite = make_suite(observe_goal=True, terminate_at_goal=terminate)
    tasks = suite.sample_tasks(200, torch.Generator().manual_seed(3))
    returns = rollout(suite, Scripted(True, 0.0), {}, tasks, 1, torch.Generator(), torch.zeros(100, 200, 1, 2))
    expected = suite.references(tasks, 1)["optimal_return"].float()
    torch.testing.assert_close(returns.episode_returns()[:, 0], expected, rtol=0, atol=2e-6)


def test_goals_fill_the_square_and_no_more(make_suite):
    goals = make_suite(goal_range=0.5).sample_tasks(20_000, torch.Generator().manual_seed(0))["goal"]
    assert -0.5 <= float(goals.min()) < -0.499
    assert 0.499 < float(goals.max()) <= 0.5
    # SD of U(-0.5, 0.5) is sqrt(1/12) = 0.288675.
    torch.testing.assert_close(goals.std(0), torch.full((2,), 0.288675), rtol=0, atol=0.005)


def test_reward_is_minus_the_distance_after_the_move(make_suite):
    suite = make_suite()
    position, observation = suite.reset(CORNER, 1, torch.Generator())
    assert observation.tolist() == [[[0.0, 0.0]]]
    moved = suite.step(CORNER, position, torch.zeros(1, 1, 2), torch.Generator())
    assert float(moved.reward) == pytest.approx(-0.5)  # 3-4-5 triangle
    # Two half steps along x and one full step along -y leave (0.2, -0.3).
    position = torch.tensor([[[0.05, 0.0]]])
    moved = suite.step(CORNER, position, torch.tensor([[[0.5, -1.0]]]), torch.Generator())
    torch.testing.assert_close(moved.observation, torch.tensor([[[0.1, -0.1]]]))
    assert float(moved.reward) == pytest.approx(-(0.13**0.5))


def test_actions_are_scaled_then_clipped(make_suite):
    suite = make_suite()
    position = torch.zeros(1, 4, 2)
    action = torch.tensor([[[0.99, -0.5], [1.0, -1.0], [1.01, -1.5], [1e6, -1e6]]])
    moved = suite.step(CORNER, position, action, torch.Generator()).observation
    expected = torch.tensor([[[0.099, -0.05], [0.1, -0.1], [0.1, -0.1], [0.1, -0.1]]])
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-8)


def test_an_episode_ends_strictly_inside_the_tolerance_in_both_coordinates(make_suite):
    tasks = {"goal": torch.zeros(1, 2)}
    inside, edge = 0.0099, float(torch.tensor(0.01))
    position = torch.tensor([[[inside, inside], [-inside, inside], [inside, edge], [-edge, 0.0], [0.02, 0.0]]])
    still = torch.zeros(1, 5, 2)
    ended = make_suite().step(tasks, position, still, torch.Generator()).terminated
    assert ended.tolist() == [[True, True, False, False, False]]
    never = make_suite(terminate_at_goal=False).step(tasks, position, still, torch.Generator()).terminated
    assert not never.any()


def test_the_oracle_sees_position_and_goal(make_suite):
    suite = make_suite(observe_goal=True)
    assert (suite.observation_dim, make_suite().observation_dim) == (4, 2)
    position, observation = suite.reset(CORNER, 2, torch.Generator())
    torch.testing.assert_close(observation, torch.tensor([[[0.0, 0.0, 0.3, -0.4]] * 2]))
    moved = suite.step(CORNER, position, torch.ones(1, 2, 2), torch.Generator()).observation
    torch.testing.assert_close(moved, torch.tensor([[[0.1, 0.1, 0.3, -0.4]] * 2]))


def numpy_episode(goal, actions, terminate):
    """Observations, rewards and ends of one episode, as the published environment is described."""
    position, observations, rewards = np.zeros(2), [], []
    for action in actions:
        observations.append(position)
        position = position + np.clip(0.1 * action, -0.1, 0.1)
        rewards.append(-np.sqrt(np.sum((position - goal) ** 2)))
        if terminate and abs(position[0] - goal[0]) < 0.01 and abs(position[1] - goal[1]) < 0.01:
            break
    return np.array(observations), np.array(rewards)


@pytest.mark.parametrize("terminate", [True, False])
def test_every_step_equals_a_numpy_reference(make_suite, terminate):
    suite = make_suite(terminate_at_goal=terminate, horizon=60)
    rng = torch.Generator().manual_seed(5)
    tasks = suite.sample_tasks(6, rng)
    drift = tasks["goal"].view(1, 6, 1, 2) / suite.horizon * 30
    actions = drift + 0.7 * torch.randn(60, 6, 5, 2, generator=rng)
    trajectories = replay(suite, tasks, actions)
    lengths = trajectories.lengths()
    assert bool((lengths < 60).any()) is terminate
    for task, goal in enumerate(tasks["goal"].double().numpy()):
        for episode in range(5):
            plain = numpy_episode(goal, actions[:, task, episode].double().numpy(), terminate)
            length = int(lengths[task, episode])
            assert length == len(plain[1])
            assert trajectories.valid[task, episode].tolist() == [step < length for step in range(60)]
            seen = trajectories.observations[task, episode, :length].double().numpy()
            np.testing.assert_allclose(seen, plain[0], rtol=0, atol=2e-6)
            np.testing.assert_allclose(trajectories.rewards[task, episode, :length], plain[1], rtol=0, atol=2e-6)
            assert not trajectories.rewards[task, episode, length:].any()


def test_permuting_the_tasks_permutes_the_trajectories(make_suite):
    suite = make_suite(observe_goal=True)
    rng = torch.Generator().manual_seed(2)
    tasks, noise = suite.sample_tasks(5, rng), torch.randn(100, 5, 3, 2, generator=rng)
    order = torch.tensor([3, 0, 4, 1, 2])
    policy = Scripted(True, 0.1)
    straight = rollout(suite, policy, {}, tasks, 3, rng, noise)
    permuted = rollout(suite, policy, {}, {"goal": tasks["goal"][order]}, 3, rng, noise[:, order])
    for before, after in zip(straight, permuted, strict=True):
        assert torch.equal(before[order], after)


def test_a_batch_equals_its_episodes_one_by_one(make_suite):
    suite = make_suite(observe_goal=True)
    rng = torch.Generator().manual_seed(4)
    tasks, noise = suite.sample_tasks(4, rng), torch.randn(100, 4, 3, 2, generator=rng)
    batch = rollout(suite, Scripted(True, 0.1), {}, tasks, 3, rng, noise)
    assert bool((batch.lengths() < 100).any())
    for task in range(4):
        for episode in range(3):
            one = {"goal": tasks["goal"][task : task + 1]}
            own_noise = noise[:, task : task + 1, episode : episode + 1]
            alone = rollout(suite, Scripted(True, 0.1), {}, one, 1, rng, own_noise)
            for of_batch, of_one in zip(batch, alone, strict=True):
                assert torch.equal(of_batch[task, episode], of_one[0, 0])


def test_noise_with_one_task_is_shared_by_all_tasks(make_suite):
    suite = make_suite(observe_goal=True)
    rng = torch.Generator().manual_seed(4)
    tasks, noise = suite.sample_tasks(4, rng), torch.randn(100, 1, 3, 2, generator=rng)
    shared = rollout(suite, Scripted(True, 0.1), {}, tasks, 3, rng, noise)
    repeated = rollout(suite, Scripted(True, 0.1), {}, tasks, 3, rng, noise.expand(100, 4, 3, 2))
    assert all(torch.equal(one, other) for one, other in zip(shared, repeated, strict=True))

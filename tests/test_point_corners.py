"""Point-mass corner tasks: single steps by hand, batches that equal loops, measures of hand-made paths, optima."""

import math
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from pydantic import ValidationError

import suites.gymnasium_envs  # noqa: F401  (registers the environments)
from harness.api import Trajectories
from harness.rollout import rollout
from suites.point_corners import CORNERS, SUITE

REPLAY = SimpleNamespace(
    sequential=False, initial_memory=lambda *sizes: None, act=lambda params, seen, memory, noise: (noise, None)
)
"""A policy whose actions are the noise that it is given."""
HERE = {"goal": torch.tensor([[2.0, 2.0]])}
EVERY = [(dynamics, reward) for dynamics in ("momentum", "position") for reward in ("sparse", "dense", "dense_squared")]
EVERY += [("momentum", "goal_radius"), ("position", "goal_radius")]


def build(**settings):
    return SUITE.load()(SUITE.settings.model_validate(settings))


def one_step(suite, state, action, tasks=HERE):
    """State and reward after one action of one episode."""
    moved = suite.step(tasks, torch.tensor([[state]]), torch.tensor([[action]]), torch.Generator())
    assert not moved.terminated.any()
    assert torch.equal(moved.state, moved.observation)
    return moved.observation[0, 0].tolist(), float(moved.reward)


def visits(*episodes):
    """Trajectories of one task from the states of its episodes, the last of which is the final one."""
    states = torch.tensor([episodes])
    empty = torch.zeros(states[..., :-1, 0].shape)
    return Trajectories(states[:, :, :-1], states[:, :, :-1, :2], empty, empty == 0.0, states[:, :, -1])


def test_momentum_adds_the_action_to_the_velocity_and_the_velocity_to_the_position():
    suite = build()
    state, _ = one_step(suite, [0.1, -0.2, 0.05, 0.0], [5.0, -10.0])  # 0.05 and -0.1 of velocity
    assert state == pytest.approx([0.2, -0.3, 0.1, -0.1])
    state, _ = one_step(suite, state, [0.0, 1.0])
    assert state == pytest.approx([0.3, -0.39, 0.1, -0.09])


def test_position_adds_the_action_to_the_position():
    assert one_step(build(dynamics="position"), [0.1, -0.2], [5.0, -1.0])[0] == pytest.approx([0.2, -0.22])


@pytest.mark.parametrize(("dynamics", "box"), [("momentum", 0.1), ("position", 0.2)])
@pytest.mark.parametrize("policy_range", [10.0, 1.0, 4.0])
def test_policy_range_covers_the_box_and_actions_beyond_are_clipped(dynamics, box, policy_range):
    suite = build(dynamics=dynamics, policy_range=policy_range)
    for action, moved in ((1.0, 1.0), (0.5, 0.5), (0.1, 0.1), (-1.0, -1.0), (1.01, 1.0), (-1e6, -1.0)):
        state, _ = one_step(suite, [0.0] * suite.observation_dim, [action * policy_range, 0.0])
        assert state[:2] == pytest.approx([moved * box, 0.0])


@pytest.mark.parametrize(
    ("settings", "place", "paid"),
    [
        ({"reward": "goal_radius", "goal_radius": 1.5}, [1.4, 1.2], 0.5),
        ({"reward": "goal_radius"}, [2.0, 1.75], 0.75),
        ({"reward": "goal_radius"}, [1.2, 1.3], 0.0),  # 1.06 away
        ({"reward": "dense"}, [1.4, 1.2], -1.0),
        ({"reward": "dense"}, [0.8, 0.4], -2.0),
        ({"reward": "dense_squared"}, [0.8, 0.4], -4.0),
    ],
)
@pytest.mark.parametrize("dynamics", ["momentum", "position"])
def test_rewards_of_the_distance_are_the_same_in_both_dynamics(dynamics, settings, place, paid):
    suite = build(dynamics=dynamics, **settings)
    still = [0.0] * (suite.observation_dim - 2)
    assert one_step(suite, place + still, [0.0, 0.0])[1] == pytest.approx(paid, abs=1e-6)


@pytest.mark.parametrize(("place", "paid"), [([2.0, 2.0], 2.0), ([1.4, 1.2], 1.0), ([0.5, 0.5], 0.0)])
def test_the_momentum_environment_pays_2_for_hovering_and_nothing_from_2_on(place, paid):
    assert one_step(build(), [*place, 0.0, 0.0], [0.0, 0.0])[1] == pytest.approx(paid, abs=1e-6)


@pytest.mark.parametrize(
    ("old", "action", "paid"),
    [
        ([1.0, 2.0], [10.0, 0.0], 0.2),  # 1.0 -> 0.8
        ([1.0, 2.0], [-5.0, 0.0], -0.1),  # 1.0 -> 1.1: walking away costs
        ([0.2, 0.0], [10.0, 0.0], 0.0),  # |0.4| + |0| < 0.5
        ([0.1, 0.2], [5.0, 4.5], 0.0),  # |0.2| + |0.29| < 0.5, though 0.35 from the origin
        ([0.1, 0.1], [10.0, 10.0], 0.2 * math.sqrt(2.0)),  # out of the diamond along the diagonal: all of it is paid
        ([0.0, 2.0], [-10.0, 0.0], 0.0),  # into a neighbour's quarter: free ...
        ([-0.25, 2.0], [15.0, 0.0], 0.0),  # ... there nothing is paid ...
        ([-0.125, 2.0], [10.0, 0.0], 0.2),  # ... and the way back is, from 2.125 to 1.925
        ([-0.125, 2.0], [6.25, 0.0], 0.125),  # on the border both corners are nearest
        ([-2.0, -1.0], [10.0, 10.0], 0.0),  # far away
    ],
)
def test_the_progress_reward_by_hand(old, action, paid):
    assert one_step(build(dynamics="position"), old, action)[1] == pytest.approx(paid, abs=1e-6)


def test_progress_is_paid_in_the_own_quarter_of_every_corner():
    tasks = {"goal": torch.tensor(CORNERS)}
    old = tasks["goal"].unsqueeze(1) * torch.tensor([0.5])
    action = tasks["goal"].unsqueeze(1) * 5.0
    suite = build(dynamics="position")
    paid = suite.step(tasks, old, action, torch.Generator()).reward
    torch.testing.assert_close(paid, torch.full((4, 1), 0.2 * math.sqrt(2.0)))
    swapped = {"goal": tasks["goal"][[1, 2, 3, 0]]}
    assert not suite.step(swapped, old, action, torch.Generator()).reward.any()


def numpy_episode(dynamics, reward, goal, state, actions):
    """States and rewards of one episode, one step at a time, as the released environments are described."""
    position, velocity = np.array(state[:2]), np.array(state[2:])
    states, rewards = [np.array(state)], []
    for action in actions:
        old = position
        if dynamics == "momentum":
            velocity = velocity + np.clip(0.01 * action, -0.1, 0.1)
            position = position + velocity
        else:
            position = position + np.clip(0.02 * action, -0.2, 0.2)
        away = [np.sqrt(np.sum((position - np.array(corner)) ** 2)) for corner in (*CORNERS, goal)]
        if reward == "dense":
            paid = -away[4]
        elif reward == "dense_squared":
            paid = -(away[4] ** 2)
        elif reward == "goal_radius":
            paid = max(1.0 - away[4], 0.0)
        elif dynamics == "momentum":
            paid = max(2.0 - away[4], 0.0)
        else:
            outside, own = np.sum(np.abs(position)) >= 0.5, away[4] == min(away)
            paid = np.sqrt(np.sum((old - goal) ** 2)) - away[4] if outside and own else 0.0
        states.append(np.concatenate([position, velocity]))
        rewards.append(paid)
    return np.array(states), np.array(rewards)


@pytest.mark.parametrize(("dynamics", "reward"), EVERY)
def test_every_step_equals_a_numpy_reference(dynamics, reward):
    suite = build(dynamics=dynamics, reward=reward, horizon=40)
    rng = torch.Generator().manual_seed(3)
    tasks = suite.meta_test_tasks(8, rng)
    towards = tasks["goal"].view(1, 8, 1, 2) * (0.4 if dynamics == "momentum" else 1.5)
    actions = towards + 6.0 * torch.randn(40, 8, 5, 2, generator=rng)
    trajectories = rollout(suite, REPLAY, {}, tasks, 5, rng, actions)
    assert trajectories.valid.all()
    assert trajectories.rewards.ne(0.0).float().mean() > 0.02
    seen = torch.cat([trajectories.observations, trajectories.final_observation.unsqueeze(2)], dim=2).double().numpy()
    for task, goal in enumerate(tasks["goal"].double().numpy()):
        for episode in range(5):
            plain = numpy_episode(
                dynamics, reward, goal, seen[task, episode, 0], actions[:, task, episode].double().numpy()
            )
            np.testing.assert_allclose(seen[task, episode], plain[0], rtol=0, atol=2e-5)
            np.testing.assert_allclose(trajectories.rewards[task, episode], plain[1], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("dynamics", "bounds"), [("momentum", [0.2, 0.2, 0.1, 0.1]), ("position", [0.2, 0.2])])
def test_starts_fill_their_box_and_no_more(dynamics, bounds):
    suite = build(dynamics=dynamics)
    state, observation = suite.reset({"goal": torch.zeros(10, 2)}, 2000, torch.Generator().manual_seed(0))
    assert torch.equal(state, observation)
    low, high = observation.flatten(0, 1).aminmax(dim=0)
    for ends in (-low, high):
        assert (ends <= torch.tensor(bounds)).all()
        assert (ends > 0.999 * torch.tensor(bounds)).all()
    # The SD of a uniform draw is its bound / √3.
    torch.testing.assert_close(observation.flatten(0, 1).std(0), torch.tensor(bounds) / 3**0.5, rtol=0.02, atol=0)


def test_every_corner_is_drawn_with_the_same_probability_and_the_meta_test_has_them_in_turn():
    goals = build().sample_tasks(40_000, torch.Generator().manual_seed(0))["goal"]
    for corner in ([-2.0, -2.0], [2.0, -2.0], [-2.0, 2.0], [2.0, 2.0]):
        share = float((goals == torch.tensor(corner)).all(-1).float().mean())
        assert share == pytest.approx(0.25, abs=3 * (0.25 * 0.75 / 40_000) ** 0.5)
    tested = build().meta_test_tasks(6, torch.Generator())["goal"].tolist()
    assert tested == [[-2.0, -2.0], [2.0, -2.0], [-2.0, 2.0], [2.0, 2.0], [-2.0, -2.0], [2.0, -2.0]]


def unit_gaussian(dynamics):
    """Returns per episode and trajectories of actions with mean 0 and SD 1."""
    suite, rng = build(dynamics=dynamics), torch.Generator().manual_seed(1)
    tasks = suite.meta_test_tasks(40, rng)
    trajectories = rollout(suite, REPLAY, {}, tasks, 50, rng, torch.randn(100, 40, 50, 2, generator=rng))
    return suite, trajectories


def test_a_unit_gaussian_hardly_leaves_the_diamond_in_the_position_dynamics():
    suite, trajectories = unit_gaussian("position")
    # Variance of the end per axis: of the start, 0.04 / 3, and of 100 steps of 0.02, 0.04.
    ends = suite.paths(trajectories)[:, :, -1]
    assert float(ends.std()) == pytest.approx((0.04 / 3 + 0.04) ** 0.5, rel=0.05)
    assert float(trajectories.rewards.ne(0.0).float().mean()) < 0.06
    assert abs(float(trajectories.episode_returns().mean())) < 0.1


def test_a_unit_gaussian_is_paid_in_the_momentum_dynamics_as_the_start_already_moves():
    suite, trajectories = unit_gaussian("momentum")
    ends = suite.paths(trajectories)[:, :, -1]
    # 100 steps of the starting velocity, and a random walk of velocity: 0.01² Σ k² over k = 1 ... 100.
    assert float(ends.std()) == pytest.approx((0.04 / 3 + 100**2 * 0.01 / 3 + 1e-4 * 338_350) ** 0.5, rel=0.05)
    assert float(trajectories.episode_returns().mean()) > 5.0


def test_measures_of_hand_made_paths():
    tasks = {"goal": torch.tensor([[2.0, 2.0]])}
    still = [0.0, 0.0]
    first = [
        [0.0, 0.0, *still],
        [-1.6, -1.9, *still],
        [2.0, 1.5, *still],
    ]  # 0.41 from the corner (-2, -2); ends 0.5 off
    second = [[0.0, 0.0, *still], [0.8, -2.0, *still], [1.9, 2.0, *still]]  # 1.2 from the corner (2, -2); ends 0.1 off
    suite = build(horizon=2)
    trajectories = visits(first, second)
    assert suite.paths(trajectories).tolist() == torch.tensor([first, second])[None, ..., :2].tolist()
    known = {name: value.tolist() for name, value in suite.measures(tasks, trajectories).items()}
    assert known.pop("final_distance") == pytest.approx([0.3])
    assert known == {"solved": [1.0], "corner_regions": [2.0], "reward_regions": [3.0]}
    elsewhere = suite.measures({"goal": torch.tensor([[2.0, -2.0]])}, trajectories)
    assert float(elsewhere["final_distance"]) == pytest.approx((3.5 + math.hypot(0.1, 4.0)) / 2)
    assert float(elsewhere["solved"]) == 0.0
    small = build(horizon=2, reward="goal_radius", goal_radius=0.45).measures(tasks, trajectories)
    assert float(small["reward_regions"]) == 2.0
    assert "reward_regions" not in build(horizon=2, reward="dense").measures(tasks, trajectories)


def test_reward_regions_of_the_progress_reward_are_quarters_outside_the_diamond():
    suite = build(dynamics="position", horizon=2)

    def count(*places):
        return float(suite.measures(HERE, visits([[0.0, 0.0], *places]))["reward_regions"])

    assert count([0.2, 0.2], [-0.2, -0.25]) == 0.0
    assert count([0.3, 0.3], [0.2, 0.25]) == 1.0
    assert count([0.3, 0.3], [-0.3, 0.3]) == 2.0
    assert count([0.0, 0.6], [0.0, 0.0]) == 2.0  # on an axis two corners are nearest


def test_measures_count_a_region_once_for_all_episodes_of_a_task_and_tasks_apart():
    states = torch.zeros(2, 2, 3, 4)
    states[0, :, 1, :2] = torch.tensor([-2.0, 2.0])
    trajectories = Trajectories(states[:, :, :-1], *[torch.zeros(2, 2, 2)] * 3, states[:, :, -1])
    known = build(horizon=2).measures({"goal": torch.tensor(CORNERS[:2])}, trajectories)
    assert known["corner_regions"].tolist() == [1.0, 0.0]
    assert {value.dtype for value in known.values()} == {torch.float64}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"goal_radius": 0.5}, "goal_radius belongs to the reward goal_radius and has no meaning with sparse"),
        ({"reward": "dense", "goal_radius": 2.0}, "has no meaning with dense"),
        ({"reward": "goal_radius", "goal_radius": 0.0}, "greater than 0"),
        ({"policy_range": 0.0}, "greater than 0"),
        ({"dynamics": "velocity"}, "'momentum' or 'position'"),
        ({"reward": "progress"}, "'sparse', 'goal_radius', 'dense' or 'dense_squared'"),
        ({"horizon": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_without_meaning_are_refused_in_one_line(settings, complaint):
    with pytest.raises(ValidationError, match=complaint) as refused:
        SUITE.settings.model_validate(settings)
    (fault,) = refused.value.errors()
    assert "\n" not in fault["msg"]


def test_the_gymnasium_environment_takes_actions_in_the_policy_range():
    for settings, bound in (({}, 10.0), ({"policy_range": 2.0}, 2.0)):
        env = gymnasium.make("metarepro/PointCorners-v0", **settings)
        assert (env.action_space.low.tolist(), env.action_space.high.tolist()) == ([-bound] * 2, [bound] * 2)

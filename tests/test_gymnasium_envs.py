"""The registered gymnasium environments run the very dynamics that the harness simulates."""

import warnings
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import suites.gymnasium_envs as registered
from harness.rollout import rollout
from suites import SUITES

NAME = "metarepro/Navigation2D-v0"
REPLAY = SimpleNamespace(
    sequential=False, initial_memory=lambda *sizes: None, act=lambda params, seen, memory, noise: (noise, None)
)
"""A policy whose actions are the noise that it is given."""


def make_vector(copies, **settings):
    return gymnasium.make_vec(NAME, num_envs=copies, vectorization_mode="vector_entry_point", **settings)


def actions_with_ends(goals, steps, seed=0):
    """[steps, copies, 2]: noise around a drift that reaches the goal after 10 steps; every other copy is too noisy."""
    noise = np.random.default_rng(seed).normal(0.0, 1.0, (steps, len(goals), 2))
    noise *= np.where(np.arange(len(goals)) % 2, 1.0, 0.03)[:, None]
    return (noise + goals).astype(np.float32)


def test_every_suite_has_an_environment():
    assert set(registered.ENVIRONMENTS.values()) == set(SUITES)


@pytest.mark.parametrize("name", sorted(registered.ENVIRONMENTS))
@pytest.mark.filterwarnings("error")
def test_check_env_passes_with_no_warning_but_those_of_unbounded_observations_and_of_actions_beyond_1(name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(gymnasium.make(name).unwrapped)
    env = gymnasium.make(name)
    wide = isinstance(env.action_space, gymnasium.spaces.Box) and bool((env.action_space.high > 1.0).any())
    known = ("infinity", "normalized space") if wide else ("infinity",)
    unexpected = [str(one.message) for one in caught if not any(part in str(one.message) for part in known)]
    assert unexpected == []


def test_single_environment_equals_the_harness_bit_for_bit():
    env = gymnasium.make(NAME, horizon=40)
    suite = env.unwrapped._suite
    rng = torch.Generator().manual_seed(1)
    tasks = suite.sample_tasks(12, rng)
    actions = torch.from_numpy(actions_with_ends(tasks["goal"].numpy(), 40)).unsqueeze(2)
    trajectories = rollout(suite, REPLAY, {}, tasks, 1, rng, actions)
    lengths = trajectories.lengths()[:, 0].tolist()
    assert min(lengths) < 40 == max(lengths)
    for task, length in enumerate(lengths):
        observation, _ = env.reset(options={"task": {"goal": tasks["goal"][task].numpy()}})
        for step in range(length):
            assert observation.tolist() == trajectories.observations[task, 0, step].tolist()
            observation, reward, terminated, truncated, _ = env.step(actions[step, task, 0].numpy())
            assert reward == float(trajectories.rewards[task, 0, step])
            assert (terminated or truncated) == (step == length - 1)
        assert truncated == (not terminated)
        assert terminated or observation.tolist() == trajectories.final_observation[task, 0].tolist()


def test_vector_environment_equals_single_ones_bit_for_bit_through_ends_and_resets():
    copies, steps = 4, 130
    vector = make_vector(copies, horizon=30)
    singles = [gymnasium.make(NAME, horizon=30) for _ in range(copies)]
    seen, _ = vector.reset(seed=5)
    assert seen.tolist() == [one.reset(seed=5 + index)[0].tolist() for index, one in enumerate(singles)]
    goals = vector.unwrapped._tasks["goal"].numpy()
    ended, kinds = [False] * copies, set()
    for batch in actions_with_ends(goals, steps):
        outcome = vector.step(batch)
        for index, one in enumerate(singles):
            if ended[index]:  # the next step after an end is a reset: no reward, no end
                plain = (one.reset()[0], 0.0, False, False)
                kinds.add("reset")
            else:
                plain = one.step(batch[index])[:4]
            assert plain[0].tolist() == outcome[0][index].tolist()
            assert plain[1:] == tuple(outcome[part][index] for part in (1, 2, 3))
            kinds |= {("terminated", "truncated")[part - 2] for part in (2, 3) if plain[part]}
            ended[index] = plain[2] or plain[3]
    assert kinds == {"terminated", "truncated", "reset"}


def test_reaching_the_goal_at_the_last_step_is_a_termination_and_no_truncation():
    env = gymnasium.make(NAME, horizon=2)
    env.reset(options={"task": {"goal": np.array([0.2, 0.0])}})
    env.step(np.array([1.0, 0.0], np.float32))
    assert env.step(np.array([1.0, 0.0], np.float32))[2:4] == (True, False)
    env.reset()
    env.step(np.array([1.0, 0.0], np.float32))
    assert env.step(np.array([0.5, 0.0], np.float32))[2:4] == (False, True)


def goal_seen(env, **reset):
    return env.reset(**reset)[0][..., 2:].tolist()


def test_a_task_is_kept_by_plain_resets_redrawn_by_a_seed_and_set_by_an_option():
    env = gymnasium.make(NAME, observe_goal=True)
    first = goal_seen(env, seed=3)
    assert goal_seen(env) == goal_seen(env) == first
    assert goal_seen(env, seed=4) != first
    assert goal_seen(env, seed=3) == first
    assert goal_seen(env, options={"task": {"goal": np.array([0.25, -0.5])}}) == [0.25, -0.5]
    assert goal_seen(env) == [0.25, -0.5]
    assert goal_seen(env, options={}) == [0.25, -0.5]


def test_vector_tasks_are_kept_redrawn_and_set_in_the_same_way():
    env = make_vector(2, observe_goal=True)
    first = goal_seen(env, seed=3)
    assert first[0] != first[1]
    assert goal_seen(env) == first
    assert goal_seen(env, seed=[8, 9]) != first
    goals = [[0.25, -0.5], [0.0, 0.125]]
    assert goal_seen(env, options={"tasks": {"goal": np.array(goals)}}) == goals
    assert goal_seen(env) == goals


@pytest.mark.parametrize(
    ("task", "complaint"),
    [
        ({"gaol": [0.1, 0.1]}, "goal"),
        ({"goal": [0.1, 0.1], "wind": 1.0}, "wind"),
        ({"goal": [0.1, 0.1, 0.1]}, r"goal must have shape \(2,\), found \(3,\)"),
        ({"goal": 0.1}, r"goal must have shape \(2,\), found \(\)"),
        ([0.1, 0.1], "dictionary with the keys"),
    ],
)
def test_a_wrong_task_is_a_value_error_that_names_what_was_expected(task, complaint):
    with pytest.raises(ValueError, match=complaint):
        gymnasium.make(NAME).reset(options={"task": task})


def test_wrong_vector_tasks_are_a_value_error_that_names_the_shape():
    with pytest.raises(ValueError, match=r"goal must have shape \(3, 2\), found \(2, 2\)"):
        make_vector(3).reset(options={"tasks": {"goal": np.zeros((2, 2))}})


def test_stepping_before_the_first_reset_is_an_error():
    for env in (gymnasium.make(NAME).unwrapped, make_vector(2)):
        with pytest.raises(RuntimeError, match="reset"):
            env.step(env.action_space.sample())


def test_an_observation_that_was_handed_out_never_changes():
    env = make_vector(2)
    first, _ = env.reset(seed=0)
    kept = first.copy()
    env.step(np.ones((2, 2), np.float32))
    assert first.tolist() == kept.tolist()


def test_an_unknown_reset_option_is_refused():
    with pytest.raises(ValueError, match=r"the only reset option here is 'task', found \['tasks'\]"):
        gymnasium.make(NAME).reset(options={"tasks": {"goal": [0.0, 0.0]}})


@pytest.mark.parametrize("goal", [None, ["a", "b"], [float("nan"), 0.0]])
def test_a_task_that_is_not_finite_numbers_is_refused_by_name(goal):
    with pytest.raises(ValueError, match="goal must"):
        gymnasium.make(NAME).reset(options={"task": {"goal": goal}})


def test_a_list_of_seeds_redraws_only_the_copies_that_get_one():
    env = make_vector(2, observe_goal=True)
    before, _ = env.reset(seed=3)
    after, _ = env.reset(seed=[7, None])
    assert not np.array_equal(after[0], before[0])
    assert np.array_equal(after[1], before[1])
    same, _ = env.reset(seed=np.int64(3))
    assert np.array_equal(same, before)
    with pytest.raises(ValueError, match="2 copies need as many seeds, found 1"):
        env.reset(seed=[1])


@pytest.mark.parametrize(
    ("name", "rows", "actions"), [("metarepro/BernoulliBandit-v0", 1, 5), ("metarepro/TabularMDP-v0", 10, 5)]
)
def test_finite_suites_have_discrete_spaces_and_equal_the_harness_step_by_step(name, rows, actions):
    env = gymnasium.make(name)
    assert (env.observation_space.n, env.action_space.n) == (rows, actions)
    suite = env.unwrapped._suite
    tasks = suite.sample_tasks(1, torch.Generator().manual_seed(1))
    task = {key: value[0].numpy() for key, value in tasks.items()}
    observation, _ = env.reset(seed=3, options={"task": task})
    assert observation == 0
    rng = torch.Generator().manual_seed(0)
    rng.set_state(env.unwrapped._rng.get_state())
    chosen = torch.randint(actions, (suite.horizon, 1, 1, 1), generator=torch.Generator().manual_seed(4))
    trajectories = rollout(suite, REPLAY, {}, tasks, 1, rng, chosen)
    for step in range(suite.horizon):
        assert observation == trajectories.observations[0, 0, step, 0]
        observation, reward, terminated, truncated, _ = env.step(int(chosen[step]))
        assert reward == trajectories.rewards[0, 0, step]
        assert (terminated or truncated) == (step == suite.horizon - 1)


def test_a_vector_of_bandits_is_reset_after_every_pull_and_keeps_its_tasks():
    env = gymnasium.make_vec(
        "metarepro/BernoulliBandit-v0", num_envs=3, vectorization_mode="vector_entry_point", arms=2
    )
    env.reset(seed=0, options={"tasks": {"mean": np.array([[0.0, 1.0]] * 3)}})
    for _ in range(4):
        _, reward, terminated, _, _ = env.step(np.array([0, 1, 1]))
        assert (reward.tolist(), terminated.all()) == ([0.0, 1.0, 1.0], True)
        _, reward, terminated, _, _ = env.step(np.array([0, 1, 1]))
        assert (reward.tolist(), terminated.any()) == ([0.0, 0.0, 0.0], False)


@pytest.mark.parametrize("action", [5, -1, 0.5])
def test_an_action_outside_a_finite_set_is_refused(action):
    env = gymnasium.make("metarepro/BernoulliBandit-v0", disable_env_checker=True).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match="a whole number from 0 to 4"):
        env.step(action)

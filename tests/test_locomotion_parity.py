"""A step of the batched physics is gymnasium's: same states and actions, same observations, rewards and ends."""

import gymnasium
import numpy as np
import pytest
import torch

from suites import SUITES

TIGHT = 1e-6
"""What the difference may be, of an observation or a reward; of large observations, as a share of them."""
SEEN = {"exclude_current_positions_from_observation": False}
WALKER = ("Walker2d-v5", {"frame_skip": 8, "xml_file": "walker2d.xml"})
CASES = {
    "half_cheetah_fwd_back": ("HalfCheetah-v5", {"ctrl_cost_weight": 0.05}),
    "half_cheetah_goal_direction": ("HalfCheetah-v5", SEEN | {"frame_skip": 1, "ctrl_cost_weight": 0.05}),
    "ant_fwd_back": ("Ant-v5", {"ctrl_cost_weight": 0.5, "healthy_z_range": (0.0, 1.0)}),
    "ant_goal_direction": ("Ant-v5", SEEN | {"frame_skip": 2, "ctrl_cost_weight": 0.005, "healthy_reward": 0.05}),
    "humanoid_fwd_back": ("Humanoid-v5", {}),
    "walker_fwd_back": WALKER,
    "walker_rand_params": WALKER,
    "hopper_rand_params": ("Hopper-v5", {"frame_skip": 8}),
}
"""Our environments that pay like gymnasium's, up to the sign of the direction and these arguments."""
CONTROL_STEPS, EPISODES = 60, 6


def build(name, **settings):
    declaration = SUITES["locomotion"]
    return declaration.load()(declaration.settings.model_validate({"environment": name} | settings))


def own_body(suite):
    """The task of running forward with the body as it is."""
    tasks = suite.sample_tasks(1, torch.Generator().manual_seed(0))
    return {name: torch.ones_like(tensor) for name, tensor in tasks.items()}


def placed(env, row, suite):
    """gymnasium's environment in the very state of a row of ours, as after its own reset."""
    env.reset(seed=0)
    slices = suite.physics.slices
    env.set_state(row[slices["qpos"]].numpy(), row[slices["qvel"]].numpy())
    return env


@pytest.mark.parametrize("name", CASES)
def test_steps_are_those_of_gymnasium_until_the_episode_ends(name):
    made, arguments = CASES[name]
    suite = build(name)
    tasks, rng = own_body(suite), torch.Generator().manual_seed(1)
    state, _ = suite.reset(tasks, EPISODES, rng)
    envs = [placed(gymnasium.make(made, **arguments).unwrapped, row, suite) for row in state[0]]
    ended, compared = [False] * EPISODES, 0
    for _ in range(CONTROL_STEPS):
        # Steps beyond the range are in: they are clipped.
        action = 0.7 * suite.action_bound * torch.randn(1, EPISODES, suite.action_dim, generator=rng)
        controls = suite.controls(action)
        before, (state, observation, reward, terminated) = state, suite.step(tasks, state, action, rng)
        exact = suite.reward(tasks, before, controls, state)
        for index, env in enumerate(envs):
            if ended[index]:
                continue
            seen, paid, over, _, _ = env.step(controls[0, index].numpy())
            # gymnasium pays no bonus for the step that ends an episode; the released code of the suites does.
            paid += suite.environment.reward.alive * over
            ours = suite.observe(state)[0, index].numpy()
            np.testing.assert_allclose(ours, seen, rtol=TIGHT, atol=TIGHT)
            np.testing.assert_allclose(float(exact[0, index]), paid, rtol=TIGHT, atol=TIGHT)
            np.testing.assert_allclose(observation[0, index].numpy(), seen, rtol=2e-7, atol=TIGHT)
            np.testing.assert_allclose(float(reward[0, index]), paid, rtol=2e-7, atol=TIGHT)
            assert bool(terminated[0, index]) == over
            ended[index], compared = over, compared + 1
    assert compared >= 5 * EPISODES


@pytest.mark.parametrize("name", ["half_cheetah_fwd_back", "ant_fwd_back", "humanoid_fwd_back", "hopper_rand_params"])
def test_the_bits_do_not_depend_on_threads_nor_on_who_shares_the_batch(name):
    suite, rng = build(name), torch.Generator().manual_seed(3)
    tasks = suite.sample_tasks(3, rng)
    start, _ = suite.reset(tasks, 4, rng)
    actions = [suite.action_bound * torch.randn(3, 4, suite.action_dim, generator=rng) for _ in range(5)]

    def states(chosen, threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            state = start[chosen]
            for action in actions:
                state = suite.step(
                    {key: value[chosen] for key, value in tasks.items()}, state, action[chosen], rng
                ).state
            return state
        finally:
            torch.set_num_threads(before)

    together = states(slice(0, 3), 1)
    assert torch.equal(states(slice(0, 3), 2), together)
    assert torch.equal(states(slice(1, 2), 1), together[1:2])

"""The locomotion suite: tasks, rewards, ends, random bodies, and what a user may get wrong."""

import importlib.util
import math
from typing import get_args

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from pydantic import ValidationError

import suites.gymnasium_envs as registered
from harness.errors import UserError
from harness.rollout import rollout
from harness.worker import build as build_run
from suites import SUITES
from suites.locomotion import EnvironmentName, LocomotionSettings
from suites.locomotion.environments import variants_of

ENVIRONMENTS = get_args(EnvironmentName)


def build(name, **settings):
    declaration = SUITES["locomotion"]
    return declaration.load()(declaration.settings.model_validate({"environment": name} | settings))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def stepped(suite, tasks, episodes=3, steps=3, seed=1, size=0.5):
    """(before, controls, transition) of the last of a few steps."""
    rng = generator(seed)
    state, _ = suite.reset(tasks, episodes, rng)
    count = state.shape[0]
    for _ in range(steps):
        action = size * suite.action_bound * torch.randn(count, episodes, suite.action_dim, generator=rng)
        before, transition = state, suite.step(tasks, state, action, rng)
        state = transition.state
    return before, suite.controls(action), transition


# -- what is paid, written down a second time from the sources, from MuJoCo's own numbers

CONTROL_STEP = {"half_cheetah": 0.05, "ant": 0.05, "humanoid": 0.015, "hopper": 0.016, "walker": 0.016}
FINN_CONTROL_STEP = {"half_cheetah": 0.01, "ant": 0.02}
ALIVE = {"ant_fwd_back": 1.0, "ant_rand_direc": 1.0, "humanoid_fwd_back": 5.0, "humanoid_rand_direc": 5.0}
ALIVE |= {"walker_fwd_back": 1.0, "hopper_rand_params": 1.0, "walker_rand_params": 1.0}


def expected_reward(name, tasks, task, dt, start, end, controls, forces):
    """The released code's reward of one step; start and end: where the body was, controls: clipped, forces: raw."""
    moved = (end - start) / dt
    squared, contact = float(np.sum(controls**2)), float(np.sum(np.clip(forces, -1.0, 1.0) ** 2))
    goal = {key: value[task].double().numpy() for key, value in tasks.items()}
    match name:
        case "half_cheetah_fwd_back" | "half_cheetah_goal_direction":
            return goal["direction"] * moved[0] - 0.05 * squared
        case "half_cheetah_goal_velocity":
            return -abs(moved[0] - goal["velocity"]) - 0.05 * squared
        case "ant_fwd_back":
            return goal["direction"] * moved[0] - 0.5 * squared - 0.0005 * contact + 1.0
        case "ant_rand_direc":
            return float(goal["direction"] @ moved) - 0.5 * squared - 0.0005 * contact + 1.0
        case "ant_rand_goal":
            return -abs(end - goal["goal"]).sum() - 0.1 * squared - 0.0005 * contact
        case "ant_goal_direction":
            return goal["direction"] * moved[0] - 0.005 * squared - 0.0005 * contact + 0.05
        case "ant_goal_velocity":
            return 1.0 - abs(moved[0] - goal["velocity"]) - 0.005 * squared - 0.0005 * contact + 0.05
        case "ant_goal_position":
            return 4.0 - abs(end - goal["goal"]).sum() - 0.005 * squared - 0.0005 * contact + 0.05
        case "humanoid_fwd_back" | "humanoid_rand_direc":
            progress = (
                goal["direction"] * (end - start)[0]
                if goal["direction"].ndim == 0
                else goal["direction"] @ (end - start)
            )
            impact = min(0.5e-6 * float(np.sum(forces**2)), 10.0)
            return 0.25 * progress / 0.003 - 0.1 * squared - impact + 5.0
        case "walker_fwd_back":
            return goal["direction"] * moved[0] + 1.0 - 0.001 * squared
        case "walker_rand_vel":
            return -abs(moved[0] - goal["velocity"]) + 15.0 - 0.001 * squared
        case "hopper_rand_params" | "walker_rand_params":
            return moved[0] + 1.0 - 0.001 * squared


def place(suite, row):
    """Where the body is, from the part of a state that MuJoCo wrote."""
    slices = suite.physics.slices
    if suite.environment.body == "ant":
        return row[slices["xpos"]][3:5].numpy()
    if suite.environment.body == "humanoid":
        return row[slices["subtree_com"]][3:5].numpy()
    return row[slices["qpos"]][:1].numpy()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_reward_is_that_of_the_released_code(name):
    suite = build(name)
    tasks = suite.sample_tasks(2, generator(4))
    before, controls, transition = stepped(suite, tasks)
    body = suite.environment.body
    dt = (FINN_CONTROL_STEP if "_goal_" in name else CONTROL_STEP)[body]
    forces = suite.physics.slices.get("cfrc_ext", slice(0, 0))
    for task in range(2):
        for episode in range(3):
            if before[task, episode, -1]:
                continue
            rows = before[task, episode], transition.state[task, episode]
            start, end = (place(suite, row) for row in rows)
            wanted = expected_reward(
                name, tasks, task, dt, start, end, controls[task, episode].numpy(), rows[1][forces].numpy()
            )
            assert float(transition.reward[task, episode]) == pytest.approx(float(wanted), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", ALIVE)
def test_the_paper_s_rewards_are_progress_minus_control_costs(name):
    released, paper = build(name), build(name, variant="paper")
    tasks = paper.sample_tasks(2, generator(4))
    before, controls, transition = stepped(paper, tasks)
    dt = paper.control_step
    cost = 0.0 if name.endswith("params") else released.environment.reward.control_cost
    for task in range(2):
        start, end = (place(paper, row[task, 0]) for row in (before, transition.state))
        direction = tasks["direction"][task].double().numpy() if "direction" in tasks else np.ones(1)
        progress = float(np.sum((end - start)[: direction.size] * direction)) / dt
        wanted = progress - cost * float(controls[task, 0].square().sum())
        assert float(transition.reward[task, 0]) == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_the_paper_s_goal_is_on_a_circle_and_costs_its_distance():
    suite = build("ant_rand_goal", variant="paper")
    tasks = suite.sample_tasks(50, generator())
    assert torch.linalg.vector_norm(tasks["goal"], dim=-1).allclose(torch.tensor(3.0))
    _, _, transition = stepped(suite, tasks, episodes=1, steps=1)
    away = [
        np.linalg.norm(place(suite, row[0]) - goal.double().numpy())
        for row, goal in zip(transition.state, tasks["goal"], strict=True)
    ]
    assert transition.reward[:, 0].tolist() == pytest.approx([-one for one in away], rel=1e-6)


# -- tasks


def test_tasks_have_the_published_distributions():
    count = 4000
    drawn = {name: build(name).sample_tasks(count, generator(5)) for name in ENVIRONMENTS}
    for name in ("half_cheetah_fwd_back", "walker_fwd_back", "humanoid_fwd_back", "ant_goal_direction"):
        assert set(drawn[name]["direction"].tolist()) == {-1.0, 1.0}
        assert abs(float(drawn[name]["direction"].mean())) < 4.0 / math.sqrt(count)
    for name in ("ant_rand_direc", "humanoid_rand_direc"):
        direction = drawn[name]["direction"]
        assert torch.linalg.vector_norm(direction, dim=-1).allclose(torch.ones(count))
        assert bool((direction.mean(0).abs() < 4.0 / math.sqrt(2 * count)).all())
    for name, most in (("walker_rand_vel", 10.0), ("half_cheetah_goal_velocity", 2.0), ("ant_goal_velocity", 3.0)):
        velocity = drawn[name]["velocity"]
        assert 0.0 <= float(velocity.min()) < 0.01 * most
        assert 0.99 * most < float(velocity.max()) <= most
        assert float(velocity.mean()) == pytest.approx(most / 2, rel=0.04)
    # Uniform in a disc: the squared radius is uniform, so that its mean is half of its most.
    radius = torch.linalg.vector_norm(drawn["ant_rand_goal"]["goal"], dim=-1)
    assert float(radius.max()) <= 3.0
    assert float(radius.square().mean()) == pytest.approx(4.5, rel=0.04)
    square = drawn["ant_goal_position"]["goal"]
    assert 2.9 < float(square.abs().max()) <= 3.0
    assert float(square.square().mean()) == pytest.approx(3.0, rel=0.06)


@pytest.mark.parametrize("name", ["hopper_rand_params", "walker_rand_params"])
def test_factors_are_powers_with_uniform_exponents_for_every_entry_of_its_own(name):
    suite = build(name)
    tasks, model = suite.sample_tasks(300, generator(6)), suite.physics.model
    assert {key: tuple(value.shape[1:]) for key, value in tasks.items()} == {
        "body_mass": (model.nbody,), "body_inertia": (model.nbody, 3), "geom_friction": (model.ngeom, 3),
        "dof_damping": (model.nv,),
    }  # fmt: skip
    for key, factors in tasks.items():
        exponents = factors.log() / math.log(1.3 if key == "dof_damping" else 1.5)
        assert float(exponents.abs().max()) <= 3.0 + 1e-5
        assert float(exponents.std()) == pytest.approx(math.sqrt(3.0), rel=0.06)
        flat = exponents.flatten(1)
        assert float(torch.corrcoef(flat[:, :4].T).triu(1).abs().max()) < 0.25
    halved = build(name, log_scale_limit=1.5).sample_tasks(300, generator(6))
    assert torch.allclose(halved["body_mass"].square(), tasks["body_mass"], rtol=1e-4)


def test_the_deadline_s_velocities_lie_in_their_range():
    for name in ("half_cheetah_goal_velocity", "ant_goal_velocity"):
        velocity = build(name, variant="deadline").sample_tasks(1000, generator())["velocity"]
        assert 0.1 <= float(velocity.min()) < float(velocity.max()) <= 0.8


def test_meta_test_tasks_of_two_directions_are_balanced_and_others_are_drawn():
    assert build("ant_fwd_back").meta_test_tasks(5, generator())["direction"].tolist() == [-1.0, 1.0, -1.0, 1.0, -1.0]
    suite = build("walker_rand_vel")
    assert torch.equal(
        suite.meta_test_tasks(5, generator(2))["velocity"], suite.sample_tasks(5, generator(2))["velocity"]
    )


def test_an_oracle_sees_its_task_and_nothing_else_changes():
    for name, key in (
        ("half_cheetah_goal_velocity", "velocity"),
        ("ant_goal_position", "goal"),
        ("humanoid_rand_direc", "direction"),
    ):
        plain, oracle = build(name), build(name, observe_task=True)
        tasks = plain.sample_tasks(2, generator(1))
        seen, told = (suite.reset(tasks, 3, generator(2))[1] for suite in (plain, oracle))
        width = plain.observation_dim
        assert oracle.observation_dim == told.shape[-1] == width + tasks[key].reshape(2, -1).shape[1]
        assert torch.equal(told[..., :width], seen)
        assert torch.equal(told[:, 1, width:], tasks[key].reshape(2, -1))


# -- bodies


def test_a_task_s_model_is_the_body_with_its_values_scaled_and_its_derived_constants_anew():
    suite = build("walker_rand_params")
    tasks = suite.sample_tasks(3, generator(7))
    base = suite.physics.model
    for task, model in enumerate(suite.models(tasks)):
        for name, factors in tasks.items():
            assert np.array_equal(getattr(model, name), getattr(base, name) * factors[task].numpy())
        assert model.body_subtreemass[0] == pytest.approx(model.body_mass.sum())
        assert not np.allclose(model.dof_invweight0, base.dof_invweight0)
    assert base.body_subtreemass[0] == pytest.approx(mujoco.MjModel.from_xml_path(suite.body.file_path).body_mass.sum())


def test_every_episode_is_stepped_under_the_model_of_its_own_task():
    suite = build("hopper_rand_params")
    tasks = suite.sample_tasks(3, generator(8))
    together = stepped(suite, tasks, episodes=2)[2]
    alone = [stepped_alone(suite, tasks, task) for task in range(3)]
    for task in range(3):
        assert torch.equal(alone[task], together.state[task])
    assert not torch.equal(together.state[0], together.state[1])


def stepped_alone(suite, tasks, task):
    """The states of one task after the steps of :func:`stepped`, simulated without the others."""
    rng = generator(1)
    state, _ = suite.reset(tasks, 2, rng)
    own, state = {key: value[task : task + 1] for key, value in tasks.items()}, state[task : task + 1]
    for _ in range(3):
        action = 0.5 * suite.action_bound * torch.randn(3, 2, suite.action_dim, generator=rng)
        state = suite.step(own, state, action[task : task + 1], rng).state
    return state[0]


# -- ends


def test_an_episode_that_ended_stays_as_it_was_and_the_others_do_not_notice():
    suite = build("hopper_rand_params")
    tasks = suite.sample_tasks(2, generator(9))
    state, _ = suite.reset(tasks, 4, generator(1))
    moved = state.clone()
    moved[0, 1, suite.physics.slices["qpos"]] += torch.tensor([0.0, -0.8, 0.0, 0.0, 0.0, 0.0])
    action = torch.zeros(2, 4, suite.action_dim)
    first = suite.step(tasks, moved, action, generator())
    assert first.terminated[0, 1]
    assert not first.terminated[1].any()
    second = suite.step(tasks, first.state, action, generator())
    assert torch.equal(second.state[0, 1], first.state[0, 1])
    assert second.terminated[0, 1]
    untouched = suite.step(tasks, suite.step(tasks, state, action, generator()).state, action, generator())
    assert torch.equal(second.state[1], untouched.state[1])
    assert torch.equal(second.reward[1], untouched.reward[1])


@pytest.mark.parametrize("value", [1e12, math.nan])
def test_a_simulation_that_mujoco_gives_up_ends_its_episode_without_a_reward(value):
    suite = build("half_cheetah_fwd_back")
    tasks = {"direction": torch.tensor([1.0])}
    state, _ = suite.reset(tasks, 2, generator())
    state[0, 0, suite.physics.slices["qvel"]] = value
    transition = suite.step(tasks, state, torch.zeros(1, 2, suite.action_dim), generator())
    assert transition.terminated.tolist() == [[True, False]]
    assert float(transition.reward[0, 0]) == 0.0
    assert torch.equal(transition.state[0, 0, :-1].nan_to_num(), state[0, 0, :-1].nan_to_num())


def test_actions_cover_the_controls_and_are_clipped_beyond():
    suite = build("humanoid_fwd_back")
    bound = torch.as_tensor(suite.physics.model.actuator_ctrlrange)
    for action, wanted in ((-10.0, bound[:, 0]), (0.0, bound.mean(1)), (10.0, bound[:, 1]), (99.0, bound[:, 1])):
        controls = suite.controls(torch.full((1, 1, suite.action_dim), action))
        assert torch.allclose(controls[0, 0], wanted, atol=1e-12)
    assert build("ant_goal_velocity").action_bound == 1.0
    assert build("ant_goal_velocity", policy_range=10.0).action_bound == 10.0


# -- gymnasium


def test_every_environment_is_registered_under_its_paper_s_name():
    names = {
        "HalfCheetahFwdBack",
        "AntFwdBack",
        "WalkerFwdBack",
        "HumanoidFwdBack",
        "AntRandDirec",
        "HumanoidRandDirec",
    }
    names |= {"AntRandGoal", "HopperRandParams", "WalkerRandParams", "WalkerRandVel", "HalfCheetahGoalDirection"}
    names |= {"HalfCheetahGoalVelocity", "AntGoalDirection", "AntGoalVelocity", "AntGoalPosition"}
    assert {f"metarepro/{name}-v0" for name in names} == set(registered.LOCOMOTION)


@pytest.mark.parametrize("name", ["metarepro/HopperRandParams-v0", "metarepro/AntFwdBack-v0"])
def test_a_registered_environment_equals_the_harness_bit_for_bit(name):
    env = gymnasium.make(name, horizon=15)
    suite = env.unwrapped._suite
    tasks, rng = suite.sample_tasks(1, generator(3)), generator(4)
    actions = 3.0 * torch.randn(15, 1, 1, suite.action_dim, generator=rng)
    seen, _ = env.reset(seed=11, options={"task": {key: value[0].numpy() for key, value in tasks.items()}})
    state = env.unwrapped._state
    for action in actions:
        transition = suite.step(tasks, state, action, rng)
        state = transition.state
        seen, reward, terminated, truncated, _ = env.step(action[0, 0].numpy())
        assert seen.tolist() == transition.observation[0, 0].tolist()
        assert (reward, terminated) == (float(transition.reward), bool(transition.terminated))
        if terminated or truncated:
            return
    raise AssertionError("the episode had to end")


def test_a_vector_environment_goes_on_after_an_end():
    env = gymnasium.make_vec("metarepro/HopperRandParams-v0", num_envs=3, vectorization_mode="vector_entry_point")
    env.reset(seed=1)
    ended, steps = np.zeros(3, dtype=int), 120
    for step in range(steps):
        action = np.random.default_rng(step).normal(0.0, 10.0, (3, 3)).astype(np.float32)
        seen, _, terminated, truncated, _ = env.step(action)
        ended += terminated | truncated
        assert np.isfinite(seen).all()
    assert (ended >= 2).all()


# -- what a user may get wrong


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"environment": "half_cheeta_fwd_back"}, "half_cheetah_fwd_back"),
        ({"environment": "half_cheetah_fwd_back", "variant": "paper"}, "half_cheetah_fwd_back has no variant 'paper'"),
        ({"environment": "ant_fwd_back", "log_scale_limit": 2.0}, "log_scale_limit: ant_fwd_back draws no parameters"),
        ({"environment": "hopper_rand_params", "log_scale_limit": -1.0}, "greater than 0"),
        ({"environment": "hopper_rand_params", "log_scale_limit": 50.0}, "less than or equal to 10"),
        ({"environment": "hopper_rand_params", "observe_task": True}, "observe_task: the tasks of hopper_rand_params"),
        ({"environment": "ant_fwd_back", "horizon": 0}, "greater than or equal to 1"),
        ({"environment": "ant_fwd_back", "policy_range": 0.0}, "greater than 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        LocomotionSettings.model_validate(settings)


def test_every_variant_that_is_named_exists():
    for name in ENVIRONMENTS:
        assert variants_of(name)[0] == "released"
        for variant in variants_of(name):
            assert build(name, variant=variant).horizon in (100, 200)


@pytest.mark.parametrize(
    ("name", "task", "said"),
    [
        ("AntFwdBack", {"direction": 0.0}, "direction must be -1 or 1"),
        ("AntRandDirec", {"direction": [1.0, 1.0]}, "direction must be a vector of length 1"),
        ("AntRandGoal", {"gaol": [1.0, 1.0]}, "goal"),
        ("AntRandGoal", {"goal": [1.0]}, r"goal must have shape \(2,\)"),
        ("WalkerRandVel", {"velocity": math.nan}, "velocity must be finite"),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(name, task, said):
    env = gymnasium.make(f"metarepro/{name}-v0")
    with pytest.raises(ValueError, match=said):
        env.reset(seed=0, options={"task": task})


def test_factors_on_a_body_are_above_zero():
    env = gymnasium.make("metarepro/HopperRandParams-v0")
    tasks = env.unwrapped._suite.sample_tasks(1, generator())
    bad = {key: value[0].numpy() for key, value in tasks.items()}
    bad["geom_friction"] = -bad["geom_friction"]
    with pytest.raises(ValueError, match="geom_friction holds factors on the body's own values: all above 0"):
        env.reset(options={"task": bad})


def test_without_mujoco_one_line_says_what_to_install(monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "mujoco" else found(name, *rest)
    )
    said = r"suite locomotion needs the package mujoco, which is not installed: pip install 'metarepro\[locomotion\]'"
    with pytest.raises(ImportError, match=said):
        gymnasium.make("metarepro/AntFwdBack-v0")
    from harness.composition import REGISTRIES
    from tests.harness_fixtures import planned, tiny

    data = tiny() | {"suite": "locomotion", "settings": {"environment": "half_cheetah_fwd_back"}}
    data["methods"] = {"maml": data["methods"]["maml"]}
    with pytest.raises(UserError, match=said):
        build_run(planned(tmp_path, data, "maml").spec, REGISTRIES)


def test_episodes_of_a_rollout_end_where_the_body_falls_and_cost_nothing_after():
    suite = build("walker_fwd_back", horizon=60)
    tasks = suite.sample_tasks(2, generator(2))
    noise = 10.0 * torch.randn(60, 2, 3, suite.action_dim, generator=generator(3))
    policy = registered_policy()
    trajectories = rollout(suite, policy, {}, tasks, 3, generator(1), noise)
    lengths = trajectories.lengths()
    assert (lengths < 60).all()
    for task in range(2):
        for episode in range(3):
            last = int(lengths[task, episode])
            after = trajectories.observations[task, episode, last:]
            assert torch.equal(after, trajectories.final_observation[task, episode].expand_as(after))


def registered_policy():
    """Actions are the noise that it is given."""
    from types import SimpleNamespace

    return SimpleNamespace(
        sequential=False, initial_memory=lambda *sizes: None, act=lambda params, seen, memory, noise: (noise, None)
    )

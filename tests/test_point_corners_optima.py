"""Optima of the point-mass corner tasks: against walks by hand, bounds, and the simulation itself."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from suites.point_corners import CORNERS, SUITE
from suites.point_corners.optima import DENSE, best_control, quadrature, squared_axis

HERE = {"goal": torch.tensor([[2.0, 2.0]])}


def build(**settings):
    return SUITE.load()(SUITE.settings.model_validate(settings))


def optimum(name="optimal_return", **settings):
    values = build(**settings).references({"goal": torch.tensor(CORNERS)}, 1)[name]
    assert values.unique().numel() == 1
    return float(values[0])


def test_quadrature_is_exact_for_low_powers():
    points, weights = quadrature((0.2, 0.1), 2)
    assert weights.sum() == pytest.approx(1.0)
    assert weights @ points[:, 0] ** 2 == pytest.approx(0.04 / 3)
    assert weights @ (points[:, 0] ** 2 * points[:, 1] ** 2) == pytest.approx(0.04 / 3 * 0.01 / 3)


@pytest.mark.parametrize("reward", ["goal_radius", "dense", "dense_squared"])
def test_the_optimum_of_the_position_dynamics_is_the_direct_walk(reward):
    suite = build(dynamics="position", reward=reward)
    rng = torch.Generator().manual_seed(0)
    tasks = suite.meta_test_tasks(4, rng)
    state, _ = suite.reset(tasks, 5000, rng)
    total = torch.zeros(4, 5000)
    for _ in range(100):
        moved = suite.step(tasks, state, (tasks["goal"].unsqueeze(1) - state) * 50.0, rng)
        state, total = moved.state, total + moved.reward
    error = float(total.std()) / total.numel() ** 0.5
    assert abs(float(total.mean()) - optimum(dynamics="position", reward=reward)) < 3 * error + 1e-4 < 0.07


def walk_to_and_fro(suite, state, left):
    """Step out of the diamond along the diagonal and back, until just enough steps are left to reach the corner."""
    aim = torch.full_like(state, 0.15)
    ready = (state - aim).abs().amax(-1, keepdim=True) < 1e-4
    outside = state.sum(-1, keepdim=True) >= 0.5
    aim = torch.where(ready, state + 0.2, torch.where(outside, state - 0.2, aim))
    leaving = left <= torch.ceil((2.0 - state).amax(-1, keepdim=True) / 0.2 - 1e-4)
    return 50.0 * (torch.where(leaving, (state + 0.2).clamp(max=2.0), aim) - state)


def test_walking_to_and_fro_gets_within_3_percent_of_the_bound_on_the_progress_reward_and_never_beyond():
    suite, rng = build(dynamics="position"), torch.Generator().manual_seed(0)
    state, _ = suite.reset(HERE, 2000, rng)
    total = torch.zeros(1, 2000)
    for step in range(100):
        moved = suite.step(HERE, state, walk_to_and_fro(suite, state, 100 - step), rng)
        state, total = moved.state, total + moved.reward
    bound = optimum(dynamics="position")
    assert bound == pytest.approx(55 * 0.2 * 2**0.5, rel=0.01)  # from the origin: 55 paid steps, 45 free ones back
    assert 0.97 * bound < float(total.mean()) < bound
    assert optimum("direct_return", dynamics="position") == pytest.approx(2.62, abs=0.01)


@pytest.mark.parametrize(("reward", "radius"), [("sparse", 2.0), ("goal_radius", 1.0), ("dense", DENSE)])
def test_computed_actions_earn_in_the_simulation_what_they_are_said_to_and_next_to_nothing_is_left(reward, radius):
    start = np.array([0.15, -0.1, -0.05, 0.08])
    value, bound, actions = best_control(100, 0.1, start, radius)
    assert value <= bound < value + 0.05
    suite, total = build(reward=reward, policy_range=1.0), 0.0
    state = torch.tensor(start, dtype=torch.float64).view(1, 1, 4)
    for step in range(100):
        action = (
            torch.zeros(2, dtype=torch.float64) if step >= actions.shape[1] else torch.tensor(actions[:, step]) * 10
        )
        moved = suite.step(HERE, state, action.view(1, 1, 2), torch.Generator())
        state, total = moved.state, total + float(moved.reward)
    assert total == pytest.approx(value, abs=1e-4)
    assert state.flatten().tolist() == pytest.approx([2.0, 2.0, 0.0, 0.0], abs=1e-4)


def test_the_optima_of_the_momentum_dynamics_lie_between_a_braking_walk_and_never_having_to_brake():
    # From rest at the origin no axis can be nearer than 2 - 0.05 t (t + 1) after t steps: 0 from the sixth on.
    never = sum(max(2.0 - 2**0.5 * max(2.0 - 0.05 * t * (t + 1), 0.0), 0.0) for t in range(1, 101))
    # Five steps of acceleration, five of braking: 2.5 of way, so scale the actions by 0.8.
    speeds = [0.08 * min(t, 9 - t + 1) for t in range(1, 10)]
    places = np.cumsum(speeds)
    assert places[-1] == pytest.approx(2.0)
    assert all(abs(one - other) < 0.1 for one, other in pairwise([0.0, *speeds]))
    braking = sum(max(2.0 - 2**0.5 * (2.0 - place), 0.0) for place in places) + 91 * 2.0
    value, *_ = best_control(100, 0.1, np.zeros(4), 2.0)
    assert braking < value < never
    assert optimum() == pytest.approx(value, abs=1.0)


def test_the_squared_optimum_beats_the_actions_for_the_distance_start_by_start():
    for offset, velocity in ((-2.0, 0.0), (-2.2, -0.1), (-1.8, 0.05)):
        squares = squared_axis(100, 0.1, offset, velocity)
        start = np.array([offset + 2.0, offset + 2.0, velocity, velocity])
        _, _, actions = best_control(100, 0.1, start, DENSE)
        offsets = offset + np.cumsum(velocity + np.cumsum(actions[0]))
        assert -float((offsets**2).sum()) < squares < -float((offsets**2).sum()) * 0.9


def test_the_squared_optimum_by_hand():
    # One step of ±0.1 cannot reach: -(1 - 0.1)²; two can close 0.3: 0.3 - 0.1 = 0.2, then 0.2 - 0.2 = 0.
    assert squared_axis(1, 0.1, -1.0, 0.0) == pytest.approx(-0.81)
    assert squared_axis(2, 0.1, -0.3, 0.0) == pytest.approx(-0.04)


def test_what_is_out_of_reach_pays_nothing():
    assert optimum(horizon=2) == 0.0
    assert optimum(horizon=1, reward="dense") == pytest.approx(-(2**0.5) * 1.9, abs=0.02)

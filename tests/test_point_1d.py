"""The 1D toy task: steps by hand, and the exact expected return and its optimum by quadrature."""

import math

import pytest
import torch

from algorithms import ALGORITHMS
from harness.rollout import rollout
from suites import SUITES
from tests.point_1d_exact import adapted_return, expected_return, theta_at

START = (0.09, 0.05)
"""Where the released code starts."""


def point_1d(**settings):
    declaration = SUITES["point_1d"]
    return declaration.load()(declaration.settings.model_validate(settings))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Replay:
    """A policy whose actions are the noise that it is given."""

    sequential = False

    def initial_memory(self, tasks: int, episodes: int) -> None:
        return None

    def act(self, params, observation, memory, noise):
        return noise, None


def test_one_step_by_hand():
    suite = point_1d()
    tasks = {"goal": torch.tensor([[-1.0], [1.0]])}
    action = torch.tensor([[[-1.0], [1.0], [3.0]], [[0.0], [-7.0], [1.5]]])
    transition = suite.step(tasks, torch.zeros(2, 3, 1), action, generator())
    assert transition.state.squeeze(-1).tolist() == [[-1.0, 1.0, 2.0], [0.0, -2.0, 1.5]]
    assert torch.equal(transition.observation, transition.state)
    # exp(-0.1 d²) with distances 0, 2, 3 of the clipped position and 1, 3, 0.5
    known = [[1.0, 0.670320046, 0.406569660], [0.904837418, 0.406569660, 0.975309912]]
    assert transition.reward.tolist() == [pytest.approx(row, abs=1e-6) for row in known]
    assert not transition.terminated.any()


def test_starts_are_uniform_on_the_line():
    _, position = point_1d().reset({"goal": torch.ones(10, 1)}, 10_000, generator())
    flat = position.double().flatten()
    assert -2.0 <= flat.min() < -1.999
    assert 1.999 < flat.max() <= 2.0
    assert float(flat.mean()) == pytest.approx(0.0, abs=4 * math.sqrt(4 / 3 / 1e5))
    assert float(flat.square().mean()) == pytest.approx(4 / 3, abs=4 * math.sqrt(64 / 45 / 1e5))


@pytest.mark.parametrize("draw", ["sample_tasks", "meta_test_tasks"])
def test_goals_come_in_turn_half_of_them_each_and_either_may_be_the_first(draw):
    sample = getattr(point_1d(), draw)
    drawn = [sample(80, generator(seed))["goal"].flatten() for seed in range(200)]
    for goals in drawn:
        assert goals.sum() == 0.0
        assert torch.equal(goals[1:], -goals[:-1])
        assert set(goals.tolist()) == {-1.0, 1.0}
    assert 70 <= sum(float(goals[0]) > 0 for goals in drawn) <= 130
    assert sample(3, generator())["goal"].shape == (3, 1)


def test_references_and_measures():
    suite = point_1d(horizon=2)
    tasks = {"goal": torch.tensor([[-1.0], [1.0]])}
    assert suite.references(tasks, 7)["optimal_return"].tolist() == [2.0, 2.0]
    actions = torch.tensor([[[-1.0, 5.0]], [[0.0, 1.0]]]).permute(2, 0, 1).unsqueeze(-1)
    trajectories = rollout(suite, Replay(), {}, tasks, 1, generator(), actions)
    measured = suite.measures(tasks, trajectories)
    assert measured["goal_distance"].dtype == torch.float64
    assert measured["goal_distance"].tolist() == [1.5, 0.5]
    assert suite.paths(trajectories) is None


def test_standing_on_the_goal_earns_the_optimal_return():
    suite = point_1d()
    tasks = suite.sample_tasks(4, generator())
    actions = tasks["goal"].expand(5, 4, 1).unsqueeze(2)
    returns = rollout(suite, Replay(), {}, tasks, 1, generator(), actions).episode_returns()
    assert returns.squeeze(1).tolist() == suite.references(tasks, 1)["optimal_return"].tolist()


@pytest.mark.parametrize("goal", [-1.0, 1.0])
@pytest.mark.parametrize("clip_actions", [True, False])
def test_simulated_returns_have_the_exact_expectation(goal, clip_actions):
    suite, declaration = point_1d(), ALGORITHMS["toy_formulations"]
    settings = {"formulation": "one", "outer_lr": 0.1, "clip_actions": clip_actions}
    learner = declaration.load()(declaration.settings.model_validate(settings), suite)
    rng = generator(3)
    noise = learner.policy.draw_noise(rng, 1, 100_000, suite.horizon)
    tasks = {"goal": torch.full((1, 1), goal)}
    params = {"actor/theta": torch.tensor([-0.3, 0.4])}
    returns = rollout(suite, learner.policy, params, tasks, 100_000, rng, noise).episode_returns().double()
    exact = expected_return(theta_at(-0.3, 0.4), goal).item()
    assert float(returns.mean()) == pytest.approx(exact, abs=4 * float(returns.std()) / math.sqrt(1e5))


def test_the_optimum_of_the_plot_is_the_optimum():
    """(0, 0) is stationary by symmetry; of J^I it is a strict maximum, and none on a wide grid is higher."""
    centre = theta_at(0.0, 0.0)
    best = adapted_return(centre).item()
    assert best == pytest.approx(4.3106676052, abs=1e-9)
    (gradient,) = torch.autograd.grad(adapted_return(centre), centre)
    assert gradient.abs().max() < 1e-12
    curvature = torch.autograd.functional.hessian(adapted_return, torch.zeros(2, dtype=torch.float64))
    assert torch.linalg.eigvalsh(curvature).tolist() == pytest.approx([-0.5482, -0.1619], abs=1e-4)
    places = [(a, b) for a in (-3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0) for b in (-3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0)]
    assert all(adapted_return(theta_at(*place)).item() < best for place in places if place != (0.0, 0.0))


def test_how_little_there_is_to_gain():
    assert adapted_return(theta_at(*START)).item() == pytest.approx(4.3079981014, abs=1e-9)
    assert expected_return(theta_at(0.0, 0.0), 1.0).item() == pytest.approx(4.2179140093, abs=1e-9)

"""One meta-iteration: which parameters sample which data, and what outlives the iteration."""

import pytest
import torch

from harness.runner import Clock, Training, meta_iteration
from harness.spec import RunSpec
from harness.streams import Streams

SPEC = RunSpec.model_validate(
    {
        "suite": {"name": "any", "version": 1, "settings": {}},
        "algorithm": {"name": "any", "version": 1, "settings": {}},
        "seed": 0,
        "budget": {"meta_iterations": 2, "meta_batch_size": 3, "episodes_per_task": 2},
        "evaluation": {"seed": 1, "meta_test_tasks": 2, "episodes_per_task": 2, "shared_noise": False, "protocols": {}},
    }
)


class Watched:
    """A learner, with a record of what it was called with."""

    def __init__(self, learner):
        self._learner = learner
        self.policy, self.adaptation_rounds = learner.policy, learner.adaptation_rounds
        self.prepared, self.updates, self.adapted = [], [], []

    def init(self, rng):
        return self._learner.init(rng)

    def prepare(self, params, trajectories, slots, shared_slots):
        samples, held = self._learner.prepare(params, trajectories, slots, shared_slots)
        self.prepared.append((params, trajectories, slots, shared_slots, held))
        return samples, held

    def adapt(self, params, samples):
        self.adapted.append(self._learner.adapt(params, samples))
        return self.adapted[-1]

    def meta_update(self, state, data, iteration):
        self.updates.append((state, data, iteration))
        return self._learner.meta_update(state, data, iteration)


@pytest.fixture
def watch(make_suite, make_learner):
    """Two meta-iterations of a method: the watched learner and the training state."""

    def of(name, **settings):
        suite = make_suite(horizon=10, goal_tolerance=0.2)
        learner = Watched(make_learner(name, suite, **settings))
        streams = Streams(SPEC.seed)
        training = Training(learner.init(streams["init"]), streams)
        for _ in range(2):
            training.state, _ = meta_iteration(suite, learner, SPEC, training, Clock())
            training.iteration += 1
        return learner, training

    return of


def noise_of(learner, params, trajectories):
    """The noise behind the first action of every episode, if these parameters chose it."""
    tasks, episodes = trajectories.rewards.shape[:2]
    silent = torch.zeros(tasks, episodes, 2)
    mean, _ = learner.policy.act(params, trajectories.observations[:, :, 0], None, silent)
    std = params["actor/log_std"].exp()
    return (trajectories.actions[:, :, 0] - mean) / (std if std.dim() == 1 else std.unsqueeze(1))


def test_every_step_is_taken_on_data_of_the_parameters_that_it_moves(watch):
    learner, _ = watch("maml", adaptation_steps=2)
    streams = Streams(SPEC.seed)
    assert len(learner.prepared) == 6
    for params, trajectories, *_ in learner.prepared:
        noise = learner.policy.draw_noise(streams["policy"], 3, 2, 10)[0]
        torch.testing.assert_close(noise_of(learner, params, trajectories), noise, rtol=1e-3, atol=1e-4)
    for start in (0, 3):
        steps = [params for params, *_ in learner.prepared[start : start + 3]]
        adapted = learner.adapted[2 * start // 3 : 2 * start // 3 + 2]
        assert steps[0] is learner.updates[start // 3][0].params
        assert steps[1] is adapted[0]
        assert steps[2] is adapted[1] is learner.updates[start // 3][1].adapted


@pytest.mark.parametrize(("name", "steps"), [("maml", 1), ("maml", 2), ("pretrained", 0)])
def test_the_outer_buffer_outlives_an_iteration_and_the_inner_one_does_not(watch, name, steps):
    learner, training = watch(name, adaptation_steps=steps, unused_slots="stale")
    calls = [(slots, shared) for _, _, slots, shared, _ in learner.prepared]
    held = [after for *_, after in learner.prepared]
    first, second = calls[: steps + 1], calls[steps + 1 :]
    for one in (first, second):
        assert [shared for _, shared in one] == [False] * steps + [True]
        assert all(slots == {} for slots, _ in one[: min(steps, 1)])
    if steps == 2:
        assert second[1][0] is held[3]
    assert first[-1][0] == {}
    assert second[-1][0] is held[steps]
    assert training.state.slots is held[-1]


def test_environment_steps_are_the_valid_steps_of_all_rollouts(watch):
    learner, training = watch("maml")
    lengths = [trajectories.lengths() for _, trajectories, *_ in learner.prepared]
    assert len(lengths) == 4
    assert min(int(one.min()) for one in lengths) < 10
    assert training.environment_steps == sum(int(one.sum()) for one in lengths)


def test_tasks_are_new_in_every_iteration_and_the_same_before_and_after_adaptation(watch):
    learner, _ = watch("maml", unused_slots="excluded")
    goals = []
    streams = Streams(SPEC.seed)
    for _ in range(2):
        goals += [2.0 * torch.rand(3, 2, generator=streams["tasks"]) - 1.0] * 2
    for goal, (_, trajectories, *_) in zip(goals, learner.prepared, strict=True):
        after = trajectories.observations[:, :, 1]
        distance = torch.linalg.vector_norm(after - 0.5 * goal.unsqueeze(1), dim=-1)
        torch.testing.assert_close(trajectories.rewards[..., 0], -distance)
    assert not torch.equal(goals[0], goals[2])

"""Returns, advantages, standardisation, and what stands in the slots after an early end: by hand and by plain loops."""

import numpy as np
import pytest
import torch

from algorithms.advantages import discounted_sums, generalised_advantages, standardise
from algorithms.samples import Samples, fill_unused_slots
from harness.api import Trajectories
from tests.reference.plain_actor_critic import gae


def close(actual, expected, tolerance=1e-6):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=tolerance, atol=tolerance)


def one_episode(*rows):
    """Vectors of one episode of one task, [1, 1, horizon]."""
    return [torch.tensor([[row]]) for row in rows]


def test_discounted_sums_of_1_2_3_at_one_half_are_2_75_3_5_3():
    close(discounted_sums(torch.tensor([[[1.0, 2.0, 3.0]]]), 0.5), [[[2.75, 3.5, 3.0]]])


def test_discounted_sums_without_discount_are_plain_sums_and_with_factor_zero_nothing_but_the_step():
    values = torch.tensor([[[1.0, 2.0, 3.0]]])
    close(discounted_sums(values, 1.0), [[[6.0, 5.0, 3.0]]])
    close(discounted_sums(values, 0.0), values)


def test_advantages_and_returns_by_hand_with_a_bootstrapped_time_out():
    rewards, values, valid = one_episode([1.0, 2.0], [10.0, 20.0], [True, True])
    advantages, returns = generalised_advantages(rewards, values, torch.tensor([[30.0]]), valid, 0.5, 0.5)
    # delta = (1 + 10 - 10, 2 + 15 - 20) = (1, -3); A = (1 - 3/4, -3); G = (1 + 8.5, 2 + 15).
    close(advantages, [[[0.25, -3.0]]])
    close(returns, [[[9.5, 17.0]]])


def test_nothing_is_bootstrapped_after_an_early_end_and_everything_later_is_zero():
    rewards, values, valid = one_episode([1.0, 2.0, 0.0], [10.0, 20.0, 99.0], [True, True, False])
    advantages, returns = generalised_advantages(rewards, values, torch.tensor([[0.0]]), valid, 0.5, 0.5)
    # delta = (1 + 10 - 10, 2 - 20): the value 99 of the step after the end enters nowhere.
    close(advantages, [[[1.0 - 4.5, -18.0, 0.0]]])
    close(returns, [[[2.0, 2.0, 0.0]]])


def test_lambda_one_without_a_critic_gives_the_returns():
    rewards = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 3, 5, dtype=torch.bool)
    advantages, returns = generalised_advantages(
        rewards, torch.zeros(2, 3, 5), torch.zeros(2, 3), valid, discount=0.9, gae_lambda=1.0
    )
    close(advantages, returns)


def test_lambda_zero_gives_the_temporal_difference():
    rewards, values, valid = one_episode([1.0, 2.0], [10.0, 20.0], [True, True])
    close(generalised_advantages(rewards, values, torch.tensor([[30.0]]), valid, 0.5, 0.0)[0], [[[1.0, -3.0]]])


def test_advantages_and_returns_equal_a_plain_backward_loop_over_whole_and_cut_episodes():
    rng = torch.Generator().manual_seed(1)
    rewards, values = (torch.randn(3, 4, 20, generator=rng, dtype=torch.float64) for _ in range(2))
    last_values = torch.randn(3, 4, generator=rng, dtype=torch.float64)
    lengths = torch.randint(1, 21, (3, 4), generator=rng)
    lengths[0, 0], lengths[1, 1] = 20, 1
    valid = torch.arange(20) < lengths.unsqueeze(-1)
    last_values = last_values * valid[..., -1]
    rewards = rewards * valid
    advantages, returns = generalised_advantages(rewards, values, last_values, valid, 0.99, 0.97)
    for task in range(3):
        for episode in range(4):
            length, where = int(lengths[task, episode]), (task, episode)
            cut = (rewards[where][:length].tolist(), values[where][:length].tolist(), float(last_values[where]))
            for ours, plain in zip((advantages, returns), gae(*cut, 0.99, 0.97), strict=True):
                close(ours[where], plain + [0.0] * (20 - length), 1e-12)


def test_standardisation_is_per_task_with_the_population_deviation():
    advantages = torch.tensor([[1.0, 3.0], [10.0, 50.0]])
    close(standardise(advantages, torch.ones(2, 2)), [[-1.0, 1.0], [-1.0, 1.0]])


def test_samples_that_do_not_count_change_nothing_and_become_zero():
    advantages = torch.tensor([[1.0, 3.0, 1e6]])
    close(standardise(advantages, torch.tensor([[1.0, 1.0, 0.0]])), [[-1.0, 1.0, 0.0]])


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 12345.678])
def test_equal_advantages_do_not_blow_up(value):
    # The epsilon bounds what rounding leaves of them: no sample can exceed one standard deviation.
    assert float(standardise(torch.full((1, 7), value), torch.ones(1, 7)).abs().max()) <= 1.0


def slots(advantages, weights):
    """Samples [tasks, slots] whose other fields say where they came from: 100 * task + slot + 1."""
    weights = torch.tensor(weights)
    tasks, count = weights.shape
    origin = 100.0 * torch.arange(tasks).view(-1, 1) + torch.arange(count) + 1.0
    return Samples(
        observations=origin.unsqueeze(-1).expand(tasks, count, 2),
        actions=-origin.unsqueeze(-1),
        advantages=torch.tensor(advantages) * weights,
        returns=0.5 * origin * weights,
        weights=weights,
    )


THREE = slots([[1.0, 3.0, 7.0], [2.0, 6.0, 4.0]], [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])


def test_excluded_slots_do_not_count():
    samples, buffer = fill_unused_slots(THREE, {}, shared_slots=True, unused_slots="excluded", standardised=True)
    assert buffer == {}
    assert samples.weights.tolist() == THREE.weights.tolist()
    root = 1.5**0.5  # (2, 6, 4): mean 4, SD sqrt(8/3), so -2 / SD = -sqrt(1.5)
    close(samples.advantages, [[-1.0, 1.0, 0.0], [-root, root, 0.0]])


def test_zeros_count_in_mean_and_deviation():
    samples, buffer = fill_unused_slots(THREE, {}, shared_slots=False, unused_slots="zeros", standardised=True)
    assert buffer == {}
    assert samples.weights.tolist() == [[1.0] * 3] * 2
    # (1, 3, 0): mean 4/3, SD sqrt(14)/3, so (-1, 5, -4) / sqrt(14).
    close(samples.advantages[0], [value / 14**0.5 for value in (-1.0, 5.0, -4.0)])
    assert samples.observations[0].tolist() == [[1.0, 1.0], [2.0, 2.0], [0.0, 0.0]]
    assert samples.actions[0].flatten().tolist() == [-1.0, -2.0, 0.0]
    assert samples.returns[0].tolist() == [0.5, 1.0, 0.0]


def test_without_standardisation_advantages_stay_as_they_are():
    for rule in ("excluded", "zeros", "stale"):
        samples, _ = fill_unused_slots(THREE, {}, shared_slots=False, unused_slots=rule, standardised=False)
        assert samples.advantages.tolist() == [[1.0, 3.0, 0.0], [2.0, 6.0, 4.0]]


def test_a_shared_buffer_hands_one_tasks_samples_to_the_next_with_their_standardised_advantage():
    both = slots([[2.0, 6.0, 4.0], [1.0, 3.0, 7.0]], [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    samples, buffer = fill_unused_slots(both, {}, shared_slots=True, unused_slots="stale", standardised=True)
    assert samples.weights.tolist() == [[1.0] * 3] * 2
    assert samples.observations[1, :, 0].tolist() == [101.0, 102.0, 3.0]
    assert samples.returns[1].tolist() == [50.5, 51.0, 1.5]
    # The first task leaves (4 - 4) / SD = 0 in slot 3, so the second standardises (1, 3, 0).
    close(samples.advantages[1], [value / 14**0.5 for value in (-1.0, 5.0, -4.0)])
    assert all(torch.equal(buffer[name], getattr(samples, name)[1]) for name in buffer)
    assert set(buffer) == {"observations", "actions", "advantages", "returns"}


def test_buffers_per_task_keep_tasks_apart():
    first, buffer = fill_unused_slots(THREE, {}, shared_slots=False, unused_slots="stale", standardised=True)
    later = slots([[5.0, 9.0, 9.0], [8.0, 9.0, 9.0]], [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    second, _ = fill_unused_slots(later, buffer, shared_slots=False, unused_slots="stale", standardised=False)
    close(second.advantages, torch.cat([torch.tensor([[5.0], [8.0]]), first.advantages[:, 1:]], dim=1))
    assert second.observations[..., 0].tolist() == [[1.0, 2.0, 0.0], [101.0, 102.0, 103.0]]


class ReleasedBuffer:
    """The released code's sample buffer: arrays of a fixed size, a pointer, and advantages standardised in place."""

    def __init__(self, size: int) -> None:
        self.observations, self.actions = np.zeros((size, 2)), np.zeros((size, 1))
        self.advantages, self.returns = np.zeros(size), np.zeros(size)

    def write_episode(self, start: int, steps: list[tuple]) -> None:
        for offset, step in enumerate(steps):
            where = start + offset
            self.observations[where], self.actions[where], self.advantages[where], self.returns[where] = step

    def read(self) -> list[np.ndarray]:
        self.advantages = (self.advantages - self.advantages.mean()) / self.advantages.std()
        return [self.observations.copy(), self.actions.copy(), self.advantages.copy(), self.returns.copy()]


@pytest.mark.parametrize("shared", [True, False])
def test_stale_slots_equal_the_released_codes_buffer_over_three_rounds(shared):
    tasks, episodes, horizon = 3, 4, 5
    rng = torch.Generator().manual_seed(6)
    one = ReleasedBuffer(episodes * horizon)
    buffers = [one if shared else ReleasedBuffer(episodes * horizon) for _ in range(tasks)]
    held: dict[str, torch.Tensor] = {}
    for _ in range(3):
        lengths = torch.randint(1, horizon + 1, (tasks, episodes), generator=rng)
        weights = (torch.arange(horizon) < lengths.unsqueeze(-1)).flatten(1).double()
        assert 0.0 < float(weights.mean()) < 1.0
        draw = [torch.randn(tasks, episodes * horizon, *dims, generator=rng).double() for dims in ((2,), (1,), (), ())]
        fresh = Samples(draw[0], draw[1], draw[2] * weights, draw[3] * weights, weights)
        samples, held = fill_unused_slots(fresh, held, shared, unused_slots="stale", standardised=True)
        for task, buffer in enumerate(buffers):
            rows = [tensor[task].numpy() for tensor in fresh[:4]]
            for episode in range(episodes):
                start, length = episode * horizon, int(lengths[task, episode])
                steps = [tuple(row[start + step] for row in rows) for step in range(length)]
                buffer.write_episode(start, steps)
            for ours, theirs in zip(samples[:4], buffer.read(), strict=True):
                np.testing.assert_allclose(ours[task].numpy(), theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bootstrap", [True, False])
def test_only_an_episode_that_the_horizon_cut_is_bootstrapped(make_suite, make_learner, bootstrap):
    settings = {"bootstrap_timeouts": bootstrap, "critic_hidden_sizes": [], "standardise_advantages": False}
    learner = make_learner("maml", make_suite(), discount=0.5, gae_lambda=0.0, **settings)
    params = learner.init(torch.Generator().manual_seed(0)).params
    # V(x, y) = 10 + x; the last observations are (1, 0) and (2, 0).
    params |= {"critic/0/weight": torch.tensor([[1.0], [0.0]]), "critic/0/bias": torch.tensor([10.0])}
    valid = torch.tensor([[[True, True], [True, False]]])
    last = torch.tensor([[[1.0, 0.0], [2.0, 0.0]]])
    still = torch.zeros(1, 2, 2, 2)
    trajectories = Trajectories(still, still, torch.tensor([[[-1.0, -2.0], [-4.0, 0.0]]]), valid, last)
    samples, _ = learner.prepare(params, trajectories, {}, shared_slots=False)
    tail = 0.5 * 11.0 if bootstrap else 0.0
    close(samples.returns, [[-1.0 + 0.5 * (-2.0 + tail), -2.0 + tail, -4.0, 0.0]])
    close(samples.advantages, [[-1.0 + 5.0 - 10.0, -2.0 + tail - 10.0, -4.0 - 10.0, 0.0]])
    assert samples.weights.tolist() == [[1.0, 1.0, 1.0, 0.0]]

"""The linear baseline against plain least squares, the advantages that it leaves, and samples that are put together."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from algorithms.policies import CategoricalPolicy
from algorithms.samples import Samples, condense, flat_samples, sum_by_key
from algorithms.settings import BaselineMethodSettings
from algorithms.surrogates import likelihood_ratio, score_function, squared_error
from algorithms.values import LinearBaseline, _solved
from harness.api import Trajectories

TASKS, EPISODES, HORIZON, STATES, ACTIONS = 3, 8, 6, 3, 2


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def settings_of(**settings):
    return BaselineMethodSettings(**{"inner_lr": 0.1, "discount": 0.9, "gae_lambda": 0.8} | settings)


def baseline_on(table, **settings):
    return LinearBaseline(settings_of(**settings), SimpleNamespace(observation_table=table))


def experience(observations, rewards, lengths):
    """Trajectories of observations [tasks, episodes, horizon + 1, ...] with episodes that end after ``lengths``."""
    valid = torch.arange(rewards.shape[-1]) < lengths.unsqueeze(-1)
    actions = torch.randint(ACTIONS, (*rewards.shape, 1), generator=generator(8))
    return Trajectories(observations[:, :, :-1], actions, rewards * valid, valid, observations[:, :, -1])


@pytest.fixture
def trajectories():
    """``trajectories(kind)``: the same steps with observations that are vectors, row numbers, or unit vectors."""
    rng = generator(1)
    rows = torch.randint(STATES, (TASKS, EPISODES, HORIZON + 1, 1), generator=rng)
    seen = {
        "rows": rows,
        "units": torch.nn.functional.one_hot(rows.squeeze(-1), STATES).float(),
        "vectors": torch.randn(TASKS, EPISODES, HORIZON + 1, 2, generator=rng),
    }
    rewards = torch.randn(TASKS, EPISODES, HORIZON, generator=rng)
    lengths = torch.randint(1, HORIZON + 1, (TASKS, EPISODES), generator=rng)
    return lambda kind: experience(seen[kind], rewards, lengths)


def returns_to_go(trajectories, discount):
    """Plain sums, [tasks, episodes, horizon] in float64."""
    rewards = trajectories.rewards.double()
    weights = discount ** torch.arange(HORIZON, dtype=torch.float64)
    ahead = [(rewards[..., t:] * weights[: HORIZON - t]).sum(-1) for t in range(HORIZON)]
    return torch.stack(ahead, -1) * trajectories.valid


def least_squares(observations, valid, returns, ridge):
    """V(s_t) of one task: least squares with explicit features, the ridge as further rows of data."""
    rows, targets, where = [], [], []
    for episode, step in np.ndindex(valid.shape):
        s, time = np.asarray(observations[episode, step], dtype=np.float64), step / 100.0
        rows.append([*s, *(s * s), time, time**2, time**3, 1.0])
        targets.append(returns[episode, step])
        where.append(valid[episode, step])
    rows, targets, where = np.array(rows), np.array(targets), np.array(where)
    count = rows.shape[1]
    stacked = np.concatenate([rows[where], np.sqrt(ridge) * np.eye(count)])
    padded = np.concatenate([targets[where], np.zeros(count)])
    return (rows @ np.linalg.lstsq(stacked, padded, rcond=None)[0]).reshape(valid.shape)


@pytest.mark.parametrize("ridge", [1e-5, 1.0])
@pytest.mark.parametrize("kind", ["vectors", "units", "rows"])
def test_the_baseline_is_least_squares_with_a_ridge_on_the_valid_steps(trajectories, kind, ridge):
    data = trajectories(kind)
    assert not data.valid.all()
    returns = returns_to_go(data, 0.9)
    fitted = baseline_on(torch.eye(STATES) if kind == "rows" else None, baseline_ridge=ridge).values(data, returns)
    observations = trajectories("units").observations if kind == "rows" else data.observations
    for task in range(TASKS):
        plain = least_squares(observations[task].numpy(), data.valid[task].numpy(), returns[task].numpy(), ridge)
        np.testing.assert_allclose(fitted[task].numpy(), plain, rtol=1e-6, atol=1e-8)


def test_a_table_gives_what_its_rows_give_as_vectors(trajectories):
    tables, vectors = trajectories("rows"), trajectories("units")
    returns = returns_to_go(tables, 0.9)
    of_table = baseline_on(torch.eye(STATES)).values(tables, returns)
    of_vectors = baseline_on(None).values(vectors, returns)
    torch.testing.assert_close(of_table, of_vectors, rtol=1e-8, atol=1e-9)
    samples = [
        baseline_on(table).prepare({}, data, {}, shared_slots=False)[0]
        for table, data in ((torch.eye(STATES), tables), (None, vectors))
    ]
    for name in ("actions", "advantages", "returns", "weights"):
        torch.testing.assert_close(*(getattr(one, name) for one in samples), rtol=1e-5, atol=1e-6)


def test_a_table_that_is_not_the_identity_is_looked_up(trajectories):
    table = torch.randn(STATES, 4, generator=generator(3))
    rows = trajectories("rows")
    vectors = rows._replace(observations=table[rows.observations.squeeze(-1)])
    returns = returns_to_go(rows, 0.9)
    of_table, of_vectors = baseline_on(table).values(rows, returns), baseline_on(None).values(vectors, returns)
    torch.testing.assert_close(of_table, of_vectors, rtol=1e-6, atol=1e-6)


def test_every_task_has_a_fit_of_its_own(trajectories):
    data = trajectories("vectors")
    returns = returns_to_go(data, 0.9)
    together = baseline_on(None).values(data, returns)
    for task in range(TASKS):
        one = slice(task, task + 1)
        alone = baseline_on(None).values(Trajectories(*(tensor[one] for tensor in data)), returns[one])
        torch.testing.assert_close(alone[0], together[task], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["vectors", "rows"])
def test_what_lies_after_the_end_of_an_episode_is_not_fitted(trajectories, kind):
    data, ended = trajectories(kind), ~trajectories(kind).valid
    baseline = baseline_on(torch.eye(STATES) if kind == "rows" else None)
    rubbish = torch.where(ended.unsqueeze(-1), (data.observations + 1) % STATES, data.observations)
    returns = returns_to_go(data, 0.9)
    changed = baseline.values(data._replace(observations=rubbish), returns + 9.0 * ended)
    plain = baseline.values(data, returns)
    torch.testing.assert_close(changed[data.valid], plain[data.valid], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["vectors", "rows"])
def test_samples_hold_generalised_advantages_over_the_fit(trajectories, kind):
    data = trajectories(kind)
    baseline = baseline_on(torch.eye(STATES) if kind == "rows" else None, standardise_advantages=False)
    samples, slots = baseline.prepare({}, data, {}, shared_slots=True)
    assert slots == {}
    returns = returns_to_go(data, 0.9)
    values = baseline.values(data, returns) * data.valid
    advantages = torch.zeros_like(values)
    for t in reversed(range(HORIZON)):
        # Nothing is bootstrapped, neither after a termination nor at the horizon.
        following = values[..., t + 1] if t + 1 < HORIZON else torch.zeros(TASKS, EPISODES)
        later = advantages[..., t + 1] if t + 1 < HORIZON else torch.zeros(TASKS, EPISODES)
        advantages[..., t] = data.rewards[..., t] + 0.9 * following - values[..., t] + 0.9 * 0.8 * later
    weights = data.valid.flatten(1)
    assert torch.equal(samples.weights, weights.float())
    torch.testing.assert_close(samples.returns, returns.flatten(1).float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(samples.advantages, (advantages.flatten(1) * weights).float(), rtol=1e-4, atol=1e-5)
    standardised = baseline_on(baseline._table).prepare({}, data, {}, shared_slots=True)[0].advantages
    for task in range(TASKS):
        inside = advantages[task].flatten()[weights[task]]
        expected = (inside - inside.mean()) / inside.std(correction=0)
        torch.testing.assert_close(standardised[task][weights[task]], expected.float(), rtol=1e-4, atol=1e-4)
        assert not standardised[task][~weights[task]].any()


def pulls(rewards, constant=0.0):
    """One-step episodes with given rewards [tasks][pulls], and the baseline of a bandit."""
    rewards = torch.tensor(rewards).unsqueeze(-1)
    observations = torch.zeros(*rewards.shape[:2], 2, 1, dtype=torch.int64)
    data = experience(observations, rewards, torch.ones(rewards.shape[:2]))
    return data, torch.full((1, 1), constant)


@pytest.mark.parametrize("constant", [0.0, 1.0])
@pytest.mark.parametrize("discount", [0.5, 1.0])
def test_the_advantage_of_a_pull_is_its_reward_less_the_mean_over_the_sd(constant, discount):
    data, table = pulls([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]], constant)
    plain = baseline_on(table, discount=discount, standardise_advantages=False)
    # The ridge of 1e-5 takes a share of 1e-5 / 4 or less of the mean.
    expected = torch.tensor([[0.75, -0.25, -0.25, -0.25], [0.5, 0.5, -0.5, -0.5]])
    torch.testing.assert_close(plain.prepare({}, data, {}, False)[0].advantages, expected, rtol=0, atol=3e-6)
    samples = baseline_on(table, discount=discount).prepare({}, data, {}, False)[0]
    root = 3.0**0.5
    expected = torch.tensor([[root, -1 / root, -1 / root, -1 / root], [1.0, 1.0, -1.0, -1.0]])
    torch.testing.assert_close(samples.advantages, expected, rtol=0, atol=1e-5)
    assert samples.returns.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0]]


@pytest.mark.parametrize("count", [1, 2, 10, 100, 500, 1000])
@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_equal_rewards_teach_nothing(count, constant):
    data, table = pulls([[0.0] * count, [1.0] * count], constant)
    advantages = baseline_on(table).prepare({}, data, {}, False)[0].advantages
    assert advantages.tolist() == [[0.0] * count] * 2


def test_one_odd_reward_among_many_stands_out():
    data, table = pulls([[1.0] + [0.0] * 999])
    advantages = baseline_on(table).prepare({}, data, {}, False)[0].advantages
    assert float(advantages[0, 0]) == pytest.approx(999**0.5, rel=1e-4)
    assert float(advantages[0, 1]) == pytest.approx(-(999**-0.5), rel=1e-4)


def tabular_samples(slots=40):
    """Samples of table observations in float64; one task never sees state 2, and some slots do not count."""
    rng = generator(6)
    observations = torch.randint(STATES, (TASKS, slots, 1), generator=rng)
    observations[0].clamp_(max=1)
    actions = torch.randint(ACTIONS, (TASKS, slots, 1), generator=rng)
    advantages, returns = torch.randn(2, TASKS, slots, generator=rng, dtype=torch.float64)
    weights = (torch.rand(TASKS, slots, generator=rng) < 0.8).double()
    return Samples(observations, actions, advantages, returns, weights)


def test_condensed_samples_by_hand():
    samples = Samples(
        observations=torch.tensor([[[1], [0], [1], [1], [0]]]),
        actions=torch.tensor([[[0], [1], [0], [1], [1]]]),
        advantages=torch.tensor([[1.0, 2.0, 4.0, 8.0, 100.0]]),
        returns=torch.tensor([[3.0, 5.0, 9.0, 7.0, 100.0]]),
        weights=torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]]),
    )
    together = condense(samples, 2, 2)
    assert together.observations.flatten().tolist() == [0, 0, 1, 1]
    assert together.actions.flatten().tolist() == [0, 1, 0, 1]
    assert together.weights.tolist() == [[0.0, 1.0, 2.0, 1.0]]
    assert together.advantages.tolist() == [[0.0, 2.0, 2.5, 8.0]]
    assert together.returns.tolist() == [[0.0, 5.0, 6.0, 7.0]]


def test_condensing_twice_changes_nothing_more():
    once = condense(tabular_samples(), STATES, ACTIONS)
    for one, other in zip(condense(once, STATES, ACTIONS), once, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


@pytest.fixture
def softmax():
    """A small softmax policy on a table, and parameters for every task in float64."""
    suite = SimpleNamespace(observation_table=torch.eye(STATES), observation_dim=STATES, num_actions=ACTIONS)
    settings = settings_of(actor_hidden_sizes=[4], hidden_activation="tanh")
    policy = CategoricalPolicy(settings, suite)
    each = [policy.init(generator(seed)) for seed in range(TASKS)]
    return policy, {name: torch.stack([one[name] for one in each]).double() for name in each[0]}


def derivatives(loss_of, params):
    """Losses [tasks], the gradient, and the whole Hessian of the loss of each task in its own parameters."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    losses = loss_of(leaves)
    gradients = torch.autograd.grad(losses.sum(), list(leaves.values()), create_graph=True)
    gradient = torch.cat([part.flatten(1) for part in gradients], 1)
    hessian = [
        torch.cat(
            [part.flatten(1) for part in torch.autograd.grad(column.sum(), list(leaves.values()), retain_graph=True)], 1
        )
        for column in gradient.unbind(1)
    ]
    return losses.detach(), gradient.detach(), torch.stack(hessian, 1)


def test_condensed_samples_have_the_same_loss_gradient_and_hessian(softmax):
    policy, params = softmax
    samples = tabular_samples()
    together = condense(samples, STATES, ACTIONS)
    assert together.weights.shape == (TASKS, STATES * ACTIONS)
    assert not together.weights[0, -ACTIONS:].any()
    plain, condensed = (
        derivatives(
            lambda leaves, data=data: score_function(policy.log_prob(leaves, data.observations, data.actions), data),
            params,
        )
        for data in (samples, together)
    )
    for one, other in zip(condensed, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)
    assert float(plain[2].abs().max()) > 1e-2


def test_condensed_samples_have_the_same_likelihood_ratio_and_divergence(softmax):
    policy, params = softmax
    samples = tabular_samples()
    together = condense(samples, STATES, ACTIONS)
    moved = {name: tensor + 0.1 * tensor.cos() for name, tensor in params.items()}
    losses = []
    for data in (together, samples):
        old, new = (policy.log_prob(one, data.observations, data.actions) for one in (params, moved))
        losses.append(likelihood_ratio(new, data._replace(old_log_prob=old)))
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    visits = [policy.places(data.observations, data.weights) for data in (samples, together)]
    torch.testing.assert_close(*visits)
    every = samples.observations.squeeze(-1)
    assert torch.equal(visits[0], sum_by_key(samples.weights, every, STATES))
    for task, state in np.ndindex(TASKS, STATES):
        assert float(visits[0][task, state]) == float(samples.weights[task][every[task] == state].sum())


def test_condensing_moves_a_squared_error_by_a_constant():
    samples = tabular_samples()
    together = condense(samples, STATES, ACTIONS)
    table = torch.randn(2, TASKS, STATES, generator=generator(2), dtype=torch.float64)
    moves = [
        squared_error(values.gather(1, together.observations.squeeze(-1)), together)
        - squared_error(values.gather(1, samples.observations.squeeze(-1)), samples)
        for values in table
    ]
    torch.testing.assert_close(moves[0], moves[1], rtol=1e-12, atol=1e-14)


def test_flat_samples_run_through_the_episodes_one_after_another(trajectories):
    data = trajectories("rows")
    number = torch.arange(TASKS * EPISODES * HORIZON).view(TASKS, EPISODES, HORIZON).float()
    flat = flat_samples(data, number, -number)
    assert flat.advantages[1].tolist() == list(range(EPISODES * HORIZON, 2 * EPISODES * HORIZON))
    assert torch.equal(flat.returns, -flat.advantages)
    assert torch.equal(flat.observations[2, HORIZON : 2 * HORIZON], data.observations[2, 1])


def test_the_fit_of_many_features_is_the_same_on_two_threads():
    rng, before = torch.Generator().manual_seed(0), torch.get_num_threads()
    features = torch.randn(8, 400, 214, generator=rng, dtype=torch.float64)
    matrices = features.transpose(1, 2) @ features
    right = torch.randn(8, 214, 1, generator=rng, dtype=torch.float64)
    alone = _solved(matrices, right)
    try:
        torch.set_num_threads(2)
        assert torch.equal(_solved(matrices, right), alone)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

"""Policies against torch.distributions: how often they act, densities, divergences, and the metric behind these.

And the surrogates on a softmax bandit, where their second derivatives are known in closed form.
"""

from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from algorithms.meta_gradients import first_order, second_order
from algorithms.policies import CategoricalPolicy, GaussianPolicy, make_policy
from algorithms.samples import Samples
from algorithms.settings import ActorSettings
from algorithms.surrogates import likelihood_ratio, score_function
from harness.api import MetaBatch

TASKS, SLOTS = 3, 7
EDGE = float(torch.tensor(1.0).nextafter(torch.tensor(0.0)))
"""The largest float32 below 1."""


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def suite_like(table=None, dim=2, num_actions=None, action_dim=1):
    return SimpleNamespace(
        observation_table=table,
        observation_dim=dim if table is None else table.shape[1],
        num_actions=num_actions,
        action_dim=action_dim,
    )


def actor(**settings):
    return ActorSettings(**{"actor_hidden_sizes": [4], "hidden_activation": "tanh"} | settings)


def each_task(policy, count=TASKS, dtype=torch.float64):
    """Other initial parameters for every task."""
    drawn = [policy.init(generator(seed)) for seed in range(count)]
    return {name: 2.0 * torch.stack([one[name] for one in drawn]).to(dtype) for name in drawn[0]}


def with_probabilities(rows):
    """A policy without hidden layers on an identity table, and parameters with given probabilities [rows][actions]."""
    probabilities = torch.tensor(rows)
    suite = suite_like(torch.eye(len(rows)), num_actions=probabilities.shape[1])
    params = {"actor/0/weight": probabilities.log(), "actor/0/bias": torch.zeros(probabilities.shape[1])}
    return CategoricalPolicy(actor(actor_hidden_sizes=[]), suite), params


PROBABILITIES = [[0.5, 0.2, 0.25, 0.05], [0.1, 0.1, 0.1, 0.7], [0.25, 0.25, 0.25, 0.25]]


def frequencies(policy, params, rows, count=20_000):
    """How often each action is taken, [tasks][actions], where task i sees the observation rows[i]."""
    tasks = len(rows)
    noise = policy.draw_noise(generator(3), tasks, count, 1)[0]
    assert noise.shape == (tasks, count)
    actions, memory = policy.act(params, torch.tensor(rows).view(-1, 1, 1).expand(tasks, count, 1), None, noise)
    assert memory is None
    assert (actions.shape, actions.dtype) == ((tasks, count, 1), torch.int64)
    return [one.flatten().bincount(minlength=4).numpy() for one in actions]


def test_actions_are_as_frequent_as_the_softmax_says_for_shared_parameters():
    policy, params = with_probabilities(PROBABILITIES)
    for row, counts in zip((2, 0, 1, 0), frequencies(policy, params, [2, 0, 1, 0]), strict=True):
        assert stats.chisquare(counts, 20_000 * torch.tensor(PROBABILITIES[row]).double().numpy()).pvalue > 1e-3


def test_actions_are_as_frequent_as_the_softmax_says_for_parameters_of_every_task():
    policy, params = with_probabilities(PROBABILITIES)
    shuffled = [1, 2, 0]
    each = {
        name: torch.stack([tensor, tensor[shuffled] if tensor.dim() == 2 else tensor])
        for name, tensor in params.items()
    }
    for counts, row in zip(frequencies(policy, each, [0, 0]), (0, 1), strict=True):
        assert stats.chisquare(counts, 20_000 * torch.tensor(PROBABILITIES[row]).double().numpy()).pvalue > 1e-3


@pytest.mark.parametrize("shared", [True, False])
def test_actions_on_vectors_are_as_frequent_as_the_softmax_says(shared):
    policy = CategoricalPolicy(actor(), suite_like(dim=2, num_actions=4))
    params = policy.init(generator()) if shared else each_task(policy, dtype=torch.float32)
    vectors = torch.randn(TASKS, 1, 2, generator=generator(1))
    noise = policy.draw_noise(generator(3), TASKS, 20_000, 1)[0]
    actions = policy.act(params, vectors.expand(TASKS, 20_000, 2), None, noise)[0]
    full = {name: tensor.expand(TASKS, *tensor.shape) for name, tensor in params.items()} if shared else params
    chances = policy.distribution(full, vectors)[0].exp().squeeze(1).double()
    for one, expected in zip(actions, chances / chances.sum(-1, keepdim=True), strict=True):
        counts = one.flatten().bincount(minlength=4).numpy()
        assert stats.chisquare(counts, 20_000 * expected.numpy()).pvalue > 1e-3


def test_an_action_is_where_the_noise_falls_in_the_cumulated_probabilities():
    policy, params = with_probabilities(PROBABILITIES[:1])
    noise = torch.tensor([[0.0, 0.49, 0.51, 0.69, 0.71, 0.94, 0.96, EDGE]])
    seen = torch.zeros(1, 8, 1, dtype=torch.int64)
    assert policy.act(params, seen, None, noise)[0].flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_batch_acts_as_its_members_alone():
    policy, params = with_probabilities(PROBABILITIES)
    rng = generator(2)
    rows, noise = torch.randint(3, (5, 40, 1), generator=rng), torch.rand(5, 40, generator=rng)
    each = {name: torch.stack([tensor.roll(task) for task in range(5)]) for name, tensor in params.items()}
    for given in (params, each):
        together = policy.act(given, rows, None, noise)[0]
        for task in range(5):
            own = given if given is params else {name: tensor[task : task + 1] for name, tensor in given.items()}
            for episode in range(0, 40, 7):
                one = (slice(task, task + 1), slice(episode, episode + 1))
                assert torch.equal(policy.act(own, rows[one], None, noise[one])[0], together[one])


def test_noise_with_one_task_is_shared_by_all_tasks():
    policy, params = with_probabilities(PROBABILITIES)
    noise = torch.rand(1, 30, generator=generator())
    rows = torch.randint(3, (4, 30, 1), generator=generator(1))
    shared, repeated = (policy.act(params, rows, None, one)[0] for one in (noise, noise.expand(4, 30)))
    assert torch.equal(shared, repeated)


@pytest.mark.parametrize("uniform", [0.0, 0.3, EDGE])
@pytest.mark.parametrize("shared", [True, False])
def test_what_has_probability_0_is_never_done(uniform, shared):
    # exp(-1000) is 0 in float64.
    never = -1000.0
    rows = torch.tensor([[never, 0.0, never], [0.0, never, never], [never, never, 0.0], [never, 0.0, 0.0]])
    params = {"actor/0/weight": rows, "actor/0/bias": torch.zeros(3)}
    if not shared:
        params = {name: tensor.expand(4, *tensor.shape) for name, tensor in params.items()}
    policy = CategoricalPolicy(actor(actor_hidden_sizes=[]), suite_like(torch.eye(4), num_actions=3))
    seen = torch.arange(4).view(4, 1, 1)
    actions = policy.act(params, seen, None, torch.full((4, 1), uniform))[0].flatten().tolist()
    assert actions == [1, 0, 2, 2 if uniform == EDGE else 1]


@pytest.mark.parametrize("uniform", [0.0, 0.5, EDGE])
@pytest.mark.parametrize("num_actions", [1, 3, 50])
def test_no_action_lies_outside_the_set(uniform, num_actions):
    policy = CategoricalPolicy(actor(actor_hidden_sizes=[]), suite_like(torch.ones(1, 1), num_actions=num_actions))
    # The last of very many tasks: rows are told apart by whole numbers.
    tasks = 30_000
    seen, noise = torch.zeros(tasks, 1, 1, dtype=torch.int64), torch.full((tasks, 1), uniform)
    params = {"actor/0/weight": torch.zeros(tasks, 1, num_actions), "actor/0/bias": torch.zeros(tasks, num_actions)}
    actions = policy.act(params, seen, None, noise)[0].unique().tolist()
    assert actions == [{0.0: 0, 0.5: num_actions // 2, EDGE: num_actions - 1}[uniform]]


def test_a_policy_that_has_lost_its_numbers_still_acts_within_the_set():
    """So that the run is found to have diverged, and does not end in an error about an index."""
    policy, params = with_probabilities(PROBABILITIES)
    lost = {name: tensor * torch.nan for name, tensor in params.items()}
    noise = torch.tensor([[0.0, 0.5, EDGE]] * 3)
    actions = policy.act(lost, torch.arange(3).view(3, 1, 1).expand(3, 3, 1), None, noise)[0]
    assert set(actions.flatten().tolist()) <= {0, 1, 2, 3}


def test_a_gaussian_acts_at_its_mean_plus_the_scaled_noise():
    policy = GaussianPolicy(actor(actor_hidden_sizes=[], actor_output_activation="linear"), suite_like(action_dim=2))
    params = {
        "actor/0/weight": torch.tensor([[1.0, 0.0], [0.0, -2.0]]),
        "actor/0/bias": torch.tensor([0.5, 0.0]),
        "actor/log_std": torch.tensor([0.0, 2.0]).log().nan_to_num(neginf=-30.0),  # SD 0 (nearly) and 2
    }
    seen, noise = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[5.0, -1.0]]])
    each = {name: tensor.unsqueeze(0) for name, tensor in params.items()}
    for given in (params, each):
        action, memory = policy.act(given, seen, None, noise)
        assert memory is None
        torch.testing.assert_close(action, torch.tensor([[[1.5, -6.0 - 2.0]]]))


def test_gaussian_noise_is_standard_normal():
    policy = GaussianPolicy(actor(), suite_like(action_dim=3))
    noise = policy.draw_noise(generator(), 20, 30, 7)
    assert noise.shape == (7, 20, 30, 3)
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 1e-3


def test_the_kind_of_policy_follows_from_the_actions_of_the_suite():
    assert isinstance(make_policy(actor(), suite_like(num_actions=3)), CategoricalPolicy)
    assert isinstance(make_policy(actor(), suite_like(torch.eye(2), num_actions=3)), CategoricalPolicy)
    assert isinstance(make_policy(actor(), suite_like(action_dim=3)), GaussianPolicy)


@pytest.fixture(params=["softmax on rows", "softmax on vectors", "gaussian on vectors"])
def case(request):
    """(policy, parameters, other parameters, observations, actions) of three tasks in float64."""
    kind, _, seen = request.param.split()
    table = torch.randn(5, 2, generator=generator(4)) if seen == "rows" else None
    suite = suite_like(table, num_actions=4) if kind == "softmax" else suite_like(table, action_dim=2)
    policy, rng = make_policy(actor(), suite), generator(7)
    params = each_task(policy)
    other = {name: tensor + 0.3 * torch.randn(tensor.shape, generator=rng) for name, tensor in params.items()}
    observations = torch.randn(TASKS, SLOTS, 2, generator=rng, dtype=torch.float64)
    if table is not None:
        observations = torch.randint(5, (TASKS, SLOTS, 1), generator=rng)
    actions = torch.randn(TASKS, SLOTS, 2, generator=rng, dtype=torch.float64)
    if kind == "softmax":
        actions = torch.randint(4, (TASKS, SLOTS, 1), generator=rng)
    return policy, params, other, observations, actions


def plain(policy, params, observations):
    """The distribution [tasks, samples] as torch.distributions has it, from a network in plain operations."""
    vectors = observations
    if policy._table is not None:
        vectors = policy._table.double()[observations.squeeze(-1)]
    hidden = torch.tanh(vectors @ params["actor/0/weight"] + params["actor/0/bias"].unsqueeze(1))
    outputs = hidden @ params["actor/1/weight"] + params["actor/1/bias"].unsqueeze(1)
    if isinstance(policy, CategoricalPolicy):
        return Categorical(logits=outputs)
    return Independent(Normal(outputs.tanh(), params["actor/log_std"].exp().unsqueeze(1).expand_as(outputs)), 1)


def test_log_probabilities_are_those_of_torch_distributions(case):
    policy, params, _, observations, actions = case
    values = actions.squeeze(-1) if isinstance(policy, CategoricalPolicy) else actions
    expected = plain(policy, params, observations).log_prob(values)
    torch.testing.assert_close(policy.log_prob(params, observations, actions), expected, rtol=1e-10, atol=1e-10)


def at_samples(policy, per_place, observations):
    """Values of places [tasks, places] at the samples."""
    return per_place if policy._table is None else per_place.gather(1, observations.squeeze(-1))


def test_the_divergence_is_that_of_torch_distributions(case):
    policy, params, other, observations, _ = case
    first, second = (policy.distribution(one, observations) for one in (params, other))
    expected = kl_divergence(*(plain(policy, one, observations) for one in (params, other)))
    torch.testing.assert_close(
        at_samples(policy, policy.kl(first, second), observations), expected, rtol=1e-9, atol=1e-10
    )
    assert not at_samples(policy, policy.kl(first, first), observations).abs().max() > 1e-12
    backwards = at_samples(policy, policy.kl(second, first), observations)
    assert float((backwards - expected).abs().min()) > 1e-6


def test_places_have_the_weights_of_their_samples(case):
    policy, params, other, observations, _ = case
    weights = torch.rand(TASKS, SLOTS, generator=generator(), dtype=torch.float64)
    first, second = (policy.distribution(one, observations) for one in (params, other))
    visits = policy.places(observations, weights)
    each = kl_divergence(*(plain(policy, one, observations) for one in (params, other)))
    torch.testing.assert_close((policy.kl(first, second) * visits).sum(-1), (each * weights).sum(-1))


def as_function_of_a_vector(params):
    """The parameters as one vector, and the way back."""
    names = sorted(params)

    def unflatten(vector):
        parts = vector.split([params[name].numel() for name in names])
        return {name: part.view_as(params[name]) for name, part in zip(names, parts, strict=True)}

    return torch.cat([params[name].flatten() for name in names]), unflatten


def jacobian(policy, params, observations):
    """Of the distribution by the flat parameters: the shapes of the distribution and a last axis."""
    flat, unflatten = as_function_of_a_vector(params)
    return torch.autograd.functional.jacobian(lambda vector: policy.distribution(unflatten(vector), observations), flat)


@pytest.mark.parametrize("output", ["tanh", "linear"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_tangent_is_the_jacobian_of_the_distribution_times_a_direction(case, output, activation):
    policy, params, other, observations, _ = case
    policy._settings = actor(hidden_activation=activation, actor_output_activation=output)
    direction = as_function_of_a_vector(other)[0]
    distribution = policy.distribution(params, observations)
    moved = policy.tangent(params, policy.hidden(params, observations), distribution, other)
    for part, columns in zip(moved, jacobian(policy, params, observations), strict=True):
        torch.testing.assert_close(part, columns @ direction, rtol=1e-9, atol=1e-11)


def test_the_fisher_metric_is_the_hessian_of_the_mean_divergence(case):
    policy, params, _, observations, _ = case
    weights = torch.rand(TASKS, SLOTS, generator=generator(), dtype=torch.float64)
    flat, unflatten = as_function_of_a_vector(params)

    def divergence(vector):
        each = kl_divergence(plain(policy, params, observations), plain(policy, unflatten(vector), observations))
        return ((each * weights).sum(-1) / weights.sum(-1)).sum()

    hessian = torch.autograd.functional.hessian(divergence, flat)
    assert float(hessian.abs().max()) > 1e-3
    # J' M J with the Jacobian J of the distribution, column by column.
    jacobians = jacobian(policy, params, observations)
    distribution = policy.distribution(params, observations)
    visits = policy.places(observations, weights)
    share = (visits / visits.sum(-1, keepdim=True)).unsqueeze(-1)
    columns = []
    for column in range(len(flat)):
        weighed = policy.fisher(distribution, tuple(part[..., column] for part in jacobians), share)
        columns.append(
            sum(torch.tensordot(one, part, dims=one.dim()) for one, part in zip(weighed, jacobians, strict=True))
        )
    torch.testing.assert_close(torch.stack(columns, 1), hessian, rtol=1e-8, atol=1e-10)


def test_curves_show_the_entropy_of_a_softmax_and_the_deviation_of_a_gaussian():
    policy, params = with_probabilities(PROBABILITIES)
    entropy = Categorical(torch.tensor(PROBABILITIES)).entropy().mean()
    assert policy.metrics(params) == {"policy_entropy": pytest.approx(float(entropy), rel=1e-6)}
    gaussian = GaussianPolicy(actor(), suite_like(action_dim=2))
    shown = gaussian.metrics({"actor/log_std": torch.tensor([0.5, 2.0]).log()})
    assert shown == {"action_std": pytest.approx(1.25)}


# The one-step softmax bandit: K logits, action k with probability p_k pays r_k. J = Σ p_k r_k.
LOGITS = torch.tensor([0.3, -0.8, 1.1, 0.0], dtype=torch.float64)
REWARDS = torch.tensor([1.0, 0.2, -0.5, 2.0], dtype=torch.float64)


def softmax_bandit():
    """A policy whose only parameters that matter are its output biases, the logits: the constant input is 0."""
    policy = CategoricalPolicy(actor(actor_hidden_sizes=[]), suite_like(torch.zeros(1, 1), num_actions=4))
    return policy, {"actor/0/weight": torch.ones(1, 1, 4, dtype=torch.float64), "actor/0/bias": LOGITS.unsqueeze(0)}


def every_action(advantages):
    """All actions, as often as the policy takes them: means over these samples are exact expectations."""
    return Samples(
        observations=torch.zeros(1, 4, 1, dtype=torch.int64),
        actions=torch.arange(4).view(1, 4, 1),
        advantages=advantages.unsqueeze(0),
        returns=REWARDS.unsqueeze(0),
        weights=LOGITS.softmax(0).unsqueeze(0),
    )


def score(policy, params, samples):
    return score_function(policy.log_prob(params, samples.observations, samples.actions), samples)


def ratio(policy, params, samples):
    new = policy.log_prob(params, samples.observations, samples.actions)
    return likelihood_ratio(new, samples._replace(old_log_prob=new.detach()))


def expected_derivatives(surrogate, advantages):
    """Gradient and Hessian of what the surrogate maximises, in the logits; the other parameter must not matter."""
    policy, params = softmax_bandit()
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    loss = surrogate(policy, leaves, every_action(advantages)).sum()
    of_weight, gradient = torch.autograd.grad(-loss, list(leaves.values()), create_graph=True)
    assert not of_weight.any()
    rows = [torch.autograd.grad(one, leaves["actor/0/bias"], retain_graph=True)[0][0] for one in gradient[0]]
    return gradient[0].detach(), torch.stack(rows)


@pytest.mark.parametrize("shift", [0.0, -3.0, "mean"])
@pytest.mark.parametrize("surrogate", [score, ratio])
def test_both_surrogates_have_the_exact_gradient_whatever_is_taken_from_the_reward(surrogate, shift):
    p = LOGITS.softmax(0)
    mean = p @ REWARDS
    gradient, _ = expected_derivatives(surrogate, REWARDS - (mean if shift == "mean" else shift))
    torch.testing.assert_close(gradient, p * (REWARDS - mean), rtol=1e-12, atol=1e-14)


def exact_hessian():
    """H_ij = p_i δ_ij (r_i - J) - p_i p_j (r_i + r_j - 2J)"""
    p = LOGITS.softmax(0)
    mean = p @ REWARDS
    return torch.diag(p * (REWARDS - mean)) - torch.outer(p, p) * (REWARDS.unsqueeze(1) + REWARDS - 2 * mean)


def test_the_exact_hessian_is_that_of_the_expected_reward():
    expected = torch.autograd.functional.hessian(lambda logits: logits.softmax(0) @ REWARDS, LOGITS)
    torch.testing.assert_close(exact_hessian(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_the_score_function_has_h2_only(shift):
    p, advantages = LOGITS.softmax(0), REWARDS - shift
    _, hessian = expected_derivatives(score, advantages)
    torch.testing.assert_close(hessian, -(p @ advantages) * (torch.diag(p) - torch.outer(p, p)), rtol=1e-12, atol=1e-14)
    assert float((hessian - exact_hessian()).abs().max()) > 0.05


def test_with_advantages_of_mean_zero_the_score_function_has_no_second_derivative():
    p = LOGITS.softmax(0)
    _, hessian = expected_derivatives(score, REWARDS - p @ REWARDS)
    assert float(hessian.abs().max()) < 1e-15


@pytest.mark.parametrize("shift", [0.0, -3.0, "mean"])
def test_the_likelihood_ratio_has_the_exact_hessian(shift):
    mean = LOGITS.softmax(0) @ REWARDS
    _, hessian = expected_derivatives(ratio, REWARDS - (mean if shift == "mean" else shift))
    torch.testing.assert_close(hessian, exact_hessian(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mean_zero", [True, False])
def test_through_one_step_maml_is_fomaml_exactly_where_advantages_have_mean_zero(mean_zero):
    """∇L(θ') against (I - α H2 of the loss) ∇L(θ'), where the bias is all that is adapted."""
    policy, params = softmax_bandit()
    advantages = REWARDS - (LOGITS.softmax(0) @ REWARDS if mean_zero else 0.0)
    samples = every_action(advantages)
    rate = 0.7

    def loss(given, data):
        return score(policy, given, data)

    def adaptation(given, data):
        gradients = torch.autograd.grad(loss(given, data).sum(), list(given.values()), create_graph=True)
        return {name: given[name] - rate * part for name, part in zip(given, gradients, strict=True)}

    learner = SimpleNamespace(inner_loss=loss, outer_loss=loss, adaptation=adaptation)
    shared = {name: tensor[0] for name, tensor in params.items()}
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    adapted = {name: tensor.detach() for name, tensor in adaptation(leaves, samples).items()}
    data = MetaBatch((samples,), adapted, samples)
    of_maml, of_fomaml = (method(learner, shared, data)["actor/0/bias"] for method in (second_order, first_order))
    h2 = expected_derivatives(score, advantages)[1]
    torch.testing.assert_close(of_maml, of_fomaml + rate * h2 @ of_fomaml, rtol=1e-12, atol=1e-14)
    assert (float((of_maml - of_fomaml).abs().max()) < 1e-14) is mean_zero

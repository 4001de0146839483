"""Trust-region steps in closed form, and their ingredients through the adaptation against plain autograd."""

import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

import algorithms.samples
from algorithms import ALGORITHMS
from algorithms.fisher import PostUpdateGeometry
from algorithms.meta_gradients import first_order, second_order
from algorithms.settings import TrustRegionMethodSettings
from algorithms.surrogates import likelihood_ratio
from algorithms.trust_region import conjugate_gradient, flatten, trust_region_step, unflatten
from harness.api import MetaBatch, State
from harness.rollout import rollout
from suites import SUITES
from tests.reference.plain_actor_critic import network

SMALL = {
    "bandits": {"arms": 4, "constant_input": 1.0},
    "tabular_mdp": {"states": 3, "actions": 3, "horizon": 4},
    "navigation": {"horizon": 5},
}
METHOD = {"actor_hidden_sizes": [5, 4], "hidden_activation": "tanh", "inner_lr": 0.7}
ADAPTATIONS = {
    "no step": {"adaptation_steps": 0},
    "one step": {"adaptation_steps": 1},
    "two fresh steps": {"adaptation_steps": 2},
    "two reused steps": {"adaptation_steps": 2, "adaptation_data": "reused"},
}

every_suite = pytest.mark.parametrize("suite_name", sorted(SMALL))
every_adaptation = pytest.mark.parametrize("adaptation", ADAPTATIONS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def build(registry, name, *arguments, **settings):
    return registry[name].load()(registry[name].settings.model_validate(settings), *arguments)


def double(values):
    """A dictionary or named tuple of tensors with float64 where there are floats."""

    def cast(tensor):
        return tensor.double() if tensor.is_floating_point() else tensor

    if isinstance(values, dict):
        return {name: cast(tensor) for name, tensor in values.items()}
    return type(values)(*map(cast, values))


def collected(suite_name, method, tasks=3, episodes=9, seed=0, cast=double, **settings):
    """A learner, its initial parameters, and the data of its first meta-iteration."""
    suite = build(SUITES, suite_name, **SMALL[suite_name])
    learner = build(ALGORITHMS, method, suite, **METHOD | settings)
    rng = generator(seed)
    params, drawn = cast(learner.init(rng).params), suite.sample_tasks(tasks, rng)

    def sample(given):
        single = {name: tensor.float() for name, tensor in given.items()}
        noise = learner.policy.draw_noise(rng, tasks, episodes, suite.horizon)
        trajectories = rollout(suite, learner.policy, single, drawn, episodes, rng, noise)
        return cast(learner.prepare(single, trajectories, {}, shared_slots=False)[0])

    adapted, current = {name: tensor.expand(tasks, *tensor.shape) for name, tensor in params.items()}, params
    pre_update = []
    for _ in range(learner.adaptation_rounds):
        pre_update.append(sample(current))
        current = adapted = learner.adapt(current, pre_update[-1])
    return learner, params, MetaBatch(tuple(pre_update), adapted, sample(current))


def random_like(params, seed=1):
    rng = generator(seed)
    return {name: torch.randn(tensor.shape, generator=rng, dtype=tensor.dtype) for name, tensor in params.items()}


def dot(one, other):
    return float(flatten(one) @ flatten(other))


def distance(one, other):
    """Size of the difference relative to the size."""
    return float((flatten(one) - flatten(other)).norm() / flatten(other).norm())


# Conjugate gradient and the step, on quadratics.


def positive_definite(size, seed=0):
    root = torch.randn(size, size, generator=generator(seed), dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_conjugate_gradient_solves_a_system_of_n_equations_in_n_steps(size):
    matrix = positive_definite(size)
    b = torch.randn(size, generator=generator(1), dtype=torch.float64)
    x, residual = conjugate_gradient(lambda vector: matrix @ vector, b, size)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b), rtol=1e-6, atol=1e-8)
    assert float(residual.norm()) < 1e-6
    early, residual = conjugate_gradient(lambda vector: matrix @ vector, b, max(1, size // 2))
    torch.testing.assert_close(residual, b - matrix @ early, rtol=1e-9, atol=1e-9)


def counted(product):
    calls = []

    def with_count(vector):
        calls.append(vector.clone())
        return product(vector)

    return with_count, calls


def test_conjugate_gradient_stops_when_it_is_done_and_at_zero():
    product, calls = counted(lambda vector: 2.0 * vector)
    b = torch.tensor([3.0, -4.0])
    x, residual = conjugate_gradient(product, b, 10)
    assert (x.tolist(), residual.tolist(), len(calls)) == ([1.5, -2.0], [0.0, 0.0], 1)
    x, residual = conjugate_gradient(lambda vector: 2.0 * vector, torch.zeros(2), 10)
    assert x.tolist() == residual.tolist() == [0.0, 0.0]


def test_a_small_right_hand_side_is_solved_as_well_as_a_large_one():
    matrix = positive_definite(4)
    tiny = 1e-9 * torch.ones(4, dtype=torch.float64)
    x, _ = conjugate_gradient(lambda vector: matrix @ vector, tiny, 1)
    length = (tiny @ tiny) / (tiny @ matrix @ tiny)
    torch.testing.assert_close(x, length * tiny, rtol=1e-10, atol=0)


def test_a_matrix_that_is_not_positive_definite_gives_no_direction():
    for product in (lambda vector: -vector, lambda vector: 0.0 * vector, lambda vector: vector * torch.nan):
        assert not conjugate_gradient(product, torch.ones(3), 5)[0].any()


def trust_region(**settings):
    return TrustRegionMethodSettings(**{"inner_lr": 0.0, "cg_iterations": 20, "cg_damping": 0.0} | settings)


START = {"a": torch.tensor([1.0, -2.0], dtype=torch.float64), "b": torch.tensor([[0.5, 3.0]], dtype=torch.float64)}


def quadratic(metric, gradient, kl_factor):
    """A linear loss and ``kl_factor`` times the quadratic that the metric promises, both around the start."""

    def trial(params):
        move = flatten(params) - flatten(START)
        return float(7.0 + gradient @ move), float(kl_factor * 0.5 * move @ metric @ move)

    return trial


@pytest.mark.parametrize("damping", [0.0, 0.5])
@pytest.mark.parametrize(("kl_factor", "backtracks"), [(0.9, 0), (1.5, 1), (2.0, 2)])
def test_the_step_has_its_closed_form(damping, kl_factor, backtracks):
    # f^2j · factor ≤ 1 for f = 0.8: 1.5 · 0.64 = 0.96, 2 · 0.64 = 1.28, 2 · 0.4096 = 0.82.
    metric = positive_definite(4)
    damped = metric + damping * torch.eye(4, dtype=torch.float64)
    gradient = torch.tensor([0.3, -1.0, 0.2, 0.05], dtype=torch.float64)
    product = lambda vector: unflatten(metric @ flatten(vector), START)  # noqa: E731
    # With damping the promised quadratic is that of the damped metric.
    trial = quadratic(damped, gradient, kl_factor)
    settings = trust_region(max_kl=0.02, cg_damping=damping)
    params, report = trust_region_step(START, unflatten(gradient, START), product, trial, settings)
    direction = torch.linalg.solve(damped, gradient)
    step = 0.8**backtracks * (2 * 0.02 / (direction @ gradient)).sqrt() * direction
    torch.testing.assert_close(flatten(params), flatten(START) - step, rtol=1e-7, atol=1e-9)
    assert {name: tensor.shape for name, tensor in params.items()} == {"a": (2,), "b": (1, 2)}
    assert (report.accepted, report.backtracks, report.loss_before) == (True, backtracks, 7.0)
    assert report.loss == pytest.approx(7.0 - float(gradient @ step))
    assert report.kl == pytest.approx(kl_factor * 0.02 * 0.64**backtracks)


@pytest.mark.parametrize(
    "answer", [lambda loss, kl: (loss + 1.0, 0.0), lambda loss, kl: (loss, 0.0), lambda loss, kl: (loss - 1.0, 0.011)],
    ids=["larger loss", "equal loss", "too large a divergence"],
)  # fmt: skip
def test_a_line_search_that_finds_nothing_leaves_the_very_same_parameters(answer):
    gradient, tried = torch.ones(4, dtype=torch.float64), []

    def trial(params):
        tried.append(params)
        return (7.0, 0.0) if len(tried) == 1 else answer(7.0, 0.0)

    params, report = trust_region_step(START, unflatten(gradient, START), lambda v: v, trial, trust_region())
    assert params is START
    assert report == (False, 15, 7.0, 7.0, 0.0)
    moves = [flatten(START) - flatten(one) for one in tried[1:]]
    # δ = 0.01, F = I, g'g = 4: a first step of √(0.02) along g / 2, each of the next 0.8 times the one before.
    for j, move in enumerate(moves):
        torch.testing.assert_close(move, 0.8**j * 0.02**0.5 * gradient / 2)
    assert len(moves) == 15


@pytest.mark.parametrize("gradient", [0.0, torch.nan, torch.inf])
def test_without_a_finite_gradient_no_step_is_tried(gradient):
    given = unflatten(torch.full((4,), gradient, dtype=torch.float64), START)
    tried = []

    def trial(params):
        tried.append(params)
        return 7.0, 0.0

    params, report = trust_region_step(START, given, lambda vector: vector, trial, trust_region())
    assert params is START
    assert report == (False, 0, 7.0, 7.0, 0.0)
    assert len(tried) == 1


def test_a_divergence_at_the_bound_is_within_it():
    gradient = {"a": torch.ones(2, dtype=torch.float64)}
    at = {"a": torch.zeros(2, dtype=torch.float64)}
    trial = lambda params: (float(params["a"].sum()), 0.01 if params["a"].any() else 0.0)  # noqa: E731
    assert trust_region_step(at, gradient, lambda vector: vector, trial, trust_region())[1].backtracks == 0


def test_the_length_of_the_gradient_does_not_matter():
    metric = positive_definite(4)
    gradient = torch.tensor([0.3, -1.0, 0.2, 0.05], dtype=torch.float64)
    steps = []
    for scale in (1.0, 1e-3, 1e3):
        trial = quadratic(metric, scale * gradient, 0.9)
        product = lambda vector: unflatten(metric @ flatten(vector), START)  # noqa: E731
        params, report = trust_region_step(
            START, unflatten(scale * gradient, START), product, trial, trust_region(cg_iterations=4)
        )
        assert report.accepted
        steps.append(flatten(params) - flatten(START))
    torch.testing.assert_close(steps[0], steps[2], rtol=1e-5, atol=1e-8)
    # A small gradient is solved less exactly, but it is no reason for a small step.
    assert float(steps[1].norm()) > 0.3 * float(steps[0].norm())


# The adapted policies in plain operations, one task at a time.


def plain_distribution(learner, params, observations):
    """Of one task, at its samples [slots]; parameters without a tasks axis."""
    table = learner.policy._table
    inputs = observations if table is None else table.to(params["actor/0/bias"].dtype)[observations.squeeze(-1)]
    outputs = network(params, "actor", inputs, learner.settings.hidden_activation)
    if table is None:
        return Independent(Normal(outputs.tanh(), params["actor/log_std"].exp().expand_as(outputs)), 1)
    return Categorical(logits=outputs)


def plain_log_prob(learner, params, samples, task):
    actions = samples.actions[task]
    chosen = actions if learner.policy._table is None else actions.squeeze(-1)
    return plain_distribution(learner, params, samples.observations[task]).log_prob(chosen)


def average(values, samples, task):
    return (values * samples.weights[task]).sum() / samples.weights[task].sum()


def plain_adaptation(learner, params, data, task):
    """θ' of one task, differentiable in θ."""
    steps = learner.settings.adaptation_steps
    reused = learner.settings.adaptation_data == "reused"
    for samples in data.pre_update * steps if reused else data.pre_update:
        loss = -average(plain_log_prob(learner, params, samples, task) * samples.advantages[task], samples, task)
        gradients = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        params = {
            name: params[name] - learner.settings.inner_lr * gradient
            for name, gradient in zip(params, gradients, strict=True)
        }
    return params


def old_params(data, task):
    return {name: tensor[task].detach() for name, tensor in data.adapted.items()}


def plain_loss_and_kl(learner, params, data, through_adaptation=True):
    """Mean over tasks of the likelihood-ratio loss and of KL(old ‖ adapted θ)."""
    samples, losses, divergences = data.post_update, [], []
    for task in range(samples.weights.shape[0]):
        old = old_params(data, task)
        if through_adaptation:
            new = plain_adaptation(learner, params, data, task)
        else:  # the adaptation as a constant shift
            new = {name: old[name] + params[name] - params[name].detach() for name in params}
        ratio = (plain_log_prob(learner, new, samples, task) - plain_log_prob(learner, old, samples, task)).exp()
        losses.append(-average(ratio * samples.advantages[task], samples, task))
        before, after = (plain_distribution(learner, one, samples.observations[task]) for one in (old, new))
        divergences.append(average(kl_divergence(before, after), samples, task))
    return torch.stack(losses).mean(), torch.stack(divergences).mean()


def plain_products(learner, params, data, vector, through_adaptation=True):
    """Gradient of the loss, and by double backprop the Hessian of the divergence times a vector."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    every = list(leaves.values())
    loss, divergence = plain_loss_and_kl(learner, leaves, data, through_adaptation)
    gradient = torch.autograd.grad(loss, every, retain_graph=True)
    slope = torch.autograd.grad(divergence, every, create_graph=True)
    along = sum((one * vector[name]).sum() for name, one in zip(leaves, slope, strict=True))
    product = torch.autograd.grad(along, every)
    return tuple(dict(zip(leaves, parts, strict=True)) for parts in (gradient, product))


@every_adaptation
@every_suite
def test_gradient_and_metric_equal_double_backprop_in_plain_autograd(suite_name, adaptation):
    learner, params, data = collected(suite_name, "maml_trpo", **ADAPTATIONS[adaptation])
    vector = random_like(params)
    geometry = PostUpdateGeometry(learner, params, data, through_adaptation=True)
    gradient, product = plain_products(learner, params, data, vector)
    assert distance(geometry.gradient(), gradient) < 1e-9
    assert distance(geometry.fisher_product(vector), product) < 1e-9


@pytest.mark.parametrize("adaptation", ["one step", "two reused steps"])
@every_suite
def test_fomaml_takes_the_adaptation_for_a_constant_shift(suite_name, adaptation):
    learner, params, data = collected(suite_name, "fomaml_trpo", **ADAPTATIONS[adaptation])
    vector = random_like(params)
    geometry = PostUpdateGeometry(learner, params, data, through_adaptation=False)
    gradient, product = plain_products(learner, params, data, vector, through_adaptation=False)
    assert distance(geometry.gradient(), gradient) < 1e-9
    assert distance(geometry.fisher_product(vector), product) < 1e-9
    assert distance(geometry.gradient(), first_order(learner, params, data)) < 1e-9
    through = PostUpdateGeometry(learner, params, data, through_adaptation=True)
    assert distance(through.fisher_product(vector), product) > 1e-3


@every_adaptation
@every_suite
def test_gradient_and_metric_equal_central_differences_of_what_the_line_search_measures(suite_name, adaptation):
    learner, params, data = collected(suite_name, "maml_trpo", **ADAPTATIONS[adaptation])
    geometry, start = PostUpdateGeometry(learner, params, data, through_adaptation=True), flatten(params)

    def measured(move):
        return learner.outer._loss_and_kl(learner, unflatten(start + move, params), data)

    assert measured(0.0 * start)[1] == pytest.approx(0.0, abs=1e-15)
    for seed in (1, 2):
        vector = random_like(params, seed)
        along = flatten(vector)
        slope = (measured(1e-5 * along)[0] - measured(-1e-5 * along)[0]) / 2e-5
        assert dot(geometry.gradient(), vector) == pytest.approx(slope, rel=1e-5, abs=1e-9)
        width = 1e-3  # KL is zero and flat at the start: v'Fv = (KL(hv) + KL(-hv)) / h²
        curvature = (measured(width * along)[1] + measured(-width * along)[1]) / width**2
        assert dot(vector, geometry.fisher_product(vector)) == pytest.approx(curvature, rel=1e-3)


@every_adaptation
@every_suite
def test_the_line_search_measures_what_plain_operations_measure(suite_name, adaptation):
    learner, params, data = collected(suite_name, "maml_trpo", **ADAPTATIONS[adaptation])
    moved = {
        name: tensor + 0.1 * move
        for (name, tensor), move in zip(params.items(), random_like(params).values(), strict=True)
    }
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in moved.items()}
    plain = [float(one.detach()) for one in plain_loss_and_kl(learner, leaves, data)]
    loss, divergence = learner.outer._loss_and_kl(learner, moved, data)
    assert (loss, divergence) == pytest.approx(plain, rel=1e-9)
    assert divergence > 1e-4


@every_adaptation
@every_suite
def test_the_metric_is_symmetric_and_positive(suite_name, adaptation):
    learner, params, data = collected(suite_name, "maml_trpo", **ADAPTATIONS[adaptation])
    geometry = PostUpdateGeometry(learner, params, data, through_adaptation=True)
    u, v = random_like(params, 1), random_like(params, 2)
    fu, fv = geometry.fisher_product(u), geometry.fisher_product(v)
    assert dot(u, fv) == pytest.approx(dot(v, fu), rel=1e-10)
    assert dot(u, fu) > 0
    both = {name: 2.0 * u[name] - 3.0 * v[name] for name in u}
    linear = {name: 2.0 * fu[name] - 3.0 * fv[name] for name in u}
    assert distance(geometry.fisher_product(both), linear) < 1e-12


@pytest.mark.parametrize("adaptation", ["one step", "two fresh steps"])
@every_suite
def test_without_an_inner_rate_the_metric_of_fomaml_is_that_of_maml(suite_name, adaptation):
    learner, params, data = collected(suite_name, "maml_trpo", inner_lr=0.0, **ADAPTATIONS[adaptation])
    one, other = (PostUpdateGeometry(learner, params, data, through) for through in (True, False))
    vector = random_like(params)
    assert distance(one.fisher_product(vector), other.fisher_product(vector)) < 1e-12
    assert distance(one.gradient(), other.gradient()) < 1e-12


@every_adaptation
@every_suite
def test_the_gradient_is_that_of_the_adam_methods(suite_name, adaptation):
    learner, params, data = collected(suite_name, "maml_trpo", **ADAPTATIONS[adaptation])
    of_trpo = PostUpdateGeometry(learner, params, data, through_adaptation=True).gradient()
    assert distance(of_trpo, second_order(learner, params, data)) < 1e-10


# Whole updates, in float32 as a run makes them.


def as_it_is(values):
    return values


def updated(learner, params, data):
    """New meta-parameters, and what is plotted."""
    new, memory, metrics = learner.outer.step(learner, State(params), data)
    assert learner.outer.init(params) == memory == {}
    return new, metrics


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("adaptation", ["one step", "two reused steps"])
@pytest.mark.parametrize("method", ["maml_trpo", "fomaml_trpo", "pretrained_trpo"])
@every_suite
def test_an_accepted_step_lowers_the_loss_and_stays_within_the_bound(suite_name, method, adaptation, seed):
    settings = {} if method == "pretrained_trpo" else ADAPTATIONS[adaptation] | {"inner_lr": 0.2}
    learner, params, data = collected(suite_name, method, 4, 12, seed, cast=as_it_is, **settings)
    kept = {name: tensor.clone() for name, tensor in params.items()}
    new, metrics = updated(learner, params, data)
    assert all(torch.equal(params[name], kept[name]) for name in params)
    assert metrics["step_accepted"] == 1.0
    leaves = [{name: tensor.double().requires_grad_() for name, tensor in one.items()} for one in (params, new)]
    before, none, after, divergence = (
        float(measured.detach()) for one in leaves for measured in plain_loss_and_kl(learner, one, double_data(data))
    )
    assert none < 1e-9
    assert 1e-4 < divergence <= 0.01 + 1e-6
    assert after < before
    assert metrics["kl"] == pytest.approx(divergence, rel=1e-3, abs=1e-6)
    assert metrics["surrogate_before"] == pytest.approx(before, abs=1e-5)
    assert metrics["surrogate_after"] == pytest.approx(after, rel=1e-3, abs=1e-5)


def double_data(data):
    return MetaBatch(tuple(map(double, data.pre_update)), double(data.adapted), double(data.post_update))


@pytest.mark.parametrize(("method", "through"), [("maml_trpo", True), ("fomaml_trpo", False)])
@every_suite
def test_a_method_steps_by_its_own_gradient_and_metric(suite_name, method, through):
    learner, params, data = collected(suite_name, method, cg_iterations=4, inner_lr=0.2)
    steps = []
    for own in (through, not through):
        geometry = PostUpdateGeometry(learner, params, data, through_adaptation=own)

        def trial(given):
            return learner.outer._loss_and_kl(learner, given, data)

        settings = trust_region(cg_iterations=4, cg_damping=1e-5)
        steps.append(trust_region_step(params, geometry.gradient(), geometry.fisher_product, trial, settings)[0])
    new, metrics = updated(learner, params, data)
    assert metrics["step_accepted"] == 1.0
    assert distance(new, steps[0]) < 1e-12
    assert distance(new, steps[1]) > 1e-5


@pytest.mark.parametrize("answer", [(1e9, 0.0), (-1e9, 1.0)], ids=["larger loss", "too large a divergence"])
def test_a_rejected_step_leaves_the_meta_parameters(answer, monkeypatch):
    learner, params, data = collected("tabular_mdp", "maml_trpo", cast=as_it_is)
    measure, calls = learner.outer._loss_and_kl, []

    def pessimist(*arguments):
        calls.append(arguments)
        return measure(*arguments) if len(calls) == 1 else answer

    monkeypatch.setattr(learner.outer, "_loss_and_kl", pessimist)
    new, metrics = updated(learner, params, data)
    assert all(new[name] is params[name] for name in params)
    assert len(calls) == 1 + 15
    assert (metrics["step_accepted"], metrics["backtracks"], metrics["kl"]) == (0.0, 15.0, 0.0)
    assert metrics["surrogate_after"] == metrics["surrogate_before"]


@pytest.mark.parametrize("method", ["maml_trpo", "fomaml_trpo", "pretrained_trpo"])
def test_equal_rewards_leave_the_meta_parameters(method):
    learner, params, data = collected("bandits", method, cast=as_it_is)
    nothing = [
        samples._replace(advantages=0.0 * samples.advantages) for samples in (*data.pre_update, data.post_update)
    ]
    new, metrics = updated(learner, params, MetaBatch(tuple(nothing[:-1]), data.adapted, nothing[-1]))
    assert all(new[name] is params[name] for name in params)
    assert (metrics["step_accepted"], metrics["backtracks"]) == (0.0, 0.0)
    assert metrics["meta_gradient_norm_actor"] == 0.0


@every_suite
def test_maml_trpo_without_adaptation_makes_the_update_of_pretrained_trpo(suite_name):
    results = []
    for method, settings in (
        ("maml_trpo", {"adaptation_steps": 0}),
        ("fomaml_trpo", {"adaptation_steps": 0}),
        ("pretrained_trpo", {}),
    ):
        learner, params, data = collected(suite_name, method, cast=as_it_is, **settings)
        assert learner.adaptation_rounds == 0
        results.append(learner.meta_update(State(params), data, 0))
    for state, metrics in results[:2]:
        assert all(torch.equal(state.params[name], results[2][0].params[name]) for name in params)
        assert metrics == results[2][1]
        assert not all(torch.equal(state.params[name], params[name]) for name in params)
        assert state.optimiser == state.slots == {}


@pytest.mark.parametrize("method", ["maml_trpo", "fomaml_trpo"])
@every_suite
def test_blocks_of_tasks_change_nothing(suite_name, method, monkeypatch):
    learner, params, data = collected(suite_name, method, tasks=5)
    vector, results = random_like(params), []
    for slots, blocks in ((4096, 1), (1, 3)):
        monkeypatch.setattr(algorithms.samples, "SLOTS_PER_BLOCK", slots)
        assert len(algorithms.samples.blocks(*data.post_update.weights.shape)) == blocks
        geometry = PostUpdateGeometry(learner, params, data, method == "maml_trpo")
        new, _ = updated(learner, params, data)
        results.append((geometry.gradient(), geometry.fisher_product(vector), new))
    for one, other in zip(*results, strict=True):
        assert distance(one, other) < 1e-12


@pytest.mark.parametrize("method", ["maml_trpo", "fomaml_trpo"])
def test_permuting_the_tasks_leaves_the_update(method):
    # With more iterations, conjugate gradient on so few samples would enlarge the rounding of the mean over tasks.
    learner, params, data = collected("tabular_mdp", method, tasks=5, cg_iterations=4)
    order = torch.tensor([4, 2, 0, 3, 1])
    permuted = MetaBatch(
        tuple(type(samples)(*(tensor[order] for tensor in samples)) for samples in data.pre_update),
        {name: tensor[order] for name, tensor in data.adapted.items()},
        type(data.post_update)(*(tensor[order] for tensor in data.post_update)),
    )
    assert distance(updated(learner, params, permuted)[0], updated(learner, params, data)[0]) < 1e-10


def test_with_input_0_and_zero_biases_maml_and_fomaml_are_one_method_on_bandits():
    """Only the output bias has a gradient. Its H2 is the mean advantage times a matrix, and that mean is zero."""
    suite = build(SUITES, "bandits", arms=4)
    moved = []
    for method in ("maml_trpo", "fomaml_trpo"):
        settings = METHOD | {"hidden_activation": "relu", "initialisation": "xavier_uniform"}
        learner = build(ALGORITHMS, method, suite, **settings)
        rng = generator(3)
        state, tasks = learner.init(rng), suite.sample_tasks(6, rng)
        for _ in range(3):
            data, current = [], state.params
            adapted = None
            for _ in range(2):
                noise = learner.policy.draw_noise(rng, 6, 20, 1)
                trajectories = rollout(suite, learner.policy, current, tasks, 20, rng, noise)
                data.append(learner.prepare(current, trajectories, {}, False)[0])
                if adapted is None:
                    current = adapted = learner.adapt(current, data[0])
            state, metrics = learner.meta_update(state, MetaBatch((data[0],), adapted, data[1]), 0)
            assert metrics["step_accepted"] == 1.0
        moved.append(state.params)
    initial = learner.init(generator(3)).params
    changed = {name for name in initial if not torch.equal(moved[0][name], initial[name])}
    assert changed == {"actor/2/bias"}
    for name in initial:
        torch.testing.assert_close(moved[0][name], moved[1][name], rtol=1e-4, atol=1e-5)


def test_what_was_never_sampled_may_become_any_number_of_times_likelier():
    """An empty slot of condensed samples has weight zero, however large its ratio is."""
    learner, _, data = collected("bandits", "pretrained_trpo")
    samples = data.post_update._replace(weights=torch.tensor([[2.0, 0.0, 2.0, 0.0]] * 3, dtype=torch.float64))
    old = torch.tensor([0.5, 0.0, 0.5, 0.0], dtype=torch.float64).log().clamp(min=-1e4).expand(3, 1, 4)
    new = torch.full((3, 1, 4), 0.25, dtype=torch.float64).log().requires_grad_()
    loss = likelihood_ratio(learner.policy, (old,), (new,), samples)
    expected = -0.5 * (samples.advantages[:, 0] + samples.advantages[:, 2]) / 2
    torch.testing.assert_close(loss, expected)
    assert torch.autograd.grad(loss.sum(), new)[0].isfinite().all()


def test_flat_vectors_keep_names_shapes_and_order():
    like = {"b": torch.zeros(2, 2), "a": torch.zeros(3), "c": torch.zeros(())}
    vector = torch.arange(8.0)
    back = unflatten(vector, like)
    assert list(back) == ["b", "a", "c"]
    assert back["b"].tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert back["c"].shape == ()
    assert torch.equal(flatten(back), vector)
    with pytest.raises((ValueError, RuntimeError)):
        unflatten(torch.arange(7.0), like)
    assert back["a"].tolist() == [4.0, 5.0, 6.0]

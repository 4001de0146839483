"""What an outer update does to the meta-parameters: TRPO on all suites, blocks, ties between methods."""

import pytest
import torch

import algorithms.samples
from algorithms import ALGORITHMS
from algorithms.fisher import PostUpdateGeometry
from algorithms.surrogates import likelihood_ratio
from algorithms.trust_region import trust_region_step
from harness.api import MetaBatch, State
from harness.rollout import rollout
from suites import SUITES
from tests.plain_autograd import (
    ADAPTATIONS,
    METHOD,
    build,
    collected,
    distance,
    double,
    every_suite,
    generator,
    plain_loss_and_kl,
    random_like,
    trust_region,
)


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
            return learner.outer._loss_and_kl(learner, given, data, None)

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
        tuple(samples.slice_tasks(order) for samples in data.pre_update),
        {name: tensor[order] for name, tensor in data.adapted.items()},
        data.post_update.slice_tasks(order),
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
    _, _, data = collected("bandits", "pretrained_trpo")
    samples = data.post_update._replace(weights=torch.tensor([[2.0, 0.0, 2.0, 0.0]] * 3, dtype=torch.float64))
    old = torch.tensor([0.5, 0.0, 0.5, 0.0], dtype=torch.float64).log().clamp(min=-1e4).expand(3, 4)
    new = torch.full((3, 4), 0.25, dtype=torch.float64).log().requires_grad_()
    loss = likelihood_ratio(new, samples._replace(old_log_prob=old))
    expected = -0.5 * (samples.advantages[:, 0] + samples.advantages[:, 2]) / 2
    torch.testing.assert_close(loss, expected)
    assert torch.autograd.grad(loss.sum(), new)[0].isfinite().all()

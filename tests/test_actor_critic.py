"""The report's family by composition: its ties to the named methods, clipping, early stops, agreement."""

import pytest
import torch
from pydantic import ValidationError

from algorithms import ALGORITHMS, RULES
from algorithms.meta_gradients import first_order, second_order
from algorithms.task_weights import agreement_over_tasks, weighted
from harness.runner import Clock, Training, meta_iteration
from harness.streams import Streams
from tests.plain_autograd import build, distance
from tests.test_meta_iteration import SPEC

RATES = {"actor_inner_lr": 0.25, "critic_inner_lr": 0.125, "critic_outer_lr": 0.02}
OUTER = {"actor_critic": {"actor_outer_lr": 0.01}, "actor_critic_trpo": {}}
NETWORKS = {"actor_hidden_sizes": [5, 4], "critic_hidden_sizes": [4], "hidden_activation": "tanh"}
CLIPPED = {"inner_surrogate": "clipped", "clip_ratio": 0.2}
FAR = {"adaptation_steps": 4, "adaptation_data": "reused", "actor_inner_lr": 0.5}
"""Steps on one batch that leave the interval of the clipped ratio."""
KEYS = {"score_function": {}, "lvc": {}, "likelihood_ratio": {}, "dice": {}, "clipped": {"clip_ratio": 0.2}}
every_order = pytest.mark.parametrize("order", ["first_order", "second_order"])


def part(name, params):
    return {key: tensor for key, tensor in params.items() if key.startswith(f"{name}/")}


def same(one, other):
    assert list(one) == list(other)
    return all(torch.equal(one[key], other[key]) for key in one)


def of(suite, name="actor_critic", **settings):
    """A learner with small networks; score function and first order unless ``settings`` say otherwise."""
    choices = {"inner_surrogate": "score_function", "meta_gradient": "first_order"} if name in OUTER else {}
    return build(
        ALGORITHMS, name, suite, **RATES | OUTER.get(name, {"actor_outer_lr": 0.01}) | NETWORKS | choices | settings
    )


@pytest.fixture
def suite(make_suite):
    return make_suite(horizon=12)


def trained(suite, learner):
    """The state after two meta-iterations, in float32 as a run has it."""
    streams = Streams(SPEC.seed)
    training = Training(learner.init(streams["init"]), streams)
    for _ in range(2):
        training.state, _ = meta_iteration(suite, learner, SPEC, training, Clock())
        training.iteration += 1
    return training.state


def same_training(make_suite, one, other):
    suite = make_suite(horizon=12, goal_tolerance=0.2)
    first, second = (trained(suite, of(suite, **settings)) for settings in (one, other))
    return same(first.params, second.params) and same(first.optimiser, second.optimiser)


# Ties to the named methods.


@pytest.mark.parametrize("slots", ["excluded", "zeros", "stale"])
@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize(("order", "method"), [("first_order", "fomaml"), ("second_order", "maml")])
def test_the_score_function_on_fresh_data_is_the_reports_method_bit_by_bit(make_suite, order, method, steps, slots):
    common = {"adaptation_steps": steps, "unused_slots": slots}
    assert same_training(make_suite, {"meta_gradient": order} | common, {"name": method} | common)


@pytest.mark.parametrize("inner", ["lvc", "likelihood_ratio", "clipped"])
def test_one_first_order_step_of_a_ratio_is_vanilla_policy_gradient_bit_by_bit(make_suite, inner):
    """The report's PPO supplement: one step from the policy that sampled has ratio 1 and divergence 0."""
    settings = {"inner_surrogate": inner} | KEYS[inner]
    assert same_training(make_suite, settings, {})
    if inner != "lvc":
        assert same_training(make_suite, settings | {"target_kl": 0.01}, {})


def test_through_the_adaptation_one_clipped_step_has_the_curvature_of_the_likelihood_ratio(suite, collect):
    learner = of(suite, **CLIPPED)
    state, data = collect(learner, suite)
    clipped, ratio, plain = (
        second_order(one, state.params, data)
        for one in (learner, of(suite, inner_surrogate="likelihood_ratio"), of(suite))
    )
    assert distance(clipped, ratio) < 1e-12
    assert distance(part("actor", clipped), part("actor", plain)) > 1e-3
    assert distance(first_order(learner, state.params, data), first_order(of(suite), state.params, data)) < 1e-12


def test_several_large_steps_on_the_same_data_clip(suite, collect):
    learner = of(suite, **CLIPPED, **FAR)
    state, data = collect(learner, suite)
    (samples,) = data.pre_update
    others = {
        name: of(suite, inner_surrogate=name, **FAR).adapt(state.params, samples)
        for name in ("score_function", "likelihood_ratio")
    }
    ratio = (learner.log_prob(data.adapted, samples) - samples.old_log_prob).exp()
    assert bool(((ratio - 1.0).abs() > 0.2).any())
    for adapted in others.values():
        assert distance(part("actor", data.adapted), part("actor", adapted)) > 1e-3
        assert same(part("critic", data.adapted), part("critic", adapted))


@pytest.mark.parametrize("inner", KEYS)
def test_epochs_on_one_batch_are_single_steps_one_after_the_other(suite, collect, inner):
    choice = {"inner_surrogate": inner} | KEYS[inner]
    learner, single = of(suite, **choice, adaptation_steps=3, adaptation_data="reused"), of(suite, **choice)
    state, data = collect(learner, suite)
    assert learner.adaptation_rounds == len(data.pre_update) == 1
    stepwise = state.params
    for _ in range(3):
        stepwise = single.adapt(stepwise, data.pre_update[0])
    assert same(stepwise, data.adapted)


@pytest.mark.parametrize("data_of_steps", ["fresh", "reused"])
@pytest.mark.parametrize(
    "choice",
    [
        {"inner_surrogate": "score_function"},
        {"inner_surrogate": "likelihood_ratio"},
        {**CLIPPED, "actor_inner_lr": 0.5},
        {**CLIPPED, "actor_inner_lr": 0.5, "target_kl": 0.01},
    ],
    ids=["score_function", "likelihood_ratio", "clipped", "stopped"],
)
def test_the_second_order_equals_central_differences_of_the_loss_after_adaptation(
    suite, collect, choice, data_of_steps
):
    learner = of(suite, **choice, meta_gradient="second_order", adaptation_steps=2, adaptation_data=data_of_steps)
    state, data = collect(learner, suite)
    params, gradient = state.params, learner.outer.meta_gradient(learner, state.params, data)
    rng, width = torch.Generator().manual_seed(0), 1e-5
    direction = {name: torch.randn(one.shape, generator=rng, dtype=one.dtype) for name, one in params.items()}

    def after_adaptation(sign):
        moved = {name: params[name] + sign * width * direction[name] for name in params}
        for samples in data.pre_update:
            moved = learner.adapt(moved, samples)
        with torch.no_grad():
            return float(learner.outer_loss(moved, data.post_update).mean())

    slope = (after_adaptation(1) - after_adaptation(-1)) / (2 * width)
    assert sum(float((gradient[name] * direction[name]).sum()) for name in params) == pytest.approx(slope, rel=1e-6)


# The early stop.


def test_a_tiny_target_stops_every_actor_after_its_first_step_and_no_critic(suite, collect):
    choice = CLIPPED | FAR | {"meta_gradient": "second_order"}
    stopped, free = of(suite, **choice, target_kl=1e-9), of(suite, **choice)
    once = of(suite, **choice | {"adaptation_steps": 1})
    state, data = collect(stopped, suite, episodes=8)
    (samples,) = data.pre_update
    first, every = once.adapt(state.params, samples), free.adapt(state.params, samples)
    apart = (samples.old_log_prob - once.log_prob(first, samples)) * samples.weights
    assert bool((apart.sum(-1) > 0.0).all())  # what a sample of the divergence need not be
    assert same(part("actor", data.adapted), part("actor", first))
    assert same(part("critic", data.adapted), part("critic", every))
    assert distance(part("actor", every), part("actor", first)) > 1e-2
    actors = [part("actor", second_order(one, state.params, data)) for one in (stopped, once)]
    assert distance(*actors) < 1e-14


def test_a_huge_target_changes_nothing_and_one_in_between_stops_some_tasks(suite, collect):
    choice = CLIPPED | FAR
    free, some = of(suite, **choice), of(suite, **choice, target_kl=0.01)
    state, data = collect(free, suite, tasks=6)
    never = of(suite, **choice, target_kl=1e9)
    assert same(never.adapt(state.params, data.pre_update[0]), data.adapted)
    for method in (first_order, second_order):
        assert same(method(never, state.params, data), method(free, state.params, data))
    adapted = some.adapt(state.params, data.pre_update[0])
    moved = [torch.equal(adapted["actor/log_std"][task], data.adapted["actor/log_std"][task]) for task in range(6)]
    assert 0 < sum(moved) < 6


# Agreement.


def test_agreement_of_gradients_by_hand():
    actor = torch.tensor([[1.0, 0.0], [0.0, 2.0]])  # g·Σ = 1, 4: weights 0.2, 0.8
    critic = torch.tensor([[2.0, 0.0], [-1.0, 0.0]])  # g·Σ = 2, -1: weights 2/3, -1/3
    found = agreement_over_tasks({"actor/a": actor[:, :1], "actor/b": actor[:, 1:], "critic/a": critic})
    torch.testing.assert_close(torch.cat([found["actor/a"], found["actor/b"]]), torch.tensor([0.2, 1.6]))
    torch.testing.assert_close(found["critic/a"], torch.tensor([5 / 3, 0.0]))


def test_agreement_of_equal_gradients_is_their_mean_and_of_opposite_ones_nothing():
    gradient = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    equal = agreement_over_tasks({"actor/a": gradient.expand(4, 3, 2)})["actor/a"]
    torch.testing.assert_close(equal, gradient)
    opposite = agreement_over_tasks({"actor/a": torch.stack([gradient, -gradient])})["actor/a"]
    assert not opposite.any()


@every_order
def test_a_learner_follows_the_agreement_of_its_own_meta_gradients(suite, collect, order):
    learner = of(suite, meta_gradient=order, task_weights="agreement")
    state, data = collect(learner, suite, tasks=5)
    each = learner.meta_gradients(state, data, through_adaptation=order == "second_order")
    gradient = learner.outer.meta_gradient(learner, state.params, data)
    assert same(gradient, agreement_over_tasks(each))
    equal = weighted(order, "equal")(learner, state.params, data)
    assert distance(gradient, equal) > 1e-2
    for name in ("actor", "critic"):  # the weights' absolute values add up to 1
        rows = torch.cat([tensor.flatten(1) for tensor in part(name, each).values()], 1)
        weights = torch.linalg.lstsq(rows.T, torch.cat([g.flatten() for g in part(name, gradient).values()])).solution
        assert float(weights.abs().sum()) == pytest.approx(1.0)


# Meta-test.


@pytest.mark.parametrize("name", OUTER)
@pytest.mark.parametrize(
    ("rule", "settings"),
    [("adam", {"actor_lr": 0.1, "critic_lr": 0.05}), ("inner", {}), ("inner_scaled", {"factors": [0.5]})],
)
def test_at_meta_test_a_learner_adapts_as_maml_does(suite, collect, name, rule, settings):
    learner, maml = of(suite, name), of(suite, "maml")
    state, data = collect(learner, suite)
    given = {key: tensor.expand(3, *tensor.shape) for key, tensor in state.params.items()}
    moved = []
    for one in (learner, maml):
        own = one.rule(RULES[rule](**settings))
        moved.append(own.update(given, own.init(given), data.pre_update[0])[0])
    assert same(*moved)
    assert not same(moved[0], given)


# Settings.


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"inner_surrogate": "clipped"}, "clip_ratio is required"),
        ({"inner_surrogate": "lvc", "clip_ratio": 0.2}, "clip_ratio is required with the clipped surrogate and has no"),
        ({**CLIPPED, "clip_ratio": 0.0}, "clip_ratio"),
        ({"inner_surrogate": "score_function", "target_kl": 0.01}, "target_kl belongs to"),
        ({"inner_surrogate": "dice", "unused_slots": "stale"}, "unused_slots: dice"),
        ({"inner_surrogate": "dice", "unused_slots": "zeros"}, "unused_slots: dice"),
        ({"meta_gradient": "third_order"}, "meta_gradient"),
    ],
)
@pytest.mark.parametrize("name", OUTER)
def test_what_does_not_fit_is_refused(suite, name, choice, said):
    with pytest.raises(ValidationError, match=said):
        of(suite, name, **choice)


def test_trpo_has_no_key_that_nothing_reads(suite):
    for key, value in {"actor_outer_lr": 0.1, "task_weights": "equal"}.items():
        with pytest.raises(ValidationError, match=key):
            of(suite, "actor_critic_trpo", **{key: value})


def test_the_reports_methods_have_no_choice_of_data():
    assert "adaptation_data" not in ALGORITHMS["maml"].settings.model_fields

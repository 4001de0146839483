"""Any inner surrogate with any outer update: gradients against plain autograd and differences."""

import pytest
import torch

from algorithms.fisher import PostUpdateGeometry
from algorithms.meta_gradients import first_order, mean_over_tasks, second_order, second_order_by_task
from algorithms.outer_updates import bound_term
from algorithms.trust_region import flatten, unflatten
from harness.api import State
from tests.plain_autograd import (
    ADAPTATIONS,
    average,
    collected,
    distance,
    dot,
    ended_early,
    plain_credit,
    plain_divergence,
    plain_gradient,
    plain_log_prob,
    plain_path,
    random_like,
    tasks_of,
)
from tests.test_pre_update import TASKS, both_policies, initial, moved_by

SURROGATES = ["score_function", "lvc", "likelihood_ratio", "dice"]
ADAPTATIONS = {name: given for name, given in ADAPTATIONS.items() if name != "no step"} | {
    "three fresh steps": {"adaptation_steps": 3}
}
every_surrogate = pytest.mark.parametrize("inner", SURROGATES)
every_adaptation = pytest.mark.parametrize("adaptation", ADAPTATIONS)


def searching(outer, suite_name, inner, **settings):
    """A learner of the family, its parameters and its data; episodes of a plane have different lengths."""
    rates = {} if outer == "trpo" else {"outer_lr": 0.1}
    credit = {} if outer == "proximal" else {"credit": "none"}
    given = {"inner_surrogate": inner, "inner_lr": 0.4} | rates | credit | settings
    learner, params, data = collected(suite_name, f"policy_search_{outer}", **given)
    return learner, params, ended_early(learner, params, data) if suite_name == "navigation" else data


def post_update_loss(learner, params, data, task, inner, surrogate):
    """``surrogate``: of (log π, task), what every post-update step gains."""
    path, after = plain_path(learner, params, data, task, inner), data.post_update
    return path, -average(surrogate(plain_log_prob(learner, path[-1], after, task), task), after, task)


@pytest.mark.parametrize("outer", ["vpg", "trpo"])
@every_adaptation
@every_surrogate
@both_policies
def test_the_gradient_of_vpg_and_of_trpo_is_that_of_plain_autograd(suite_name, inner, adaptation, outer):
    learner, params, data = searching(outer, suite_name, inner, **ADAPTATIONS[adaptation])

    def score(log_prob, task):
        return log_prob * data.post_update.advantages[task]

    def objective(leaves, task):
        return post_update_loss(learner, leaves, data, task, inner, score)[1]

    if outer == "vpg":
        ours = mean_over_tasks(learner.meta_gradients(State(params), data))
    else:
        ours = PostUpdateGeometry(learner, params, data, through_adaptation=True).gradient()
    assert distance(ours, plain_gradient(objective, params, TASKS)) < 1e-9


@every_adaptation
@every_surrogate
@both_policies
def test_the_gradient_of_the_proximal_update_is_that_of_plain_autograd_wherever_theta_has_gone(
    suite_name, inner, adaptation
):
    learner, params, data = searching(
        "proximal", suite_name, inner, kl_coefficient=0.7, clip_ratio=0.1, **ADAPTATIONS[adaptation]
    )
    after, moved = data.post_update, moved_by(0.1, params)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    sampled = [plain_path(learner, leaves, data, task, inner) for task in range(TASKS)]
    rounds, clipped_steps = len(data.pre_update), []

    def objective(given, task):
        def gained(log_prob, i):
            ratio, advantages = log_prob.exp() / after.old_log_prob[i].exp(), after.advantages[i]
            limit = torch.where(advantages > 0, 1.1 * advantages, 0.9 * advantages)
            clipped_steps.append(int((ratio * advantages > limit)[after.weights[i] > 0].sum()))
            return torch.where(ratio * advantages > limit, limit, ratio * advantages)

        path, loss = post_update_loss(learner, given, data, task, inner, gained)
        for index, samples in enumerate(data.pre_update):
            old = {name: tensor.detach() for name, tensor in sampled[task][index].items()}
            loss = loss + 0.7 / rounds * plain_divergence(learner, old, path[index], samples, task)
        return loss

    plain = plain_gradient(objective, moved, TASKS)
    assert sum(clipped_steps) > 0
    term = bound_term(learner, initial(learner, params), data)
    assert distance(mean_over_tasks(second_order_by_task(learner, moved, data, term)), plain) < 1e-9


@every_adaptation
@pytest.mark.parametrize("inner", ["score_function", "likelihood_ratio"])
@both_policies
def test_the_gradient_is_the_slope_of_the_loss_after_adaptation(suite_name, inner, adaptation):
    """Where a surrogate has no stop-gradient, adapting anew is all that a difference needs."""
    learner, params, data = searching("vpg", suite_name, inner, **ADAPTATIONS[adaptation])
    start, gradient = flatten(params), second_order(learner, params, data)

    def loss(move):
        path = learner.path(unflatten(start + move, params), data.pre_update, tasks_of(data))
        return float(learner.outer_loss(path[-1], data.post_update).mean())

    for seed in (1, 2):
        vector = random_like(params, seed)
        along = flatten(vector)
        slope = (loss(1e-5 * along) - loss(-1e-5 * along)) / 2e-5
        assert dot(gradient, vector) == pytest.approx(slope, rel=1e-6, abs=1e-9)


@every_adaptation
@every_surrogate
@both_policies
def test_first_order_drops_the_chain_of_i_minus_alpha_h_and_nothing_else(suite_name, inner, adaptation):
    learner, params, data = searching("vpg", suite_name, inner, **ADAPTATIONS[adaptation])
    at_the_end = learner.meta_gradients(State(params), data, through_adaptation=False)
    chained = []
    for task in range(TASKS):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
        adapted = plain_path(learner, leaves, data, task, inner)[-1]
        vector = [at_the_end[name][task] for name in leaves]
        chained.append(torch.autograd.grad(list(adapted.values()), list(leaves.values()), vector))
    mean = [torch.stack(parts).mean(0) for parts in zip(*chained, strict=True)]
    expected = dict(zip(params, mean, strict=True))
    through = second_order(learner, params, data)
    assert distance(through, expected) < 1e-9
    assert distance(first_order(learner, params, data), mean_over_tasks(at_the_end)) < 1e-12
    assert distance(through, mean_over_tasks(at_the_end)) > 1e-2


@pytest.mark.parametrize("adaptation", ["one step", "two fresh steps", "two reused steps"])
@both_policies
def test_without_an_inner_rate_all_estimators_are_one(suite_name, adaptation):
    settings = ADAPTATIONS[adaptation] | {"inner_lr": 0.0}
    # The samples of DiCE keep every step, and those of the proximal update the old densities: all can use them.
    reference, params, data = searching("proximal", suite_name, "dice", **settings)
    plain = first_order(reference, params, data)
    for inner in SURROGATES:
        for outer in ("vpg", "trpo", "proximal"):
            learner = searching(outer, suite_name, inner, **settings)[0]
            assert distance(second_order(learner, params, data), plain) < 1e-12
            credits = [] if outer == "proximal" else ["paper"]
            for credit in credits:  # of which the inner rate is a factor
                credited = searching(outer, suite_name, inner, credit=credit, **settings)[0]
                gradient = mean_over_tasks(credited.meta_gradients(State(params), data))
                assert distance(gradient, plain) < 1e-12


def credited_loss(learner, params, data, inner, form):
    """The loss of a line search: likelihood ratio and credits, mean over tasks."""

    def objective(leaves, task):
        after = data.post_update
        old = {name: tensor[task].detach() for name, tensor in data.adapted.items()}
        before = plain_log_prob(learner, old, after, task)
        path, loss = post_update_loss(
            learner, leaves, data, task, inner, lambda log_prob, i: (log_prob - before).exp() * after.advantages[i]
        )
        for index in range(len(data.pre_update)):
            loss = loss + plain_credit(form, learner, path[index], data, index, task)
        return loss

    return objective


@pytest.mark.parametrize("form", ["derived", "paper", "released"])
@pytest.mark.parametrize("inner", ["score_function", "dice"])
@every_adaptation
@both_policies
def test_trpo_with_a_credit_has_the_gradient_and_the_loss_of_plain_autograd(suite_name, adaptation, inner, form):
    learner, params, data = searching("trpo", suite_name, inner, credit=form, **ADAPTATIONS[adaptation])
    objective = credited_loss(learner, params, data, inner, form)
    term = bound_term(learner, State(params), data)
    gradient = PostUpdateGeometry(learner, params, data, True, term).gradient()
    assert distance(gradient, plain_gradient(objective, params, TASKS)) < 1e-9
    assert distance(gradient, PostUpdateGeometry(learner, params, data, True).gradient()) > 1e-3
    for size in (0.0, 0.1):
        moved = moved_by(size, params)
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in moved.items()}
        expected = float(torch.stack([objective(leaves, task) for task in range(TASKS)]).mean().detach())
        loss, divergence = learner.outer._loss_and_kl(learner, moved, data, term)
        assert loss == pytest.approx(expected, rel=1e-9)
        # The constraint is on the post-update policies alone.
        assert divergence == learner.outer._loss_and_kl(learner, moved, data, None)[1]


def test_a_credit_needs_the_gradient_through_the_adaptation():
    learner, params, data = searching("trpo", "navigation", "score_function", credit="derived")
    term = bound_term(learner, State(params), data)
    with pytest.raises(ValueError, match="through the adaptation"):
        PostUpdateGeometry(learner, params, data, False, term)


@pytest.mark.parametrize("adaptation_steps", [0, 2])
@both_policies
def test_plain_descent_moves_by_exactly_the_rate_times_the_gradient(suite_name, adaptation_steps):
    settings = {"outer_optimiser": "sgd", "outer_lr": 0.25, "adaptation_steps": adaptation_steps}
    learner, params, data = collected(suite_name, "lvc_vpg", **settings)
    gradient = second_order(learner, params, data)
    new, metrics = learner.meta_update(State(params, learner.outer.init(params)), data, 0)
    assert all(torch.equal(new.params[name], params[name] - 0.25 * gradient[name]) for name in params)
    assert int(new.optimiser["count"]) == 1
    assert metrics["meta_gradient_norm_actor"] == pytest.approx(float(flatten(gradient).norm()))

"""What an outer objective has beside the post-update loss: credits and the proximity penalty, written out literally."""

import pytest
import torch

from algorithms.meta_gradients import mean_over_tasks
from algorithms.outer_updates import bound_term
from algorithms.pre_update import ProximityPenalty
from harness.api import State
from tests.plain_autograd import (
    average,
    collected,
    distance,
    ended_early,
    plain_credit,
    plain_divergence,
    plain_gradient,
    plain_log_prob,
    plain_path,
    random_like,
    tasks_of,
)

FORMS = ["derived", "paper", "released"]
TASKS = 3
every_form = pytest.mark.parametrize("form", FORMS)
both_policies = pytest.mark.parametrize("suite_name", ["navigation", "tabular_mdp"])
everything = slice(0, TASKS)


def credited(suite_name, form, early=False, **settings):
    """A learner with a credit, its parameters, and its first data; ``early``: episodes of different lengths."""
    given = {"inner_surrogate": "dice", "credit": form, "outer_lr": 0.1, "baseline": "none"} | settings
    learner, params, data = collected(suite_name, "policy_search_vpg", **given)
    return learner, params, ended_early(learner, params, data) if early else data


def moved_by(size, params):
    step = random_like(params)
    return {name: tensor + size * step[name] for name, tensor in params.items()}


def of_every_task(params):
    return {name: tensor.expand(TASKS, *tensor.shape).clone().requires_grad_() for name, tensor in params.items()}


@pytest.mark.parametrize("early", [False, True])
@every_form
@both_policies
def test_the_gradient_of_a_credit_is_minus_scale_times_the_scores_times_the_mean_reward(suite_name, form, early):
    learner, params, data = credited(suite_name, form, early)
    before, after = data.pre_update[0], data.post_update
    leaves = of_every_task(params)
    term = bound_term(learner, State(params), data)(leaves, 0, everything)
    gradient = dict(zip(leaves, torch.autograd.grad(term.sum(), list(leaves.values())), strict=True))
    counted = after.rewards[after.weights > 0]
    mean, deviation = float(counted.mean()), float(counted.std(correction=0))
    for task in range(TASKS):
        steps = before.weights[task].sum()
        earned = float(average(after.rewards[task], after, task))
        scale, reward = {
            "derived": (1.0, earned),
            "paper": (learner.settings.inner_lr / learner.horizon, earned),
            "released": (1.0 / steps, (earned - mean) / (deviation + 1e-8)),
        }[form]
        plain = {name: tensor[task].detach().clone().requires_grad_() for name, tensor in leaves.items()}
        log_prob = plain_log_prob(learner, plain, before, task)
        total = dict.fromkeys(plain, 0.0)
        for step in range(log_prob.shape[0]):
            if before.weights[task, step]:
                score = torch.autograd.grad(log_prob[step], list(plain.values()), retain_graph=True)
                total = {name: total[name] + part for name, part in zip(plain, score, strict=True)}
        expected = {name: -scale * part * reward for name, part in total.items()}
        assert distance({name: part[task] for name, part in gradient.items()}, expected) < 1e-10


def test_the_credit_of_the_paper_is_the_derived_one_times_alpha_over_the_horizon():
    values = []
    for form in ("paper", "derived"):
        learner, params, data = credited("navigation", form, adaptation_steps=2)
        term = bound_term(learner, State(params), data)
        path = learner.path(params, data.pre_update, tasks_of(data))
        values.append(torch.stack([term(path[index], index, everything) for index in range(2)]))
    assert (learner.settings.inner_lr, learner.horizon) == (0.7, 5)
    torch.testing.assert_close(values[0], values[1] * 0.7 / 5, rtol=1e-12, atol=0)
    assert float(values[0].abs().min()) > 0


def test_the_released_credit_goes_to_the_first_round_only_and_sums_to_zero_over_tasks_with_one_policy():
    learner, params, data = credited("navigation", "released", adaptation_steps=3)
    term = bound_term(learner, State(params), data)
    path = learner.path(params, data.pre_update, tasks_of(data))
    assert [term(path[index], index, everything) is None for index in range(3)] == [False, True, True]
    log_prob = learner.log_prob(path[0], data.pre_update[0]).mean(-1)
    earned = -term(path[0], 0, everything) / log_prob
    assert float(earned.mean()) == pytest.approx(0.0, abs=1e-12)  # all tasks have equally many steps
    assert float(earned.abs().min()) > 1e-3


@every_form
@pytest.mark.parametrize("suite_name", ["bandits", "tabular_mdp"])
def test_equal_steps_that_are_put_together_change_no_credit(suite_name, form):
    """Rewards that differ where observation and action are the same still differ to a standard deviation."""
    found = []
    for inner in ("dice", "score_function"):  # DiCE keeps every step
        learner, params, data = credited(suite_name, form, inner_surrogate=inner)
        term = bound_term(learner, State(params), data)
        with torch.no_grad():
            found.append((term(of_every_task(params), 0, everything), data.pre_update[0].weights.shape))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-6, atol=1e-8)
    assert (found[0][1] == found[1][1]) is (form == "released")


def test_equal_rewards_in_single_precision_earn_nothing_in_the_released_form():
    """The rounding of their mean is about as large as the ε of the denominator."""
    learner, params, data = collected(
        "navigation", "emaml_released_vpg", cast=lambda values: values, outer_lr=0.1, episodes=37
    )
    same = data._replace(post_update=data.post_update._replace(rewards=0.0 * data.post_update.rewards - 0.1))
    assert same.post_update.rewards.dtype == torch.float32
    term = bound_term(learner, State(params), same)(of_every_task(params), 0, everything)
    assert float(term.detach().abs().max()) < 1e-6


@pytest.mark.parametrize("steps", [1, 2, 3])
@every_form
@both_policies
def test_the_gradient_with_a_credit_passes_through_the_adaptation_of_every_round(suite_name, form, steps):
    learner, params, data = credited(suite_name, form, True, adaptation_steps=steps, inner_surrogate="dice")

    def objective(leaves, task, chained=True):
        path = plain_path(learner, leaves, data, task, "dice")
        after = data.post_update
        loss = -average(plain_log_prob(learner, path[-1], after, task) * after.advantages[task], after, task)
        for index in range(steps):
            at = path[index]
            if index and not chained:  # as if later policies were not θ's doing
                at = {name: leaves[name] + (path[index][name] - leaves[name]).detach() for name in leaves}
            loss = loss + plain_credit(form, learner, at, data, index, task)
        return loss

    ours = mean_over_tasks(learner.meta_gradients(State(params), data))
    assert distance(ours, plain_gradient(objective, params, TASKS)) < 1e-9
    cut = plain_gradient(lambda leaves, task: objective(leaves, task, chained=False), params, TASKS)
    assert (distance(ours, cut) < 1e-9) is (form == "released" or steps == 1)


# The penalty.


def proximal(suite_name="navigation", early=False, **settings):
    learner, params, data = collected(suite_name, "promp", outer_lr=0.1, **settings)
    return learner, params, ended_early(learner, params, data) if early else data


def initial(learner, params):
    """The state before the first meta-iteration, with all moments in the precision of the parameters."""
    return State(params, learner.outer.init(params) | learner.objectives.beside.init(learner.adaptation_rounds))


@pytest.mark.parametrize("steps", [1, 2])
@both_policies
def test_where_nothing_has_moved_the_penalty_and_its_gradient_are_zero(suite_name, steps):
    learner, params, data = proximal(suite_name, adaptation_steps=steps, kl_coefficient=5.0)
    term = bound_term(learner, initial(learner, params), data)
    for index, at in enumerate(learner.path(params, data.pre_update, tasks_of(data))[:-1]):
        leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in at.items()}
        value = term(leaves, index, everything)
        assert float(value.detach().abs().max()) < 1e-14
        slope = torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
        assert max(float(part.abs().max()) for part in slope) < 1e-14


@pytest.mark.parametrize("steps", [1, 2, 3])
@both_policies
def test_the_penalty_is_eta_over_k_times_kl_from_the_policy_that_sampled(suite_name, steps):
    learner, params, data = proximal(suite_name, suite_name == "navigation", adaptation_steps=steps)
    penalty = ProximityPenalty(0.3, None)
    term = penalty.bind(learner, params, penalty.init(steps), data)
    moved = moved_by(0.1, params)
    new = learner.path(moved, data.pre_update, tasks_of(data))
    for task in range(TASKS):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
        sampled = plain_path(learner, leaves, data, task, "likelihood_ratio")
        for index in range(steps):
            here = {name: tensor[task].detach() for name, tensor in new[index].items()}
            expected = 0.3 / steps * plain_divergence(learner, sampled[index], here, data.pre_update[index], task)
            found = term(new[index], index, everything)[task]
            assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
            backwards = plain_divergence(learner, here, sampled[index], data.pre_update[index], task)
            assert float(found.detach()) != pytest.approx(0.3 / steps * float(backwards.detach()), rel=1e-3)


def test_after_a_meta_iteration_every_round_has_its_own_coefficient_halved_kept_or_doubled():
    learner, params, data = proximal(adaptation_steps=3)
    moved = moved_by(0.05, params)
    penalty = ProximityPenalty(0.4, None)
    kept, metrics = penalty.after(learner, params, moved, penalty.init(3), data)
    assert kept["kl_coefficient"].tolist() == [0.4] * 3
    assert set(metrics) == {"kl_pre_update"}
    # How far the policy of every round moved, in plain operations.
    distances = []
    leaves = [{name: tensor.clone().requires_grad_() for name, tensor in one.items()} for one in (params, moved)]
    for index in range(3):
        each = []
        for task in range(TASKS):
            old, new = (plain_path(learner, one, data, task, "likelihood_ratio")[index] for one in leaves)
            each.append(float(plain_divergence(learner, old, new, data.pre_update[index], task).detach()))
        distances.append(sum(each) / TASKS)
    assert metrics["kl_pre_update"] == pytest.approx(sum(distances) / 3, rel=1e-9)
    for index, kl in enumerate(distances):
        for target, factor in (
            (kl * 1.51, 0.5), (kl * 1.49, 1.0), (kl, 1.0), (kl / 1.49, 1.0), (kl / 1.51, 2.0)
        ):  # fmt: skip
            adaptive = ProximityPenalty(0.4, target)
            start = {"kl_coefficient": torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)}
            adapted, shown = adaptive.after(learner, params, moved, start, data)
            assert adapted["kl_coefficient"][index] == pytest.approx(factor * float(start["kl_coefficient"][index]))
            assert shown["kl_coefficient"] == pytest.approx(float(adapted["kl_coefficient"].mean()))

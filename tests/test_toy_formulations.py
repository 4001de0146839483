"""The two formulations of the meta-gradient: against plain autograd, against the exact gradient, and by hand."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Normal

from algorithms import ALGORITHMS, RULES
from algorithms.parabola_learner import Episodes, mean_of_others
from harness.api import MetaBatch, State, Trajectories
from harness.rollout import rollout
from suites import SUITES
from tests.point_1d_exact import adapted_return, theta_at

THETA = "actor/theta"
START = (0.09, 0.05)
TASKS, EPISODES = 4, 6
SUITE = SUITES["point_1d"].load()(SUITES["point_1d"].settings())


def make(**settings: Any) -> Any:
    declaration = ALGORITHMS["toy_formulations"]
    return declaration.load()(declaration.settings.model_validate({"outer_lr": 0.1} | settings), SUITE)


def sampled(learner, params, tasks, episodes, rng) -> Trajectories:
    count = tasks["goal"].shape[0]
    noise = learner.policy.draw_noise(rng, count, episodes, SUITE.horizon)
    return rollout(SUITE, learner.policy, params, tasks, episodes, rng, noise)


def double(trajectories: Trajectories) -> Trajectories:
    doubled = trajectories._replace(rewards=trajectories.rewards.double(), actions=trajectories.actions.double())
    return doubled._replace(observations=trajectories.observations.double())


def collected(seed: int = 0, tasks: int = TASKS, **settings: Any) -> tuple[Any, State, list[Trajectories], MetaBatch]:
    """(learner, state, [pre-update, post-update trajectories], meta-batch), all in float64."""
    learner, rng = make(initial_theta=[0.4, -0.3], **settings), torch.Generator().manual_seed(seed)
    goals, state = SUITE.sample_tasks(tasks, rng), learner.init(rng)
    before = sampled(learner, state.params, goals, EPISODES, rng)
    state = State({THETA: state.params[THETA].double()})
    samples = learner.prepare(state.params, double(before), {}, shared_slots=False)[0]
    adapted = learner.adapt(state.params, samples)
    after = sampled(learner, {THETA: adapted[THETA].float()}, goals, EPISODES, rng)
    post = learner.prepare(adapted, double(after), {}, shared_slots=True)[0]
    return learner, state, [double(before), double(after)], MetaBatch((samples,), adapted, post)


def log_probs(theta: Tensor, trajectories: Trajectories, task: int) -> Tensor:
    """log p of every trajectory of one task, [episodes]."""
    seen, actions = trajectories.observations[task, ..., 0], trajectories.actions[task, ..., 0]
    return Normal(theta[0] * seen**2 + theta[1], 1.0).log_prob(actions).sum(-1)


def weights(trajectories: Trajectories, task: int, baseline: bool) -> Tensor:
    """Returns of one task, less the mean of the other episodes if asked for, one at a time."""
    returns = trajectories.rewards[task].sum(-1)
    if not baseline:
        return returns
    rest = [torch.cat([returns[:n], returns[n + 1 :]]).mean() for n in range(EPISODES)]
    return returns - torch.stack(rest)


def magic_box(log_prob: Tensor) -> Tensor:
    return torch.exp(log_prob - log_prob.detach())


def reference(theta: Tensor, data: list[Trajectories], task: int, box: bool, baseline: bool) -> Tensor:
    """d/dθ of the post-update objective through the inner step on mean R log p, or on mean R □(τ)."""
    (before, after), leaf = data, theta.clone().requires_grad_()
    log_prob = log_probs(leaf, before, task)
    inner = ((magic_box(log_prob) if box else log_prob) * weights(before, task, baseline)).mean()
    adapted = leaf + 0.1 * torch.autograd.grad(inner, leaf, create_graph=True)[0]
    outer = (magic_box(log_probs(adapted, after, task)) * weights(after, task, baseline)).mean()
    return torch.autograd.grad(outer, leaf)[0]


def all_tasks(value: Any) -> Tensor:
    return torch.stack([value(task) for task in range(TASKS)])


def close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() < 1e-10 * (1.0 + other.abs().max()))


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("clip_actions", [False, True])
def test_formulation_one_is_the_derivative_of_the_magic_box_objective(baseline, clip_actions):
    learner, state, data, batch = collected(formulation="one", baseline=baseline, clip_actions=clip_actions)
    theta = state.params[THETA]
    post, credit = learner.terms(theta, batch)
    assert close(post + credit, all_tasks(lambda task: reference(theta, data, task, True, baseline)))
    assert close(post, all_tasks(lambda task: reference(theta, data, task, False, baseline)))
    assert credit.abs().min() > 1e-4


@pytest.mark.parametrize("baseline", [False, True])
def test_formulation_two_is_the_score_of_all_trajectories_times_the_mean_post_update_return(baseline):
    learner, state, data, batch = collected(formulation="two", baseline=baseline)
    theta = state.params[THETA]
    post, credit = learner.terms(theta, batch)
    means = data[1].rewards.sum(-1).mean(-1)

    def credited(task: int) -> Tensor:
        leaf = theta.clone().requires_grad_()
        others = sum(float(means[other]) for other in range(TASKS) if other != task) / (TASKS - 1)
        worth = float(means[task]) - (others if baseline else 0.0)
        return torch.autograd.grad(log_probs(leaf, data[0], task).sum(), leaf)[0] * worth

    assert close(credit, all_tasks(credited))
    assert close(post, all_tasks(lambda task: reference(theta, data, task, False, baseline)))


def test_the_extra_factors_scale_one_term_each_and_nothing_else():
    terms = {}
    for key, settings in {
        "plain": {},
        "post": {"scale_post": True},
        "credit": {"scale_credit": True},
        "both": {"scale_post": True, "scale_credit": True},
    }.items():
        learner, state, _, batch = collected(formulation="two", **settings)
        terms[key] = learner.terms(state.params[THETA], batch)
    post, credit = terms["plain"]
    for key, (first, second) in terms.items():
        assert close(first, post * (0.1 if key in ("post", "both") else 1.0))
        assert close(second, credit * (0.1 if key in ("credit", "both") else 1.0))
    with pytest.raises(ValidationError, match="scale_credit"):
        make(formulation="one", scale_credit=True)


@pytest.mark.parametrize("formulation", ["one", "two"])
def test_a_batch_of_tasks_equals_one_task_at_a_time(formulation):
    learner, state, _, batch = collected(formulation=formulation)
    post, credit = learner.terms(state.params[THETA], batch)
    for task in range(TASKS):
        one = slice(task, task + 1)
        before, after = (
            Episodes(*(part[one] for part in part_of)) for part_of in (batch.pre_update[0], batch.post_update)
        )
        alone = learner.terms(state.params[THETA], MetaBatch((before,), {THETA: batch.adapted[THETA][one]}, after))
        assert close(alone[0], post[one])
        assert close(alone[1], credit[one])


def test_the_inner_step_and_the_rules_of_the_meta_test():
    learner, state, data, batch = collected(formulation="one", baseline=True)
    theta, samples = state.params[THETA], batch.pre_update[0]

    def descended(task: int) -> Tensor:
        leaf = theta.clone().requires_grad_()
        mean = (log_probs(leaf, data[0], task) * weights(data[0], task, True)).mean()
        return theta + 0.1 * torch.autograd.grad(mean, leaf)[0]

    assert close(batch.adapted[THETA], all_tasks(descended))
    repeated = {THETA: theta.expand(TASKS, 2)}
    inner = learner.rule(RULES["inner"]())
    assert torch.equal(inner.update(repeated, inner.init(repeated), samples)[0][THETA], batch.adapted[THETA])
    scaled = learner.rule(RULES["inner_scaled"](factors=(0.5,)))
    halfway = scaled.update(repeated, scaled.init(repeated), samples)[0][THETA]
    assert close(halfway, (repeated[THETA] + batch.adapted[THETA]) / 2)
    adam = learner.rule(RULES["adam"](actor_lr=0.01, critic_lr=0.01))
    moved = adam.update(repeated, adam.init(repeated), samples)[0][THETA]
    # Adam's first step has the length of its rate, whatever the gradient's.
    assert torch.allclose(moved, theta + 0.01 * (batch.adapted[THETA] - theta).sign(), atol=1e-7)


def test_the_update_is_plain_ascent_and_its_metrics_say_where_it_leads():
    learner, state, _, batch = collected(formulation="two", outer_lr=0.25)
    post, credit = learner.terms(state.params[THETA], batch)
    new, metrics = learner.meta_update(state, batch, 0)
    assert close(new.params[THETA], state.params[THETA] + 0.25 * (post + credit).sum(0) / TASKS)
    assert [metrics["theta_0"], metrics["theta_1"]] == new.params[THETA].tolist()
    assert metrics["post_term_norm"] == pytest.approx(math.hypot(*post.mean(0).tolist()))
    assert metrics["credit_norm"] == pytest.approx(math.hypot(*credit.mean(0).tolist()))
    spread = (post + credit - (post + credit).mean(0)).square().sum(-1).mean().sqrt()
    assert metrics["gradient_std"] == pytest.approx(float(spread))


def test_mean_of_others_by_hand():
    assert mean_of_others(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [[4.0, 3.5, 1.5]]
    assert mean_of_others(torch.tensor([[3.0]])).tolist() == [[0.0]]


def test_sums_of_a_trajectory_by_hand():
    """Two steps: s = 2, a = 1 and s = 1, a = -1. φ = (4, 1), (1, 1)."""
    trajectories = Trajectories(
        observations=torch.tensor([2.0, 1.0, 7.0]).view(1, 1, 3, 1),
        actions=torch.tensor([1.0, -1.0, 7.0]).view(1, 1, 3, 1),
        rewards=torch.tensor([0.5, 0.25, 0.0]).view(1, 1, 3),
        valid=torch.tensor([True, True, False]).view(1, 1, 3),
        final_observation=torch.zeros(1, 1, 1),
    )
    episodes, slots = make(formulation="one").prepare({}, trajectories, {}, shared_slots=False)
    assert slots == {}
    assert episodes.moments.tolist() == [[[3.0, 0.0]]]
    assert episodes.gram.tolist() == [[[[17.0, 5.0], [5.0, 2.0]]]]
    assert episodes.returns.tolist() == episodes.advantages.tolist() == [[0.75]]
    assert episodes.scores(torch.tensor([1.0, -1.0])).tolist() == [[[3.0 - 12.0, 0.0 - 3.0]]]
    assert episodes.gradient(torch.tensor([[1.0, -1.0]])).tolist() == [[0.75 * -9.0, 0.75 * -3.0]]
    assert episodes.curvature().tolist() == [[[-12.75, -3.75], [-3.75, -1.5]]]


def test_scores_of_clipped_actions_do_not_average_to_zero():
    """At mean μ the score of a clipped action is on average E[clip(a)] - μ: -0.027303 for μ = 0.5."""
    mu = 0.5
    rng, params = torch.Generator().manual_seed(0), {THETA: torch.tensor([0.0, mu])}
    expected = {True: -0.027303, False: 0.0}
    for clip, bias in expected.items():
        learner = make(formulation="one", clip_actions=clip)
        trajectories = sampled(learner, params, {"goal": torch.ones(1, 1)}, 200_000, rng)
        score = learner.prepare(params, trajectories, {}, shared_slots=False)[0].scores(params[THETA])[..., 1].double()
        assert float(score.mean()) / 5.0 == pytest.approx(bias, abs=4 * float(score.std()) / 5.0 / math.sqrt(2e5))
        assert (float(trajectories.actions.abs().max()) == 2.0) == clip


def estimate(meta_batches: int, **settings: Any) -> tuple[Tensor, Tensor]:
    """Mean over tasks of J_post + J_pre at the published start, and its standard error; 100 episodes per task."""
    learner, rng = make(initial_theta=START, **settings), torch.Generator().manual_seed(1)
    params, totals = learner.init(rng).params, []
    for _ in range(meta_batches):
        tasks = SUITE.sample_tasks(400, rng)
        before = learner.prepare(params, sampled(learner, params, tasks, 100, rng), {}, shared_slots=False)[0]
        adapted = learner.adapt(params, before)
        after = learner.prepare(adapted, sampled(learner, adapted, tasks, 100, rng), {}, shared_slots=True)[0]
        totals.append(sum(learner.terms(params[THETA], MetaBatch((before,), adapted, after))).double())
    total = torch.cat(totals)
    return total.mean(0), total.std(0) / math.sqrt(len(total))


@pytest.mark.parametrize("formulation", ["one", "two"])
def test_with_drawn_actions_and_baselines_both_estimate_the_exact_gradient(formulation):
    theta = theta_at(*START)
    (exact,) = torch.autograd.grad(adapted_return(theta), theta)
    assert exact.tolist() == pytest.approx([-0.038926, -0.036219], abs=1e-6)
    mean, error = estimate(40, formulation=formulation, baseline=True, clip_actions=False)
    assert ((mean - exact).abs() < 4 * error).all()
    assert (error < 0.04).all()


def test_as_released_the_clip_makes_nearly_all_of_the_credit_of_formulation_two():
    released = {"formulation": "two", "scale_post": True, "scale_credit": True}
    clipped, error = estimate(20, **released)
    assert (clipped < -10 * error).all()
    assert (clipped < -0.5).all()
    drawn, error = estimate(20, clip_actions=False, **released)
    assert (drawn.abs() < 4 * error + 0.02).all()


def distance_after(iterations: int, **settings: Any) -> float:
    learner, rng = make(initial_theta=START, **settings), torch.Generator().manual_seed(2)
    state = learner.init(rng)
    for iteration in range(iterations):
        tasks = SUITE.sample_tasks(80, rng)
        before = learner.prepare(state.params, sampled(learner, state.params, tasks, 100, rng), {}, shared_slots=False)[
            0
        ]
        adapted = learner.adapt(state.params, before)
        after = learner.prepare(adapted, sampled(learner, adapted, tasks, 100, rng), {}, shared_slots=True)[0]
        state, _ = learner.meta_update(state, MetaBatch((before,), adapted, after), iteration)
    return float(state.params[THETA].norm())


def test_formulation_one_comes_to_the_optimum_and_unbalanced_terms_lead_away():
    start = math.hypot(*START)
    assert distance_after(100, formulation="one", baseline=True, outer_lr=0.05) < 0.2 * start
    assert distance_after(100, formulation="one", baseline=True, scale_post=True, outer_lr=0.05) > 2.0 * start

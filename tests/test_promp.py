"""ProMP as a whole: its first step, and all of its steps against a loop in plain autograd."""

import pytest
import torch
from torch.distributions import kl_divergence

from algorithms.meta_gradients import mean_over_tasks, second_order_by_task
from algorithms.outer_updates import bound_term
from harness.api import State
from tests.plain_autograd import (
    average,
    collected,
    distance,
    ended_early,
    plain_distribution,
    plain_log_prob,
    plain_path,
)
from tests.test_pre_update import TASKS, both_policies, initial, proximal


def plain_promp_steps(learner, params, data, eta, steps, clip_ratio=0.3):
    """The meta-parameters after every step of torch's Adam on the mean over tasks of eq. 13."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    optimiser, after = torch.optim.Adam(leaves.values(), lr=learner.settings.outer_lr), data.post_update
    rounds = len(data.pre_update)

    def objective(task):
        path = plain_path(learner, leaves, data, task, "likelihood_ratio")
        ratio = plain_log_prob(learner, path[-1], after, task).exp() / after.old_log_prob[task].exp()
        # Where clipping has the smaller value, it is a constant.
        pairs = list(zip(ratio.tolist(), after.advantages[task].tolist(), strict=True))
        limited = [min(max(r, 1 - clip_ratio), 1 + clip_ratio) * a for r, a in pairs]
        free = torch.tensor([r * a <= other for (r, a), other in zip(pairs, limited, strict=True)])
        value = torch.where(free, ratio * after.advantages[task], torch.tensor(limited, dtype=torch.float64))
        loss = -average(value, after, task)
        for index in range(rounds):
            samples = data.pre_update[index]
            now = plain_distribution(learner, path[index], samples.observations[task])
            each = kl_divergence(sampled[task][index], now)
            loss = loss + eta / rounds * average(each, samples, task)
        return loss

    sampled = []
    for task in range(TASKS):
        path = plain_path(learner, leaves, data, task, "likelihood_ratio")
        detached = [{name: tensor.detach() for name, tensor in one.items()} for one in path]
        sampled.append(
            [
                plain_distribution(learner, detached[index], data.pre_update[index].observations[task])
                for index in range(rounds)
            ]
        )
    visited = []
    for _ in range(steps):
        optimiser.zero_grad()
        torch.stack([objective(task) for task in range(TASKS)]).mean().backward()
        optimiser.step()
        visited.append({name: leaf.detach().clone() for name, leaf in leaves.items()})
    return visited


@pytest.mark.parametrize("rounds", [1, 2])
@both_policies
def test_five_steps_of_promp_equal_a_loop_in_plain_autograd(suite_name, rounds):
    eta = 0.8
    settings = {"adaptation_steps": rounds, "kl_coefficient": eta, "inner_lr": 0.3, "outer_lr": 0.05}
    learner, params, data = collected(suite_name, "promp", **settings)
    data = ended_early(learner, params, data)
    new, metrics = learner.meta_update(initial(learner, params), data, 0)
    visited = plain_promp_steps(learner, params, data, eta, 5)
    assert int(new.optimiser["count"]) == 5
    assert distance(new.params, visited[-1]) < 1e-9
    assert distance(new.params, visited[-2]) > 1e-3
    assert metrics["kl_pre_update"] > 1e-3
    # The penalty and the bounds have a part in this.
    assert distance(plain_promp_steps(learner, params, data, 0.0, 5)[-1], visited[-1]) > 1e-4
    assert distance(plain_promp_steps(learner, params, data, eta, 5, clip_ratio=9.0)[-1], visited[-1]) > 1e-4


@pytest.mark.parametrize("eta", [0.0, 3.0])
@pytest.mark.parametrize("rounds", [1, 2])
@both_policies
def test_the_first_step_of_promp_is_that_of_lvc_and_the_second_is_not(suite_name, rounds, eta):
    learner, params, data = proximal(suite_name, True, adaptation_steps=rounds, kl_coefficient=eta)
    lvc, _, _ = collected(suite_name, "lvc_vpg", outer_lr=0.1, adaptation_steps=rounds)
    literally = collected(
        suite_name, "policy_search_vpg", outer_lr=0.1, adaptation_steps=rounds, inner_surrogate="lvc", credit="none"
    )[0]
    state = State(params, {"kl_coefficient": torch.full((rounds,), eta, dtype=torch.float64)})
    first = mean_over_tasks(learner.meta_gradients(state, data))
    for other in (lvc, literally):
        theirs = mean_over_tasks(other.meta_gradients(State(params), data))
        assert distance(first, theirs) < (1e-15 if eta == 0.0 and other is lvc else 1e-10)
    term = bound_term(learner, state, data)
    moved = {name: tensor - 0.1 * first[name].sign() for name, tensor in params.items()}
    second = mean_over_tasks(second_order_by_task(learner, moved, data, term))
    for other in (lvc, literally):
        assert distance(second, mean_over_tasks(other.meta_gradients(State(moved), data))) > 1e-3

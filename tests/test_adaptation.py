"""The rules of the meta-test: the meta-trained step with lengths of its own."""

import pytest
import torch
from pydantic import ValidationError

from algorithms import RULES
from harness.evaluation import evaluate
from harness.spec import Evaluation
from harness.streams import stream
from tests.plain_autograd import ADAPTATIONS, collected, distance, every_suite, plain_path

SCALED = RULES["inner_scaled"]


def repeated(params, tasks):
    return {name: tensor.expand(tasks, *tensor.shape).clone() for name, tensor in params.items()}


def second_update(learner, params, samples, factors):
    """Parameters after a rule's second update, if the first is on the same samples and moves nothing."""
    rule = learner.rule(SCALED(factors=(0.0, *factors)))
    start = repeated(params, samples.weights.shape[0])
    still, memory = rule.update(start, rule.init(start), samples)
    assert all(torch.equal(still[name], start[name]) for name in start)
    return rule.update(still, memory, samples)[0]


@every_suite
@pytest.mark.parametrize("adaptation", ["one step", "two reused steps"])
def test_a_factor_multiplies_the_step_size_of_plain_autograd(suite_name, adaptation):
    learner, params, data = collected(suite_name, "maml_trpo", **ADAPTATIONS[adaptation])
    half = second_update(learner, params, data.pre_update[0], (0.5,))
    learner.settings = learner.settings.model_copy(update={"inner_lr": 0.5 * learner.settings.inner_lr})
    for task in range(3):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
        plain = {name: tensor.detach() for name, tensor in plain_path(learner, leaves, data, task)[-1].items()}
        mine = {name: tensor[task] for name, tensor in half.items()}
        assert distance(mine, plain) < 1e-12
        assert distance(mine, params) > 1e-4


@every_suite
def test_a_factor_of_one_is_the_meta_trained_step_to_the_last_bit(suite_name):
    learner, params, data = collected(suite_name, "maml_trpo", cast=lambda values: values)
    one = second_update(learner, params, data.pre_update[0], (1.0,))
    assert all(torch.equal(one[name], data.adapted[name]) for name in params)


def test_factors_of_one_measure_what_the_inner_rule_measures_and_other_factors_do_not(make_suite, make_learner):
    """With a critic of its own rate, over several updates on a buffer that is used again."""
    suite = make_suite(horizon=10, goal_tolerance=0.2)
    learner = make_learner("maml", suite, unused_slots="stale", actor_inner_lr=0.3, critic_inner_lr=0.1)
    protocols = {
        "inner": {"rule": "inner", "updates": 3, "settings": {}},
        "ones": {"rule": "inner_scaled", "updates": 3, "settings": {"factors": [1.0, 1.0, 1.0]}},
        "later": {"rule": "inner_scaled", "updates": 3, "settings": {"factors": [1.0, 0.5, 0.5]}},
    }
    evaluation = Evaluation.model_validate(
        {"seed": 1, "meta_test_tasks": 3, "episodes_per_task": 4, "shared_noise": True, "protocols": protocols}
    )
    found = evaluate(suite, learner, {"last": learner.init(stream(0, "init")).params}, evaluation, RULES)
    inner, later, ones = (measured.returns for measured in found)
    assert torch.equal(inner, ones)
    assert torch.equal(inner[:2], later[:2])
    assert not torch.equal(inner[2], later[2])


@pytest.mark.parametrize("factors", [(), (-0.5,), (float("nan"),), ("half",), 0.5])
def test_factors_that_are_none_or_no_rates_are_refused(factors):
    with pytest.raises(ValidationError, match="factors"):
        SCALED.model_validate({"factors": factors})

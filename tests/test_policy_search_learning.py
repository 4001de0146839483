"""The small navigation problem of test_learning.py with a linear baseline: the family learns it within a second."""

import pytest

from algorithms import ALGORITHMS
from harness.streams import stream
from tests.test_learning import SPEC, scores, train

SETTINGS = {
    "actor_hidden_sizes": [32],
    "actor_output_activation": "linear",
    "initial_log_std": 0.0,
    "discount": 0.8,
    "gae_lambda": 1.0,
    "inner_lr": 1.0,
}
RATES = {"lvc_vpg": (0.007, 100), "dice_vpg": (0.007, 100), "maml_vpg": (0.007, 100), "promp": (0.003, 30)}
"""Outer rate and meta-iterations: ProMP makes five steps of each."""
SOLVED = 0.45
"""Score after one update that counts as having learned to adapt; 1 is the optimum, 0 standing still."""
every_method = pytest.mark.parametrize("method", RATES)


@pytest.fixture
def new(make_suite, monkeypatch):
    """``new(method)``: a learner of this problem, to be trained with the budget of its method."""

    def of(method, **settings):
        rate, meta_iterations = RATES[method]
        budget = SPEC.budget.model_copy(update={"meta_iterations": meta_iterations})
        monkeypatch.setattr("tests.test_learning.SPEC", SPEC.model_copy(update={"budget": budget}))
        suite, declaration = make_suite(horizon=10, terminate_at_goal=False), ALGORITHMS[method]
        schema = declaration.settings.model_validate(SETTINGS | {"outer_lr": rate} | settings)
        learner = declaration.load()(schema, suite)
        learner.suite = suite
        return learner

    return of


@every_method
def test_one_update_on_the_goal_is_most_of_the_way(new, method):
    learner = new(method)
    before, once, _ = scores(learner, train(learner))
    assert before < 0.1
    assert once > SOLVED


@every_method
def test_training_for_the_return_before_the_update_is_not_enough(new, method):
    without = new(method, inner_lr=0.0)
    assert scores(new(method), train(without))[1] < SOLVED - 0.1


@every_method
def test_nor_is_the_initial_network_nor_an_ascent_of_the_loss(new, method, monkeypatch):
    learner = new(method)
    assert scores(learner, learner.init(stream(0, "init")).params)[1] < SOLVED - 0.1
    right = learner.outer._optimiser.step

    def wrong(params, gradients, memory):
        return right(params, {name: -gradient for name, gradient in gradients.items()}, memory)

    monkeypatch.setattr(learner.outer._optimiser, "step", wrong)
    assert scores(learner, train(learner))[1] < SOLVED - 0.1

"""A small navigation problem that meta-learning solves, and that a broken method does not.

Ten steps are just enough to walk to a goal, and nothing ends early. Scores are relative to what is known: 0 is standing
still, 1 the deterministic optimum. An agent that has not adapted cannot know the goal, so no policy gets far above 0.
"""

import pytest
import torch

from algorithms import RULES
from harness.evaluation import evaluate
from harness.runner import Clock, Training, meta_iteration
from harness.spec import RunSpec
from harness.streams import Streams, stream

SETTINGS = {
    "actor_hidden_sizes": [32],
    "critic_hidden_sizes": [32],
    "actor_output_activation": "linear",
    "initial_log_std": 0.0,
    "discount": 0.8,
    "gae_lambda": 0.9,
    "actor_inner_lr": 1.0,
    "critic_inner_lr": 0.1,
    "actor_outer_lr": 0.007,
    "critic_outer_lr": 0.007,
}
SPEC = RunSpec.model_validate(
    {
        "suite": {"name": "navigation", "version": 1, "settings": {}},
        "algorithm": {"name": "any", "version": 1, "settings": {}},
        "seed": 0,
        "budget": {"meta_iterations": 150, "meta_batch_size": 12, "episodes_per_task": 20},
        "evaluation": {"seed": 1, "meta_test_tasks": 30, "episodes_per_task": 20, "shared_noise": False}
        | {"protocols": {"inner_rule": {"rule": "inner", "updates": 2, "settings": {}}}},
    }
)
SOLVED = 0.4
"""Score after two updates that counts as having learned to adapt."""


@pytest.fixture(scope="module")
def suite(make_suite):
    return make_suite(horizon=10, terminate_at_goal=False)


def train(learner):
    """Meta-parameters after the budget of the spec."""
    streams = Streams(SPEC.seed)
    training = Training(learner.init(streams["init"]), streams)
    for _ in range(SPEC.budget.meta_iterations):
        training.state, _ = meta_iteration(learner.suite, learner, SPEC, training, Clock())
        training.iteration += 1
    return training.state.params


def scores(learner, params) -> list[float]:
    """Score after 0, 1 and 2 updates of the inner rule."""
    evaluation = SPEC.evaluation
    tasks = learner.suite.meta_test_tasks(evaluation.meta_test_tasks, stream(evaluation.seed, "meta_test_tasks"))
    optimum = float(learner.suite.references(tasks, 1)["optimal_return"].mean())
    still = -learner.suite.horizon * float(torch.linalg.vector_norm(tasks["goal"], dim=-1).mean())
    (measured,) = evaluate(learner.suite, learner, {"last": params}, evaluation, RULES)
    return [(value - still) / (optimum - still) for value in measured.returns.mean((1, 2)).tolist()]


@pytest.fixture(scope="module")
def new(make_learner, suite):
    """``new(name)``: a fresh learner of this problem, which knows its suite."""

    def of(name):
        learner = make_learner(name, suite, **SETTINGS)
        learner.suite = suite
        return learner

    return of


@pytest.fixture(scope="module")
def maml(new):
    learner = new("maml")
    return learner, train(learner)


def test_maml_learns_to_adapt(maml):
    before, once, twice = scores(*maml)
    assert before < 0.1
    assert once > before + 0.2
    assert twice > SOLVED


def test_pretrained_adapts_clearly_less(maml, new):
    learner = new("pretrained")
    assert scores(learner, train(learner))[2] < min(SOLVED, scores(*maml)[2] - 0.1)


def test_the_initial_network_does_not_solve_it(new):
    learner = new("maml")
    assert scores(learner, learner.init(stream(0, "init")).params)[2] < SOLVED


def test_a_meta_gradient_of_the_wrong_sign_does_not_solve_it(new):
    learner = new("maml")
    right = learner.outer.meta_gradient
    learner.outer.meta_gradient = lambda *arguments: {name: -value for name, value in right(*arguments).items()}
    assert scores(learner, train(learner))[2] < SOLVED


def test_adaptation_in_the_wrong_direction_does_not_solve_it(maml, new):
    learner = new("maml")
    right = learner.adapt
    learner.adapt = lambda params, samples: right(params, samples._replace(advantages=-samples.advantages))
    before, once, twice = scores(learner, maml[1])
    assert twice < once < before

"""TRPO on the actor beside Adam on the critic: each is what it is alone, and the region holds."""

import pytest
import torch

from algorithms import ALGORITHMS
from harness.api import State
from tests.plain_autograd import build
from tests.test_actor_critic import KEYS, NETWORKS, RATES, every_order, of, part, same


@pytest.fixture
def suite(make_suite):
    return make_suite(horizon=12)


def trpo(suite, collect, **settings):
    """A learner, its state and data in float64, and the updated state with its metrics."""
    learner = of(suite, "actor_critic_trpo", **settings)
    state, data = collect(learner, suite)
    return learner, state, data, *learner.meta_update(state, data, 0)


STEPS = {
    "one step": {},
    "two fresh": {"adaptation_steps": 2},
    "two reused": {"adaptation_steps": 2, "adaptation_data": "reused"},
}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("order", "alone"), [("first_order", "fomaml_trpo"), ("second_order", "maml_trpo")])
def test_the_actor_steps_as_trpo_alone_does_on_the_same_advantages(suite, collect, order, alone, steps):
    _, state, data, new, metrics = trpo(suite, collect, meta_gradient=order, **STEPS[steps])
    networks = {key: value for key, value in NETWORKS.items() if key != "critic_hidden_sizes"}
    other = build(ALGORITHMS, alone, suite, inner_lr=RATES["actor_inner_lr"], **networks, **STEPS[steps])
    own = data._replace(adapted=part("actor", data.adapted))
    expected, _, plotted = other.outer.step(other, State(part("actor", state.params)), own)
    assert metrics["step_accepted"] == 1.0
    assert same(part("actor", new.params), expected)
    assert plotted.items() <= metrics.items()


@pytest.mark.parametrize("steps", STEPS)
@every_order
def test_the_critic_steps_as_adam_does_on_its_own_gradient(suite, collect, order, steps):
    _, state, data, new, metrics = trpo(suite, collect, meta_gradient=order, **STEPS[steps])
    other = of(suite, meta_gradient=order, **STEPS[steps])
    expected, plotted = other.meta_update(State(state.params, other.outer.init(state.params)), data, 0)
    assert same(part("critic", new.params), part("critic", expected.params))
    assert metrics["meta_gradient_norm_critic"] == plotted["meta_gradient_norm_critic"]
    moments = {name for name in expected.optimiser if "/actor/" not in name}
    assert set(new.optimiser) == moments
    assert all(torch.equal(new.optimiser[name], expected.optimiser[name]) for name in moments)


@pytest.mark.parametrize("inner", KEYS)
@every_order
def test_the_trust_region_is_respected_and_the_loss_falls(suite, collect, order, inner):
    choice = {"inner_surrogate": inner, "meta_gradient": order, "max_kl": 0.003} | KEYS[inner]
    learner, _, data, new, metrics = trpo(suite, collect, **choice)
    loss, kl = learner.outer.actor._loss_and_kl(
        learner.only("actor"), part("actor", new.params), data._replace(adapted=part("actor", data.adapted)), None
    )
    assert metrics["step_accepted"] == 1.0
    assert (loss, kl) == (metrics["surrogate_after"], metrics["kl"])
    assert 3e-4 < kl <= 0.003
    assert loss < metrics["surrogate_before"]

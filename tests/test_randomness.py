"""Randomness is a parameter: named streams from one seed, and no global generator."""

import random
from typing import Any

import numpy as np
import pytest
import torch

from algorithms import ALGORITHMS, RULES
from harness.api import Suite
from harness.evaluation import evaluate
from harness.runner import Clock, Training, meta_iteration
from harness.spec import RunSpec
from harness.streams import TRAINING_STREAMS, Streams, stream
from tests.test_contracts import PAIRS, build


def numbers(generator, count=4):
    return torch.rand(count, generator=generator).tolist()


def specification(seed=0) -> RunSpec:
    component = {"name": "any", "version": 1, "settings": {}}
    adam = {"rule": "adam", "updates": 2, "settings": {"actor_lr": 0.01, "critic_lr": 0.01}}
    inner = {"rule": "inner", "updates": 2, "settings": {}}
    return RunSpec.model_validate(
        {
            "suite": component,
            "algorithm": component,
            "seed": seed,
            "budget": {"meta_iterations": 2, "meta_batch_size": 3, "episodes_per_task": 2},
            "evaluation": {"seed": 1, "meta_test_tasks": 2, "episodes_per_task": 2, "shared_noise": False}
            | {"protocols": {"ulm": adam, "inner_rule": inner}},
        }
    )


def small_run(suite: Suite, learner: Any, seed: int = 0, disturb=lambda: None) -> list[torch.Tensor]:
    """Two meta-iterations and the meta-test; ``disturb`` is called between all of them. Everything that came out."""
    spec = specification(seed)
    streams = Streams(seed)
    training = Training(learner.init(streams["init"]), streams)
    out: list[torch.Tensor] = []
    for iteration in range(spec.budget.meta_iterations):
        disturb()
        training.state, metrics = meta_iteration(suite, learner, spec, training, Clock())
        training.iteration = iteration + 1
        out.append(torch.tensor([metrics[key] for key in sorted(metrics)], dtype=torch.float64))
    disturb()
    for measured in evaluate(suite, learner, {"last": training.state.params}, spec.evaluation, RULES):
        out += [measured.returns, measured.lengths]
    out += [tensor for group in training.groups().values() for tensor in group.values()]
    return out


def equal(one, other):
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def disturb_all():
    """Draw from, and re-seed, every global generator."""
    torch.manual_seed(int(torch.randint(1000, ()).item()))
    np.random.seed(np.random.randint(1000))  # noqa: NPY002
    random.seed(random.random())


@pytest.fixture
def pair(request, make_suite, tmp_path, monkeypatch):
    """A suite and an algorithm that fits it; navigation with early ends and stale slots, where they matter."""
    monkeypatch.setenv("METAREPRO_CACHE", str(tmp_path))
    suite_name, name = request.param
    if suite_name == "navigation" and "unused_slots" in ALGORITHMS[name].settings.model_fields:
        suite = make_suite(horizon=10, goal_tolerance=0.1, test_goals={"source": "numpy", "seed": 1})
        return suite, build(f"algorithms/{name}", suite, unused_slots="stale", actor_hidden_sizes=[5, 4])
    suite = build(f"suites/{suite_name}")
    return suite, build(f"algorithms/{name}", suite)


every_pair = pytest.mark.parametrize("pair", PAIRS, indirect=True, ids="-".join)


@every_pair
def test_global_generators_change_nothing_about_a_run(pair):
    torch.manual_seed(1)
    undisturbed = small_run(*pair)
    torch.manual_seed(2)
    assert equal(small_run(*pair, disturb=disturb_all), undisturbed)
    assert not equal(small_run(*pair, seed=1), undisturbed)


@every_pair
def test_a_run_leaves_the_global_generators_where_they_were(pair):
    def states():
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002
        return [torch.get_rng_state().tolist(), kind, keys.tolist(), rest, random.getstate()]

    before = states()
    small_run(*pair)
    assert states() == before


def test_a_meta_iteration_leaves_the_state_that_it_started_from(make_suite, make_learner):
    suite = make_suite(horizon=10)
    learner, streams = make_learner("maml", suite), Streams(0)
    training = Training(learner.init(streams["init"]), streams)
    kept = {name: tensor.clone() for name, tensor in training.state.params.items()}
    new, _ = meta_iteration(suite, learner, specification(), training, Clock())
    assert all(torch.equal(training.state.params[name], kept[name]) for name in kept)
    assert not any(torch.equal(new.params[name], kept[name]) for name in kept)


def test_a_stream_is_decided_by_its_seed_and_its_name():
    assert numbers(stream(3, "tasks")) == numbers(stream(3, "tasks"))
    drawn = [
        tuple(numbers(stream(seed, name))) for seed in range(50) for name in (*TRAINING_STREAMS, "meta_test_tasks")
    ]
    assert len(set(drawn)) == len(drawn)


def test_a_new_stream_moves_no_other():
    few, more = Streams(5, ("tasks", "policy")), Streams(5, ("new", "tasks", "another", "policy"))
    numbers(more["new"], 100)
    for name in ("tasks", "policy"):
        assert numbers(few[name]) == numbers(more[name])


def test_drawing_from_one_stream_moves_no_other():
    drawn_from, fresh = Streams(5), Streams(5)
    numbers(drawn_from["tasks"], 1000)
    assert numbers(drawn_from["policy"]) == numbers(fresh["policy"])
    assert numbers(drawn_from["tasks"]) != numbers(fresh["tasks"])


def test_restored_streams_go_on_where_the_state_was_taken():
    streams = Streams(5)
    for name in TRAINING_STREAMS:
        numbers(streams[name], 3)
        torch.randn(5, generator=streams[name])  # a normal draw can leave a number in the generator
    state = streams.state()
    expected = {name: numbers(streams[name]) for name in TRAINING_STREAMS}
    other = Streams(77)
    other.restore(state)
    assert {name: numbers(other[name]) for name in TRAINING_STREAMS} == expected


def test_a_recorded_state_is_a_copy():
    streams = Streams(5)
    state = streams.state()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    numbers(streams["tasks"], 100)
    assert all(torch.equal(state[name], kept[name]) for name in state)

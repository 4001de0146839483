"""Meta-tests on a budget of steps, of the best model, and of a training that another run has made."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet
import pytest
import torch

from algorithms import RULES
from harness.composition import REGISTRIES
from harness.errors import UserError
from harness.evaluation import Measurement, evaluate
from harness.results import RunDirectory, returns_table
from harness.runner import run
from harness.spec import Evaluation, PlannedRun, Protocol
from harness.streams import stream
from harness.watcher import Watcher
from harness.worker import build
from tests.harness_fixtures import PROVENANCE, load, tiny, write_study

HORIZON, TASKS, STEPS = 20, 3, 70
INNER = {"rule": "inner", "updates": 2, "settings": {}}


def measure(suite, learner, models, **protocols) -> dict[str, Measurement]:
    evaluation = Evaluation.model_validate(
        {"seed": 5, "meta_test_tasks": TASKS, "episodes_per_task": 4, "shared_noise": False, "protocols": protocols}
    )
    return {found.protocol: found for found in evaluate(suite, learner, models, evaluation, RULES)}


@pytest.fixture
def easy(make_suite, make_learner):
    """A suite in which many episodes end early, a learner and its initial parameters."""
    suite = make_suite(horizon=HORIZON, goal_tolerance=0.2)
    learner = make_learner("maml_trpo", suite, inner_lr=0.5)
    return suite, learner, learner.init(stream(0, "init")).params


@pytest.fixture
def make_learner(make_learner):
    """Without the rates of a critic, which a linear baseline refuses."""
    from algorithms import ALGORITHMS

    def of(name, suite, **settings):
        declaration = ALGORITHMS[name]
        return declaration.load()(
            declaration.settings.model_validate({"actor_hidden_sizes": [5, 4], **settings}), suite
        )

    return of


def test_a_task_gets_the_fewest_whole_episodes_that_have_the_steps(easy):
    suite, learner, params = easy
    found = measure(suite, learner, {"last": params}, steps={**INNER, "steps_per_task": STEPS})["steps"]
    assert found.counted.any(-1).all()
    assert (found.counted.sum(-1).unique().numel()) > 1  # tasks differ in how many episodes they need
    for update in range(3):
        for task in range(TASKS):
            lengths = found.lengths[update, task][found.counted[update, task]]
            assert lengths.sum() >= STEPS > lengths[:-1].sum()
            count = int(found.counted[update, task].sum())
            assert found.counted[update, task, :count].all()  # the first ones count, the padding is behind
            assert (found.returns[update, task, count:] == 0).all()


def test_where_no_episode_ends_early_the_budget_is_a_number_of_episodes(make_suite, make_learner):
    suite = make_suite(horizon=HORIZON, terminate_at_goal=False)
    learner = make_learner("maml_trpo", suite, inner_lr=0.5)
    params = learner.init(stream(0, "init")).params
    found = measure(suite, learner, {"last": params}, steps={**INNER, "steps_per_task": 3 * HORIZON})["steps"]
    assert found.counted.all()
    assert found.returns.shape == (3, TASKS, 3)
    both = measure(suite, learner, {"last": params}, steps={**INNER, "steps_per_task": 4 * HORIZON}, episodes=INNER)
    assert torch.equal(both["steps"].returns, both["episodes"].returns)  # the same data: not a bit apart


def test_the_first_episodes_are_those_of_a_protocol_that_counts_episodes(easy):
    suite, learner, params = easy
    found = measure(suite, learner, {"last": params}, steps={**INNER, "steps_per_task": 9 * HORIZON}, episodes=INNER)
    assert found["steps"].counted[0].sum(-1).min() > 4  # every task got more than these
    assert torch.equal(found["steps"].returns[0, :, :4], found["episodes"].returns[0])
    assert not torch.equal(found["steps"].returns[1, :, :4], found["episodes"].returns[1])  # adapted on more data


def test_surplus_episodes_enter_neither_the_means_nor_the_adaptation(easy):
    """Adapting on the counted episodes alone, task by task, gives the same returns after the update."""
    suite, learner, params = easy
    protocol = {**INNER, "updates": 1, "steps_per_task": STEPS}
    together = measure(suite, learner, {"last": params}, steps=protocol)["steps"]
    goals = suite.meta_test_tasks(TASKS, stream(5, "meta_test_tasks"))["goal"]
    noise = learner.policy.draw_noise
    for task in range(TASKS):
        suite.meta_test_tasks = lambda count, rng, task=task: {"goal": goals[task : task + 1]}
        # The same noise for the task that is alone as it had among the others.
        learner.policy.draw_noise = lambda rng, tasks, episodes, horizon, task=task: noise(
            rng, TASKS, episodes, horizon
        )[:, task : task + 1]
        evaluation = Evaluation.model_validate(
            {"seed": 5, "meta_test_tasks": 1, "episodes_per_task": 4, "shared_noise": False}
            | {"protocols": {"steps": protocol}}
        )
        (alone,) = evaluate(suite, learner, {"last": params}, evaluation, RULES)
        for update in range(2):
            mine = together.returns[update, task][together.counted[update, task]]
            torch.testing.assert_close(alone.returns[update, 0][alone.counted[update, 0]], mine, rtol=1e-4, atol=1e-4)
    learner.policy.draw_noise = noise


def test_the_table_averages_over_the_episodes_that_count():
    returns = torch.tensor([[[-1.0, -3.0, 0.0], [-2.0, -4.0, -9.0]]])
    counted = torch.tensor([[[True, True, False], [True, True, True]]])
    lengths = torch.tensor([[[4, 8, 0], [1, 2, 3]]])
    rows = returns_table([Measurement("p", returns, lengths, counted, {}, None)]).to_pylist()
    assert [row["episodes"] for row in rows] == [2, 3]
    assert [row["mean_return"] for row in rows] == [-2.0, -5.0]
    assert [row["mean_length"] for row in rows] == [6.0, 2.0]
    assert rows[0]["sd_return"] == pytest.approx(2.0**0.5)
    assert rows[1]["sd_return"] == pytest.approx(13.0**0.5)


def test_a_learner_that_remembers_is_refused(make_suite):
    class Remembering:
        sequential = True

    class Learner:
        policy = Remembering()

        def rule(self, settings):
            class Rule:
                def init(self, params):
                    return {}

            return Rule()

    with pytest.raises(UserError, match="steps_per_task is not for it"):
        measure(make_suite(), Learner(), {"last": {}}, steps={**INNER, "steps_per_task": 10})


def test_a_protocol_measures_the_model_that_it_names(easy):
    suite, learner, params = easy
    other = learner.init(stream(1, "init")).params
    asked = {"last": INNER, "best": {**INNER, "model": "best"}}
    found = measure(suite, learner, {"last": params, "best": other}, **asked)
    swapped = measure(suite, learner, {"last": other, "best": params}, **asked)
    assert torch.equal(found["last"].returns, swapped["best"].returns)
    assert torch.equal(found["best"].returns, swapped["last"].returns)
    assert not torch.equal(found["last"].returns, found["best"].returns)


def test_protocols_without_the_new_keys_have_the_run_ids_that_they_had():
    plain = Protocol(rule="inner", updates=1, settings={})
    assert plain.model_dump(mode="json") == {"rule": "inner", "updates": 1, "settings": {}}
    assert Protocol(rule="inner", updates=1, settings={}, model="best").model_dump(mode="json")["model"] == "best"


# --- the best model, and trainings that are shared


def _with(folder: Path, **protocol: object) -> PlannedRun:
    data = tiny()
    data["budget"]["meta_iterations"] = 6
    data["evaluation"]["protocols"] = {"own": {"rule": "inner", "updates": 1, **protocol}}
    return next(run for run in load(write_study(folder, data)).plan() if run.method == "maml")


def _execute(planned: PlannedRun, results: Path, **callbacks: object) -> RunDirectory:
    suite, algorithm = build(planned.spec, REGISTRIES)
    folder = RunDirectory.of(results, planned.spec.run_id).folder
    assert run(planned.spec, suite, algorithm, RULES, folder, PROVENANCE, 2, Watcher(**callbacks)) == "done"
    return RunDirectory(folder)


class Crash(Exception):
    pass


def test_the_best_model_is_the_one_that_sampled_the_highest_return_also_after_a_crash(tmp_path):
    best = _with(tmp_path, model="best")
    place = _execute(best, tmp_path / "whole")
    curve = pyarrow.parquet.read_table(place.curves).column("post_update_return").to_pylist()
    index = curve.index(max(curve))
    # A training that ends just before that iteration ends with those parameters.
    shorter = best.model_copy(update={"spec": best.spec.model_copy(update={"budget": best.spec.budget.model_copy(
        update={"meta_iterations": index})})})  # fmt: skip
    last = shorter.model_copy(update={"spec": shorter.spec.model_copy(update={"evaluation": _with(
        tmp_path).spec.evaluation})})  # fmt: skip
    assert _execute(last, tmp_path / "short").returns.read_bytes() == place.returns.read_bytes()

    def crash(iteration: int, metrics: object) -> None:
        if iteration == 4:
            raise Crash

    with pytest.raises(Crash):
        _execute(best, tmp_path / "crashed", on_iteration=crash)
    assert _execute(best, tmp_path / "crashed").returns.read_bytes() == place.returns.read_bytes()


def test_a_run_that_differs_in_its_meta_test_alone_takes_the_training_over(tmp_path):
    first, second = _with(tmp_path), _with(tmp_path, updates=2)
    assert first.spec.training_id == second.spec.training_id
    assert first.spec.run_id != second.spec.run_id
    alone = _execute(second, tmp_path / "alone")
    _execute(first, tmp_path / "shared")
    seen: list[int] = []
    place = _execute(second, tmp_path / "shared", on_iteration=lambda iteration, metrics: seen.append(iteration))
    assert seen == list(range(6))  # its curves are logged as if it had made them
    assert place.returns.read_bytes() == alone.returns.read_bytes()
    assert place.curves.read_bytes() == alone.curves.read_bytes()
    manifest = json.loads(place.manifest.read_text())
    assert manifest["training_of"] == first.spec.run_id
    assert "outer" not in manifest["seconds"]  # nothing was trained


def test_another_seed_or_budget_is_another_training(tmp_path):
    spec = _with(tmp_path).spec
    assert spec.training_id != spec.model_copy(update={"seed": 1}).training_id
    longer = spec.budget.model_copy(update={"meta_iterations": 7})
    assert spec.training_id != spec.model_copy(update={"budget": longer}).training_id


def test_a_method_may_be_measured_under_some_of_the_protocols(tmp_path):
    data = tiny()
    data["methods"]["maml"]["protocols"] = ["own"]
    study = load(write_study(tmp_path, data))
    assert {run.method: list(run.spec.evaluation.protocols) for run in study.plan()} == {
        "maml": ["own"],
        "random": ["fresh", "own"],
    }
    data["methods"]["maml"]["protocols"] = ["owm"]
    with pytest.raises(UserError, match=r"unknown protocol 'owm'; did you mean 'own'\?"):
        load(write_study(tmp_path, data))


def test_slots_of_a_fixed_buffer_do_not_go_with_a_budget_of_steps(tmp_path):
    study = tiny()
    study["hyperparameters"]["unused_slots"] = "stale"
    study["evaluation"]["protocols"]["fresh"]["steps_per_task"] = 70
    with pytest.raises(UserError, match="unused_slots is stale, but protocol fresh has steps_per_task"):
        load(write_study(tmp_path, study)).plan()
    study["evaluation"]["protocols"]["plain"] = {"rule": "inner", "updates": 1}
    for method in study["methods"].values():
        method["protocols"] = ["plain"]
    assert load(write_study(tmp_path, study)).plan()

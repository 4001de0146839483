"""What a run is: the run_id follows every value that decides the numbers, and nothing else."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness import composition
from harness.api import Declaration, Registries
from harness.errors import UserError
from harness.spec import Resources, RunSpec
from harness.study import read_study
from tests.harness_fixtures import PROJECT, TINY, load, planned, tiny, write_study


def _spec(
    data: dict[str, Any] | str = TINY, method: str = "maml", registries: Registries = composition.REGISTRIES
) -> RunSpec:
    with tempfile.TemporaryDirectory() as folder:
        runs = read_study(write_study(Path(folder), data), "paper", registries).plan()
    return next(run.spec for run in runs if run.method == method)


SPEC = _spec()
DATA: dict[str, Any] = json.loads(SPEC.canonical_json())


def _leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else None
    if children is None:
        yield path
    else:
        for key, value in children:
            yield from _leaves(value, (*path, key))


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * (1.0 + 2.0**-52)  # the smallest step there is: no rounding may hide it
    return 1 if value is None else f"{value}x"


@pytest.mark.parametrize("path", list(_leaves(DATA)), ids=lambda path: ".".join(map(str, path)))
def test_every_deciding_value_changes_the_run_id(path: tuple[Any, ...]) -> None:
    changed = copy.deepcopy(DATA)
    block = changed
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = _another(block[path[-1]])
    assert RunSpec.model_validate(changed).run_id != SPEC.run_id


def test_the_leaves_are_all_of_the_spec() -> None:
    names = {".".join(map(str, path)) for path in _leaves(DATA)}
    assert {
        "suite.version", "suite.settings.test_goals.source", "algorithm.version", "algorithm.settings.outer_betas.1",
        "algorithm.settings.discount", "seed", "budget.threads", "evaluation.protocols.fresh.settings.epsilon",
        "evaluation.shared_noise", "evaluation.protocols.own.updates",
    } <= names  # fmt: skip


def _reversed(data: Any) -> Any:
    return {key: _reversed(data[key]) for key in reversed(data)} if isinstance(data, dict) else data


def test_the_order_of_keys_does_not_matter() -> None:
    other = RunSpec.model_validate(_reversed(DATA))
    assert list(other.evaluation.protocols) == list(reversed(DATA["evaluation"]["protocols"]))
    assert other.canonical_json() == SPEC.canonical_json()
    assert other.run_id == SPEC.run_id
    assert _spec(_reversed(tiny())).run_id == SPEC.run_id


def test_canonical_json_is_compact_sorted_and_exact() -> None:
    text = SPEC.canonical_json()
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text
    assert RunSpec.model_validate_json(text) == SPEC
    assert re.fullmatch("[0-9a-f]{16}", SPEC.run_id)


@pytest.mark.parametrize(
    "change",
    [
        {"study": "other"}, {"title": "Another title"}, {"paper": "another"}, {"setting": "other"},
        {"checkpoint_every": 1}, {"minutes": 3.0}, {"seeds": "0-3"}, {"scales": {"paper": {}, "large": {}}},
        {"deviations": [{"topic": "a", "report": "b", "code": "c", "here": "d"}]},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_names_and_habits_of_a_study_do_not_matter(change: dict[str, Any]) -> None:
    assert _spec(tiny() | change).run_id == SPEC.run_id


def test_the_same_run_under_another_label_and_scale_is_the_same_run() -> None:
    data = tiny()
    data["methods"] = {"walk": data["methods"]["random"], "newton": data["methods"]["maml"] | {"description": "MAML"}}
    data["scales"] = {"paper": {"budget": {"meta_batch_size": 2}}}
    assert _spec(data, "newton").run_id == SPEC.run_id
    assert _spec(data, "walk").run_id == _spec(method="random").run_id != SPEC.run_id


def test_a_default_that_is_written_out_is_the_same_run() -> None:
    data = tiny()
    data["hyperparameters"] |= {"discount": 0.99, "outer_epsilon": 1e-8, "actor_inner_lr": 0.1}
    data["budget"]["threads"] = 1
    data["evaluation"]["protocols"]["fresh"]["settings"]["epsilon"] = 1.0e-8
    assert _spec(data).run_id == SPEC.run_id


def test_a_whole_number_for_a_rate_is_the_same_run_as_the_fraction() -> None:
    one, fraction = tiny(), tiny()
    one["hyperparameters"]["actor_inner_lr"], fraction["hyperparameters"]["actor_inner_lr"] = 1, 1.0
    assert _spec(one).run_id == _spec(fraction).run_id


def _bumped(declarations: Any, name: str) -> dict[str, Declaration]:
    return {**declarations, name: replace(declarations[name], version=declarations[name].version + 1)}


def test_a_new_version_is_a_new_run_and_only_of_what_it_concerns() -> None:
    known = composition.REGISTRIES
    newer_suite = Registries(_bumped(known.suites, "navigation"), known.algorithms, known.rules)
    newer_maml = Registries(known.suites, _bumped(known.algorithms, "maml"), known.rules)
    ids = {method: _spec(method=method).run_id for method in ("maml", "random")}
    assert {_spec(method=method, registries=newer_suite).run_id for method in ids}.isdisjoint(ids.values())
    assert _spec(registries=newer_maml).run_id != ids["maml"]
    assert _spec(method="random", registries=newer_maml).run_id == ids["random"]


def test_the_run_id_is_the_same_in_another_process(tmp_path: Path) -> None:
    program = (
        "import sys; from harness.spec import RunSpec; print(RunSpec.model_validate_json(sys.stdin.read()).run_id)"
    )
    program += "; assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", program], input=planned(tmp_path).spec.model_dump_json(),
        cwd=PROJECT, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.stdout.strip() == SPEC.run_id


def test_a_spec_is_frozen_and_strict() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        SPEC.seed = 1  # type: ignore[misc]
    for change in ({"seed": -1}, {"seed": 2**31}, {"seed": True}, {"seed": 1.0}, {"sed": 1}):
        with pytest.raises(ValidationError):
            RunSpec.model_validate(DATA | change)


@pytest.mark.parametrize(
    ("asked", "gpus"),
    [
        ({}, 0.0),
        ({"gpus": 0.5}, 0.0),
        ({"device": "auto"}, 0.0),
        ({"device": "auto", "gpus": 0.25}, 0.25),
        ({"device": "cuda"}, 1.0),
        ({"device": "cuda", "gpus": 0.5}, 0.5),
    ],
)
def test_gpus_are_asked_for_where_the_device_wants_one(asked: dict[str, Any], gpus: float) -> None:
    assert Resources(**asked).num_gpus == gpus


def test_what_a_run_needs_is_the_studys_or_the_methods_and_no_part_of_what_it_is(tmp_path: Path) -> None:
    plain = {run.method: run for run in load(write_study(tmp_path, tiny())).plan()}
    data = tiny() | {"resources": {"device": "auto", "cpus": 2}}
    data["methods"]["maml"]["resources"] = {"gpus": 0.25, "cpus": 0.5}
    runs = {run.method: run for run in load(write_study(tmp_path, data)).plan()}
    assert runs["maml"].resources == Resources(device="auto", cpus=0.5, gpus=0.25)
    assert runs["random"].resources == Resources(device="auto", cpus=2.0)
    assert {name: run.spec.run_id for name, run in runs.items()} == {n: run.spec.run_id for n, run in plain.items()}


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        ({"gpus": 1.5}, "above 1 only whole numbers can be set aside, found '1.5'"),
        ({"cpus": 0}, "greater than 0"),
        ({"device": "tpu"}, "'auto', 'cpu' or 'cuda'"),
        ({"gpu": 1}, "unknown key 'gpu'; did you mean 'gpus'?"),
    ],
)
def test_a_need_that_nobody_can_meet_is_refused_where_it_stands(
    resources: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    data = tiny()
    data["methods"]["maml"]["resources"] = resources
    with pytest.raises(UserError) as caught:
        load(write_study(tmp_path, data))
    assert re.match(rf"{re.escape(str(tmp_path / 'tiny.yaml'))}:\d+: ", str(caught.value))
    assert reason in str(caught.value)

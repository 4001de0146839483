"""The same spec gives the same bytes: again, with more workers, killed and resumed, with checkpoints here or there."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from harness.api import Metrics
from harness.composition import REGISTRIES
from harness.results import RunDirectory
from harness.runner import run
from harness.spec import PlannedRun
from harness.tracking import default_uri
from harness.watcher import Watcher
from harness.worker import build
from tests.harness_fixtures import (
    PROJECT,
    PROVENANCE,
    directory,
    flip,
    load,
    metarepro,
    new_results,
    planned,
    run_in_process,
    tiny,
    write_study,
)

ITERATIONS = 240
LIVE = "import sys, harness.run_logger as t; t.FLUSH_S = 0.05; from harness.cli import main; sys.exit(main())"
"""The command with curves that reach the store at once, so that a killed run leaves points behind."""


@pytest.fixture(autouse=True)
def _no_other_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def _execute(planned_run: PlannedRun, folder: Path, checkpoint_every: int = 2, **callbacks: Any) -> tuple[bytes, bytes]:
    """Run without MLflow; the bytes of the returns and of the curves."""
    suite, algorithm = build(planned_run.spec, REGISTRIES)
    rules, spec = dict(REGISTRIES.rules), planned_run.spec
    assert run(spec, suite, algorithm, rules, folder, PROVENANCE, checkpoint_every, Watcher(**callbacks)) == "done"
    return _bytes(RunDirectory(folder))


def _bytes(place: RunDirectory) -> tuple[bytes, bytes]:
    return place.returns.read_bytes(), place.curves.read_bytes()


class Crash(Exception):
    """Stands for whatever ends a process."""


METHODS = ["maml", "fomaml", "maml_elementwise", "pretrained"]


def _run_of(method: str, folder: Path) -> PlannedRun:
    """A method of the registry whose sample buffers, schedule and optimiser all have a state to lose."""
    data = tiny()
    data["methods"] = {method: {"algorithm": method}}
    data["hyperparameters"] |= {"unused_slots": "stale", "outer_schedule": "cosine", "outer_schedule_period": 9}
    data["budget"]["meta_iterations"] = 7
    return planned(folder, data, method)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_resumed_from_anywhere_ends_in_the_same_bytes(method: str, tmp_path: Path) -> None:
    run_of_method = _run_of(method, tmp_path)
    expected = _execute(run_of_method, tmp_path / "whole")
    assert _execute(run_of_method, tmp_path / "again") == expected
    for crash_at in (0, 1, 4, 6):

        def crash(iteration: int, metrics: Metrics, last: int = crash_at) -> None:
            if iteration == last:
                raise Crash

        folder = tmp_path / f"crash {crash_at}"
        with pytest.raises(Crash):
            _execute(run_of_method, folder, on_iteration=crash)
        assert not RunDirectory(folder).done.exists()
        assert _execute(run_of_method, folder) == expected


@pytest.mark.parametrize("method", ["promp", "maml_trpo"])
def test_so_does_one_on_bodies_with_models_of_their_own(method: str, tmp_path: Path) -> None:
    data = tiny()
    data |= {"suite": "locomotion", "settings": {"environment": "hopper_rand_params", "horizon": 12}}
    data["methods"] = {"tried": {"algorithm": method}}
    data["hyperparameters"] = {"actor_hidden_sizes": [4], "inner_lr": 0.05}
    data["hyperparameters"] |= {"outer_lr": 0.001} if method == "promp" else {"cg_damping": 0.1}
    data["evaluation"]["protocols"] = {"adapted": {"rule": "inner", "updates": 1}}
    run_of_method = planned(tmp_path, data, "tried")
    expected = _execute(run_of_method, tmp_path / "whole")

    def crash(iteration: int, metrics: Metrics) -> None:
        if iteration == 2:
            raise Crash

    with pytest.raises(Crash):
        _execute(run_of_method, tmp_path / "crash", on_iteration=crash)
    assert _execute(run_of_method, tmp_path / "crash") == expected


def test_after_a_resume_every_iteration_is_told_once_and_in_order(tmp_path: Path) -> None:
    run_of_method, told = _run_of("maml", tmp_path), list[tuple[int, Metrics]]()
    _execute(run_of_method, tmp_path / "whole", on_iteration=lambda *event: told.append(event))
    assert [iteration for iteration, _ in told] == list(range(7))

    def crash(iteration: int, metrics: Metrics) -> None:
        if iteration == 5:
            raise Crash

    with pytest.raises(Crash):
        _execute(run_of_method, tmp_path / "crash", on_iteration=crash)
    retold = list[tuple[int, Metrics]]()
    _execute(run_of_method, tmp_path / "crash", on_iteration=lambda *event: retold.append(event))
    assert retold == told


def test_how_often_checkpoints_are_made_changes_neither_bytes_nor_run_id(tmp_path: Path) -> None:
    expected = _execute(_run_of("maml", tmp_path), tmp_path / "a", 1)
    assert _execute(_run_of("maml", tmp_path), tmp_path / "b", 1000) == expected
    often, seldom = (planned(tmp_path, tiny() | {"checkpoint_every": every}) for every in (1, 1000))
    assert often.spec.run_id == seldom.spec.run_id


def test_global_generators_are_neither_read_nor_moved(tmp_path: Path) -> None:
    def states() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()  # noqa: NPY002

    def stir(iteration: int, metrics: Metrics) -> None:
        random.random(), np.random.rand(3), torch.rand(3)  # noqa: NPY002

    before = states()
    expected = _execute(_run_of("maml", tmp_path), tmp_path / "a")
    assert states() == before
    assert _execute(_run_of("maml", tmp_path), tmp_path / "b", on_iteration=stir) == expected


def test_another_seed_gives_other_numbers(tmp_path: Path) -> None:
    returns = [_execute(planned(tmp_path, tiny() | {"seeds": s}), tmp_path / str(s))[0] for s in (0, 1)]
    assert returns[0] != returns[1]


def test_one_worker_and_two_give_the_same_bytes(tmp_path: Path) -> None:
    study, alone, together = write_study(tmp_path), new_results(tmp_path / "1"), new_results(tmp_path / "2")
    assert run_in_process("run", study, alone) == 0
    done = metarepro("run", str(study), "--results", str(together), "--workers", "2", timeout=120.0)
    assert done.returncode == 0, done.stderr
    assert "running 2 on 2 workers" in done.stdout
    for planned_run in load(study).plan():
        assert _bytes(directory(alone, planned_run)) == _bytes(directory(together, planned_run))
    assert _steps(together, "maml") == list(range(4))


def _steps(results: Path, method: str) -> list[int]:
    """Steps of the logged return, in the order of the store, of the one run of a method."""
    client = MlflowClient(default_uri(results))
    experiment = client.get_experiment_by_name("tiny").experiment_id
    (found,) = client.search_runs([experiment], f"tags.method = '{method}' and tags.kind = 'run'")
    return [point.step for point in client.get_metric_history(found.info.run_id, "post_update_return")]


def _long_study(folder: Path) -> Path:
    data = tiny()
    del data["methods"]["random"]
    data["budget"]["meta_iterations"] = ITERATIONS
    return write_study(folder, data | {"checkpoint_every": 4})


def _killed_at(study: Path, results: Path, checkpoint: Path) -> None:
    """Start the command in a fresh process and kill it once a checkpoint is there."""
    arguments = ["run", str(study), "--results", str(results), "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-c", LIVE, *arguments], cwd=PROJECT, stdout=-3, stderr=-3)
    try:
        give_up = time.monotonic() + 60.0
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.002)
        assert checkpoint.exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL


def test_killed_at_three_points_it_ends_in_the_same_bytes_and_no_point_is_logged_twice(tmp_path: Path) -> None:
    study, results = _long_study(tmp_path), new_results(tmp_path / "results")
    (planned_run,) = load(study).plan()
    place = directory(results, planned_run)
    logged = []
    for point in sorted(random.Random(7).sample(range(8, ITERATIONS - 60, 4), 3)):
        _killed_at(study, results, place.checkpoints / f"{point:08d}.safetensors")
        assert place.status() == "interrupted"
        logged.append(len(_steps(results, "maml")))
    assert 0 < logged[0] < logged[-1] < ITERATIONS
    assert run_in_process("run", study, results) == 0
    assert _bytes(place) == _execute(planned_run, tmp_path / "whole", 50)
    assert sorted(_steps(results, "maml")) == list(range(ITERATIONS))


def test_a_damaged_checkpoint_is_told_and_costs_nothing_but_time(tmp_path: Path, capsys: Any) -> None:
    study, results = write_study(tmp_path), new_results(tmp_path / "results")
    assert run_in_process("run", study, results) == 0
    maml = load(study).plan()[0]
    place = directory(results, maml)
    expected = _bytes(place)
    for damaged in (["00000004"], ["00000002", "00000004"]):
        for path in (place.done, place.returns, place.curves):
            path.unlink()
        for name in damaged:
            flip(place.checkpoints / f"{name}.safetensors", -1)
        capsys.readouterr()
        assert run_in_process("run", study, results) == 0
        said = capsys.readouterr().out.splitlines()
        warnings = [line for line in said if line.startswith("warning: test maml seed 0: ")]
        assert len(warnings) == len(damaged)
        assert all("checkpoint is damaged" in line for line in warnings)
        assert _bytes(place) == expected
    shutil.rmtree(place.checkpoints)
    place.done.unlink()
    assert run_in_process("run", study, results) == 0
    assert _bytes(place) == expected

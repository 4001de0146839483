"""A study small enough to run in a moment, and what the tests of the harness do with it."""

from __future__ import annotations

import atexit
import copy
import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from harness import cli, composition
from harness.results import RunDirectory
from harness.spec import PlannedRun
from harness.study import Study, read_study
from harness.tracking import Store, default_uri
from harness.worker import Job

PROJECT = Path(__file__).resolve().parent.parent
PROGRAM = "import sys; from harness.cli import main; sys.exit(main())"
PROVENANCE = {"code_version": "test", "dirty": False}

TINY = """\
study: tiny
title: A study for the tests
paper: none
setting: test

suite: navigation
settings:
  horizon: 4
  test_goals: {source: stream, seed: 1}

hyperparameters:
  actor_hidden_sizes: [3]
  critic_hidden_sizes: [3]
  outer_betas: [0.9, 0.99]
  actor_inner_lr: 0.1
  critic_inner_lr: 0.1
  actor_outer_lr: 0.01
  critic_outer_lr: 0.01

methods:
  maml:
    algorithm: maml
    hyperparameters: {adaptation_steps: 1}
  random:
    algorithm: pretrained
    settings: {observe_goal: true}
    budget: {meta_iterations: 0}

seeds: 0

budget:
  meta_iterations: 4
  meta_batch_size: 2
  episodes_per_task: 2

evaluation:
  seed: 1
  meta_test_tasks: 3
  episodes_per_task: 2
  shared_noise: true
  protocols:
    fresh:
      rule: adam
      updates: 1
      settings: {actor_lr: 0.01, critic_lr: 0.01}
    own:
      rule: inner
      updates: 1

checkpoint_every: 2

scales:
  paper: {}
  small:
    budget: {meta_batch_size: 1}
"""


def tiny() -> dict[str, Any]:
    """The tiny study as data, to be changed at will."""
    return copy.deepcopy(yaml.safe_load(TINY))


def write_study(folder: Path, data: dict[str, Any] | str = TINY, name: str = "tiny.yaml") -> Path:
    """A study file from text or data."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def load(path: Path, scale: str = "paper") -> Study:
    """Read a study against the project's own registries."""
    return read_study(path, scale, composition.REGISTRIES)


def planned(folder: Path, data: dict[str, Any] | str = TINY, method: str = "maml") -> PlannedRun:
    """One run of a study."""
    return next(run for run in load(write_study(folder, data)).plan() if run.method == method)


@functools.cache
def empty_store() -> Path:
    """An initialised SQLite store: making one takes seconds, copying it nothing."""
    folder = Path(tempfile.mkdtemp(prefix="metarepro-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    assert Store(default_uri(folder), folder).client.get_experiment_by_name("none") is None
    return folder / "mlflow.db"


def new_results(folder: Path) -> Path:
    """A results folder with an initialised, empty store."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(empty_store(), folder / "mlflow.db")
    return folder


def run_in_process(command: str, study: Path, results: Path, *options: str) -> int:
    """``metarepro run`` or ``status`` on a study, in this process, one worker."""
    workers = ["--workers", "1"] if command == "run" else []
    return cli.main([command, str(study), "--results", str(results), *workers, *options])


def metarepro(*arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """``metarepro ...`` in a fresh process."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=PROJECT, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def directory(results: Path, run: PlannedRun) -> RunDirectory:
    """Where a run keeps its files."""
    return RunDirectory.of(results, run.spec.run_id)


def job(run: PlannedRun, results: Path) -> Job:
    """A job over the default store of a results folder."""
    uri = default_uri(results)
    return Job(
        planned=run, results=str(results), checkpoint_every=2, tracking_uri=uri,
        experiment=Store(uri, results).prepare(run.study), parent="none", provenance=PROVENANCE,
    )  # fmt: skip


def breaking(method: str, change: Callable[[dict[str, float]], dict[str, float]]) -> Callable[..., Any]:
    """``harness.runner.meta_iteration`` with the metrics of one algorithm passed through ``change``."""
    from harness.runner import meta_iteration

    def broken(suite: Any, algorithm: Any, spec: Any, training: Any, clock: Any) -> Any:
        state, metrics = meta_iteration(suite, algorithm, spec, training, clock)
        return state, change(metrics) if spec.algorithm.name == method else metrics

    return broken


def flip(path: Path, position: int) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 0x04
    path.write_bytes(bytes(content))

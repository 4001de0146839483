"""One job: its lock, its marker, how it ends, and what its folder says about it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import harness.runner
from harness.composition import REGISTRIES
from harness.files import read_json
from harness.plan import Plan
from harness.results import RunDirectory
from harness.worker import Event, Outcome, work
from tests.harness_fixtures import breaking, directory, flip, job, load, new_results, planned, tiny, write_study

HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1], timeout=0):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _held_elsewhere(run: RunDirectory) -> Iterator[subprocess.Popen[str]]:
    """Another process that works on the run; it may be killed by the test."""
    run.folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run.folder / ".lock")], stdin=-1, stdout=-1, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_results(tmp_path_factory.mktemp("results"))


def test_a_run_is_one_workers_until_that_process_dies(results: Path, tmp_path: Path) -> None:
    run = planned(tmp_path)
    place, events = directory(results, run), list[Event]()
    assert place.status() == "missing"
    with _held_elsewhere(place) as process:
        place.begin(run.spec)
        assert place.status() == "running"
        assert work(job(run, results), REGISTRIES, events.append) == Outcome(run.spec.run_id, "taken")
        assert not place.done.exists()
        process.kill()
        process.wait()
        assert place.status() == "interrupted"
    assert work(job(run, results), REGISTRIES, events.append).status == "done"
    assert place.status() == "done"
    assert work(job(run, results), REGISTRIES, events.append).status == "taken"
    assert [event for event in events if event.kind == "warning"] == []


def test_looking_at_a_run_leaves_no_lock_behind(results: Path, tmp_path: Path) -> None:
    run = planned(tmp_path, method="random")
    place = directory(results, run)
    place.begin(run.spec)
    with place.lock():
        pass
    with place.lock():
        assert place.status() == "running"
    assert [place.status(), place.status()] == ["interrupted"] * 2
    assert work(job(run, results), REGISTRIES, lambda event: None).status == "done"


def test_a_failure_is_recorded_and_forgotten_on_success(results: Path, tmp_path: Path, monkeypatch: Any) -> None:
    run = planned(tmp_path, {**tiny(), "seeds": 5})
    place = directory(results, run)

    def fail(metrics: dict[str, float]) -> dict[str, float]:
        raise RuntimeError("no more [red]paint[/red]\nsecond line")

    monkeypatch.setattr(harness.runner, "meta_iteration", breaking("maml", fail))
    outcome = work(job(run, results), REGISTRIES, lambda event: None)
    assert outcome.status == "failed"
    assert outcome.reason.startswith("RuntimeError: no more")
    assert "\n" not in outcome.reason
    assert place.status() == "failed"
    assert "in fail" in read_json(place.failure)["traceback"]
    assert not place.done.exists()
    monkeypatch.undo()
    assert work(job(run, results), REGISTRIES, lambda event: None).status == "done"
    assert not place.failure.exists()
    assert place.status() == "done"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e13])
def test_a_run_that_leaves_the_numbers_is_diverged_with_the_reason(
    value: float, results: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    run = planned(tmp_path, {**tiny(), "seeds": 6})
    place = directory(results, run)
    for path in place.evidence():
        path.unlink()
    place.done.unlink(missing_ok=True)
    change = breaking("maml", lambda metrics: metrics | {"post_update_return": value})
    monkeypatch.setattr(harness.runner, "meta_iteration", change)
    assert work(job(run, results), REGISTRIES, lambda event: None).status == "diverged"
    assert place.status() == "diverged"
    manifest = place.read_manifest()
    assert manifest["status"] == "diverged"
    assert "post_update_return" in manifest["reason"]
    assert "meta-iteration 0" in manifest["reason"]
    assert not place.returns.exists()


def test_evidence_that_changed_after_the_end_is_noticed_and_made_again(results: Path, tmp_path: Path) -> None:
    study = load(write_study(tmp_path, {**tiny(), "seeds": "7-9"}))
    runs = [run for run in study.plan() if run.method == "maml"]
    for run in runs:
        assert work(job(run, results), REGISTRIES, lambda event: None).status == "done"
    changed, removed, untouched = (directory(results, run) for run in runs)
    before = [place.returns.read_bytes() for place in (changed, removed, untouched)]
    flip(changed.returns, -8)
    removed.curves.unlink()
    plan = Plan(study, runs, results)
    assert plan.statuses == ["damaged", "damaged", "done"]
    assert plan.reopen_damaged() == runs[:2]
    assert plan.open_runs() == runs[:2]
    assert [changed.status(), removed.status(), untouched.status()] == ["interrupted", "interrupted", "done"]
    for run in runs[:2]:
        assert work(job(run, results), REGISTRIES, lambda event: None).status == "done"
    assert [place.returns.read_bytes() for place in (changed, removed, untouched)] == before
    assert Plan(study, runs, results).reopen_damaged() == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"status": "done"}', '{"status": 3, "sha256": {}}'])
def test_a_spoilt_marker_does_not_stand_in_the_way(content: str, results: Path, tmp_path: Path) -> None:
    study = load(write_study(tmp_path))
    place = directory(results, study.plan()[0])
    place.folder.mkdir(parents=True, exist_ok=True)
    place.done.write_text(content)
    plan = Plan(study, study.plan(), results)
    plan.reopen_damaged()
    assert study.plan()[0] in plan.open_runs()
    assert work(job(study.plan()[0], results), REGISTRIES, lambda event: None).status == "done"
    assert place.is_finished()

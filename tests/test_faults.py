"""What happens in a day: deaths, full and read-only disks, a clock that jumps, two drivers at once, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

import harness.run_logger
from harness.files import read_json
from harness.janitor import alive, descendants
from harness.results import RunDirectory
from harness.spec import PlannedRun
from harness.tracking import Invocation, Store, default_uri
from harness.tries import MOST
from harness.worker import Event, work
from tests.harness_fixtures import (
    PROGRAM,
    PROJECT,
    directory,
    job,
    load,
    metarepro,
    new_results,
    planned,
    run_in_process,
    tiny,
    write_study,
)

POISON = """
import os, signal, sys
import harness.runner
from harness.runner import meta_iteration

def deadly(suite, algorithm, spec, training, clock):
    if spec.algorithm.name == "maml" and training.iteration == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return meta_iteration(suite, algorithm, spec, training, clock)

harness.runner.meta_iteration = deadly
"""


def long_study(folder: Path, iterations: int, **changes: Any) -> Path:
    data = tiny() | {"checkpoint_every": 4} | changes
    data["methods"] = {"maml": data["methods"]["maml"], "fomaml": {"algorithm": "fomaml"}}
    data["budget"]["meta_iterations"] = iterations
    return write_study(folder, data)


def started(study: Path, results: Path, *options: str, program: str = PROGRAM, **more: str) -> subprocess.Popen[str]:
    """``metarepro run`` in a process of its own."""
    command = [sys.executable, "-c", program, "run", str(study), "--results", str(results), *options]
    return subprocess.Popen(command, cwd=PROJECT, stdout=-1, stderr=-1, text=True, env=os.environ | more)


def until(there: Callable[[], object], process: subprocess.Popen[str]) -> None:
    give_up = time.monotonic() + 90.0
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.02)


def evidence(results: Path, runs: list[PlannedRun]) -> list[dict[str, bytes]]:
    places = [directory(results, run) for run in runs]
    assert [place.status() for place in places] == ["done"] * len(runs)
    return [{path.name: path.read_bytes() for path in p.evidence() if path != p.manifest} for p in places]


@pytest.fixture
def whole(tmp_path: Path) -> Callable[[Path], list[dict[str, bytes]]]:
    """The evidence of a study that nobody disturbs."""

    def of(study: Path) -> list[dict[str, bytes]]:
        results = new_results(tmp_path / "whole")
        assert run_in_process("run", study, results) == 0
        return evidence(results, load(study).plan())

    return of


def _dies(run: PlannedRun, results: Path, at: int) -> None:
    """One try of a run that kills its process at an iteration."""
    poison = POISON.format(at=at) + PROGRAM
    study = results.parent / "tiny.yaml"
    process = started(study, results, "--workers", "1", program=poison)
    process.communicate(timeout=90)
    assert process.returncode == -signal.SIGKILL


def test_inline_a_run_that_kills_its_process_is_given_up_and_the_rest_completes(tmp_path: Path) -> None:
    study, results = long_study(tmp_path, 6), new_results(tmp_path / "results")
    maml, fomaml = load(study).plan()
    for tries in range(1, MOST + 1):
        _dies(maml, results, at=2)
        assert read_json(directory(results, maml).tries)["tries"] == tries
    last = started(study, results, "--workers", "1", program=POISON.format(at=2) + PROGRAM)
    out, err = last.communicate(timeout=90)
    assert last.returncode == 1, err
    assert "its process died 3 times" in out
    assert [directory(results, run).status() for run in (maml, fomaml)] == ["failed", "done"]
    assert run_in_process("run", study, results) == 0
    assert not directory(results, maml).tries.exists()


def test_a_run_that_gets_further_every_time_is_not_given_up(tmp_path: Path, whole: Any) -> None:
    study, results = long_study(tmp_path, 40), new_results(tmp_path / "results")
    (maml, _) = load(study).plan()
    for at in (6, 11, 15, 20, 31):
        _dies(maml, results, at)
    assert run_in_process("run", study, results) == 0
    assert evidence(results, load(study).plan()) == whole(study)


def test_on_workers_a_run_that_kills_its_process_stops_after_three_tries(tmp_path: Path) -> None:
    study, results = long_study(tmp_path, 6), new_results(tmp_path / "results")
    maml, fomaml = load(study).plan()
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nif 'default_worker' in sys.argv[0]:\n{_indented(at=2)}")
    path = f"{tmp_path}{os.pathsep}{PROJECT}"
    process = started(study, results, "--workers", "2", PYTHONPATH=path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, out + err
    assert "its process died 3 times" in out
    assert [directory(results, run).status() for run in (maml, fomaml)] == ["failed", "done"]
    assert "died 3 times" in metarepro("status", str(study), "--results", str(results)).stdout
    assert not directory(results, maml).tries.exists()  # the same command tries again


def _indented(at: int) -> str:
    """The poison for a worker, where Python reads it at its start and the module is changed when it is imported."""
    lines = [
        "import builtins, os, signal",
        "real = builtins.__import__",
        "def importing(name, *rest, **more):",
        "    module = real(name, *rest, **more)",
        "    runner = sys.modules.get('harness.runner')",
        "    if runner is not None and hasattr(runner, 'run') and not hasattr(runner, 'poisoned'):",
        "        runner.poisoned, iterate = True, runner.meta_iteration",
        "        def deadly(suite, algorithm, spec, training, clock):",
        f"            if spec.algorithm.name == 'maml' and training.iteration == {at}:",
        "                os.kill(os.getpid(), signal.SIGKILL)",
        "            return iterate(suite, algorithm, spec, training, clock)",
        "        runner.meta_iteration = deadly",
        "    return module",
        "builtins.__import__ = importing",
    ]
    return "".join(f"    {line}\n" for line in lines)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_says_how_to_go_on_and_exits_130(
    workers: int, number: int, tmp_path: Path, whole: Any
) -> None:
    study, results = long_study(tmp_path, 600, checkpoint_every=150), new_results(tmp_path / "results")
    runs = load(study).plan()
    process = started(study, results, "--workers", str(workers))
    until(lambda: any(directory(results, runs[0]).newest_checkpoint()), process)
    process.send_signal(number)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    saved = [int(path.stem) for run in runs for path in directory(results, run).newest_checkpoint()]
    assert any(iteration % 150 for iteration in saved)  # though no checkpoint was due
    assert not any(directory(results, run).tries.exists() for run in runs)
    assert run_in_process("run", study, results) == 0
    assert evidence(results, runs) == whole(study)


def test_two_drivers_at_once_execute_every_run_once_and_both_end_well(tmp_path: Path, whole: Any) -> None:
    study, results = long_study(tmp_path, 60, seeds="0-2"), new_results(tmp_path / "results")
    drivers = [started(study, results, "--workers", "1") for _ in range(2)]
    ends = [driver.communicate(timeout=180) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], ends
    runs = load(study).plan()
    assert evidence(results, runs) == whole(study)
    client = MlflowClient(default_uri(results))
    found = client.search_runs([client.get_experiment_by_name("tiny").experiment_id], "tags.kind = 'run'")
    assert sorted(run.data.tags["run_id"] for run in found) == sorted(run.spec.run_id for run in runs)
    for run in found:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "post_update_return")]
        assert sorted(steps) == list(range(60))


def test_a_driver_takes_over_what_a_killed_one_had(tmp_path: Path, whole: Any) -> None:
    study, results = long_study(tmp_path, 300), new_results(tmp_path / "results")
    first = started(study, results, "--workers", "1")
    place = directory(results, load(study).plan()[0])
    until(lambda: any(place.newest_checkpoint()), first)
    second = started(study, results, "--workers", "1")
    until(lambda: directory(results, load(study).plan()[1]).spec.exists(), second)
    first.kill()
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, out + err
    assert evidence(results, load(study).plan()) == whole(study)


def test_a_killed_driver_leaves_no_process_behind(tmp_path: Path) -> None:
    study, results = long_study(tmp_path, 4000), new_results(tmp_path / "results")
    process = started(study, results, "--workers", "2")
    until(lambda: any(directory(results, load(study).plan()[0]).newest_checkpoint()), process)
    family = descendants({process.pid})
    assert len(family) > 5
    process.kill()
    process.communicate()
    give_up = time.monotonic() + 40.0
    while (left := alive(family)) and time.monotonic() < give_up:
        time.sleep(0.2)
    assert left == set()


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if os.getuid() or subprocess.run(mount, check=False, stderr=-3).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_loses_nothing_that_was_finished(small_disk: Path, tmp_path: Path, whole: Any) -> None:
    study = long_study(tmp_path, 6, seeds="0-1")
    first = load(study).plan()[0]
    uri = default_uri(new_results(tmp_path / "store"))
    only = write_study(tmp_path, (tmp_path / "tiny.yaml").read_text().replace("0-1", "0"), "only.yaml")
    assert run_in_process("run", only, small_disk, "--tracking-uri", uri) == 0
    before = evidence(small_disk, [first])
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(bytes(2**20))
    done = metarepro("run", str(study), "--results", str(small_disk), "--tracking-uri", uri, "--workers", "1")
    assert done.returncode in (1, 2)
    assert "No space left on device" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert evidence(small_disk, [first]) == before
    ballast.unlink()
    assert run_in_process("run", study, small_disk, "--tracking-uri", uri) == 0
    assert evidence(small_disk, load(study).plan()) == whole(study)


def test_a_read_only_results_folder_is_said_before_anything_runs_and_can_be_looked_at(
    small_disk: Path, tmp_path: Path
) -> None:
    study = long_study(tmp_path, 2)
    uri = default_uri(new_results(tmp_path / "store"))
    assert run_in_process("run", study, small_disk, "--tracking-uri", uri) == 0
    place = directory(small_disk, load(study).plan()[0])
    place.done.unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = metarepro("run", str(study), "--results", str(small_disk), "--tracking-uri", uri)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "not writable (Read-only file system)" in done.stderr
    shown = metarepro("status", str(study), "--results", str(small_disk))
    assert shown.returncode == 0, shown.stderr
    assert "2 runs: 1 done, 1 interrupted" in shown.stdout


def test_a_clock_that_jumps_moves_no_number_and_doubles_no_point(tmp_path: Path, monkeypatch: Any) -> None:
    study, results = long_study(tmp_path, 12), new_results(tmp_path / "results")
    assert run_in_process("run", study, new_results(tmp_path / "whole")) == 0
    jumps = iter([3600.0, -86_400.0, 5.0, -4000.0] * 1000)
    real, monkeypatch_time = time.time, monkeypatch.setattr
    monkeypatch_time(harness.run_logger.time, "time", lambda: real() + next(jumps))
    assert run_in_process("run", study, results) == 0
    monkeypatch.undo()
    runs = load(study).plan()
    assert evidence(results, runs) == evidence(tmp_path / "whole", runs)
    client = MlflowClient(default_uri(results))
    for run in client.search_runs([client.get_experiment_by_name("tiny").experiment_id], "tags.kind = 'run'"):
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "post_update_return")]
        assert sorted(steps) == list(range(12))


def test_a_record_that_was_written_twice_is_one_again(tmp_path: Path) -> None:
    run, results = planned(tmp_path), new_results(tmp_path / "results")
    store = Store(default_uri(results), results)
    assert work(job(run, results), _registries(), lambda event: None).recorded
    experiment = store.prepare(run.study)
    (whole,) = store.client.search_runs([experiment], "tags.kind = 'run'")
    half = store.client.create_run(experiment, tags={**whole.data.tags})
    twin = store.client.create_run(experiment, tags={**whole.data.tags})
    store.client.set_terminated(twin.info.run_id, "FINISHED")
    with Invocation(store, run.study, "test", 1) as invocation:
        assert invocation.mirror([run], results) == 0
    left = [found.info.run_id for found in store.client.search_runs([experiment], "tags.kind = 'run'")]
    assert left == [whole.info.run_id]
    assert half.info.run_id not in left


def test_points_that_a_dead_worker_sent_late_are_not_kept_twice(tmp_path: Path, monkeypatch: Any) -> None:
    from mlflow.entities import Metric

    run, results = planned(tmp_path), new_results(tmp_path / "results")
    store = Store(default_uri(results), results)
    original = harness.run_logger.RunLogger._resume
    first = job(run, results)
    logger = harness.run_logger.RunLogger(store.client, first.experiment, "none", run, first.provenance)

    def late(self: Any, known: Any) -> None:
        original(self, known)  # it asks what is there; and then what was under way arrives
        self._client.log_batch(logger._run, metrics=[Metric("post_update_return", -1.5, 1, step) for step in range(2)])

    monkeypatch.setattr(harness.run_logger.RunLogger, "_resume", late)
    assert work(first, _registries(), lambda event: None).recorded
    (found,) = store.client.search_runs([first.experiment], "tags.kind = 'run'")
    steps = [point.step for point in store.client.get_metric_history(found.info.run_id, "post_update_return")]
    assert sorted(steps) == list(range(run.spec.budget.meta_iterations))


def test_a_batch_of_which_a_dying_store_kept_a_part_is_completed(tmp_path: Path) -> None:
    from mlflow.entities import Metric

    run, results = planned(tmp_path), new_results(tmp_path / "results")
    store = Store(default_uri(results), results)
    first = job(run, results)
    logger = harness.run_logger.RunLogger(store.client, first.experiment, "none", run, first.provenance)
    store.client.log_batch(logger._run, metrics=[Metric("post_update_return", -1.0, 1, 0)])  # and no other metric of it
    assert work(first, _registries(), lambda event: None).recorded
    (found,) = store.client.search_runs([first.experiment], "tags.kind = 'run'")
    for name in found.data.metrics:
        steps = [point.step for point in store.client.get_metric_history(found.info.run_id, name)]
        assert sorted(steps) == list(range(run.spec.budget.meta_iterations))


def test_a_store_of_checkpoints_that_is_away_costs_a_warning_only(tmp_path: Path) -> None:
    run, results = planned(tmp_path), new_results(tmp_path / "results")
    broken = tmp_path / "file"
    broken.write_text("not a folder")
    told: list[Event] = []
    given = job(run, results).model_copy(update={"checkpoints": str(broken)})
    assert work(given, _registries(), told.append).status == "done"
    assert {event.text.partition(" (")[0] for event in told if event.kind == "warning"} == {
        "the checkpoint store is out of reach"
    }


def test_a_run_goes_on_in_another_folder_from_the_store_of_checkpoints(tmp_path: Path, whole: Any) -> None:
    study = long_study(tmp_path, 60)
    maml = load(study).plan()[0]
    here, there = new_results(tmp_path / "here"), new_results(tmp_path / "there")
    process = started(study, here, "--workers", "1", "--checkpoints", str(tmp_path / "store"))
    until(lambda: len(list((tmp_path / "store").glob(f"runs/{maml.spec.run_id}/*.json"))) == 2, process)
    process.kill()
    process.communicate()
    told: list[Event] = []
    given = job(maml, there).model_copy(update={"checkpoints": str(tmp_path / "store"), "checkpoint_every": 4})
    assert work(given, _registries(), told.append).status == "done"
    assert min(event.iteration for event in told if event.kind == "checkpoint") > 4  # it did not begin anew
    assert evidence(there, [maml]) == whole(study)[:1]


def _registries() -> Any:
    from harness.composition import REGISTRIES

    return REGISTRIES


def test_a_record_that_names_other_files_is_not_taken(tmp_path: Path) -> None:
    from harness.away import unpack

    place = RunDirectory(tmp_path / "runs" / "0123456789abcdef")
    for name in ("../escape", "/etc/escape", "checkpoints/../../escape", "checkpoints/a.py", "other.json"):
        with pytest.raises(ValueError, match="a record of 0123456789abcdef holds"):
            unpack({name: b""}, place)
    assert list(tmp_path.rglob("*escape*")) == []

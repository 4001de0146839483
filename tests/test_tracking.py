"""MLflow as the mirror of the run folders: the layout, nothing twice, nothing lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

import harness.run_logger
import harness.runner
import harness.tracking
from harness.run_labels import flatten
from harness.run_logger import METRICS_PER_CALL, PARAMS_PER_CALL, RunLogger
from harness.spec import Component, PlannedRun
from harness.tracking import default_uri
from tests.harness_fixtures import (
    PROVENANCE,
    TINY,
    breaking,
    directory,
    load,
    metarepro,
    new_results,
    planned,
    run_in_process,
    write_study,
)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The tiny study, run once into a fresh store."""
    folder = tmp_path_factory.mktemp("mirrored")
    study, results = write_study(folder), new_results(folder / "results")
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_in_process("run", study, results) == 0
    return SimpleNamespace(study=study, results=results, plan=load(study).plan())


def _children(results: Path, experiment: str = "tiny", uri: str | None = None) -> dict[str, Any]:
    client = MlflowClient(uri or default_uri(results))
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], "tags.kind = 'run'")
    assert len({run.data.tags["run_id"] for run in runs}) == len(runs)
    return {run.data.tags["method"]: run for run in runs}


def _history(results: Path, run: Any, uri: str | None = None) -> dict[str, list[tuple[int, float]]]:
    client = MlflowClient(uri or default_uri(results))
    return {
        name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


def _curves(results: Path, run: PlannedRun) -> dict[str, list[tuple[int, float]]]:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(directory(results, run).curves).to_pylist()
    return {name: [(row["iteration"], row[name]) for row in rows] for name in rows[0] if name != "iteration"}


def test_a_study_is_an_experiment_an_invocation_a_parent_and_a_spec_a_child(mirrored: SimpleNamespace) -> None:
    client = MlflowClient(default_uri(mirrored.results))
    experiment = client.get_experiment_by_name("tiny")
    (parent,) = client.search_runs([experiment.experiment_id], "tags.kind = 'invocation'")
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["runs"] == "2"
    assert "command" in parent.data.tags
    children = _children(mirrored.results)
    assert sorted(children) == ["maml", "random"]
    for run in mirrored.plan:
        tags = children[run.method].data.tags
        assert children[run.method].info.status == "FINISHED"
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert (tags["run_id"], tags["method"], tags["seed"]) == (run.spec.run_id, run.method, "0")
        assert (tags["suite"], tags["setting"], tags["study"], tags["scale"]) == ("navigation", "test", "tiny", "paper")
        assert tags["status"] == "done"
        assert tags["dirty"] in {"true", "false"}
        assert tags["code_version"]
        assert "reason" not in tags


def test_params_are_the_whole_spec(mirrored: SimpleNamespace) -> None:
    children = _children(mirrored.results)
    for run in mirrored.plan:
        params = children[run.method].data.params
        assert params == flatten(run.spec.model_dump(mode="json"))
        assert params["algorithm.settings.actor_inner_lr"] == "0.1"


def test_metrics_are_the_curves_each_step_once(mirrored: SimpleNamespace) -> None:
    children = _children(mirrored.results)
    history = _history(mirrored.results, children["maml"])
    assert [step for step, _ in history["post_update_return"]] == [0, 1, 2, 3]
    assert history == _curves(mirrored.results, mirrored.plan[0])
    assert _history(mirrored.results, children["random"]) == {}


def test_artifacts_are_the_evidence_and_the_newest_checkpoint(mirrored: SimpleNamespace) -> None:
    client, children = MlflowClient(default_uri(mirrored.results)), _children(mirrored.results)
    run_id, place = children["maml"].info.run_id, directory(mirrored.results, mirrored.plan[0])
    assert {file.path for file in client.list_artifacts(run_id) if not file.is_dir} == {
        "spec.json", "returns.parquet", "references.parquet", "curves.parquet", "manifest.json", "DONE.json",
    }  # fmt: skip
    assert {file.path for file in client.list_artifacts(run_id, "checkpoint")} == {
        "checkpoint/00000004.safetensors", "checkpoint/00000004.json",
    }  # fmt: skip
    artifacts = Path(children["maml"].info.artifact_uri.removeprefix("file://"))
    assert artifacts.is_relative_to(mirrored.results)
    assert (artifacts / "returns.parquet").read_bytes() == place.returns.read_bytes()


def test_the_same_command_again_logs_nothing(mirrored: SimpleNamespace, capsys: Any) -> None:
    client = MlflowClient(default_uri(mirrored.results))
    experiments = [client.get_experiment_by_name("tiny").experiment_id]
    before = [run.to_dictionary() for run in client.search_runs(experiments)]
    assert run_in_process("run", mirrored.study, mirrored.results) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert [run.to_dictionary() for run in client.search_runs(experiments)] == before


def test_a_run_that_the_study_calls_by_new_names_is_recorded_under_them(tmp_path: Path, capsys: Any) -> None:
    results = new_results(tmp_path / "results")
    assert run_in_process("run", write_study(tmp_path), results) == 0
    renamed = TINY.replace("setting: test", "setting: other").replace("  maml:\n", "  second_order:\n")
    assert run_in_process("run", write_study(tmp_path, renamed), results) == 0
    assert "nothing to do" in capsys.readouterr().out
    children = _children(results)
    assert set(children) == {"second_order", "random"}
    assert {run.data.tags["setting"] for run in children.values()} == {"other"}
    assert children["second_order"].data.tags["mlflow.runName"] == "other second_order seed 0"
    assert children["second_order"].data.tags["algorithm"] == "maml"


def test_a_fresh_store_is_filled_from_the_folders(
    mirrored: SimpleNamespace, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    def never(*arguments: Any) -> Any:
        raise AssertionError("nothing may be computed again")

    monkeypatch.setattr(harness.runner, "run", never)
    other = default_uri(new_results(tmp_path))
    assert run_in_process("run", mirrored.study, mirrored.results, "--tracking-uri", other) == 0
    assert "recorded 2 finished runs" in capsys.readouterr().out
    old, new = _children(mirrored.results), _children(mirrored.results, uri=other)
    for method in old:
        assert new[method].data.params == old[method].data.params
        assert new[method].info.status == "FINISHED"
        assert _history(tmp_path, new[method]) == _history(mirrored.results, old[method])


@pytest.mark.parametrize("dies_at", [1, 2])
def test_a_store_that_dies_costs_no_run_and_is_filled_next_time(
    dies_at: int, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    study, results, calls = write_study(tmp_path), new_results(tmp_path / "results"), 0
    real = MlflowClient.log_batch

    def dead(self: MlflowClient, *arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= dies_at:  # the first call brings params, the second metrics
            raise OSError("the disk of the store is full")
        return real(self, *arguments, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", dead)
    assert run_in_process("run", study, results) == 0
    output = capsys.readouterr().out
    assert ": MLflow is out of reach" in output
    assert f"results: {results / 'runs'}" in output
    runs = load(study).plan()
    assert [directory(results, run).status() for run in runs] == ["done", "done"]
    monkeypatch.undo()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert run_in_process("run", study, results) == 0
    assert "recorded" in capsys.readouterr().out
    children = _children(results)
    for run in runs:
        assert children[run.method].info.status == "FINISHED"
        assert children[run.method].data.params == flatten(run.spec.model_dump(mode="json"))
    assert _history(results, children["maml"]) == _curves(results, runs[0])


def test_a_failed_run_says_why_and_forgets_it_on_success(tmp_path: Path, monkeypatch: Any) -> None:
    def fail(metrics: dict[str, float]) -> dict[str, float]:
        raise RuntimeError("out of paint")

    study, results = write_study(tmp_path), new_results(tmp_path / "results")
    with monkeypatch.context() as patched:
        patched.setattr(harness.runner, "meta_iteration", breaking("maml", fail))
        assert run_in_process("run", study, results) == 1
    tags = _children(results)["maml"].data.tags
    assert (tags["status"], tags["reason"]) == ("failed", "RuntimeError: out of paint")
    assert _children(results)["maml"].info.status == "FAILED"
    assert run_in_process("run", study, results) == 0
    tags = _children(results)["maml"].data.tags
    assert tags["status"] == "done"
    assert "reason" not in tags


class _Recorder:
    """A client that counts what it is sent."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[Any], list[Any]]] = []

    def search_runs(self, *arguments: Any, **more: Any) -> list[Any]:
        return []

    def create_run(self, *arguments: Any, **more: Any) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        self.batches.append((list(metrics), list(params)))


def test_nothing_larger_than_the_store_takes_goes_out_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(harness.run_logger, "FLUSH_S", 1e9)
    run = planned(tmp_path)
    many = Component(name="many", version=1, settings={f"s{n}": n for n in range(250)} | {"long": "x" * 9000})
    spec = run.spec.model_copy(update={"suite": many})
    client: Any = _Recorder()
    logger = RunLogger(client, "0", "p", run.model_copy(update={"spec": spec}), PROVENANCE)
    for iteration in range(700):
        logger.log(iteration, {"a": 1.0, "b": 2.0, "c": 3.0})
    logger.flush()
    params = [param for _, batch in client.batches for param in batch]
    assert {param.key for param in params} == set(flatten(spec.model_dump(mode="json")))
    assert max(len(param.value) for param in params) <= 6000
    assert max(len(batch) for _, batch in client.batches) <= PARAMS_PER_CALL == 100
    sizes = [len(batch) for batch, _ in client.batches if batch]
    assert max(sizes) <= METRICS_PER_CALL == 1000
    assert len(sizes) == 3
    points = [(metric.key, metric.step) for batch, _ in client.batches for metric in batch]
    assert points == [(name, iteration) for iteration in range(700) for name in "abc"]


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:9", "http://127.0.0.1:99999", "http://[bad", "strange://host", "sqlite:////dev/null/x.db"]
)
def test_a_store_that_cannot_be_used_is_one_line_before_anything_runs(uri: str, tmp_path: Path, capsys: Any) -> None:
    study, start = write_study(tmp_path), time.monotonic()
    assert run_in_process("run", study, tmp_path / "results", "--tracking-uri", uri) == 2
    assert time.monotonic() - start < 30.0
    error = capsys.readouterr().err
    assert error.startswith(f"metarepro: error: {uri}: ")
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "results" / "runs").exists()


def test_an_unreachable_server_is_exit_code_2_for_the_shell(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    done = metarepro("run", str(study), "--results", str(tmp_path / "r"), "--tracking-uri", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert "does not answer" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_experiment_that_was_deleted_in_the_ui_is_said_in_one_line_or_restored(tmp_path: Path, capsys: Any) -> None:
    study, results = write_study(tmp_path), new_results(tmp_path / "results")
    client = MlflowClient(default_uri(results))
    client.delete_experiment(client.create_experiment("tiny"))
    code = run_in_process("run", study, results)
    error = capsys.readouterr().err
    assert (code, len(error.splitlines())) in {(0, 0), (2, 1)}
    assert code == 0 or "deleted" in error


def test_a_copied_results_folder_does_not_write_into_the_original(tmp_path: Path, capsys: Any) -> None:
    study, results = write_study(tmp_path), new_results(tmp_path / "results")
    assert run_in_process("run", study, results) == 0
    before = sorted(path for path in (results / "artifacts").rglob("*"))
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)
    capsys.readouterr()
    assert run_in_process("run", study, copy) == 2
    assert "was moved or copied" in capsys.readouterr().err
    (copy / "mlflow.db").unlink()  # a fresh process: this one still holds the deleted file open
    assert metarepro("run", str(study), "--results", str(copy)).returncode == 0
    assert sorted(path for path in (results / "artifacts").rglob("*")) == before
    assert _children(copy).keys() == _children(results).keys()


def test_nothing_is_sent_anywhere() -> None:
    assert harness.tracking.MLFLOW_ENVIRONMENT["MLFLOW_DISABLE_TELEMETRY"] == "true"
    command = "from harness.tracking import Store; Store('sqlite://', None).client; import os; "
    command += "from mlflow.telemetry.utils import is_telemetry_disabled; print(is_telemetry_disabled())"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    shown = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, env=environment, check=True)
    assert shown.stdout.strip() == "True"

"""A cluster whose nodes share no folder: the same bytes as inline, and a node that is lost costs no run."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from harness import cli, ray_address
from harness.away import execute_away, sent_away
from harness.composition import SUITES_FOLDER
from harness.errors import UserError
from harness.results import RunDirectory
from tests.harness_fixtures import (
    PROGRAM,
    PROJECT,
    job,
    load,
    new_results,
    planned,
    run_in_process,
    tiny,
    write_study,
)
from tests.local_services import (
    MlflowServer,
    RayCluster,
    mlflow_server,
    postgres,
    postgres_programs,
    ray_cluster,
    wait_for,
)

STUDY = SUITES_FOLDER / "navigation" / "study.yaml"
pytestmark = pytest.mark.skipif(postgres_programs() is None, reason="needs PostgreSQL: apt-get install postgresql")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("database") / "postgres") as url:
        yield url


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(database, tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with ray_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def on_cluster(cluster: RayCluster, *arguments: str, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
    """``metarepro ... --address`` of the cluster, in a fresh process."""
    command = [sys.executable, "-c", PROGRAM, *arguments, "--address", cluster.address]
    return subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=timeout, check=False, env=cluster.environment
    )


def evidence(results: Path, run_id: str) -> dict[str, bytes]:
    """Name -> content of what decides what a report says, without where and when it was made."""
    directory = RunDirectory.of(results, run_id)
    assert directory.is_finished()
    return {path.name: path.read_bytes() for path in directory.evidence() if path != directory.manifest}


def test_two_nodes_give_the_bytes_of_an_inline_run(cluster: RayCluster, server: MlflowServer, tmp_path: Path) -> None:
    study = load(STUDY, "smoke")
    inline, away = new_results(tmp_path / "inline"), tmp_path / "away"
    assert run_in_process("run", STUDY, inline, "--scale", "smoke") == 0
    options = ["--scale", "smoke", "--results", str(away), "--tracking-uri", server.uri]
    done = on_cluster(cluster, "run", str(STUDY), *options, "--checkpoints", str(tmp_path / "store"))
    assert done.returncode == 0, done.stderr + done.stdout
    runs = study.plan()
    for run in runs:
        assert evidence(inline, run.spec.run_id) == evidence(away, run.spec.run_id)
    hosts = {RunDirectory.of(away, run.spec.run_id).read_manifest()["node"] for run in runs}
    assert len(hosts) == 2
    client = MlflowClient(server.uri)
    found = client.search_runs([client.get_experiment_by_name("navigation").experiment_id], "tags.kind = 'run'")
    assert sorted(run.data.tags["run_id"] for run in found) == sorted(run.spec.run_id for run in runs)
    assert {run.info.status for run in found} == {"FINISHED"}


def test_a_lost_node_costs_no_run_and_what_it_had_goes_on_elsewhere(tmp_path: Path) -> None:
    data = tiny() | {"seeds": "0-1", "checkpoint_every": 10}
    data["methods"] = {"maml": data["methods"]["maml"]}
    data["budget"]["meta_iterations"] = 600
    study, store = write_study(tmp_path, data), tmp_path / "store"
    runs, inline = load(study).plan(), new_results(tmp_path / "inline")
    with ray_cluster(tmp_path / "cluster") as cluster:
        command = [sys.executable, "-c", PROGRAM, "run", str(study), "--results", str(tmp_path / "away")]
        command += ["--address", cluster.address, "--checkpoints", str(store)]
        driver = subprocess.Popen(command, cwd=PROJECT, stdout=-1, stderr=-1, text=True, env=cluster.environment)
        begun = [store / "runs" / run.spec.run_id for run in runs]
        wait_for("both runs", lambda: all(any(folder.glob("*.json")) for folder in begun), driver)
        cluster.kill_node(1)
        out, err = driver.communicate(timeout=300)
    assert driver.returncode == 0, out + err
    assert run_in_process("run", study, inline) == 0
    for run in runs:
        assert evidence(inline, run.spec.run_id) == evidence(tmp_path / "away", run.spec.run_id)
    nodes = [RunDirectory.of(tmp_path / "away", run.spec.run_id).read_manifest()["node"] for run in runs]
    assert len(set(nodes)) == 1  # the lost node's run ended on the other


def test_a_tuning_on_the_cluster_finds_what_it_finds_inline(
    cluster: RayCluster, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["tune", "tuning_navigation", "--scale", "smoke"]
    assert cli.main([*options, "--results", str(new_results(tmp_path / "inline")), "--workers", "1"]) == 0
    away = tmp_path / "away"
    done = on_cluster(cluster, *options, "--results", str(away), "--storage", database.replace("/mlflow", "/optuna"))
    assert done.returncode == 0, done.stderr + done.stdout
    found = [pd.read_csv(next((at / "tuning").glob("*/trials.csv"))) for at in (tmp_path / "inline", away)]
    pd.testing.assert_frame_equal(*(trials.drop(columns="cpu_s") for trials in found), check_exact=True)


def test_an_address_without_a_cluster_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path, tiny())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(ray_address, "PROBE_S", 5.0)
        with pytest.raises(UserError, match="what listens there does not answer as Ray does"):
            ray_address.require_cluster(f"127.0.0.1:{silent.getsockname()[1]}")
    for address in ("127.0.0.1:9", "nonsense", "ray://127.0.0.1:10001", "host:port"):
        options = ["run", str(study), "--results", str(new_results(tmp_path / "results")), "--address", address]
        assert cli.main(options) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"metarepro: error: --address {address}: no Ray cluster can be joined there")
        assert len(error.splitlines()) == 1


def test_other_code_on_a_node_is_refused(tmp_path: Path) -> None:
    run = planned(tmp_path)
    sent = sent_away(job(run, new_results(tmp_path / "results"))).model_copy(update={"source": "0" * 64})
    with pytest.raises(UserError, match=r"the code in .* is not the driver's"):
        execute_away(sent, cli.execute, lambda event: None, node="a")


def test_a_token_that_is_missing_is_said(cluster: RayCluster, tmp_path: Path) -> None:
    study = write_study(tmp_path, tiny())
    command = [sys.executable, "-c", PROGRAM, "run", str(study), "--results", str(tmp_path / "results")]
    stranger = cluster.environment | {"RAY_AUTH_TOKEN": "0" * 32}
    done = subprocess.run(
        [*command, "--address", cluster.address],
        cwd=PROJECT, capture_output=True, text=True, timeout=90, check=False, env=stranger,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "its token is missing or another one; set RAY_AUTH_MODE=token" in done.stderr
    assert not (tmp_path / "results" / "mlflow.db").exists()


def test_the_environment_of_a_driver_does_not_travel_with_a_job(tmp_path: Path) -> None:
    results = new_results(tmp_path / "results")
    sent = sent_away(job(planned(tmp_path), results))
    assert sent.tracking_uri == ""  # SQLite on the driver's disk
    assert str(results) not in sent.model_copy(update={"results": ""}).model_dump_json()

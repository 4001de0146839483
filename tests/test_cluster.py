"""A cluster whose nodes share no folder: the same bytes as inline, and a node that is lost costs no run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from harness.composition import SUITES_FOLDER
from harness.results import RunDirectory
from tests.harness_fixtures import PROGRAM, PROJECT, load, new_results, run_in_process
from tests.local_services import MlflowServer, RayCluster, mlflow_server, postgres, postgres_programs, ray_cluster

STUDY = SUITES_FOLDER / "navigation" / "study.yaml"
pytestmark = pytest.mark.skipif(postgres_programs() is None, reason="needs PostgreSQL: apt-get install postgresql")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("mlflow")
    with postgres(folder / "postgres") as database, mlflow_server(database, folder) as server:
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

"""How workers come into being, and what they ask for."""

from pathlib import Path
from types import SimpleNamespace

from harness.execution import Execution
from harness.ray_address import join
from tests.harness_fixtures import load, metarepro, new_results, tiny, write_study


def test_without_an_address_no_cluster_is_joined_that_somebody_began_on_this_machine():
    calls = []
    join(SimpleNamespace(init=lambda **options: calls.append(options)), Execution(workers=3))
    (options,) = calls
    assert (options["address"], options["num_cpus"]) == ("local", 3)


def test_a_share_of_a_gpu_is_asked_for_where_there_is_one(tmp_path: Path) -> None:
    study = write_study(tmp_path, tiny() | {"resources": {"device": "auto", "gpus": 0.25}})
    results = new_results(tmp_path / "results")
    done = metarepro("run", str(study), "--results", str(results), "--workers", "2", timeout=120.0)
    assert done.returncode == 0, done.stderr
    assert "2 runs: 2 done" in metarepro("status", str(study), "--results", str(results)).stdout
    assert {run.resources.num_gpus for run in load(study).plan()} == {0.25}


def test_more_gpus_than_there_are_is_one_line(tmp_path: Path) -> None:
    study = write_study(tmp_path, tiny() | {"resources": {"device": "auto", "gpus": 64}})
    changed = study.read_text().replace("auto", "cuda")
    done = metarepro(
        "run", str(write_study(tmp_path, changed)), "--results", str(tmp_path / "results"), "--workers", "2"
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1

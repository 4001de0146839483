"""Checkpoints where every machine can reach them: a folder, an S3 server, and what is no store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.checkpoint_store import CheckpointStore, absolute
from harness.errors import UserError
from harness.results import RunDirectory
from harness.spec import PlannedRun
from tests.harness_fixtures import planned
from tests.local_services import free_port


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of an S3 server on 127.0.0.1; how it is reached stands in the environment, as on a cluster."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():
            patched.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="checkpoints")
        yield "s3://checkpoints/study"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("bucket")


def checkpoint(directory: RunDirectory, iteration: int) -> None:
    directory.checkpoints.mkdir(parents=True, exist_ok=True)
    for suffix in ("safetensors", "json"):
        (directory.checkpoints / f"{iteration:08d}.{suffix}").write_bytes(f"{suffix} {iteration}".encode())


def contents(directory: RunDirectory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.checkpoints.glob("*"))}


def test_what_one_machine_keeps_another_fetches(url: str, tmp_path: Path) -> None:
    store = CheckpointStore(url)
    store.require_usable()
    here, there = RunDirectory.of(tmp_path / "here", "run"), RunDirectory.of(tmp_path / "there", "run")
    for iteration in (4, 8, 12):
        checkpoint(here, iteration)
        for old in sorted(here.checkpoints.glob("*"))[:-4]:
            old.unlink()
        store.keep(here)
    CheckpointStore(url).fetch(there)
    assert contents(there) == contents(here)
    assert [path.name for path in there.newest_checkpoint()] == ["00000012.safetensors", "00000012.json"]
    store.fetch(RunDirectory.of(tmp_path / "there", "another"))
    assert not (tmp_path / "there" / "runs" / "another" / "checkpoints").exists()


def test_a_training_is_shared_through_the_store(url: str, tmp_path: Path) -> None:
    run: PlannedRun = planned(tmp_path)
    store, first = CheckpointStore(url), RunDirectory.of(tmp_path / "here", run.spec.run_id)
    checkpoint(first, run.spec.budget.meta_iterations)
    store.keep(first)
    store.announce_training(run.spec)
    other = run.spec.model_copy(
        update={"evaluation": run.spec.evaluation.model_copy(update={"seed": run.spec.evaluation.seed + 1})}
    )
    assert other.training_id == run.spec.training_id
    assert other.run_id != run.spec.run_id
    directory = RunDirectory.of(tmp_path / "there", other.run_id)
    store.fetch_twin(directory, other)
    twin = directory.twin(other)
    assert twin is not None
    assert twin.folder.name == run.spec.run_id
    assert contents(twin) == contents(first)


@pytest.mark.parametrize("url", ["nosuch://x", "s3://", "/proc/nowhere", "http://127.0.0.1:9/x"])
def test_what_is_no_store_is_said_in_one_line(url: str) -> None:
    with pytest.raises(UserError) as caught:
        CheckpointStore(url).require_usable()
    assert str(caught.value).startswith(f"--checkpoints {url}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_means_the_same_to_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("store") == str(tmp_path / "store")
    assert absolute("s3://bucket/store") == "s3://bucket/store"

"""A run elsewhere than on the CPU: the same files, nothing left behind on the CPU; what cannot be had is refused."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from algorithms import ALGORITHMS, RULES
from harness.composition import REGISTRIES
from harness.device import WORKSPACE, computing_on, describe, require_device
from harness.errors import UserError
from harness.results import RunDirectory
from harness.runner import run
from harness.spec import RunSpec
from harness.streams import stream
from harness.watcher import Interrupted, Watcher
from harness.worker import work
from suites import SUITES
from tests.harness_fixtures import directory, job, new_results, planned, run_in_process, tiny, write_study
from tests.pretend_device import elsewhere
from tests.test_contracts import PAIRS, build
from tests.test_randomness import specification

GPU = torch.cuda.is_available()
CUDA_RTOL, CUDA_ATOL = 1e-3, 1e-5
"""How far CUDA may be from the CPU after a few meta-iterations in float32: sums in another order differ in their last
digits, and each meta-iteration acts on what the one before has left."""

FITTING = {name: [suite for suite, other in PAIRS if other == name] for name in sorted(ALGORITHMS)}
EVERY_METHOD = [(suites[index % len(suites)], name) for index, (name, suites) in enumerate(FITTING.items())]
"""Every method on one suite, the suites in turn: what a method does with a suite goes through the same contract."""


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("navigation", {"test_goals": {"source": "numpy", "seed": 1, "skip": 2}, "observe_goal": True}),
    *(("point_corners", {"dynamics": "position", "reward": reward}) for reward in ("sparse", "goal_radius", "dense")),
    *(("point_corners", {"dynamics": "momentum", "reward": reward}) for reward in ("sparse", "dense_squared")),
    ("locomotion", {"environment": "ant_rand_goal"}),
    ("locomotion", {"environment": "humanoid_rand_direc", "observe_task": True}),
    ("locomotion", {"environment": "half_cheetah_goal_velocity"}),
]


def _execute(spec: RunSpec, suite: Any, algorithm: Any, results: Path, watcher: Watcher | None = None) -> RunDirectory:
    """A whole run, in a results folder of its own: runs of one training in one folder would share it."""
    folder = results / "runs" / spec.run_id
    run(spec, suite, algorithm, dict(RULES), folder, {}, 1, watcher or Watcher())
    return RunDirectory(folder)


def _files(place: RunDirectory) -> dict[str, bytes]:
    """Every number that a run leaves: its tables and its last checkpoint. Its manifest has times."""
    paths = [path for path in (*place.evidence(), *list(place.newest_checkpoint())[:1]) if path != place.manifest]
    assert {"returns.parquet", "references.parquet", "00000002.safetensors"} <= {path.name for path in paths}
    return {path.name: path.read_bytes() for path in paths}


def _pair(suite_name: str, name: str, **settings: Any) -> tuple[Any, Any]:
    fields = SUITES[suite_name].settings.model_fields
    suite = build(f"suites/{suite_name}", **({"horizon": 4} if "horizon" in fields else {}), **settings)
    stale = {"unused_slots": "stale"} if "unused_slots" in ALGORITHMS[name].settings.model_fields else {}
    return suite, build(f"algorithms/{name}", suite, **stale)


def _spec(sequential: bool = False) -> RunSpec:
    """Two meta-iterations and every way of adapting at meta-test."""
    spec = specification()
    data = spec.model_dump(mode="json")
    data["evaluation"]["protocols"]["ulm"]["updates"] = data["evaluation"]["protocols"]["inner_rule"]["updates"] = 1
    data["evaluation"]["protocols"] |= {
        "scaled": {"rule": "inner_scaled", "updates": 2, "settings": {"factors": [1.0, 0.5]}},
        **({} if sequential else {"steps": {"rule": "inner", "updates": 1, "settings": {}, "steps_per_task": 9}}),
    }
    return RunSpec.model_validate(data)


def test_every_suite_is_run_elsewhere() -> None:
    assert {suite for suite, _ in EVERY_METHOD} == set(SUITES)


@pytest.mark.parametrize(("suite_name", "name"), EVERY_METHOD, ids=map("-".join, EVERY_METHOD))
def test_a_run_elsewhere_leaves_the_same_files_and_nothing_of_it_on_the_cpu(
    suite_name: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAREPRO_CACHE", str(tmp_path))
    suite, algorithm = _pair(suite_name, name)
    spec = _spec(algorithm.policy.sequential)
    expected = _files(_execute(spec, suite, algorithm, tmp_path / "cpu"))
    with elsewhere() as device:
        found = _files(_execute(spec, *_pair(suite_name, name), tmp_path / "elsewhere"))
    assert found == expected
    assert device.operations.total() > 100


@pytest.mark.parametrize(("suite_name", "settings"), VARIANTS)
def test_so_does_one_on_every_variant_of_a_suite(suite_name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    expected = _files(_execute(specification(), *_pair(suite_name, "fomaml_trpo", **settings), tmp_path / "cpu"))
    with elsewhere():
        place = _execute(specification(), *_pair(suite_name, "fomaml_trpo", **settings), tmp_path / "elsewhere")
    assert _files(place) == expected


@pytest.mark.parametrize("name", ["actor_critic", "maml_trpo", "meta_sgd", "promp"])
@pytest.mark.parametrize("first", ["cpu", "elsewhere"])
def test_a_checkpoint_goes_on_on_the_other_device(name: str, first: str, tmp_path: Path) -> None:
    suite, algorithm = _pair("navigation", name)
    expected = _files(_execute(_spec(), suite, algorithm, tmp_path / "whole"))

    def begin(suite: Any, algorithm: Any) -> None:
        with pytest.raises(Interrupted):
            _execute(_spec(), suite, algorithm, tmp_path / "moved", Watcher(should_stop=lambda: True))

    if first == "cpu":
        begin(suite, algorithm)
        with elsewhere():
            place = _execute(_spec(), *_pair("navigation", name), tmp_path / "moved")
    else:
        with elsewhere():
            begin(*_pair("navigation", name))
        place = _execute(_spec(), suite, algorithm, tmp_path / "moved")
    assert _files(place) == expected


@pytest.mark.parametrize(
    "breach",
    [
        lambda goal: goal + torch.from_numpy(goal.cpu().numpy()),
        lambda goal: goal * torch.ones(3, 2, device="cpu"),
        lambda goal: goal[torch.zeros(1, dtype=torch.int64, device="cpu")],
    ],
)
def test_a_suite_that_leaves_a_tensor_on_the_cpu_is_found(breach: Callable[[Tensor], Tensor]) -> None:
    suite = build("suites/navigation")
    with elsewhere():
        goal = suite.sample_tasks(3, stream(0, "tasks"))["goal"]
        with pytest.raises(RuntimeError, match="different devices"):
            breach(goal)
        with pytest.raises(RuntimeError, match="numpy"):
            goal.numpy()


def test_on_the_cpu_nothing_is_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cpu", "auto"):
        with computing_on(device):
            assert torch._C._len_torch_function_stack() == 0
            assert not torch.are_deterministic_algorithms_enabled()
        assert describe(device) == "cpu"


def test_on_cuda_arithmetic_is_exact_and_repeatable_and_afterwards_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKSPACE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        for device in ("cuda", "auto"):
            assert describe(device) == "cuda: NVIDIA H200"
            with contextlib.suppress(KeyError), FakeTensorMode(), computing_on(device):
                assert torch.zeros(2).device.type == "cuda"
                assert torch.are_deterministic_algorithms_enabled()
                assert torch.get_float32_matmul_precision() == "highest"
                assert os.environ[WORKSPACE] == ":4096:8"
                raise KeyError
            assert not torch.are_deterministic_algorithms_enabled()
            assert torch.get_float32_matmul_precision() == "high"
            assert WORKSPACE not in os.environ
            assert torch.zeros(2).device.type == "cpu"
    finally:
        torch.set_float32_matmul_precision(before)
    assert describe("cpu") == "cpu"


def _without_gpu(monkeypatch: pytest.MonkeyPatch, device: str) -> dict[str, Any]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return tiny() | {"resources": {"device": device}}


def test_cuda_without_a_gpu_is_refused_in_one_line_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path, _without_gpu(monkeypatch, "cuda"))
    results = new_results(tmp_path / "results")
    assert run_in_process("run", study, results) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "device: cuda, but PyTorch" in line
    assert "sees no GPU on this machine; `device: auto`" in line
    assert not (results / "runs").exists()
    with pytest.raises(UserError, match="sees no GPU"):
        require_device("cuda")
    require_device("auto")


def test_a_worker_without_the_gpu_that_its_run_needs_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = planned(tmp_path, _without_gpu(monkeypatch, "cuda"))
    results = new_results(tmp_path / "results")
    outcome = work(job(one, results), REGISTRIES, lambda event: None)
    assert outcome.status == "failed"
    assert outcome.reason.startswith("UserError: device: cuda, but PyTorch")


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_where_a_run_was_computed_is_recorded(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    one = planned(tmp_path, _without_gpu(monkeypatch, device))
    results = new_results(tmp_path / "results")
    begun = job(one, results)
    assert work(begun, REGISTRIES, lambda event: None).status == "done"
    assert directory(results, one).read_manifest()["device"] == "cpu"
    (recorded,) = MlflowClient(begun.tracking_uri).search_runs([begun.experiment])
    assert recorded.data.tags["device"] == "cpu"


@pytest.mark.skipif(not GPU, reason="needs a GPU")
@pytest.mark.parametrize("name", ["maml", "maml_trpo", "promp"])
def test_navigation_on_cuda_is_navigation_on_the_cpu(name: str, tmp_path: Path) -> None:
    """Curves, returns and parameters of two meta-iterations and the meta-test agree to 1e-3 relative or 1e-5."""
    found: dict[str, tuple[dict[str, Tensor], Tensor]] = {}
    for device in ("cpu", "cuda"):
        with computing_on(device):  # type: ignore[arg-type]
            place = _execute(_spec(), *_pair("navigation", name), tmp_path / device)
        found[device] = _numbers(place)
    for part, other in zip(found["cpu"], found["cuda"], strict=True):
        torch.testing.assert_close(other, part, rtol=CUDA_RTOL, atol=CUDA_ATOL)


def _numbers(place: RunDirectory) -> tuple[dict[str, Tensor], Tensor]:
    import pyarrow.parquet
    from safetensors.torch import load

    groups = load(next(place.newest_checkpoint()).read_bytes())
    returns = pyarrow.parquet.read_table(place.returns)["mean_return"].to_pylist()
    chosen = {name: tensor.double() for name, tensor in groups.items() if name.startswith(("params:", "curves:"))}
    return chosen, torch.tensor(returns, dtype=torch.float64)

"""Whatever happens to the checkpoints of a run: the run goes on, and ends in the bytes in which it would have ended."""

from __future__ import annotations

import functools
import json
import random
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import harness.worker
from harness.checkpoint import _checksum, misfit_of_training, newest_checkpoint
from harness.composition import REGISTRIES
from harness.results import RunDirectory
from harness.runner import Training
from harness.spec import PlannedRun
from harness.streams import Streams
from harness.worker import Event, Job, build, work
from tests.harness_fixtures import PROVENANCE, planned, tiny
from tests.mutations import DAMAGES, Damage, fuzzed, no_hang

EVIDENCE = ("spec.json", "returns.parquet", "references.parquet", "curves.parquet", "measures.parquet", "paths.parquet")
"""What two executions of one run leave in the same bytes."""
SHAPES: list[Any] = [None, 0, "x", [], {}, [1, 2], {"status": "done"}, {"status": "done", "sha256": 3}, {"reason": 1}]
SHAPES += [
    {"status": [], "sha256": {"manifest.json": None}},
    {"status": "done", "sha256": {"manifest.json": "", "/": ""}},
]
SHAPES += [
    {"info": {}, "sha256": ""},
    {"info": 3},
    {"sha256": {"a" * 5000: "", "\ud800": "", "a\0": ""}, "status": "done"},
]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; of a link, where it leads."""
    return {
        str(path.relative_to(folder)): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def spoil(folder: Path, damage: Damage) -> str:
    """Something that can happen to one file below a folder, or beside it; returns to which."""
    rng = random.Random(damage.seed)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    path, kind = (
        rng.choice(files),
        rng.choice(["bytes"] * 4 + ["gone", "folder", "link", "other", "shape", "stray", "deep"]),
    )
    if kind == "bytes":
        path.write_bytes(damage.of_bytes(path.read_bytes()))
    elif kind == "other":
        path.write_bytes(rng.choice(files).read_bytes())
    elif kind == "shape":
        path.write_text(json.dumps(rng.choice(SHAPES)))
    elif kind == "deep":
        path.write_text("[" * 100_000)
    elif kind == "stray":
        name = rng.choice(
            ["stray", ".hidden", "99999999.safetensors", "99999998.safetensors", "é\n.json", "FAILED.json"]
        )
        path = path.with_name(name)
        path.write_bytes(damage.of_bytes(b'{"reason": "none"}'))
    else:
        path.unlink()
        if kind == "folder":
            (path / "inside").mkdir(parents=True)
        elif kind == "link":
            path.symlink_to(rng.choice([path.name, "nowhere", "/dev/null", "..", files[0].name]))
    return str(path.relative_to(folder))


class Undisturbed(NamedTuple):
    """A run that nothing happened to: its plan, its folder in the end, and that of one which was interrupted."""

    run: PlannedRun
    whole: Path
    interrupted: Path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    run = planned(folder, {**tiny(), "budget": {**tiny()["budget"], "meta_iterations": 6}})
    assert execute(run, folder / "whole", []) == "done"

    def interrupt(event: Event) -> None:
        if event.kind == "iteration" and event.iteration == 5:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.worker, "REPORT_S", -1.0)
        with pytest.raises(KeyboardInterrupt):
            execute(run, folder / "interrupted", interrupt)
    found = [RunDirectory.of(folder / name, run.spec.run_id).folder for name in ("whole", "interrupted")]
    assert [path.name for path in sorted((found[1] / "checkpoints").glob("*.safetensors"))] == [
        "00000002.safetensors", "00000004.safetensors",
    ]  # fmt: skip
    return Undisturbed(run, *found)


def execute(run: PlannedRun, results: Path, report: Any) -> str:
    """A run without a store; events go to ``report``, a function or a list."""
    job = Job(
        planned=run, results=str(results), checkpoint_every=2, tracking_uri="none:", experiment="", parent="",
        provenance=PROVENANCE,
    )  # fmt: skip

    def away(*arguments: Any) -> None:
        raise ConnectionError

    with pytest.MonkeyPatch.context() as patch, no_hang():
        patch.setattr(harness.worker, "RunLogger", away)
        outcome = work(job, REGISTRIES, report if callable(report) else report.append)
    assert outcome.status != "failed", outcome.reason
    return outcome.status


@fuzzed(40, damage=DAMAGES)
def test_a_run_goes_on_from_damaged_files_to_the_same_bytes(
    undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    results = tmp_path_factory.mktemp("results")
    place = RunDirectory.of(results, undisturbed.run.spec.run_id)
    shutil.copytree(undisturbed.interrupted, place.folder)
    spoil(place.folder if damage.seed % 3 == 0 else place.checkpoints, damage)
    events: list[Event] = []
    with no_hang():
        assert place.status() in ("interrupted", "missing", "failed", "damaged")
    if place.done.exists():
        place.done.unlink()
    assert execute(undisturbed.run, results, events) == "done"
    expected, found = contents(undisturbed.whole), contents(place.folder)
    assert {name: found.get(name) for name in EVIDENCE} == {name: expected.get(name) for name in EVIDENCE}
    assert place.is_finished()
    assert all(len(event.text.splitlines()) <= 1 for event in events)
    shutil.rmtree(results)


def restored(folder: Path, run: PlannedRun, beginning: Any) -> dict[str, Any] | None:
    """What a training that goes on from a folder finds: what it is told is one line each, and what it takes fits."""
    told: list[str] = []
    misfit = functools.partial(misfit_of_training, beginning, run.spec.budget.meta_iterations)
    with no_hang():
        found = newest_checkpoint(folder, told.append, misfit)
    assert all(len(line.splitlines()) == 1 and str(folder) in line for line in told)
    if found is None:
        return None
    _, algorithm = build(run.spec, REGISTRIES)
    training = Training(algorithm.init(Streams(0)["init"]), Streams(0))
    training.restore(*found)
    return {"iteration": training.iteration, "curves": training.curves}


@pytest.fixture(scope="module")
def beginning(undisturbed: Undisturbed) -> Any:
    _, algorithm = build(undisturbed.run.spec, REGISTRIES)
    streams = Streams(undisturbed.run.spec.seed)
    return Training(algorithm.init(streams["init"]), streams).groups()


@fuzzed(200, damage=DAMAGES)
def test_a_damaged_checkpoint_is_passed_over(
    undisturbed: Undisturbed, beginning: Any, tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints") / "checkpoints"
    shutil.copytree(undisturbed.interrupted / "checkpoints", folder)
    whole = restored(folder, undisturbed.run, beginning)
    assert whole is not None
    spoil(folder, damage)
    found = restored(folder, undisturbed.run, beginning)
    assert found is None or found["iteration"] in (2, 4)
    if found is not None:
        length = found["iteration"]
        assert found["curves"] == {name: values[:length] for name, values in whole["curves"].items()}
    shutil.rmtree(folder.parent)


@fuzzed(200, damage=DAMAGES)
def test_a_checkpoint_whose_checksum_holds_over_nonsense_is_passed_over(
    undisturbed: Undisturbed, beginning: Any, tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints") / "checkpoints"
    shutil.copytree(undisturbed.interrupted / "checkpoints", folder)
    path = folder / "00000004.json"
    info = damage.of_json(json.loads(path.read_bytes())["info"])
    content = path.with_suffix(".safetensors").read_bytes()
    path.write_text(json.dumps({"info": info, "sha256": _checksum(content, info)}))
    assert restored(folder, undisturbed.run, beginning) is not None
    shutil.rmtree(folder.parent)

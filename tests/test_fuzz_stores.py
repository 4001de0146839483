"""Whatever happens to finished runs and to their mirror: they are read, made again, or refused in one line."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness import cli
from harness.plan import Plan
from harness.study import Study
from harness.tracking import default_uri
from reports.records import load as load_records
from tests.harness_fixtures import load, new_results, run_in_process, tiny, write_study
from tests.mutations import DAMAGES, Damage, fuzzed, no_hang, read_or_refused
from tests.test_fuzz_records import EVIDENCE, contents, spoil


class Finished(NamedTuple):
    """A study whose runs are all done, and a copy of its results to go back to."""

    path: Path
    study: Study
    results: Path
    backup: Path

    def restore(self, name: str) -> Path:
        """A part of the results as it was."""
        target = self.results / name
        if target.is_dir():
            shutil.rmtree(target)
        if (self.backup / name).is_dir():
            shutil.copytree(self.backup / name, target, symlinks=True)
        else:
            shutil.copyfile(self.backup / name, target)
        return target


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    path, results = write_study(folder, {**tiny(), "seeds": "0-1"}), new_results(folder / "results")
    assert run_in_process("run", path, results) == 0
    shutil.copytree(results, folder / "backup")
    return Finished(path, load(path), results, folder / "backup")


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> int:
    """``metarepro ...`` in this process: an exit code, and of bad input one line."""
    with no_hang():
        code = cli.main([*arguments])
    said = capsys.readouterr().err.splitlines()
    errors = [line for line in said if line.startswith("metarepro: error: ")]
    assert code in (0, 2)
    assert len(errors) == (code == 2)
    assert not any("Traceback" in line for line in said)
    return code


@fuzzed(250, damage=DAMAGES)
def test_the_state_of_a_run_can_be_told_whatever_is_in_its_folder(finished: Finished, damage: Damage) -> None:
    runs = finished.restore("runs")
    spoilt = spoil(runs, damage)
    with no_hang():
        plan = Plan(finished.study, finished.study.plan(), finished.results)
        reopened = plan.reopen_damaged()
        plan.describe()
    for run, status in zip(plan.runs, plan.statuses, strict=True):
        untouched = run.spec.run_id not in spoilt
        assert (status == "done") >= untouched
        assert (run in plan.open_runs()) == (status != "done")
        if status == "done":
            folder, before = runs / run.spec.run_id, finished.backup / "runs" / run.spec.run_id
            assert all((folder / name).read_bytes() == (before / name).read_bytes() for name in there(before))
    assert {run.spec.run_id for run in reopened} <= {spoilt.split("/")[0]}


def there(folder: Path) -> list[str]:
    return [name for name in (*EVIDENCE, "manifest.json") if (folder / name).exists()]


@fuzzed(15, damage=DAMAGES)
def test_a_damaged_run_is_made_again_and_no_other_is_touched(
    finished: Finished, capsys: pytest.CaptureFixture[str], damage: Damage
) -> None:
    runs = finished.restore("runs")
    spoilt = spoil(runs, damage).split("/")[0]
    arguments = (str(finished.path), "--results", str(finished.results))
    assert command(capsys, "status", *arguments) == 0
    assert command(capsys, "run", *arguments, "--workers", "1") == 0
    assert Plan(finished.study, finished.study.plan(), finished.results).counts() == {"done": 4}
    before, after = contents(finished.backup / "runs"), contents(runs)
    others = {name for name in before if not name.startswith(spoilt)}
    assert {name: after[name] for name in others} == {name: before[name] for name in others}
    mine = {name for name in before if name.startswith(spoilt) and name.endswith(EVIDENCE)}
    assert {name: after[name] for name in mine} == {name: before[name] for name in mine}


def tables(uri: str) -> dict[str, Any] | None:
    """What a report reads of the store; None where it is refused in one line."""
    records = read_or_refused(lambda: load_records(uri, "tiny", "paper"), "")
    if records is None:
        return None
    names = ("runs", "returns", "curves", "references", "measures", "paths")
    return {name: getattr(records, name).to_dict("list") for name in names}


@fuzzed(30, damage=DAMAGES)
def test_an_artifact_that_changed_is_refused_and_never_believed(finished: Finished, damage: Damage) -> None:
    artifacts = finished.restore("artifacts")
    uri = default_uri(finished.results)
    undisturbed = tables(uri)
    assert undisturbed is not None
    for checkpoint in artifacts.rglob("checkpoint"):
        shutil.rmtree(checkpoint)
    spoil(artifacts, damage)
    assert tables(uri) in (None, undisturbed)
    finished.restore("artifacts")


@fuzzed(25, damage=DAMAGES)
def test_a_damaged_database_is_read_or_refused(
    finished: Finished, tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    finished.restore("artifacts")
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    path.write_bytes(damage.of_bytes((finished.backup / "mlflow.db").read_bytes()))
    tables(f"sqlite:///{path}")


TAGS = ["", "<script>alert(1)</script>", "\0", "-1", "9" * 30, "0", "done", "diverged", "é", "٣", "FINISHED", "a\nb"]


@fuzzed(25, damage=DAMAGES)
def test_a_database_with_other_words_is_read_or_refused(
    finished: Finished, tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    rng = damage.rng()
    finished.restore("artifacts")
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    shutil.copyfile(finished.backup / "mlflow.db", path)
    with sqlite3.connect(path) as database:
        table = rng.choice(["tags", "tags", "tags", "runs", "experiments", "metrics", "latest_metrics", "params"])
        columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
        rows = [row[0] for row in database.execute(f"select rowid from {table}")]
        database.execute("pragma ignore_check_constraints = 1")
        column = "value" if table == "tags" else rng.choice(columns)
        change = f"update or ignore {table} set {column} = ? where rowid = ?"
        with contextlib.suppress(sqlite3.IntegrityError):  # text in place of a key's number
            database.execute(change, (rng.choice(TAGS), rng.choice(rows)))
    tables(f"sqlite:///{path}")


@pytest.mark.parametrize("seed", range(4))
def test_every_command_ends_in_a_result_or_in_one_line(
    finished: Finished, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    for name in ("runs", "artifacts", "mlflow.db"):
        finished.restore(name)
    damage = Damage(seed)
    arguments = (str(finished.path), "--results", str(finished.results))
    if seed % 2:
        spoil(finished.results / "artifacts", damage)
    else:
        uri = finished.results / "other.db"
        uri.write_bytes(damage.of_bytes((finished.results / "mlflow.db").read_bytes()))
        arguments = (*arguments, "--tracking-uri", f"sqlite:///{uri}")
    before = contents(finished.results / "runs")
    command(capsys, "run", *arguments, "--workers", "1")
    command(capsys, "report", *arguments)
    command(capsys, "export", *arguments, "--to", str(finished.results / "evidence"))
    assert contents(finished.results / "runs") == before

"""Reading recorded runs from a real MLflow store, and the committed evidence made from them."""

import dataclasses
import hashlib
import json
import sqlite3

import pandas as pd
import pytest

from harness.errors import UserError
from reports.export import evidence, read_evidence, write_evidence
from reports.records import Records, load
from tests.reference.synthetic_runs import MANIFEST, synthetic_records, write_store


def with_unfinished(records: Records) -> Records:
    """One run more of each kind: failed, diverged, started, and a failed first try of a finished run."""
    done = records.runs.iloc[0]
    extra = [
        {**done, "run_id": "maml-7", "method": "maml", "algorithm": "maml", "seed": 7, "status": "failed"},
        {**done, "run_id": "maml-8", "method": "maml", "algorithm": "maml", "seed": 8, "status": "diverged"},
        {**done, "run_id": "maml-9", "method": "maml", "algorithm": "maml", "seed": 9, "status": "running"},
        {**done, "status": "failed"},
    ]
    return dataclasses.replace(records, runs=pd.concat([records.runs, pd.DataFrame(extra)], ignore_index=True))


@pytest.fixture(scope="session")
def expected() -> Records:
    return synthetic_records(methods=("maml", "pretrained"), seeds=(0, 1), iterations=12)


@pytest.fixture(scope="session")
def store(tmp_path_factory, expected):
    return write_store(tmp_path_factory.mktemp("store"), with_unfinished(expected))


@pytest.fixture
def editable(tmp_path, store):
    """A copy of the store's database that a test may change."""
    copy = tmp_path / "mlflow.db"
    with sqlite3.connect(store.removeprefix("sqlite:///")) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    return copy


def test_what_was_recorded_is_what_is_read(store, expected):
    records = load(store, "navigation", "paper", seeds=[0, 1])
    columns = ["run_id", "method", "seed", "status", "setting", "suite_version", "code_version", "dirty", "manifest"]
    pd.testing.assert_frame_equal(records.runs[columns], expected.runs[columns], check_dtype=False)
    order = ["run_id", "protocol", "step", "task"]
    got, wrote = (r.sort_values(order, ignore_index=True) for r in (records.returns, expected.returns))
    pd.testing.assert_frame_equal(got, wrote[got.columns], check_dtype=False)
    order = ["run_id", "metric", "iteration"]
    got, wrote = (c.sort_values(order, ignore_index=True) for c in (records.curves, expected.curves))
    pd.testing.assert_frame_equal(got, wrote[got.columns], check_dtype=False)
    assert len(records.curves) == 4 * 2 * 12
    assert records.duplicates == 1


def test_the_curves_are_those_of_the_files_that_finished_runs_left(tmp_path):
    """As the harness leaves them: a column per metric. What a file lacks, and what still runs, is in the store."""
    recorded = synthetic_records(methods=("maml",), seeds=(0, 1), iterations=3)
    statuses = recorded.runs.assign(status=["done", "running"])
    uri = write_store(tmp_path, dataclasses.replace(recorded, runs=statuses), extra_metrics=1)
    table = pd.DataFrame({"iteration": [0, 1, 2], "post_update_return": [1.5, float("inf"), float("nan")]})
    for folder in tmp_path.glob("artifacts/*/artifacts"):
        table.astype({"iteration": "int32"}).to_parquet(folder / "curves.parquet")

    curves = load(uri, "navigation", "paper", metrics=["extra_0"]).curves

    stored = recorded.curves.set_index(["run_id", "metric"])["value"]
    values = curves.groupby(["run_id", "metric"], sort=False)["value"].agg(list)
    metrics = ["pre_update_return", "post_update_return", "extra_0"]
    assert list(values.index) == [(run_id, metric) for run_id in ("maml-0", "maml-1") for metric in metrics]
    assert str(values["maml-0", "post_update_return"]) == "[1.5, nan, nan]"
    assert values["maml-1", "post_update_return"] == list(stored["maml-1", "post_update_return"])
    assert values["maml-0", "pre_update_return"] == list(stored["maml-0", "pre_update_return"])
    assert values["maml-0", "extra_0"] == [0.0, 0.0, 0.0]
    assert list(curves["iteration"]) == [0, 1, 2] * 6


def test_unfinished_runs_are_kept_and_keep_a_row_of_evidence(store):
    records = load(store, "navigation", "paper")
    assert dict(records.runs["status"].value_counts()) == {"done": 4, "failed": 1, "diverged": 1, "running": 1}
    rows = evidence(records, {})
    assert len(rows) == 4 * 2 * 4 + 3
    without = rows[rows["mean_return"].isna()]
    assert list(without["status"]) == ["failed", "diverged", "running"]
    assert list(without["protocol"]) == ["", "", ""]


def test_reading_writes_nothing(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = store.removeprefix("sqlite:///")
    with open(path, "rb") as file:
        before = hashlib.sha256(file.read()).hexdigest()
    load(store, "navigation", "paper")
    with open(path, "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == before
    assert list(tmp_path.iterdir()) == []


def test_runs_that_the_study_does_not_expand_to_are_left_out(store):
    records = load(store, "navigation", "paper", run_ids=["maml-0", "pretrained-0"])
    assert list(records.runs["run_id"]) == ["maml-0", "pretrained-0"]
    assert records.left_out == 5  # maml-1, pretrained-1 and the three unfinished ones


@pytest.mark.parametrize(
    ("tag", "value", "run_id", "says"),
    [
        ("algorithm_version", "2", "maml-1", ["maml version 1", "maml version 2"]),
        ("suite_version", "2", "maml-1", ["suite navigation", "1 and 2"]),
        ("seed", "0", "maml-1", ["different hyperparameters", "maml-0 and maml-1"]),
        ("status", "finished", "maml-1", ["status='finished'", "done"]),
    ],
)
def test_runs_that_must_not_be_averaged_are_refused(editable, tag, value, run_id, says):
    with sqlite3.connect(editable) as database:
        uuids = "select run_uuid from tags where key = 'run_id' and value = ?"
        database.execute(f"update tags set value = ? where key = ? and run_uuid in ({uuids})", (value, tag, run_id))
    with pytest.raises(UserError) as refusal:
        load(f"sqlite:///{editable}", "navigation", "paper")
    for part in says:
        assert part in str(refusal.value)


def test_a_store_that_is_missing_foreign_or_empty_is_refused_and_not_created(tmp_path, store):
    missing = tmp_path / "results" / "mlflow.db"
    with pytest.raises(UserError, match="`metarepro run` on study navigation"):
        load(f"sqlite:///{missing}", "navigation", "paper")
    assert not missing.parent.exists()
    foreign = tmp_path / "notes.txt"
    foreign.write_text("no database")
    with pytest.raises(UserError, match="not an MLflow store"):
        load(f"sqlite:///{foreign}", "navigation", "paper")
    with pytest.raises(UserError, match="no runs of study bandits"):
        load(store, "bandits", "paper")
    with pytest.raises(UserError, match="no run at scale smoke"):
        load(store, "navigation", "smoke")


def test_evidence_by_hand():
    records = synthetic_records(methods=("maml",), seeds=(3,), iterations=1)
    two = pd.DataFrame(
        {
            "run_id": "maml-3", "protocol": "ulm", "step": [0, 0], "task": [0, 1], "episodes": [40, 40],
            "mean_return": [-10.0, -13.0], "sd_return": 1.0, "mean_length": 90.0,
        }
    )  # fmt: skip
    row = evidence(dataclasses.replace(records, returns=two), {}).iloc[0]
    # mean -11.5; deviations 1.5 and -1.5; variance 4.5 / (2 - 1); SD 2.121320
    assert (row["mean_return"], row["sd_over_tasks"], row["tasks"], row["episodes"]) == (-11.5, 2.12132, 2, 40)


def test_evidence_survives_its_file(store, tmp_path):
    records = load(store, "navigation", "paper")
    path = write_evidence(records, tmp_path / "navigation.csv", "metarepro export navigation", {})
    pd.testing.assert_frame_equal(read_evidence(path), evidence(records, {}))
    first = path.read_bytes()
    assert b",ulm,3,-" in first
    assert write_evidence(records, path, "metarepro export navigation", {}).read_bytes() == first
    sidecar = json.loads((tmp_path / "navigation.provenance.json").read_text())
    assert sidecar["sha256"] == hashlib.sha256(first).hexdigest()
    assert sidecar["runs"] == {"done": 4, "diverged": 1, "running": 1, "failed": 1}
    assert sidecar["packages"] == MANIFEST["packages"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["navigation.csv", "navigation.provenance.json"]


def test_a_broken_evidence_file_is_refused(tmp_path):
    path = tmp_path / "navigation.csv"
    with pytest.raises(UserError, match="metarepro export"):
        read_evidence(path)
    path.write_text("study,seed\nnavigation,0\n")
    with pytest.raises(UserError, match="not an evidence file"):
        read_evidence(path)

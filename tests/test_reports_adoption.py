"""Evidence of a study that takes runs from other evidence: the same run under another name, and nothing else."""

import dataclasses
import hashlib
import json

import pandas as pd
import pytest

from harness.errors import UserError
from reports.export import evidence, evidence_csv, read_evidence, write_evidence
from tests.reference.synthetic_runs import synthetic_records

COLUMNS = {"default": {"M": 20}, "larger": {"M": 40}}


def records(study: str, setting: str, seeds: tuple[int, ...]):
    made = synthetic_records(methods=("maml",), seeds=seeds, iterations=2)
    runs = made.runs.assign(setting=setting)
    return dataclasses.replace(made, study=study, runs=runs)


def names(ids: list[str], setting: str) -> dict[str, dict[str, str]]:
    named = {"study": "supplement", "setting": setting, "scale": "paper", "method": "maml_in_the_supplement"}
    return dict.fromkeys(ids, named)


@pytest.fixture
def folder(tmp_path):
    """Evidence of two seeds of another study, a file of something else, and evidence that nothing is known about."""
    write_evidence(records("main", "ulm", (0, 1)), tmp_path / "main.csv", "make", {})
    (tmp_path / "trials.csv").write_text("tuning,stage\na,b\n")
    (tmp_path / "trials.provenance.json").write_text("{}")
    write_evidence(records("unsigned", "ulm", (2,)), tmp_path / "unsigned.csv", "make", {})
    (tmp_path / "unsigned.provenance.json").unlink()
    return tmp_path


def test_missing_runs_are_taken_under_the_names_of_the_study(folder):
    mine = records("supplement", "larger", (5,))
    other = read_evidence(folder / "main.csv")
    ids = sorted(other["run_id"].unique())
    adopt = names(ids, "default") | names(list(mine.runs["run_id"]), "larger")
    path = write_evidence(mine, folder / "supplement.csv", "make", COLUMNS, adopt=adopt)
    table = read_evidence(path)
    taken = table[table["run_id"].isin(ids)]
    assert set(taken["study"]) == {"supplement"}
    assert set(taken["setting"]) == {"default"}
    assert set(taken["method"]) == {"maml_in_the_supplement"}
    assert set(taken["M"]) == {20}
    numbers = ["run_id", "protocol", "step", "seed", "mean_return", "sd_over_tasks", "tasks", "status", "code_version"]
    pd.testing.assert_frame_equal(
        taken[numbers].sort_values(numbers, ignore_index=True), other[numbers].sort_values(numbers, ignore_index=True)
    )
    own = table[~table["run_id"].isin(ids)].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, evidence(mine, COLUMNS), check_dtype=False)
    facts = json.loads(path.with_suffix(".provenance.json").read_text())
    assert facts["adopted"] == {"main.csv": {"runs": 2, "code_version": sorted(other["code_version"].unique())}}


def test_a_run_that_the_records_have_is_never_replaced(folder):
    mine = records("supplement", "default", (0, 1))
    adopt = names(list(mine.runs["run_id"]), "default")
    path = write_evidence(mine, folder / "supplement.csv", "make", COLUMNS, adopt=adopt)
    assert "adopted" not in json.loads(path.with_suffix(".provenance.json").read_text())
    assert set(read_evidence(path)["method"]) == {"maml"}


def test_only_what_was_asked_for_and_has_a_provenance_is_taken(folder):
    mine = records("supplement", "larger", (5,))
    unsigned = sorted(read_evidence(folder / "unsigned.csv")["run_id"].unique())
    path = write_evidence(
        mine, folder / "supplement.csv", "make", COLUMNS, adopt=names([*unsigned, "unknown"], "default")
    )
    assert set(read_evidence(path)["run_id"]) == set(mine.runs["run_id"])


def test_numbers_that_their_provenance_does_not_speak_of_are_not_taken(folder):
    ids = sorted(read_evidence(folder / "main.csv")["run_id"].unique())
    text = (folder / "main.csv").read_text()
    (folder / "main.csv").write_text(text.replace("-1", "-9", 1))
    with pytest.raises(UserError, match="not the numbers that its provenance speaks of"):
        write_evidence(
            records("supplement", "larger", (5,)),
            folder / "supplement.csv",
            "make",
            COLUMNS,
            adopt=names(ids, "default"),
        )
    assert not (folder / "supplement.csv").exists()


def test_what_older_evidence_lacks_stays_empty(folder):
    other = read_evidence(folder / "main.csv")
    ids = sorted(other["run_id"].unique())
    text = evidence_csv(other.drop(columns="tasks"))
    (folder / "main.csv").write_text(text)
    told = {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    (folder / "main.provenance.json").write_text(json.dumps(told))
    mine = records("supplement", "larger", (5,))
    adopt = names(ids, "default")
    table = read_evidence(write_evidence(mine, folder / "supplement.csv", "make", COLUMNS, adopt=adopt))
    assert table.loc[table["run_id"].isin(ids), "tasks"].isna().all()
    assert table.loc[~table["run_id"].isin(ids), "tasks"].notna().all()

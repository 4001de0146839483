"""What a study says of its results belongs to one study at one scale; other scales have names of their own."""

import json
import shutil

import pytest

from harness import cli, composition
from harness.audit_file import Audit
from harness.errors import UserError
from harness.study import read_study
from harness.study_source import find_study, scales_of
from tests.harness_fixtures import TINY, load, write_study

SAYING = TINY.replace("scales:", "findings: [All is well.]\nscales:")


def test_findings_are_those_of_the_papers_scale_unless_a_scale_has_its_own(tmp_path):
    both = SAYING.replace("scales:", "scales:\n  bare: {seeds: 0}\n  other: {findings: [Less so.]}")
    path = write_study(tmp_path, both)
    said = {scale: load(path, scale).file.findings for scale in ("paper", "bare", "other")}
    assert said == {"paper": ["All is well."], "bare": [], "other": ["Less so."]}


def test_a_study_of_another_name_does_not_take_over_what_is_said_of_its_parent(tmp_path):
    write_study(tmp_path, SAYING)
    child = tmp_path / "child.yaml"
    child.write_text("extends: tiny.yaml\nstudy: mine\nseeds: 3\n")
    assert load(child).file.findings == []
    child.write_text("extends: tiny.yaml\nseeds: 3\n")
    assert load(child).file.findings == ["All is well."]


def test_the_audit_says_what_it_found_at_the_papers_scale_only():
    shown = {scale: Audit(composition.AUDIT, scale, composition.REGISTRIES).shown() for scale in ("paper", "smoke")}
    assert shown["paper"]["findings"]
    assert shown["smoke"]["findings"] == []
    assert shown["smoke"]["descriptions"]["dice"] == "DiCE; the whole Hessian"


def test_list_names_the_studies_without_the_scale(capsys):
    assert cli.main(["list", "--scale", "quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("navigation ") and "has no scale quick" in line for line in lines)
    assert any(line.startswith("point_corners ") and "runs" in line for line in lines)
    assert "smoke" in scales_of(find_study("navigation", composition.SUITES_FOLDER))


def test_a_table_is_of_the_evidence_of_its_scale(capsys):
    assert cli.main(["table", "point_corners", "--scale", "trend", "--evidence", "nowhere.csv"]) == 2
    assert "nowhere.csv" in capsys.readouterr().err
    assert cli.main(["table", "tabular_mdp", "--scale", "smoke"]) == 2
    assert "tabular_mdp_smoke.csv" in capsys.readouterr().err


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The audit at scale smoke, measured once."""
    folder = tmp_path_factory.mktemp("measured")
    assert cli.main(["estimators", "--scale", "smoke", "--results", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("content", ["{}", '{"rows": [{}], "provenance": {}}', "[", '{"rows": 3, "provenance": {}}'])
def test_a_damaged_cell_of_an_audit_is_measured_again(content, measured, tmp_path, capsys):
    results = tmp_path / "results"
    shutil.copytree(measured, results)
    cells = sorted((results / "estimators" / "cells").iterdir())
    whole = (results / "estimators" / "estimators_smoke.csv").read_bytes()
    cells[2].write_text(content)
    assert cli.main(["estimators", "--scale", "smoke", "--results", str(results)]) == 0
    assert f"{len(cells) - 1} done, 1 missing" in capsys.readouterr().out
    assert (results / "estimators" / "estimators_smoke.csv").read_bytes() == whole
    assert json.loads(cells[2].read_text())["rows"]
    assert (results / "reports" / "estimators_smoke.html").exists()


def test_a_penalty_of_nothing_has_no_target(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        f"extends: {composition.SUITES_FOLDER}/point_corners/study.yaml\n"
        "methods: {promp: {hyperparameters: {kl_coefficient: 0.0, kl_target: 1.0}}}\n"
    )
    with pytest.raises(UserError, match="kl_target: a kl_coefficient of 0 stays 0"):
        read_study(path, "paper", composition.REGISTRIES)

"""The README says what is true: its table, its commands, its targets."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from harness import cli, composition
from harness.study import read_study
from harness.study_file import parse_seeds
from harness.study_source import find_study
from harness.tuning.plan import Tuning
from reports.export import read_evidence
from reports.markdown import markdown
from reports.papers.published_file import load_published

PROJECT = Path(composition.PROJECT)
README = (PROJECT / "README.md").read_text()


def evidence_of(name):
    return read_evidence(PROJECT / "reports" / "evidence" / f"{name}.csv")


def study_of(name, scale="paper"):
    return read_study(find_study(name, PROJECT / "suites"), scale, composition.REGISTRIES)


TABLES = {
    "navigation": "paper",
    "ladder": "paper",
    "supplementary": "paper",
    "extensions": "paper",
    "bandits": "paper",
    "bandits_ablation": "paper",
    "tabular_mdp": "paper",
    "point_corners_quick": "quick",
    "point_corners_trend": "trend",
    "point_corners_ablation_quick": "quick",
    "locomotion_quick": "quick",
}


@pytest.mark.parametrize("stem", TABLES)
def test_the_table_is_the_one_of_the_committed_evidence(stem):
    scale = TABLES[stem]
    name = stem.removesuffix(f"_{scale}")
    study = study_of(name, scale)
    published = load_published(PROJECT / "suites" / study.file.suite / "published.yaml")
    shown = README.split(f"<!-- table:{stem} -->\n")[1].split(f"<!-- /table:{stem} -->")[0]
    assert shown == markdown(evidence_of(stem), published, name, list(study.file.methods))


def test_the_tuning_file_that_is_shown_is_one(tmp_path):
    shown = README.split("```yaml\ntuning: my_tuning\n")[1].split("```")[0]
    text = f"tuning: my_tuning\n{shown}".replace("suites/", f"{PROJECT / 'suites'}/")
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    tuning = Tuning(path, "paper", composition.REGISTRIES)
    (first, second) = tuning.runs("inner", tuning.probe("inner"), {}, 0)
    assert (first.spec.seed, second.spec.seed) == (1000, 1001)
    assert first.spec.suite.settings["test_goals"]["source"] == "stream"


@pytest.mark.parametrize("name", ["tuning_navigation"])
def test_the_table_of_a_tuning_is_the_one_of_its_committed_trials(name, capsys):
    assert cli.main(["table", name]) == 0
    shown = README.split(f"<!-- table:{name} -->\n")[1].split(f"<!-- /table:{name} -->")[0]
    assert shown == capsys.readouterr().out


def test_the_counts_of_verdicts_are_those_of_the_committed_evidence(capsys):
    assert cli.main(["verdicts", "--markdown"]) == 0
    shown = README.split("<!-- table:verdicts -->\n")[1].split("<!-- /table:verdicts -->")[0]
    assert shown == capsys.readouterr().out


EVIDENCE = PROJECT / "reports" / "evidence"
SIDECARS = {path: json.loads(path.read_text()) for path in sorted(EVIDENCE.glob("*.provenance.json"))}


@pytest.mark.parametrize("path", [path.name for path, facts in SIDECARS.items() if "study" in facts])
def test_the_committed_evidence_is_of_the_runs_that_the_study_now_asks_for(path):
    facts = SIDECARS[EVIDENCE / path]
    study, evidence = study_of(facts["study"], facts["scale"]), evidence_of(path.removesuffix(".provenance.json"))
    _, given, seeds = facts["command"].partition("--seeds ")
    plan = study.plan(parse_seeds(seeds.split()[0]) if given else None)
    assert set(evidence["run_id"]) == {run.spec.run_id for run in plan}
    assert set(evidence["status"]) <= {"done", "diverged"}


def test_every_file_of_the_committed_evidence_is_the_one_that_its_provenance_is_of():
    known = {}
    for path, facts in SIDECARS.items():
        known[path.name.replace(".provenance.json", ".csv")] = facts["sha256"]
        known |= facts.get("beside", {})
    assert known == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in EVIDENCE.glob("*.csv")}


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`(?:\.venv/bin/)?metarepro ([a-z]+)", README))))
def test_every_command_of_the_readme_exists(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert "example: metarepro" in capsys.readouterr().out


def test_every_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z0-9-]+):.*##", (PROJECT / "Makefile").read_text(), flags=re.M))
    assert set(re.findall(r"`make ([a-z0-9-]+)", README)) <= targets


def test_the_study_of_the_readme_reads_and_differs_as_it_says(tmp_path):
    example = README.split("```yaml\n")[1].split("```")[0].replace("suites/", f"{PROJECT}/suites/")
    (tmp_path / "hotter.yaml").write_text(example)
    study = read_study(tmp_path / "hotter.yaml", "paper", composition.REGISTRIES)
    assert (study.file.study, study.seeds) == ("hotter", list(range(10)))
    assert list(study.file.methods) == ["fomaml", "maml", "maml_elementwise", "pretrained"]
    assert {run.spec.algorithm.settings["actor_inner_lr"] for run in study.plan()} == {0.5}

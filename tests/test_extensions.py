"""Methods and suites from outside the project: found, recorded, told apart, and refused in one line."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

import harness.runner
from harness import cli, composition
from harness.errors import UserError
from harness.study import Study
from harness.tracking import default_uri
from harness.worker import work
from tests.harness_fixtures import (
    TINY,
    breaking,
    directory,
    job,
    load,
    metarepro,
    new_results,
    run_in_process,
    tiny,
    write_study,
)

METHOD = """\
from algorithms.maml import build as maml
from algorithms.settings import GradientMethodSettings
from harness.api import Declaration

class Mine(GradientMethodSettings):
    factor: float = 1.0

def build(settings, suite):
    return maml(settings, suite)

MINE = Declaration(name="mine", version=1, settings=Mine, build=build)
"""
SUITE = """\
from harness.api import Declaration
from suites.navigation import NavigationSettings
from suites.navigation.simulation import Navigation

class Island(Navigation):
    def sample_tasks(self, count, rng):
        return {name: 0.1 * values for name, values in super().sample_tasks(count, rng).items()}

ISLAND = Declaration(name="island", version=3, settings=NavigationSettings, build=Island)
"""
LINE = TINY[: TINY.index("algorithm: maml")].count("\n") + 2
"""The line of ``module`` in :func:`own_study`."""


def own_study(folder: Path, method: str | bytes = METHOD, text: str = TINY) -> Path:
    """The tiny study with its first method in a file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_bytes(method.encode() if isinstance(method, str) else method)
    return write_study(folder, text.replace("algorithm: maml", "algorithm: mine\n    module: mine.py"))


def mine_of(study: Study) -> Any:
    return study.plan()[0]


def test_a_file_beside_the_study_is_the_method_and_the_run_is_that_of_its_code(tmp_path: Path) -> None:
    data = tiny()
    data["methods"]["mine"] = {"algorithm": "mine", "module": "mine.py", "hyperparameters": {"factor": 2.0}}
    (tmp_path / "mine.py").write_text(METHOD)
    results = new_results(tmp_path / "results")
    study = write_study(tmp_path, data)
    assert run_in_process("run", study, results) == 0
    maml, _, mine = load(study).plan()
    assert mine.spec.algorithm.settings["factor"] == 2.0
    assert directory(results, mine).returns.read_bytes() == directory(results, maml).returns.read_bytes()
    manifest = directory(results, mine).read_manifest()
    assert manifest["extensions"] == {mine.spec.algorithm.origin: {"file": "mine.py", "text": METHOD}}
    assert "extensions" not in directory(results, maml).read_manifest()
    assert json.loads(directory(results, mine).spec.read_text())["algorithm"]["origin"] == mine.spec.algorithm.origin
    client = MlflowClient(default_uri(results))
    (found,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id], "tags.algorithm = 'mine'")
    assert found.data.tags["algorithm_origin"] == mine.spec.algorithm.origin
    assert "suite_origin" not in found.data.tags


def test_a_suite_and_a_method_of_ones_own_give_the_same_bytes_on_two_workers(tmp_path: Path) -> None:
    text = TINY.replace("suite: navigation", "suite: island\nsuite_module: far/island.py").replace(
        "seeds: 0", "seeds: 0-1"
    )
    study = own_study(tmp_path, text=text)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "island.py").write_text(SUITE)
    alone, together = new_results(tmp_path / "1"), new_results(tmp_path / "2")
    assert run_in_process("reproduce", study, alone, "--workers", "1") == 0
    done = metarepro("run", str(study), "--results", str(together), "--workers", "2", timeout=120.0)
    assert (done.returncode, done.stderr) == (0, "")
    assert "running 4 on 2 workers" in done.stdout
    runs = load(study).plan()
    assert {run.spec.suite.origin for run in runs} == {runs[0].spec.suite.origin}
    assert [run.spec.algorithm.origin is None for run in runs] == [False, True, False, True]
    for run in runs:
        one, other = directory(alone, run), directory(together, run)
        assert one.returns.read_bytes() == other.returns.read_bytes()
        assert one.curves.read_bytes() == other.curves.read_bytes()
    page = (alone / "reports" / "tiny.html").read_text()
    assert "island" in page


def test_the_run_follows_the_text_of_the_file_and_not_its_place(tmp_path: Path) -> None:
    here, there = mine_of(load(own_study(tmp_path / "a"))).spec, mine_of(load(own_study(tmp_path / "b"))).spec
    assert here.run_id == there.run_id
    changed = mine_of(load(own_study(tmp_path / "a", METHOD + "# a comment\n"))).spec
    assert changed.run_id != here.run_id
    ours = [
        load(own_study(tmp_path / folder, method)).plan()[1].spec
        for folder, method in (("c", METHOD), ("d", METHOD + "\n"))
    ]
    assert ours[0].run_id == ours[1].run_id == load(write_study(tmp_path / "e")).plan()[1].spec.run_id
    assert "origin" not in ours[0].canonical_json()


def test_a_path_starts_from_the_file_that_says_it_also_in_a_scale_and_in_a_setting(tmp_path: Path) -> None:
    parent = own_study(tmp_path / "far")
    expected = mine_of(load(parent)).spec.run_id
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "mine.py").write_text(METHOD + "# near\n")
    child = write_study(tmp_path / "near", "extends: ../far/tiny.yaml\nmethods: {maml: {seeds: 0}}\n")
    assert mine_of(load(child)).spec.run_id == expected
    child = write_study(tmp_path / "near", "extends: ../far/tiny.yaml\nmethods: {maml: {module: mine.py}}\n")
    near = mine_of(load(child)).spec.run_id
    assert near != expected
    scale = "extends: ../far/tiny.yaml\nscales: {paper: {methods: {maml: {module: mine.py}}}}\n"
    assert mine_of(load(write_study(tmp_path / "near", scale))).spec.run_id == near
    grid = "setting: null\ngrid: {one: {columns: {a: 1}, methods: {maml: {module: mine.py}}}}\n"
    study = load(write_study(tmp_path / "near", "extends: ../far/tiny.yaml\nmethods: {random: null}\n" + grid))
    assert [run.spec.run_id for run in study.plan()] == [near]


def test_a_run_executes_the_file_as_it_was_read(tmp_path: Path) -> None:
    results = new_results(tmp_path / "results")
    study = own_study(tmp_path)
    run = mine_of(load(study))
    (tmp_path / "mine.py").unlink()
    (tmp_path / "mine.py").symlink_to("nowhere")
    sys.modules.pop(next(name for name in sys.modules if name.startswith("metarepro_file_")))
    assert work(job(run, results), composition.REGISTRIES, lambda event: None).status == "done"


def test_an_interrupted_run_goes_on_in_another_process_and_a_changed_file_starts_anew(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    seen = []

    def interrupt(metrics: dict[str, float]) -> dict[str, float]:
        seen.append(metrics)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return metrics

    study, results = own_study(tmp_path), new_results(tmp_path / "results")
    place = directory(results, mine_of(load(study)))
    monkeypatch.setattr(harness.runner, "meta_iteration", breaking("mine", interrupt))
    assert run_in_process("run", study, results) == 130
    assert place.status() == "interrupted"
    assert [path.name for path in place.newest_checkpoint()] == ["00000002.safetensors", "00000002.json"]
    done = metarepro("run", str(study), "--results", str(results), "--workers", "1")
    assert (done.returncode, place.status()) == (0, "done")
    monkeypatch.undo()
    whole = new_results(tmp_path / "whole")
    assert run_in_process("run", study, whole) == 0
    assert directory(whole, mine_of(load(study))).returns.read_bytes() == place.returns.read_bytes()
    own_study(tmp_path, METHOD + "# changed\n")
    capsys.readouterr()
    assert run_in_process("status", study, results) == 0
    assert "tiny (paper): 2 runs: 1 done, 1 missing" in capsys.readouterr().out
    assert run_in_process("run", study, results) == 0
    assert run_in_process("report", study, results) == 0
    assert cli.main(["export", str(study), "--results", str(results), "--to", str(tmp_path / "out")]) == 0
    exported = (tmp_path / "out" / "tiny.csv").read_text()
    assert mine_of(load(study)).spec.run_id in exported
    assert place.folder.name not in exported


FAULTS = {
    "not Python": ("def build(:\n", ":1: SyntaxError: "),
    "a null byte": ("a = 1\n\0", "cannot contain null bytes"),
    "not text": (b"\xff\xfe = 1\n", "cannot be read"),
    "raises": ("import math\n\nmath.sqrt(-1)\n", ":3: ValueError: math domain error"),
    "raises deeper": ("def f():\n    return undefined\n\nf()\n", ":2: NameError: name 'undefined' is not defined"),
    "raises several lines": ("raise RuntimeError('one\\ntwo')\n", ":1: RuntimeError: one two"),
    "ends the program": ("import sys\nsys.exit('bye')\n", ":2: SystemExit: bye"),
    "imports what is not there": ("import no_such_package\n", "No module named 'no_such_package'"),
    "imports the file beside": ("import tiny_pieces\n", "a module of a study is one file"),
    "nothing declared": ("x = 1\n", "holds no harness.api.Declaration"),
    "another name": (METHOD.replace('"mine"', '"mime"'), "no Declaration named 'mine'; did you mean 'mime'?"),
    "twice": (METHOD + "import copy\nOTHER = copy.copy(MINE)\n", "two Declarations named 'mine'"),
    "version": (METHOD.replace("version=1", "version='1'"), "version must be a whole number from 1"),
    "settings": (METHOD.replace("settings=Mine", "settings=dict"), "settings must be a class derived"),
    "build": (METHOD.replace("build=build", "build=None"), "build must be a function"),
    "build by name": (METHOD.replace("build=build", "build='mine:build'"), "No module named 'mine'"),
    "build of a suite": (METHOD.replace("(settings, suite):", "(settings):"), "build must take (settings, suite)"),
    "requires": (METHOD.replace("build=build", "build=build, requires='x'"), "must be sets of words"),
    "requires more": (METHOD.replace("build=build", "build=build, requires={'wings'}"), "'mine' needs wings"),
    "settings that raise": (
        METHOD + "from pydantic import model_validator\nclass Bad(Mine):\n    @model_validator(mode='after')\n"
        "    def _check(self):\n        return 1 / 0\nfrom dataclasses import replace\n"
        "MINE = replace(MINE, settings=Bad)\n",
        ":16: ZeroDivisionError",
    ),
}  # fmt: skip
"""What is wrong with the file | what is said of it."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_one_line_with_the_line_of_the_study(fault: str, tmp_path: Path, capsys: Any) -> None:
    content, said = FAULTS[fault]
    (tmp_path / "tiny_pieces.py").touch()
    study = own_study(tmp_path, content)
    before = set(sys.modules)
    assert run_in_process("run", study, tmp_path / "results") == 2
    (line,) = capsys.readouterr().err.splitlines()
    place = re.escape(str(study))
    assert re.match(rf"metarepro: error: {place}:({LINE}|{LINE - 1}): |metarepro: error: {tmp_path}/mine.py:16: ", line)
    assert said in line
    assert not (tmp_path / "results").exists()
    if fault.startswith("raises"):
        assert not any(name.startswith("metarepro_file_") for name in set(sys.modules) - before)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("other.py", "other.py is not a file"),
        (".", "is not a file"),
        ("/dev/zero", "/dev/zero is not a file"),
        ("mine", "mine is not a file"),
        ('"\\0"', "text with the character"),
        ("x" * 300, "File name too long"),
        ("3", "methods.maml.module: input should be a valid string"),
        ("[mine.py]", "methods.maml.module: input should be a valid string"),
    ],
)
def test_a_path_that_leads_nowhere_is_one_line(module: str, said: str, tmp_path: Path) -> None:
    study = own_study(tmp_path)
    study.write_text(study.read_text().replace("module: mine.py", f"module: {module}"))
    with pytest.raises(UserError) as caught:
        load(study)
    assert str(caught.value).startswith(f"{study}:{LINE}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_at_the_top_is_told_apart_from_that_of_a_suite(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown key 'module'; did you mean 'suite_module'\?"):
        load(write_study(tmp_path, TINY + "module: mine.py\n"))
    with pytest.raises(
        UserError, match=rf"tiny.yaml:{TINY.count(chr(10)) + 2}: .*mine.py: suite 'mine': build must take"
    ):
        load(own_study(tmp_path, text=TINY.replace("suite: navigation", "suite: mine") + "suite_module: mine.py\n"))


def test_a_name_that_is_taken_is_refused_with_both_places(tmp_path: Path) -> None:
    study = own_study(tmp_path, METHOD.replace('"mine"', '"maml"'))
    study.write_text(study.read_text().replace("algorithm: mine", "algorithm: maml"))
    with pytest.raises(UserError, match=rf"{tmp_path}/mine.py and by this project \(algorithms.maml:build\)"):
        load(study)
    study = own_study(tmp_path)
    (tmp_path / "yours.py").write_text(METHOD + "# another\n")
    text = study.read_text().replace("  random:", "  yours: {algorithm: mine, module: yours.py}\n  random:")
    with pytest.raises(UserError, match=rf"'mine' is declared by {tmp_path}/yours.py and by {tmp_path}/mine.py"):
        load(write_study(tmp_path, text))


def test_one_file_may_hold_several_and_a_failing_one_ends_no_other(tmp_path: Path, capsys: Any) -> None:
    broken = METHOD + (
        "from dataclasses import replace\n\ndef broken(settings, suite):\n    raise LookupError('no paint')\n\n"
        'BROKEN = replace(MINE, name="broken", build=broken)\n'
    )
    study = own_study(tmp_path, broken)
    text = study.read_text().replace("  random:", "  broken: {algorithm: broken, module: mine.py}\n  random:")
    results = new_results(tmp_path / "results")
    assert run_in_process("run", write_study(tmp_path, text), results) == 1
    assert "failed: test broken seed 0: LookupError: no paint" in capsys.readouterr().out
    runs = load(study).plan()
    assert [directory(results, run).status() for run in runs] == ["done", "failed", "done"]
    assert 'mine.py", line' in json.loads(directory(results, runs[1]).failure.read_text())["traceback"]

"""The command line: what it says, where it says it, and its exit codes."""

from __future__ import annotations

import argparse
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import harness.runner
from harness import cli
from harness.spec import PlannedRun
from harness.tracking import default_uri
from tests.harness_fixtures import (
    PROJECT,
    TINY,
    breaking,
    directory,
    load,
    metarepro,
    new_results,
    run_in_process,
    tiny,
    write_study,
)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return new_results(tmp_path / "results")


def _subcommands() -> dict[str, argparse.ArgumentParser]:
    (group,) = (a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(group.choices)


def _error(capsys: Any) -> str:
    """The one line on standard error."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("metarepro: error: ")
    return str(line)


@pytest.mark.parametrize("name", ["", *_subcommands()])
def test_help_shows_an_example_that_the_parser_accepts(name: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([*filter(None, [name]), "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    found = re.search(r"example: metarepro (.*)$", text)
    assert found is not None
    example = shlex.split(found[1])
    assert not name or example[0] == name
    assert cli._parser().parse_args(example).handler is not None


def test_every_option_is_explained() -> None:
    for command in _subcommands().values():
        assert command.description
        assert all(action.help for action in command._actions)


def test_the_two_ways_of_calling_are_one() -> None:
    done = metarepro("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in ("run", "status", "list", "ui"))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["status", "navigation"], ["list"], ["run", "navigatoin"]]
)
def test_what_does_not_compute_imports_no_torch(arguments: list[str], tmp_path: Path) -> None:
    program = (
        "import sys\nfrom harness.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "sys.exit(str({'torch', 'ray', 'mlflow', 'pandas', 'matplotlib'} & set(sys.modules) or '').strip() or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_run_says_what_it_does_and_where_things_are_and_status_agrees(study: Path, results: Path, capsys: Any) -> None:
    assert run_in_process("status", study, results) == 0
    before = capsys.readouterr().out
    assert "tiny (paper): 2 runs: 2 missing" in before
    assert not (results / "runs").exists()
    assert run_in_process("run", study, results) == 0
    said = capsys.readouterr().out
    assert "tiny (paper): 2 runs: 2 missing" in said
    assert "running 2 on 1 worker" in said
    assert str(results / "runs") in said
    assert default_uri(results) in said
    assert run_in_process("status", study, results) == 0
    after = capsys.readouterr().out.splitlines()
    assert after[0] == "tiny (paper): 2 runs: 2 done"
    for line, run in zip(after[2:], load(study).plan(), strict=True):
        assert line.split() == ["test", run.method, "0", run.spec.run_id, "done"]
    assert run_in_process("run", study, results) == 0
    again = capsys.readouterr().out
    assert "nothing to do: every run is done and recorded" in again
    assert "running" not in again
    assert run_in_process("run", study, results, "--seeds", "0,3") == 0
    assert "tiny (paper): 4 runs: 2 done, 2 missing" in capsys.readouterr().out


def test_a_companion_that_does_not_exist_is_refused_before_anything_runs(tmp_path: Path, capsys: Any) -> None:
    study = write_study(tmp_path, TINY + "companions: [no_such_study]\n")
    assert run_in_process("reproduce", study, tmp_path / "results") == 2
    captured = capsys.readouterr()
    assert "unknown study 'no_such_study'" in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_list_names_every_study_with_its_file(capsys: Any) -> None:
    assert cli.main(["list"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("navigation "))
    assert str(PROJECT / "suites" / "navigation" / "study.yaml") in line
    assert re.search(r"\(\d+ runs, ", line)


@pytest.mark.parametrize("below", ["file/results", "file", "x" * 300, "/proc/results", "/dev/null/results"])
@pytest.mark.parametrize("command", ["run", "status"])
def test_a_results_folder_that_cannot_be_written_is_one_line(
    command: str, below: str, study: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "file").write_text("in the way")
    code = run_in_process(command, study, tmp_path / below)
    if command == "status" and code == 0:  # nothing is there, and nothing has to be written to say so
        assert "2 missing" in capsys.readouterr().out
    else:
        assert code == 2
        assert str(tmp_path / below) in _error(capsys)
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "navigatoin"], "unknown study 'navigatoin'; did you mean 'navigation'?"),
        (["status", "nothing.yaml"], "nothing.yaml: cannot be read: No such file"),
        (["run", "navigation", "--scale", "smok"], "unknown scale 'smok'; did you mean 'smoke'?"),
        (["run", "navigation", "--seeds", "3-1"], "--seeds: '3-1' is not a list of seeds; write 0-4 or 0,2,7"),
        (["run", "navigation", "--seeds", "a"], "'a' is not a list of seeds"),
        (["status", "navigation", "--seeds", ""], "'' is not a list of seeds"),
        (["status", "navigation", "--seeds", "-1"], "'-1' is not a list of seeds"),
        (["status", "navigation", "--seeds", "9" * 5000], "--seeds"),
        (["ui"], "there is no store yet"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], said: str, tmp_path: Path, capsys: Any) -> None:
    results = tmp_path / "results"
    assert cli.main([*arguments, "--results", str(results)]) == 2
    assert said in _error(capsys)
    assert not results.exists()


@pytest.mark.parametrize(
    "arguments", [["--workers", "0"], ["--workers", "-2"], ["--workers", "two"], ["--seeds"], ["x"]]
)
def test_bad_options_are_refused_with_the_usage(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", "navigation", *arguments])
    assert caught.value.code == 2
    assert "metarepro" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "fault", [("actor_inner_lr: 0.1", "actor_iner_lr: 0.1"), ("seeds: 0", "seeds: [0"), ("suite: n", "suite: x")]
)
def test_a_bad_study_shows_no_traceback_in_the_shell(fault: tuple[str, str], tmp_path: Path, study: Path) -> None:
    study.write_text(study.read_text().replace(*fault))
    done = metarepro("run", str(study), "--results", str(tmp_path / "results"))
    assert done.returncode == 2
    assert re.fullmatch(rf"metarepro: error: {study}:\d+: .*\n", done.stderr)
    assert done.stdout == ""
    assert not (tmp_path / "results").exists()


def _planned(study: Path) -> tuple[PlannedRun, PlannedRun]:
    maml, random = load(study).plan()
    return maml, random


def test_a_failing_run_ends_neither_the_grid_nor_its_own_chances(
    study: Path, results: Path, monkeypatch: Any, capsys: Any
) -> None:
    def fail(metrics: dict[str, float]) -> dict[str, float]:
        raise RuntimeError("out of [bold]paint\nand brushes")

    monkeypatch.setattr(harness.runner, "meta_iteration", breaking("maml", fail))
    assert run_in_process("run", study, results) == 1
    captured = capsys.readouterr()
    assert "failed: test maml seed 0: RuntimeError: out of [bold]paint" in captured.out
    assert "failed: 1; " in captured.out
    assert str(results / "runs") in captured.out
    assert "Traceback" not in captured.out + captured.err
    assert [directory(results, run).status() for run in _planned(study)] == ["failed", "done"]
    assert run_in_process("status", study, results) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny (paper): 2 runs: 1 done, 1 failed"
    assert lines[2].endswith("failed  RuntimeError: out of [bold]paint and brushes")
    assert len(lines) == 4
    monkeypatch.undo()
    assert run_in_process("run", study, results) == 0
    assert "running 1 on 1 worker" in capsys.readouterr().out
    assert [directory(results, run).status() for run in _planned(study)] == ["done", "done"]


def test_a_diverging_run_is_counted_and_not_tried_again(tmp_path: Path, results: Path, capsys: Any) -> None:
    data = tiny()
    data["hyperparameters"]["actor_outer_lr"] = 1e38
    study = write_study(tmp_path, data)
    assert run_in_process("run", study, results) == 0
    assert "diverged: test maml seed 0" in capsys.readouterr().out
    maml, _ = _planned(study)
    manifest = directory(results, maml).read_manifest()
    assert manifest["status"] == "diverged"
    assert run_in_process("status", study, results) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny (paper): 2 runs: 1 done, 1 diverged"
    assert lines[2].endswith(f"diverged  {manifest['reason']}")
    assert run_in_process("run", study, results) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_changed_evidence_is_said_and_made_again(study: Path, results: Path, capsys: Any) -> None:
    assert run_in_process("run", study, results) == 0
    maml, _ = _planned(study)
    evidence = directory(results, maml).returns
    content = evidence.read_bytes()
    evidence.write_bytes(b"spoilt")
    capsys.readouterr()
    assert run_in_process("run", study, results) == 0
    said = capsys.readouterr().out
    assert "warning: test maml seed 0: its files were changed after it finished; it runs again" in said
    assert "running 1 on 1 worker" in said
    assert evidence.read_bytes() == content


def test_an_interrupt_is_said_without_a_traceback(study: Path, results: Path, monkeypatch: Any, capsys: Any) -> None:
    def interrupt(metrics: dict[str, float]) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(harness.runner, "meta_iteration", breaking("maml", interrupt))
    assert run_in_process("run", study, results) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert [directory(results, run).status() for run in _planned(study)] == ["interrupted", "missing"]
    monkeypatch.undo()
    assert run_in_process("run", study, results) == 0


def test_only_the_projects_own_paper_runs_go_to_its_committed_evidence(study: Path, results: Path, capsys: Any) -> None:
    for arguments in (["export", "navigation", "--scale", "smoke"], ["export", str(study)]):
        assert cli.main([*arguments, "--results", str(results)]) == 2
        assert "say --to FOLDER" in capsys.readouterr().err


def test_a_port_is_a_free_port(results: Path, capsys: Any) -> None:
    (results / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["ui", "--results", str(results), "--port", str(port)]) == 2
    assert "is taken" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        cli.main(["ui", "--port", "99999"])
    assert stop.value.code == 2

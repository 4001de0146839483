"""``metarepro all``: everything that has a scale, the cheapest first, each piece of work once, nothing twice."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

import harness.runner
from harness import agenda, all_command, audit_command, cli, composition
from harness.agenda import Item, cheapest_first, table
from harness.tuning.storage import open_storage
from tests.harness_fixtures import breaking, new_results, tiny
from tests.test_tuning import tuning


def item(name: str, left: dict[str, float | None], workers: int | None = 1, page: Path | None = None) -> Item:
    return Item(name, "runs", left, lambda: 0, workers, page)


def test_the_cheapest_is_first_and_what_nobody_measured_last() -> None:
    items = [item("dear", {"a": 5.0}), item("unknown", {"b": 1.0, "c": None}), item("cheap", {"d": 1.0, "e": 1.0})]
    assert [one.name for one in cheapest_first(items)] == ["cheap", "dear", "unknown"]


def test_what_two_ask_for_counts_once_with_the_first_and_makes_the_second_cheaper() -> None:
    items = [
        item("big", {"a": 5.0, "b": 5.0, "c": 1.0}),
        item("middle", {"d": 6.0}),
        item("small", {"a": 2.0, "b": 2.0}),
    ]
    ordered = cheapest_first(items)
    assert [(one.name, one.cpu_s, one.shared) for one in ordered] == [
        ("small", 4.0, 0),
        ("big", 1.0, 2),
        ("middle", 6.0, 0),
    ]


def test_the_table_has_cpu_time_and_wall_clock_and_both_together() -> None:
    lines = table(
        [item("one", {"a": 3600.0, "b": 3600.0}, 4), item("two", {"c": 60.0}, 4), item("done", {})]
    ).splitlines()
    assert [re.split(r"\s{2,}", line) for line in lines[1:]] == [
        ["one", "2 runs", "2 h 00 min", "1 h 00 min"],
        ["two", "1 runs", "1 min 00 s", "1 min 00 s"],
        ["done", "nothing", "0 s", "0 s"],
        ["together", "2 h 01 min", "1 h 01 min"],
    ]
    said = table([item("one", {"a": 60.0}, None), item("two", {"b": None})]).splitlines()
    assert said[1].split() == ["one", "1", "runs", "1", "min", "00", "s", *agenda.UNKNOWN.split()]
    assert said[-1] == "and, not known yet, what two will take"


CHEAP = {**tiny(), "study": "cheap", "minutes": 0.1}
DEAR = {**tiny(), "study": "dear", "minutes": 9.0, "budget": {**tiny()["budget"], "meta_iterations": 5}}
TWIN = {**tiny(), "study": "twin", "minutes": 0.3, "seeds": "0-1"}
OTHER = {**tiny(), "study": "other", "minutes": 1.0, "scales": {"large": {}}}


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with four studies: ``twin`` asks for the runs of ``cheap`` and more; the audit has another scale."""
    folder = tmp_path / "suites" / "navigation"
    folder.mkdir(parents=True)
    for study in (DEAR, TWIN, CHEAP, OTHER):
        (folder / f"{study['study']}.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    audit = yaml.safe_load(composition.AUDIT.read_text())
    audit["scales"] = {"large": {}}
    (tmp_path / "estimators.yaml").write_text(yaml.safe_dump(audit))
    for module in (composition, all_command):
        monkeypatch.setattr(module, "SUITES_FOLDER", tmp_path / "suites")
        monkeypatch.setattr(module, "AUDIT", tmp_path / "estimators.yaml")
    monkeypatch.setattr(all_command, "write_report", lambda options: print(f"the report on {options.study}") or 0)
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return new_results(tmp_path / "results")


def everything(results: Path, *options: str) -> int:
    return cli.main(["all", "--results", str(results), "--workers", "1", *options])


def headings(said: str) -> list[str]:
    return re.findall(r"^\[.*\].*$", said, flags=re.MULTILINE)


def test_all_of_a_scale_runs_once_cheapest_first_after_the_hours_are_told(
    suites: Path, results: Path, capsys: Any
) -> None:
    assert everything(results) == 0
    said = capsys.readouterr().out
    before, _, after = said.partition("[1/3] cheap")
    assert "everything at scale paper on 1 worker, cheapest first:" in before
    rows = [re.split(r"\s{2,}", line) for line in before.splitlines()[2:6]]
    assert rows == [
        ["cheap", "2 runs", "6 s", "6 s"],
        ["twin", "2 runs, 2 with others", "9 s", "9 s"],
        ["dear", "1 runs, 1 with others", "4 min 30 s", "4 min 30 s"],  # its untrained method is that of cheap
        ["together", "4 min 45 s", "4 min 45 s"],
    ]
    assert "without a scale 'paper', left out: estimators, other" in before
    assert headings(after) == ["[2/3] twin", "[3/3] dear", "[report]"]
    assert "twin (paper): 4 runs: 2 done, 2 missing" in after
    assert after.rstrip().endswith("the report on all")

    made = {path: path.stat().st_mtime_ns for path in results.glob("runs/*/DONE.json")}
    assert len(made) == 5
    page = results / "reports" / "report.html"
    page.parent.mkdir()
    page.write_text("there")
    assert everything(results) == 0
    again = capsys.readouterr().out
    assert f"nothing to do: {page}" in again
    assert "the report on all" not in again
    assert [line.split()[1] for line in again.splitlines()[2:5]] == ["nothing"] * 3
    assert again.count("nothing to do: every run is done and recorded") == 3
    assert "running" not in again
    assert {path: path.stat().st_mtime_ns for path in results.glob("runs/*/DONE.json")} == made

    os.utime(page, (0, 0))  # older than the runs
    assert everything(results) == 0
    assert "the report on all" in capsys.readouterr().out


def test_what_fails_does_not_stop_the_others_and_is_told_in_the_end(
    suites: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    data = yaml.safe_load((suites / "dear.yaml").read_text())
    data["methods"] = {"pretrained": {"algorithm": "pretrained"}}
    (suites / "dear.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    (suites / "bad.yaml").write_text(yaml.safe_dump({**tiny(), "study": "bad", "methods": {}}))

    def fail(metrics: dict[str, float]) -> dict[str, float]:
        raise RuntimeError("out of paint")

    monkeypatch.setattr(harness.runner, "meta_iteration", breaking("maml", fail))
    assert everything(results) == 2
    said = capsys.readouterr()
    assert re.fullmatch(r"metarepro: error: bad: .*bad\.yaml.*\n", said.err)
    assert headings(said.out)[-1] == "[report]"
    assert "dear (paper): 1 runs: 1 missing" in said.out
    assert "failed: test maml seed 0: RuntimeError: out of paint" in said.out
    assert "failed: cheap, twin; the same command tries again" in said.out
    (suites / "bad.yaml").unlink()
    assert everything(results) == 1
    monkeypatch.undo()


def test_an_error_of_one_study_is_one_line_and_the_next_runs(
    suites: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from harness.errors import UserError

    real = cli.run_study

    def refuse(options: Any) -> int:
        if options.study == "cheap":
            raise UserError("no room\nat all")
        return real(options)

    monkeypatch.setattr(cli, "run_study", refuse)
    assert everything(results) == 2
    said = capsys.readouterr()
    assert said.err.startswith("metarepro: error: cheap: no room")
    assert "failed: cheap; the same command tries again" in said.out
    assert len(list(results.glob("runs/*/DONE.json"))) == 5


def test_an_interrupt_ends_all_of_it(suites: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def interrupt(metrics: dict[str, float]) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(harness.runner, "meta_iteration", breaking("maml", interrupt))
    assert everything(results) == 130
    said = capsys.readouterr()
    assert headings(said.out) == ["[1/3] cheap"]
    assert "the same command goes on" in said.err


def test_a_dry_run_says_what_there_is_and_touches_nothing(suites: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "nothing"
    assert everything(folder, "--dry-run", "--seeds", "0-4") == 0
    said = capsys.readouterr().out
    assert said.splitlines()[2].split()[:3] == ["cheap", "10", "runs"]
    assert headings(said) == []
    assert not folder.exists()


def test_a_scale_that_nothing_has_is_refused(suites: Path, results: Path, capsys: Any) -> None:
    assert everything(results, "--scale", "larg") == 2
    assert "nothing has a scale 'larg'; did you mean 'large'?" in capsys.readouterr().err


def test_of_a_tuning_the_trials_that_are_told_are_not_left(suites: Path, results: Path, capsys: Any) -> None:
    (suites / "tuning").mkdir()
    data = {**tuning(), "study": "../cheap.yaml", "minutes": 10.0}
    (suites / "tuning" / "search.yaml").write_text(yaml.safe_dump(data, sort_keys=False))

    def left() -> list[str]:
        assert everything(results, "--dry-run") == 0
        rows = [re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines()]
        return next(row[1:3] for row in rows if row[0] == "search")

    assert left() == ["10 trials", "10 min 00 s"]
    with open_storage(results / "tuning" / "search", None) as storage:
        study = optuna.create_study(storage=storage, study_name="search/outer", direction="maximize")
        for value in (1.0, 2.0, 3.0):
            study.add_trial(optuna.trial.create_trial(value=value))
        study.ask()  # begun, and not told
    assert left() == ["7 trials", "7 min 00 s"]
    data["scales"] = {"paper": {}, "small": {}}
    (suites / "tuning" / "search.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    assert everything(results, "--dry-run", "--scale", "small") == 0
    said = capsys.readouterr().out  # minutes are of the size at which they were measured
    assert said.splitlines()[-2] == "and, not known yet, what cheap, dear, twin, search will take"


def test_of_the_audit_the_cells_that_are_measured_are_not_left(
    suites: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    path = composition.AUDIT
    audit = yaml.safe_load(path.read_text())
    audit["minutes"] = 10.0
    path.write_text(yaml.safe_dump(audit))
    for each in ("cheap", "twin", "dear"):
        (suites / f"{each}.yaml").unlink()
    assert everything(results, "--scale", "large", "--dry-run") == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("estimators"))
    assert re.fullmatch(r"estimators +\d+ cells +not known yet +not known yet", row)

    path.write_text(yaml.safe_dump({**audit, "scales": {"paper": {}}}))
    assert everything(results, "--dry-run", "--workers", "2") == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("estimators"))
    assert re.split(r"\s{2,}", row)[2:] == ["10 min 00 s", "10 min 00 s"]  # one worker, whatever is asked for

    page = results / "reports" / "estimators.html"
    page.parent.mkdir()
    page.write_text("there")
    monkeypatch.setattr(audit_command, "missing_cells", lambda audit, results: [])
    assert everything(results) == 0
    assert f"nothing to do: {page}" in capsys.readouterr().out

"""Tuning: trials are runs, batches are told in order, and neither interruptions nor workers change a digit."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import yaml
from mlflow.tracking import MlflowClient

from harness import cli
from harness.results import RunDirectory
from harness.tracking import default_uri
from tests.harness_fixtures import PROGRAM, PROJECT, breaking, new_results, tiny, write_study

TRIALS = 6


def tuning() -> dict[str, Any]:
    """Two stages over the tiny study: outer rates by a curve, then a rate at meta-test of the model that they give."""
    return {
        "tuning": "search",
        "title": "A search for the tests",
        "study": "tiny.yaml",
        "seed": 3,
        "batch": 2,
        "sampler": {"name": "tpe", "startup_trials": 2},
        "stages": {
            "outer": {
                "protocol": "own",
                "method": "maml",
                "trials": TRIALS,
                "space": {"critic": {"low": 1e-4, "high": 1e-1, "log": True}, "ratio": {"low": 0.5, "high": 1.0}},
                "assign": {
                    "hyperparameters.critic_outer_lr": "critic",
                    "hyperparameters.actor_outer_lr": "ratio * critic",
                },
                "objective": {"of": "curve", "name": "pre_update_return"},
                "seeds": "0",
            },
            "fresh": {
                "protocol": "own",
                "method": "maml",
                "trials": 4,
                "space": {"rate": {"low": 1e-4, "high": 1.0, "log": True}},
                "assign": {"evaluation.protocols.fresh.settings.actor_lr": "rate"},
                "after": ["outer"],
                "objective": {"of": "meta_test", "protocol": "fresh", "step": 1},
                "seeds": "0",
            },
        },
        "scales": {"paper": {}},
    }


def write(folder: Path, data: dict[str, Any] | None = None, study: dict[str, Any] | None = None) -> Path:
    """The tuning file beside its study."""
    write_study(folder, study or tiny())
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(data or tuning(), sort_keys=False))
    return path


def tune(path: Path, results: Path, *options: str) -> int:
    return cli.main(["tune", str(path), "--results", str(results), "--workers", "1", *options])


def trials(results: Path, stage: str | None = None) -> list[dict[str, str]]:
    rows = list(csv.DictReader((results / "tuning" / "search" / "trials.csv").open()))
    return [{k: v for k, v in row.items() if k != "cpu_s"} for row in rows if stage in (None, row["stage"])]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Path]:
    """A tuning that nothing interrupted: (its file, its results)."""
    folder = tmp_path_factory.mktemp("whole")
    path, results = write(folder), new_results(folder / "results")
    assert tune(path, results) == 0
    return path, results


def test_the_value_of_a_trial_is_what_its_run_recorded(whole):
    _, results = whole
    for row in trials(results, "outer"):
        place = RunDirectory.of(results, row["run_ids"])
        spec = json.loads(place.spec.read_text())
        assert spec["algorithm"]["settings"]["critic_outer_lr"] == pytest.approx(float(row["critic"]), rel=1e-7)
        curve = pyarrow.parquet.read_table(place.curves).column("pre_update_return").to_numpy()
        assert float(row["value"]) == pytest.approx(curve.mean(), abs=1e-6)
    for row in trials(results, "fresh"):
        returns = pyarrow.parquet.read_table(RunDirectory.of(results, row["run_ids"]).returns).to_pandas()
        mine = returns[returns["protocol"].eq("fresh") & returns["step"].eq(1)]
        assert float(row["value"]) == pytest.approx(mine["mean_return"].mean(), abs=1e-6)


def test_a_product_in_the_assignment_holds_the_constraint(whole):
    for row in trials(whole[1], "outer"):
        actor, critic = float(row["actor_outer_lr"]), float(row["critic_outer_lr"])
        assert 0.5 * critic <= actor <= critic
        assert actor == pytest.approx(float(row["ratio"]) * float(row["critic"]), rel=1e-6)


def test_a_later_stage_builds_on_the_best_trial_of_an_earlier_one(whole):
    _, results = whole
    best = max(trials(results, "outer"), key=lambda row: float(row["value"]))
    for row in trials(results, "fresh"):
        settings = json.loads(RunDirectory.of(results, row["run_ids"]).spec.read_text())["algorithm"]["settings"]
        assert settings["critic_outer_lr"] == pytest.approx(float(best["critic"]), rel=1e-7)


def test_trials_that_share_a_training_make_it_once(whole):
    _, results = whole
    manifests = [
        json.loads(RunDirectory.of(results, row["run_ids"]).manifest.read_text()) for row in trials(results, "fresh")
    ]
    # The best trial of the first stage has made it already, under the same rates.
    assert all("training_of" in manifest for manifest in manifests)


def test_the_runs_are_children_of_the_tuning_in_the_store(whole):
    _, results = whole
    client = MlflowClient(default_uri(results))
    experiment = client.get_experiment_by_name("search")
    children = client.search_runs([experiment.experiment_id], "tags.kind = 'run'")
    (parent,) = client.search_runs([experiment.experiment_id], "tags.kind = 'invocation'")
    assert {run.data.tags["run_id"] for run in children} == {row["run_ids"] for row in trials(results)}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.data.tags["setting"] for run in children} >= {"outer_t000", "outer_t005", "fresh_t003"}


def test_after_the_random_start_the_sampler_learns():
    """Far more often than a random search would, the estimator proposes what is near the best value."""
    import optuna

    from harness.tuning.schema import RangeEntry, SamplerEntry
    from harness.tuning.storage import Reseeded, suggest

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def near(name: str) -> int:
        study = optuna.create_study(
            direction="maximize", sampler=Reseeded(SamplerEntry(name=name, startup_trials=10), 0, "stage")
        )
        space = {"rate": RangeEntry(low=1e-5, high=1.0, log=True)}
        for _ in range(60):
            trial = study.ask()
            study.tell(trial, -((np.log10(suggest(trial, space)["rate"]) + 3.0) ** 2))
        return sum(abs(np.log10(one.params["rate"]) + 3.0) < 0.25 for one in study.trials[10:])

    assert near("random") < 10 < 15 < near("tpe")  # a tenth of 50 are near by chance


def test_two_places_with_the_same_last_word_keep_their_numbers_apart(tmp_path):
    data = tuning()
    fresh = data["stages"].pop("fresh") | {"after": [], "trials": 2}
    study = tiny()
    study["evaluation"]["protocols"]["again"] = study["evaluation"]["protocols"]["fresh"] | {"updates": 0}
    fresh["assign"]["evaluation.protocols.again.settings.actor_lr"] = "half * rate"
    fresh["space"]["half"] = {"low": 0.4, "high": 0.5}
    data["stages"] = {"fresh": fresh}
    assert tune(write(tmp_path, data, study), new_results(tmp_path / "results")) == 0
    for row in trials(tmp_path / "results"):
        one = float(row["evaluation.protocols.fresh.settings.actor_lr"])
        other = float(row["evaluation.protocols.again.settings.actor_lr"])
        assert 0.4 * one <= other <= 0.5 * one


# --- the same bits


class Crash(BaseException):
    """Stands for whatever ends a process; no handler of exceptions may take it for a failed run."""


@pytest.mark.parametrize("at", [0, 1, 3, 5, 6, 8])
def test_interrupted_anywhere_and_resumed_it_is_as_if_nothing_had_happened(whole, tmp_path, monkeypatch, at):
    path, results = write(tmp_path), new_results(tmp_path / "results")
    real, count = cli.work, 0

    def crashing(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == at + 1:
            raise Crash
        return real(*arguments)

    monkeypatch.setattr(cli, "work", crashing)
    with pytest.raises(Crash):
        tune(path, results)
    assert tune(path, results) == 0
    assert trials(results) == trials(whole[1])


@pytest.mark.parametrize("half", [b'{"op_code": 6, "worker_id": "a', b"\xff"])
def test_half_a_line_at_the_end_of_the_journal_is_cut_off(whole, tmp_path, monkeypatch, half):
    path, results = write(tmp_path), new_results(tmp_path / "results")
    data = tuning()
    data["stages"].pop("fresh")
    data["stages"]["outer"]["trials"] = 4
    assert tune(write(tmp_path, data), results) == 0
    journal = results / "tuning" / "search" / "optuna.journal"
    journal.write_bytes(journal.read_bytes() + half)
    write(tmp_path)
    assert tune(path, results) == 0
    assert trials(results) == trials(whole[1])


def test_killed_at_any_moment_and_with_two_workers_it_gives_the_same_trials(whole, tmp_path):
    path, results = write(tmp_path), new_results(tmp_path / "results")
    command = [sys.executable, "-c", PROGRAM, "tune", str(path), "--results", str(results), "--workers", "2"]
    journal = results / "tuning" / "search" / "optuna.journal"
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (journal.exists() and journal.read_text().count('"op_code":6') >= 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=120, check=False).returncode == 0
    assert trials(results) == trials(whole[1])


def test_done_is_done(whole, capsys, monkeypatch):
    path, results = whole
    before = trials(results)
    monkeypatch.setattr(cli, "work", lambda *arguments: pytest.fail("a finished tuning ran something"))
    assert tune(path, results) == 0
    assert trials(results) == before


# --- pruned, failed, diverged


def test_nothing_is_pruned_unless_it_is_declared_and_pruned_trials_run_fewer_seeds(tmp_path):
    data = tuning()
    data["stages"].pop("fresh")
    outer = data["stages"]["outer"]
    outer |= {"seeds": "0-1", "trials": 8}
    plain, pruning = tmp_path / "plain", tmp_path / "pruning"
    assert tune(write(plain, data), new_results(plain / "results")) == 0
    outer["prune"] = {"startup_trials": 2}
    assert tune(write(pruning, data), new_results(pruning / "results")) == 0
    without, having = trials(plain / "results"), trials(pruning / "results")
    assert {row["state"] for row in without} == {"complete"}
    assert all(len(row["run_ids"].split()) == 2 for row in without)
    assert {row["state"] for row in having} == {"complete", "pruned"}
    first = [float(row["values"].split()[0]) for row in having]
    for index, row in enumerate(having):
        told = [first[i] for i in range(index - index % 2) if having[i]["state"] == "complete"]
        expected = len(told) >= 2 and first[index] < np.median(told)  # the median of the batches before
        assert (row["state"] == "pruned") == expected
        assert len(row["run_ids"].split()) == (1 if expected else 2)


def test_a_trial_that_diverges_is_told_as_failed_with_its_reason(tmp_path, monkeypatch):
    data = tuning()
    data["stages"].pop("fresh")
    seen = 0

    def sometimes(metrics: dict[str, float]) -> dict[str, float]:
        nonlocal seen
        seen += 1
        return metrics | {"post_update_return": float("nan")} if seen == 6 else metrics  # in the second trial

    monkeypatch.setattr("harness.runner.meta_iteration", breaking("maml", sometimes))
    assert tune(write(tmp_path, data), new_results(tmp_path / "results")) == 0
    states = [row["state"] for row in trials(tmp_path / "results")]
    assert states == ["complete", "fail", *["complete"] * 4]
    failed = trials(tmp_path / "results")[1]
    assert "diverged: post_update_return is nan at meta-iteration 1" in failed["reason"]
    assert failed["value"] == ""


@pytest.mark.parametrize("broken", [ValueError("no such goal"), MemoryError()])
def test_a_run_that_raises_stops_the_search_and_is_tried_again(whole, tmp_path, monkeypatch, capsys, broken):
    path, results, seen = write(tmp_path), new_results(tmp_path / "results"), 0

    def once(metrics: dict[str, float]) -> dict[str, float]:
        nonlocal seen
        seen += 1
        if seen == 6:  # in the second trial
            raise broken
        return metrics

    monkeypatch.setattr("harness.runner.meta_iteration", breaking("maml", once))
    assert tune(path, results) == 2
    assert f"outer_t001 maml seed 0: failed: {type(broken).__name__}" in capsys.readouterr().err
    assert tune(path, results) == 0
    assert trials(results) == trials(whole[1])


def test_a_stage_without_any_value_says_why(tmp_path, monkeypatch, capsys):
    nan = {"post_update_return": float("nan")}
    monkeypatch.setattr("harness.runner.meta_iteration", breaking("maml", lambda metrics: metrics | nan))
    assert tune(write(tmp_path), new_results(tmp_path / "results")) == 2
    error = capsys.readouterr().err
    assert "stage outer: none of its 6 trials has a value" in error
    assert "diverged: post_update_return is nan" in error


# --- refusals


def _change(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, last = path.split(".")
    block = data
    for key in parents:
        block = block[key]
    block[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("stages.outer.space", {}, "stages.outer.space: dictionary should have at least 1 item"),
        ("stages.outer.space.critic", {"low": 0.1, "high": 0.1}, "low must be below high, found low 0.1 and high 0.1"),
        ("stages.outer.space.critic", {"low": 0.2, "high": 0.1}, "low must be below high, found low 0.2 and high 0.1"),
        ("stages.outer.space.critic", {"low": 0, "high": 1, "log": True}, "a logarithmic range begins above 0"),
        ("stages.outer.space.critic", {"choices": [1]}, "at least 2 items"),
        ("stages.outer.space.extra", {"low": 0, "high": 1}, "assign does not use 'extra' of the space"),
        ("stages.outer.assign", {"hyperparameters.actor_outer_lr": "rato * critic"}, "assign uses 'rato'"),
        ("stages.outer.method", "mamal", "the study has no method 'mamal'; did you mean 'maml'?"),
        ("stages.outer.trials", 0, "greater than or equal to 1, found '0'"),
        ("stages.outer.tirals", 3, "unknown key 'stages.outer.tirals'; did you mean 'trials'?"),
        ("stages.fresh.after", ["outre"], "'outre' is no stage that comes before it"),
        ("stages.fresh.objective.protocol", "frsh", "the meta-test has no protocol 'frsh'; did you mean 'fresh'?"),
        ("stages.fresh.objective.step", 2, "objective.step is 2, but there are 1 updates"),
        ("stages.fresh.objective.of", "curves", "'curve'"),
        ("stages.outer.seeds", "4-1", "is not a list of seeds"),
        ("stages.outer.space.value", {"low": 0.1, "high": 1}, "'value' is a column of the table of trials"),
        ("stages.outer.space.ratio", {"choices": ["half", "all"]}, "'ratio' has choices that are no numbers"),
        ("stages.outer.changes", {"budget": {"meta_iteration": 1}}, "did you mean 'meta_iterations'?"),
        ("study", "none.yaml", "none.yaml: cannot be read"),
        ("study_scale", "papr", "the study has no scale 'papr'; did you mean 'paper'?"),
        ("setting", "n10", "setting: expected one of the study's grid"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_with_its_place(tmp_path, capsys, path, value, message):
    file = write(tmp_path, _change(tuning(), path, value))
    assert tune(file, tmp_path / "results") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert "search.yaml:" in error
    assert not (tmp_path / "results" / "tuning").exists()


def test_a_value_that_the_study_refuses_points_at_the_assignment(tmp_path, capsys):
    data = tuning()
    data["stages"]["outer"]["assign"]["hyperparameters.actor_outter_lr"] = "critic"
    assert tune(write(tmp_path, data), tmp_path / "results") == 2
    error = capsys.readouterr().err
    line = (tmp_path / "search.yaml").read_text().splitlines().index(
        "      hyperparameters.actor_outter_lr: critic"
    )  # fmt: skip
    assert f"search.yaml:{line + 1}: " in error
    assert "did you mean 'actor_outer_lr'?" in error


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("stages.outer.space.critic.high", 0.2, "space.critic.high = 0.1, and now has 0.2"),
        ("stages.outer.objective.name", "post_update_return", "objective.name = pre_update_return, and now has post"),
        ("seed", 4, "seed = 3, and now has 4"),
        ("stages.outer.changes", {"budget": {"meta_iterations": 5}}, "run.budget.meta_iterations = 4, and now has 5"),
    ],
)
def test_a_search_that_was_begun_as_another_is_refused_and_keeps_what_it_has(
    whole, tmp_path, capsys, path, value, shown
):
    import shutil

    shutil.copytree(whole[1], tmp_path / "results")
    shutil.copy(new_results(tmp_path / "store") / "mlflow.db", tmp_path / "results" / "mlflow.db")
    before = (tmp_path / "results" / "tuning" / "search" / "trials.csv").read_bytes()
    assert tune(write(tmp_path, _change(tuning(), path, value)), tmp_path / "results") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"stage outer was begun with {shown}" in error
    assert "no trial is lost" in error
    assert (tmp_path / "results" / "tuning" / "search" / "trials.csv").read_bytes() == before
    assert tune(write(tmp_path), tmp_path / "results") == 0  # put back, it goes on


def test_more_trials_go_on_from_those_that_are_there(whole, tmp_path):
    fewer = tuning()
    fewer["stages"]["outer"]["trials"] = 4
    fewer["stages"].pop("fresh")
    results = new_results(tmp_path / "results")
    assert tune(write(tmp_path, fewer), results) == 0
    known = trials(whole[1], "outer")[:4]
    assert trials(results) == [{name: row[name] for name in trials(results)[0]} for row in known]
    assert tune(write(tmp_path), results) == 0
    assert trials(results) == trials(whole[1])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+psycopg://nobody@127.0.0.1:1/trials", "--storage 127.0.0.1:1: the database does not answer"),
        ("sqlite:////does/not/exist/trials.db", "the database cannot be used"),
        ("ftp://somewhere", "expected sqlite:///FILE or postgresql"),
        ("postgresql://h:port/x", "not the address of a database"),
    ],
)
def test_a_storage_that_does_not_answer_is_one_line(tmp_path, capsys, url, message):
    assert tune(write(tmp_path), new_results(tmp_path / "results"), "--storage", url) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "results" / "runs").exists()


def test_a_database_by_url_gives_the_same_trials_as_the_journal(whole, tmp_path):
    results = new_results(tmp_path / "results")
    assert tune(write(tmp_path), results, "--storage", f"sqlite:///{tmp_path / 'trials.db'}") == 0
    assert trials(results) == trials(whole[1])


def test_a_file_that_is_no_journal_is_refused(tmp_path, capsys):
    results = new_results(tmp_path / "results")
    journal = results / "tuning" / "search" / "optuna.journal"
    journal.parent.mkdir(parents=True)
    journal.write_text("something else\nentirely\n")
    assert tune(write(tmp_path), results) == 2
    assert "optuna.journal: not a journal of trials" in capsys.readouterr().err
    assert journal.read_text() == "something else\nentirely\n"


@pytest.mark.parametrize("text", ["garbage", "garbage\n", '{"op_code": 99}\n', '{"op_code": 0, "wor'])
def test_whatever_is_in_the_journal_there_is_one_line_or_a_search(whole, tmp_path, capsys, text):
    results = new_results(tmp_path / "results")
    journal = results / "tuning" / "search" / "optuna.journal"
    journal.parent.mkdir(parents=True)
    journal.write_text(text)
    if text.startswith('{"op_code": 0'):  # half of a first line: nothing was told yet
        assert tune(write(tmp_path), results) == 0
        assert trials(results) == trials(whole[1])
        return
    assert tune(write(tmp_path), results) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "not a journal of trials" in error
    assert journal.read_text() == text


def test_a_last_line_that_is_garbage_is_refused_and_nothing_is_added(whole, tmp_path, capsys):
    import shutil

    shutil.copytree(whole[1], tmp_path / "results")
    shutil.copy(new_results(tmp_path / "store") / "mlflow.db", tmp_path / "results" / "mlflow.db")
    journal = tmp_path / "results" / "tuning" / "search" / "optuna.journal"
    journal.write_text(journal.read_text() + "garbage\n")
    before = journal.read_bytes()
    assert tune(write(tmp_path), tmp_path / "results") == 2
    assert "not a journal of trials, or damaged (line " in capsys.readouterr().err
    assert journal.read_bytes() == before


def test_what_no_trial_was_told_of_can_still_be_corrected(whole, tmp_path, capsys):
    data, results = tuning(), new_results(tmp_path / "results")
    data["stages"]["outer"]["objective"]["name"] = "pre_return"
    assert tune(write(tmp_path, data), results) == 2
    error = capsys.readouterr().err
    assert "meta-training has no curve 'pre_return'" in error
    assert "search.yaml:" in error
    assert tune(write(tmp_path), results) == 0
    assert trials(results) == trials(whole[1])


def test_both_ends_of_a_range_are_tried_on_the_study_before_anything_runs(tmp_path, capsys):
    data = tuning()
    data["stages"]["outer"]["space"]["far"] = {"low": 0.5, "high": 1.5}
    data["stages"]["outer"]["assign"]["hyperparameters.discount"] = "far"
    assert tune(write(tmp_path, data), tmp_path / "results") == 2
    assert "less than or equal to 1" in capsys.readouterr().err
    assert not (tmp_path / "results" / "tuning").exists()


def test_words_can_be_searched(tmp_path):
    data = tuning()
    data["stages"].pop("fresh")
    data["stages"]["outer"]["space"]["shape"] = {"choices": ["relu", "tanh"]}
    data["stages"]["outer"]["assign"]["hyperparameters.hidden_activation"] = "shape"
    results = new_results(tmp_path / "results")
    assert tune(write(tmp_path, data), results) == 0
    assert {row["hidden_activation"] for row in trials(results)} == {"relu", "tanh"}


def test_two_processes_on_one_database_are_told_so(tmp_path, capsys, monkeypatch):
    import optuna

    url = f"sqlite:///{tmp_path / 'trials.db'}"
    real = optuna.Study.tell

    def told_before(study, trial, *arguments, **named):
        real(study, trial, *arguments, **named)
        return real(study, trial, *arguments, **named)

    monkeypatch.setattr(optuna.Study, "tell", told_before)
    assert tune(write(tmp_path), new_results(tmp_path / "results"), "--storage", url) == 2
    assert "trial 0 has been told by someone else" in capsys.readouterr().err


def test_only_the_projects_own_tunings_go_to_its_evidence_and_only_with_their_runs(whole, tmp_path, capsys):
    path, results = whole
    assert tune(path, results, "--export") == 2
    assert "only the project's own tunings" in capsys.readouterr().err
    assert tune(path, results, "--export", str(tmp_path / "evidence")) == 0
    assert (tmp_path / "evidence" / "search.csv").exists()
    import shutil

    shutil.copytree(results, tmp_path / "results")
    shutil.copy(new_results(tmp_path / "store") / "mlflow.db", tmp_path / "results" / "mlflow.db")
    gone = trials(results)[0]["run_ids"]
    shutil.rmtree(tmp_path / "results" / "runs" / gone)
    capsys.readouterr()
    assert tune(path, tmp_path / "results", "--export", str(tmp_path / "more")) == 2
    assert "1 of the 10 runs behind the trials are not here" in capsys.readouterr().err
    assert not (tmp_path / "more" / "search.csv").exists()


def test_a_stage_that_failed_leaves_its_trials_to_read(tmp_path, monkeypatch):
    nan = {"post_update_return": float("nan")}
    monkeypatch.setattr("harness.runner.meta_iteration", breaking("maml", lambda metrics: metrics | nan))
    assert tune(write(tmp_path), new_results(tmp_path / "results")) == 2
    assert {row["state"] for row in trials(tmp_path / "results")} == {"fail"}


def test_a_dashboard_over_a_database_that_does_not_answer_is_one_line(tmp_path, capsys):
    assert cli.main(["tune-ui", str(write(tmp_path)), "--storage", "sqlite:////does/not/exist/trials.db"]) == 2
    assert "the database cannot be used" in capsys.readouterr().err


def test_a_dashboard_without_trials_says_how_to_make_them(tmp_path, capsys):
    path = write(tmp_path)
    assert cli.main(["tune-ui", str(path), "--results", str(tmp_path)]) == 2
    assert f"`metarepro tune {path}` makes them" in capsys.readouterr().err


def test_a_setting_of_a_grid_can_be_tuned(tmp_path):
    study = tiny()
    study.pop("setting")
    study["grid"] = {
        "near": {"columns": {"range": 0.5}, "settings": {"goal_range": 0.5}},
        "far": {"columns": {"range": 0.9}, "settings": {"goal_range": 0.9}},
    }
    data = tuning() | {"setting": "far"}
    data["stages"].pop("fresh")
    data["stages"]["outer"]["trials"] = 2
    results = new_results(tmp_path / "results")
    assert tune(write(tmp_path, data, study), results) == 0
    for row in trials(results):
        spec = json.loads(RunDirectory.of(results, row["run_ids"]).spec.read_text())
        assert spec["suite"]["settings"]["goal_range"] == 0.9

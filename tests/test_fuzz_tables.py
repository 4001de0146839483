"""Whatever happens to the trials of a search and to evidence files: they are read, or refused in one line."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest

import tests.test_fuzz_inputs
import tests.test_fuzz_stores  # noqa: F401
from harness import cli
from harness.composition import EVIDENCE_FOLDER, REGISTRIES
from harness.tuning.plan import Tuning
from harness.tuning.search import Stage
from harness.tuning.storage import open_storage
from harness.tuning.table import table
from tests.harness_fixtures import new_results
from tests.mutations import DAMAGES, DECLARED, RAN, Damage, fuzzed, no_hang, read_or_refused
from tests.test_tuning import tune, write


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tuning, Path, str]:
    """A tuning that is whole, its results, and the table of its trials."""
    folder = tmp_path_factory.mktemp("tuned")
    path, results = write(folder), new_results(folder / "results")
    assert tune(path, results) == 0
    tuning = Tuning(path, "paper", REGISTRIES)
    return tuning, results, trials(tuning, results, results / "tuning" / "search")


def trials(tuning: Tuning, results: Path, folder: Path) -> str:
    """Carry a tuning on whose runs are all there; a run that is not would be of another search."""
    found: dict[str, Any] = {}
    stages = []
    with open_storage(folder, None) as storage:
        for name, entry in tuning.file.stages.items():
            before = {place: value for one in entry.after for place, value in found[one].items()}
            stage = Stage(tuning, name, before, storage, results, lambda runs: None)
            assert list(stage.search())[-1] == entry.trials
            stages.append(stage)
            found[name] = stage.best().assigned
        return table(tuning, stages, results)


@fuzzed(40, damage=DAMAGES)
def test_a_damaged_journal_of_trials_is_carried_on_or_refused(
    tuned: tuple[Tuning, Path, str], tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    tuning, results, _ = tuned
    folder = tmp_path_factory.mktemp("journal")
    path = folder / "optuna.journal"
    path.write_bytes(damage.of_bytes((results / "tuning" / "search" / path.name).read_bytes()))
    read_or_refused(lambda: trials(tuning, results, folder), "")
    shutil.rmtree(folder)


@fuzzed(8, damage=DAMAGES)
def test_a_journal_that_ends_early_is_carried_on_to_the_same_trials(
    tuned: tuple[Tuning, Path, str], tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    tuning, results, whole = tuned
    folder = tmp_path_factory.mktemp("journal")
    content = (results / "tuning" / "search" / "optuna.journal").read_bytes()
    (folder / "optuna.journal").write_bytes(content[: damage.rng().randint(0, len(content))])
    with no_hang():
        assert trials(tuning, results, folder) == whole
    shutil.rmtree(folder)


@functools.cache
def evidence(name: str) -> bytes:
    return (EVIDENCE_FOLDER / f"{name}.csv").read_bytes()


@fuzzed(30, damage=DAMAGES)
def test_a_damaged_evidence_file_is_shown_or_refused(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], damage: Damage
) -> None:
    path = tmp_path_factory.mktemp("evidence") / "evidence.csv"
    path.write_bytes(damage.of_bytes(evidence("navigation_original")))
    with no_hang():
        code = cli.main(["table", "navigation_original", "--evidence", str(path)])
    errors = capsys.readouterr().err.splitlines()
    assert (code, len(errors)) in ((0, 0), (2, 1))


def test_there_are_two_thousand_examples_and_more_and_they_run() -> None:
    assert {name.split(".")[1] for name in DECLARED} == {
        path.stem for path in Path(__file__).parent.glob("test_fuzz_*.py")
    }
    assert sum(DECLARED.values()) >= 2000
    assert {name: ran for name, ran in RAN.items() if ran < DECLARED[name]} == {}

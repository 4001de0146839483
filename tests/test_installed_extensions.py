"""Methods and suites of installed packages: found by their entry points, and harmless where they are broken."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import composition
from harness.errors import UserError
from harness.extensions import with_installed
from harness.study import read_study
from harness.worker import build
from tests.harness_fixtures import TINY, directory, metarepro, new_results, write_study
from tests.test_extensions import METHOD, SUITE, mine_of

LINE = TINY[: TINY.index("algorithm: maml")].count("\n") + 1


def install(folder: Path, name: str, points: dict[str, str], **modules: str) -> None:
    """A package as an installer would leave it."""
    metadata = folder / f"{name.replace('-', '_')}-2.1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.1\n")
    lines = [f"[{group}]\n{entries}\n" for group, entries in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two packages: one that works, and one with everything wrong."""
    good = {"metarepro.algorithms": "mine = their_method:MINE", "metarepro.suites": "island = their_suite:ISLAND"}
    install(tmp_path / "site", "good-method", good, their_method=METHOD, their_suite=SUITE)
    wrong = (
        "broken = their_broken:MINE\nmissing = their_method:NOTHING\nother = their_method:MINE\n"
        "gone = no_such_module:X\nnumber = their_method:build\nmaml = their_method:MINE"
    )
    install(tmp_path / "site", "bad-method", {"metarepro.algorithms": wrong}, their_broken="1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    yield with_installed(composition.REGISTRIES)
    for name in ("their_method", "their_suite", "their_broken"):
        sys.modules.pop(name, None)


def test_what_a_package_registers_goes_by_its_name(installed: Any, tmp_path: Path) -> None:
    text = TINY.replace("algorithm: maml", "algorithm: mine").replace("suite: navigation", "suite: island")
    path = write_study(tmp_path, text)
    run = mine_of(read_study(path, "paper", installed))
    assert (run.spec.algorithm.origin, run.spec.suite.origin) == ("good-method", "good-method")
    assert (run.spec.suite.version, run.files) == (3, ())
    suite, learner = build(run.spec, composition.REGISTRIES)
    assert (type(suite).__name__, learner.settings.factor) == ("Island", 1.0)
    done = metarepro("run", str(path), "--results", str(new_results(tmp_path / "r")), "--workers", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert directory(tmp_path / "r", run).read_manifest()["extensions"] == {"good-method": {"version": "2.1"}}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "of package bad-method (their_broken:MINE) cannot be imported: ZeroDivisionError: division by zero"),
        ("missing", "cannot be imported: AttributeError"),
        ("gone", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("other", "package bad-method (their_method:MINE) must be a harness.api.Declaration named 'other'"),
        ("number", "package bad-method (their_method:build) must be a harness.api.Declaration named 'number'"),
        ("maml", "this project (algorithms.maml:build) and by package bad-method (their_method:MINE)"),
        ("min", "unknown algorithm 'min'; did you mean 'mine'?"),
    ],
)
def test_a_package_that_is_no_good_is_one_line_when_it_is_named(
    name: str, said: str, installed: Any, tmp_path: Path
) -> None:
    path = write_study(tmp_path, TINY.replace("algorithm: maml", f"algorithm: {name}"))
    with pytest.raises(UserError) as caught:
        read_study(path, "paper", installed)
    assert str(caught.value).startswith(f"{path}:{LINE}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_that_is_installed_reaches_the_projects_own_studies(installed: Any) -> None:
    listed = metarepro("list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "navigation " in listed.stdout
    assert metarepro("status", "navigation", "--scale", "smoke").returncode == 0
    assert {point.name for point in importlib.metadata.entry_points(group="metarepro.algorithms")} >= {"mine", "maml"}

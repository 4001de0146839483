"""Whatever stands in a file that a user writes, it is read or refused in one line that names the file."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from harness import composition
from harness.audit_file import Audit
from harness.study_source import scales_of, study_files
from harness.tuning.plan import Tuning, tuning_files
from reports.papers.published_file import load_published
from tests.harness_fixtures import TINY
from tests.mutations import DAMAGES, Damage, fuzzed, read_or_refused

SUITES = composition.SUITES_FOLDER
TINY_STUDY = SUITES / "tiny" / "tiny.yaml"
"""Where the tiny study would stand among the project's."""
STUDIES = [TINY_STUDY, *study_files(SUITES).values()]
TUNINGS = list(tuning_files(SUITES).values())
PUBLISHED = sorted(SUITES.glob("*/published.yaml"), key=lambda path: path.stat().st_size)


@functools.cache
def content(path: Path) -> bytes:
    """A file of the project, or the tiny study."""
    return TINY.encode() if path == TINY_STUDY else path.read_bytes()


@functools.cache
def parsed(path: Path) -> Any:
    return yaml.safe_load(content(path))


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project's files, and beside each of them all that a file could name."""
    copied = tmp_path_factory.mktemp("project") / "suites"
    shutil.copytree(SUITES, copied, ignore=lambda folder, names: [name for name in names if name.endswith(".py")])
    for folder in [TINY_STUDY.parent, *{path.parent for path in (*STUDIES, *TUNINGS, composition.AUDIT)}]:
        beside = copied / folder.relative_to(SUITES)
        beside.mkdir(exist_ok=True)
        (beside / "parent.yaml").write_text(TINY)
        (beside / "circle.yaml").write_text("extends: mutated.yaml\n")
        (beside / "folder.yaml").mkdir(exist_ok=True)
        (beside / "loop.yaml").unlink(missing_ok=True)
        (beside / "loop.yaml").symlink_to("loop.yaml")
        if not (beside / "pipe.yaml").exists():
            os.mkfifo(beside / "pipe.yaml")
    return copied


def check(suites: Path, path: Path, mutated: bytes | str, read: Callable[[Path], Any]) -> Any:
    """Read a mutated file of the project where the file would stand; to read is neither to write nor to execute."""
    target = suites / path.relative_to(SUITES).with_name("mutated.yaml")
    target.write_bytes(mutated if isinstance(mutated, bytes) else mutated.encode("utf-8", "surrogatepass"))
    there = _listing(target.parent)
    try:
        return read_or_refused(lambda: read(target), suites)
    finally:
        assert _listing(target.parent) == there
        assert not Path("PROOF").exists()


def _listing(folder: Path) -> list[list[str]]:
    return [sorted(os.listdir(one)) for one in (folder, folder.parent, folder.parent.parent)]


def plan(path: Path, scale: str = "paper") -> None:
    """A study, its runs, and what a command that lists studies asks of it."""
    scales_of(path)
    runs = composition.read(path, scale).plan()
    assert len({run.spec.run_id for run in runs}) == len(runs)


SOME_SCALE = st.sampled_from(["paper", "paper", "smoke", "small"])


@fuzzed(500, path=st.sampled_from(STUDIES), damage=DAMAGES, scale=SOME_SCALE)
def test_a_study_with_damaged_bytes(suites: Path, path: Path, damage: Damage, scale: str) -> None:
    check(suites, path, damage.of_bytes(content(path)), functools.partial(plan, scale=scale))


@fuzzed(900, path=st.sampled_from([*STUDIES, *[TINY_STUDY] * 10]), damage=DAMAGES, scale=SOME_SCALE)
def test_a_study_with_other_values(suites: Path, path: Path, damage: Damage, scale: str) -> None:
    check(suites, path, damage.of_data(parsed(path)), functools.partial(plan, scale=scale))


def tune(path: Path) -> None:
    Tuning(path, "paper", composition.REGISTRIES)


@fuzzed(60, path=st.sampled_from(TUNINGS), damage=DAMAGES)
def test_a_tuning_with_damaged_bytes(suites: Path, path: Path, damage: Damage) -> None:
    check(suites, path, damage.of_bytes(content(path)), tune)


@fuzzed(200, path=st.sampled_from(TUNINGS), damage=DAMAGES)
def test_a_tuning_with_other_values(suites: Path, path: Path, damage: Damage) -> None:
    check(suites, path, damage.of_data(parsed(path)), tune)


@fuzzed(100, path=st.sampled_from(TUNINGS), damage=DAMAGES)
def test_a_tuning_of_a_study_with_other_values(suites: Path, path: Path, damage: Damage) -> None:
    studied = path.parent / parsed(path)["study"]
    text = damage.of_data(yaml.safe_load(studied.read_bytes()))
    with restored(suites / path.parent.relative_to(SUITES) / parsed(path)["study"]) as target:
        target.write_bytes(text.encode("utf-8", "surrogatepass"))
        check(suites, path, content(path), tune)


@contextlib.contextmanager
def restored(path: Path) -> Iterator[Path]:
    """A file that the block may change."""
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


def audit(path: Path) -> None:
    assert Audit(path, "paper", composition.REGISTRIES).cells()


@fuzzed(50, damage=DAMAGES)
def test_an_audit_with_damaged_bytes(suites: Path, damage: Damage) -> None:
    check(suites, composition.AUDIT, damage.of_bytes(content(composition.AUDIT)), audit)


@fuzzed(150, damage=DAMAGES)
def test_an_audit_with_other_values(suites: Path, damage: Damage) -> None:
    path = composition.AUDIT
    check(suites, path, damage.of_data(parsed(path)), audit)


@fuzzed(80, path=st.sampled_from(PUBLISHED[:3]), damage=DAMAGES)
def test_printed_numbers_with_damaged_bytes(suites: Path, path: Path, damage: Damage) -> None:
    check(suites, path, damage.of_bytes(content(path)), load_published)


@fuzzed(250, path=st.sampled_from([*PUBLISHED, *PUBLISHED[:2] * 10]), damage=DAMAGES)
def test_printed_numbers_with_other_values(suites: Path, path: Path, damage: Damage) -> None:
    check(suites, path, damage.of_data(parsed(path)), load_published)

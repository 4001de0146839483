"""Whatever stands in a file that a user writes, it is read or refused in one line that names the file."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from harness import cli, composition
from harness.audit_file import Audit
from harness.errors import UserError
from harness.study_source import scales_of, study_files
from harness.tuning.plan import Tuning, tuning_files
from reports.papers.published_file import load_published
from tests.harness_fixtures import TINY, load, tiny, write_study
from tests.mutations import DAMAGES, Damage, fuzzed, no_hang, read_or_refused

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
        return read_or_refused(lambda: read(target), str(suites))
    finally:
        assert _listing(target.parent) == there
        assert not Path("PROOF").exists()


def _listing(folder: Path) -> list[list[str]]:
    return [sorted(os.listdir(one)) for one in (folder, folder.parent, folder.parent.parent)]


def plan(path: Path, scale: str = "paper") -> None:
    """A study and its runs."""
    runs = composition.read(path, scale).plan()
    assert len({run.spec.run_id for run in runs}) == len(runs)


SOME_SCALE = st.sampled_from(["paper", "paper", "smoke", "small"])


@fuzzed(400, path=st.sampled_from(STUDIES), damage=DAMAGES, scale=SOME_SCALE)
def test_a_study_with_damaged_bytes(suites: Path, path: Path, damage: Damage, scale: str) -> None:
    check(suites, path, damage.of_bytes(content(path)), functools.partial(plan, scale=scale))


@fuzzed(100, path=st.sampled_from(STUDIES), damage=DAMAGES)
def test_the_scales_of_a_study_with_other_values(suites: Path, path: Path, damage: Damage) -> None:
    check(suites, path, damage.of_data(parsed(path)), scales_of)


@fuzzed(700, path=st.sampled_from([*STUDIES, *[TINY_STUDY] * 20]), damage=DAMAGES, scale=SOME_SCALE)
def test_a_study_with_other_values(suites: Path, path: Path, damage: Damage, scale: str) -> None:
    check(suites, path, damage.of_data(parsed(path)), functools.partial(plan, scale=scale))


def tune(path: Path) -> None:
    Tuning(path, "paper", composition.REGISTRIES)


@fuzzed(60, path=st.sampled_from(TUNINGS), damage=DAMAGES)
def test_a_tuning_with_damaged_bytes(suites: Path, path: Path, damage: Damage) -> None:
    check(suites, path, damage.of_bytes(content(path)), tune)


@fuzzed(120, path=st.sampled_from(TUNINGS), damage=DAMAGES)
def test_a_tuning_with_other_values(suites: Path, path: Path, damage: Damage) -> None:
    check(suites, path, damage.of_data(parsed(path)), tune)


@fuzzed(60, path=st.sampled_from(TUNINGS), damage=DAMAGES)
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


@fuzzed(100, damage=DAMAGES)
def test_an_audit_with_other_values(suites: Path, damage: Damage) -> None:
    path = composition.AUDIT
    check(suites, path, damage.of_data(parsed(path)), audit)


@fuzzed(80, path=st.sampled_from(PUBLISHED[:3]), damage=DAMAGES)
def test_printed_numbers_with_damaged_bytes(suites: Path, path: Path, damage: Damage) -> None:
    check(suites, path, damage.of_bytes(content(path)), load_published)


@fuzzed(150, path=st.sampled_from([*PUBLISHED, *PUBLISHED[:2] * 20]), damage=DAMAGES)
def test_printed_numbers_with_other_values(suites: Path, path: Path, damage: Damage) -> None:
    check(suites, path, damage.of_data(parsed(path)), load_published)


@fuzzed(40, damage=DAMAGES, command=st.sampled_from(["status", "run", "report", "export", "table", "reproduce"]))
def test_the_command_line_says_one_line_and_ends_with_code_2(
    suites: Path, capsys: pytest.CaptureFixture[str], damage: Damage, command: str
) -> None:
    path, results = suites / "tiny" / "mutated.yaml", suites.parent / "results"
    path.write_text(
        damage.of_data(parsed(TINY_STUDY)) + "\nunknown_key_of_nothing: 1\n", encoding="utf-8", errors="replace"
    )
    at = [] if command == "table" else ["--results", str(results)]
    with no_hang():
        assert cli.main([command, str(path), *at]) == 2
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line != "reading the records ..."]
    assert [line.startswith("metarepro: error: ") for line in lines] == [True]
    assert said.out == ""
    assert not results.exists()


NO_NAMES = [
    "../../x",
    "a/b",
    "..",
    ".",
    "",
    "maml\n",
    "\nmaml",
    "Maml",
    "٣",
    "m٣",
    "ｍaml",
    "mamĺ",
    "a-b",
    "-x",
    "a b",
    "x" * 65,
]
NO_NAMES += ["_x", "a\\b", "~", "$HOME", "a\0", "a:b", "%2e%2e", "ſ", "a\u202eb", "K\u0130"]


@pytest.mark.parametrize(
    "place", ["study", "setting", "methods", "evaluation.protocols", "scales", "grid", "companions"]
)
@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_could_lead_out_of_the_results_is_refused(tmp_path: Path, name: str, place: str) -> None:
    data = tiny()
    *outer, last = place.split(".")
    block = functools.reduce(lambda inner, key: inner[key], outer, data)
    if isinstance(block.get(last), dict):
        block[last] = {name: next(iter(block[last].values()))}
    elif place == "grid":
        data["grid"] = {name: {"columns": {"N": 1}}}
        del data["setting"]
    else:
        block[last] = [name] if place == "companions" else name
    path = write_study(tmp_path, data)
    with pytest.raises(UserError) as refusal:
        load(path, name if place == "scales" else "paper")
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_column_that_is_no_word_is_refused(tmp_path: Path, name: str) -> None:
    if re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,63}", name):
        return  # a column may have capitals
    data = {key: value for key, value in tiny().items() if key != "setting"}
    path = write_study(tmp_path, data | {"grid": {"one": {"columns": {name: 1}}}})
    with pytest.raises(UserError, match=re.escape(str(path))):
        load(path)


@pytest.mark.parametrize("place", ["tuning", "stages", "scales"])
@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_of_a_tuning_that_could_lead_out_of_the_results_is_refused(suites: Path, name: str, place: str) -> None:
    data = copy.deepcopy(parsed(TUNINGS[-1]))
    data[place] = {name: next(iter(data[place].values()))} if isinstance(data[place], dict) else name
    path = suites / TUNINGS[-1].relative_to(SUITES).with_name("mutated.yaml")
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(UserError) as refusal:
        Tuning(path, name if place == "scales" else "paper", composition.REGISTRIES)
    assert str(path) in str(refusal.value)


def test_an_audit_of_more_mdps_than_could_be_planned_is_refused(suites: Path) -> None:
    path = suites / composition.AUDIT.relative_to(SUITES).with_name("mutated.yaml")
    path.write_text(yaml.safe_dump(parsed(composition.AUDIT) | {"mdps": 10**9}))
    with pytest.raises(UserError, match="mdps: input should be less than or equal to 10000"):
        Audit(path, "paper", composition.REGISTRIES)

"""Study files: what is refused, in which words and at which line, and what a good one expands to."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import composition
from harness.api import Registries
from harness.errors import UserError
from harness.study import read_study
from harness.study_file import parse_seeds
from harness.study_source import find_study, scales_of, study_files
from tests.harness_fixtures import TINY, load, write_study

FAULTS = {
    name: columns
    for name, *columns in (
        row.replace("\\n", "\n").replace("\\t", "\t").split(" | ")
        for row in r"""
unknown key at the top | setting: test | setings: test | setings: test | 'setings' & did you mean 'settings'?
unknown hyperparameter | actor_inner_lr: 0.1 | actor_iner_lr: 0.1 | actor_iner_lr | did you mean 'actor_inner_lr'?
unknown in a method | {adaptation_steps: 1} | {adaptation_step: 1} | {adaptation_s | did you mean 'adaptation_steps'?
unknown key of a method | algorithm: maml | algorithm: maml\n    budgett: {} | budgett | did you mean 'budget'?
unknown setting of the suite | horizon: 4 | horizn: 4 | horizn | did you mean 'horizon'?
unknown setting in a method | {observe_goal: true} | {observe_gaol: true} | gaol | did you mean 'observe_goal'?
unknown nested setting | {source: stream, seed: 1} | {sorce: stream, seed: 1} | sorce | did you mean 'source'?
unknown key of the budget | meta_batch_size: 2 | meta_batchsize: 2 | meta_batchsize | did you mean 'meta_batch_size'?
unknown in a budget | meta_iterations: 0 | meta_iteration: 0 | meta_iteration: 0 | did you mean 'meta_iterations'?
unknown in the meta-test | meta_test_tasks: 3 | meta_test_task: 3 | meta_test_task: | did you mean 'meta_test_tasks'?
unknown key of a protocol | updates: 1\n      set | update: 1\n      set | update: 1 | did you mean 'updates'?
unknown setting of a rule | {actor_lr: 0.01, | {actor_rl: 0.01, | actor_rl | did you mean 'actor_lr'?
setting of a rule without any | rule: inner | rule: inner\n      settings: {actor_lr: 1.0} | actor_lr: 1.0 | 'actor_lr'
too many factors | rule: inner | rule: inner_scaled\n      settings: {factors: [1, 1]} | factors: | factors & found 2
no factors | rule: inner | rule: inner_scaled | own: | missing key 'factors'
misspelt factors | rule: inner | rule: inner_scaled\n      settings: {factor: [1]} | factor: | did you mean 'factors'?
negative factor | rule: inner | rule: inner_scaled\n      settings: {factors: [-0.5]} | factors: | factors.0 & -0.5
text for factors | rule: inner | rule: inner_scaled\n      settings: {factors: half} | factors | factors & 'half'
text for a number | actor_outer_lr: 0.01 | actor_outer_lr: fast | actor_outer_lr | number & 'fast'
number for text | title: A study for the tests | title: 3 | title: 3 | title & string & '3'
fraction for a count | meta_test_tasks: 3 | meta_test_tasks: 3.5 | meta_test_tasks | integer & 3.5
text for a switch | shared_noise: true | shared_noise: perhaps | shared_noise | boolean & perhaps
list for a mapping | {meta_iterations: 0} | [0] | budget: [0] | methods.random.budget & dictionary
negative rate | actor_outer_lr: 0.01 | actor_outer_lr: -0.01 | actor_outer_lr | greater than 0 & -0.01
rate that is not a number | critic_inner_lr: 0.1 | critic_inner_lr: .nan | critic_inner_lr | finite & nan
standard deviation that is not a number | outer_betas: [0.9, 0.99] | initial_log_std: .nan | initial_log_std | finite
endless plane | horizon: 4 | goal_range: .inf | goal_range | finite
endless duration | checkpoint_every: 2 | minutes: .inf | minutes | finite
zero count | meta_batch_size: 2 | meta_batch_size: 0 | meta_batch_size: 0 | greater than or equal to 1 & '0'
bad element of a list | outer_betas: [0.9, 0.99] | outer_betas: [0.9, 1.5] | outer_betas | outer_betas.1 & less than 1
bad element in a method | {adaptation_steps: 1} | {outer_betas: [0.9, 1.5]} | 1.5 | outer_betas.1 & less than 1
cosine without a period | outer_betas: [0.9, 0.99] | outer_schedule: cosine | hyperparameters: | outer_schedule_period
missing key | paper: none\n |  | study: tiny | missing key 'paper'
missing hyperparameter |   actor_inner_lr: 0.1\n |  | hyperparameters: | missing key 'actor_inner_lr'
unknown algorithm | algorithm: maml | algorithm: mamll | mamll | unknown algorithm 'mamll' & did you mean 'maml'?
unknown suite | suite: navigation | suite: navigatoin | suite: navigatoin | unknown suite & did you mean 'navigation'?
unknown rule | rule: adam | rule: adm | rule: adm | unknown rule 'adm' & did you mean 'adam'?
bad name of a method |   random: |   Random Walk: | Random Walk | match
duplicate key | seeds: 0 | seeds: 0\nsuite: navigation | suite: navigation\n\nbudget | 'suite' & twice
malformed | seeds: 0 | seeds: [0 | budget:\n  meta | not valid YAML
tab |   horizon: 4 | \thorizon: 4 | \thorizon | not valid YAML
key that is not text | seeds: 0 | ? [a, b]\n: 0 | ? [a, b] | plain text
seeds backwards | seeds: 0 | seeds: 3-1 | seeds: 3-1 | '3-1' & 0-4 or 0,2,7
bad seeds in a scale | paper: {} | paper: {seeds: 3-1} | paper: { | '3-1'
no seeds | seeds: 0 | seeds: '' | seeds: '' | ''
negative seed | seeds: 0 | seeds: -1 | seeds: -1 | '-1'
seeds as a list | seeds: 0 | seeds: [0, 1] | seeds: [0, 1] | seeds: seeds are text such as
the same run twice |   random: |   again: {algorithm: maml}\n  random: | again: | 'maml' and 'again' are the same run
scale that is no mapping | paper: {} | paper: 3 | paper: 3 | scales.paper
bad value in a scale | paper: {} | paper: {budget: {meta_batch_size: -2}} | paper: { | meta_batch_size & -2
bad rate in a scale | paper: {} | paper:\n    hyperparameters:\n      actor_inner_lr: -2.0 | -2.0 | -2.0
bad method in a scale | paper: {} | paper: {methods: {maml: {hyperparameters: {discount: 7.0}}}} | 7.0 | discount
bad element in a scale | paper: {} | paper:\n    hyperparameters: {outer_betas: [0.9, 1.5]} | [0.9, 1.5] | less than 1
unknown key in a scale | paper: {} | paper: {bugdet: {}} | bugdet | did you mean 'budget'?
no scales | scales:\n  paper: {}\n  small:\n    budget: {meta_batch_size: 1}\n | scales: {}\n | scales: {} | 'scales'
itself beside it | seeds: 0 | seeds: 0\ncompanions: [tiny] | companions: | tiny is on the page of tiny already
companion twice | seeds: 0 | seeds: 0\ncompanions: [a, a] | companions: | a is on the page of tiny already
unknown in a deviation | seeds: 0 | deviations: [{topic: a, report: b, code: c, her: d}] | her: | did you mean 'here'?
""".strip().splitlines()
    )
}
"""Name of the fault | text of the tiny study | what stands there instead | the line to be named | words to be said."""


def test_a_cosine_that_would_rise_again_is_refused(tmp_path):
    period = "outer_schedule: cosine\n  outer_schedule_period: 1"
    path = write_study(tmp_path, TINY.replace("outer_betas: [0.9, 0.99]", period))
    with pytest.raises(UserError, match=r"outer_schedule_period is 1, but there are \d+ updates: the rate would rise"):
        load(path)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_with_file_and_line_number_and_what_would_be_right(fault: str, tmp_path: Path) -> None:
    old, new, place, said = FAULTS[fault]
    text = TINY.replace(old, new, 1)
    assert text != TINY
    path = write_study(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    line = text[: text.index(place)].count("\n") + 1
    assert message.startswith(f"{path}:{line}: ")
    assert "\n" not in message
    for words in said.split(" & "):
        assert words in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "top level, found NoneType"),
        (b"# nothing\n", "top level, found NoneType"),
        (b"- study: tiny\n", "top level, found list"),
        (b"tiny\n", "top level, found str"),
        (TINY.encode().replace(b"A study", b"\xff\xfe study"), "not UTF-8"),
        (b"a: &a [*a]\n", "nested too deeply"),
        (b"a: " + b"[" * 5000, "nested too deeply"),
        (b"a: &a [x, x, x]\nb: &b [*a, *a, *a]\n" + b"c: [" + b"*b, " * 3000 + b"]\n", "more than 20000 values"),
        (b"x: !!timestamp yesterday\n", "not valid YAML"),
        (b"x: !!int ''\n", "not valid YAML"),
        (b"x: 0x" + b"f" * 5000 + b"\n", "a number of more than 50 digits"),
        (b'study: "a\\ud800b"\n', r"text with the character '\\ud800'"),
        (b'study: "a\\eb"\n', r"text with the character '\\x1b'"),
        (b"#" * 2**22 + b"\n", "more than 4194304 bytes"),
        (b"when: 2001-99-99\n", "not valid YAML"),
        (b"x: !!python/object:os.system {}\n", "not valid YAML"),
        (b"study: a\x00b\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_study_is_refused_in_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load(tmp_path / "nowhere.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(UserError, match=r"folder\.yaml: cannot be read: Is a directory"):
        load(tmp_path / "folder.yaml")


def test_an_unknown_scale_or_study_names_the_nearest(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    line = TINY[: TINY.index("scales:")].count("\n") + 1
    with pytest.raises(UserError, match=rf"{path}:{line}: unknown scale 'smal'; did you mean 'small'\?"):
        load(path, "smal")
    with pytest.raises(UserError, match=r"unknown study 'navigaton'; did you mean 'navigation'\?"):
        find_study("navigaton", composition.SUITES_FOLDER)


def test_extends_merges_key_by_key_and_replaces_lists(tmp_path: Path) -> None:
    write_study(tmp_path, TINY, "parent.yaml")
    child = write_study(
        tmp_path,
        "extends: parent.yaml\nstudy: child\nhyperparameters: {actor_hidden_sizes: [5, 5]}\n"
        "methods: {maml: {hyperparameters: {adaptation_steps: 2}}}\n",
    )
    study = load(child)
    maml, random = (run.spec.algorithm.settings for run in study.plan())
    assert study.file.study == "child"
    assert study.file.title == "A study for the tests"
    assert (maml["actor_hidden_sizes"], maml["critic_hidden_sizes"]) == ([5, 5], [3])
    assert (maml["adaptation_steps"], random["adaptation_steps"]) == (2, 0)


def test_null_drops_what_the_parent_has(tmp_path: Path) -> None:
    write_study(tmp_path, TINY, "parent.yaml")
    parent = load(tmp_path / "parent.yaml").file
    child = load(write_study(tmp_path, "extends: parent.yaml\nstudy: child\nmethods: {random: null}\n")).file
    assert "random" in parent.methods
    assert set(child.methods) == set(parent.methods) - {"random"}


def test_extends_looks_beside_the_file_that_says_it(tmp_path: Path) -> None:
    write_study(tmp_path / "far", TINY, "grandparent.yaml")
    write_study(tmp_path / "far", "extends: grandparent.yaml\nstudy: parent\n", "parent.yaml")
    assert load(write_study(tmp_path / "near", "extends: ../far/parent.yaml\ntitle: Child\n")).file.study == "parent"


def test_an_error_points_at_the_file_that_brought_the_value(tmp_path: Path) -> None:
    parent = write_study(tmp_path, TINY.replace("actor_inner_lr: 0.1", "actor_inner_lr: -1.0"), "parent.yaml")
    line = TINY[: TINY.index("actor_inner_lr")].count("\n") + 1
    with pytest.raises(UserError, match=rf"^{parent}:{line}: actor_inner_lr"):
        load(write_study(tmp_path, "extends: parent.yaml\n"))
    child = write_study(tmp_path, "extends: parent.yaml\nhyperparameters:\n  actor_inner_lr: -2.0\n")
    with pytest.raises(UserError, match=rf"^{child}:3: actor_inner_lr.*-2.0"):
        load(child)


@pytest.mark.parametrize(
    "parent", ["a.yaml", "b.yaml", "missing.yaml", '"\\0"', "3", "/dev/zero", "pipe.yaml", "loop.yaml", "x" * 300]
)
def test_extending_itself_or_nothing_is_refused(parent: str, tmp_path: Path) -> None:
    path = write_study(tmp_path, f"extends: {parent}\n{TINY}", "a.yaml")
    write_study(tmp_path, "extends: a.yaml\n", "b.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    with pytest.raises(UserError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError):
        scales_of(path)
    if parent in {"a.yaml", "b.yaml"}:
        assert "extends itself" in str(caught.value)


def test_more_runs_than_can_be_planned_are_refused(tmp_path: Path) -> None:
    path = write_study(tmp_path, TINY.replace("seeds: 0", "seeds: 0-50000"))
    line = TINY[: TINY.index("seeds: 0")].count("\n") + 1
    with pytest.raises(UserError, match=rf"^{path}:{line}: the study stands for 100002 runs; at most 100000"):
        load(path).plan()


def test_seeds_are_ranges_and_lists() -> None:
    assert parse_seeds("0-4") == [0, 1, 2, 3, 4]
    assert parse_seeds("7,0,2") == [0, 2, 7]
    assert parse_seeds(" 3 , 0-1,1-2") == [0, 1, 2, 3]
    assert parse_seeds(str(2**31 - 1)) == [2**31 - 1]


@pytest.mark.parametrize(
    "text", ["3-1", "a", "", "-1", "1-", "1--2", "0,,1", "1.5", "0 1", str(2**31), "0-9999999", "9" * 5000]
)
def test_bad_seeds_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^here: "):
        parse_seeds(text, "here")


def test_the_plan_goes_by_seed_and_then_as_the_file_is_written(tmp_path: Path) -> None:
    study = load(write_study(tmp_path, TINY.replace("seeds: 0", "seeds: 2,0")))
    assert [(run.spec.seed, run.method) for run in study.plan()] == [
        (0, "maml"), (0, "random"), (2, "maml"), (2, "random"),
    ]  # fmt: skip
    assert [run.spec.seed for run in study.plan([5])] == [5, 5]


def test_a_method_and_a_scale_differ_where_they_say_so(tmp_path: Path) -> None:
    maml, random = (run.spec for run in load(write_study(tmp_path), "small").plan())
    assert (maml.budget.meta_iterations, random.budget.meta_iterations) == (4, 0)
    assert (maml.suite.settings["observe_goal"], random.suite.settings["observe_goal"]) == (False, True)
    assert maml.budget.meta_batch_size == random.budget.meta_batch_size == 1
    assert maml.budget.episodes_per_task == 2


def test_every_study_of_the_project_reads_at_every_scale() -> None:
    assert "navigation" in study_files(composition.SUITES_FOLDER)
    for path in study_files(composition.SUITES_FOLDER).values():
        for scale in load(path).file.scales:
            assert load(path, scale).plan()


def test_versions_come_from_the_registries(tmp_path: Path) -> None:
    newer = {
        name: replace(entry, version=entry.version + 1) for name, entry in composition.REGISTRIES.algorithms.items()
    }
    registries = Registries(composition.REGISTRIES.suites, newer, composition.REGISTRIES.rules)
    path = write_study(tmp_path)
    old, new = load(path).plan()[0].spec, read_study(path, "paper", registries).plan()[0].spec
    assert new.algorithm.version == old.algorithm.version + 1


LINES = TINY.splitlines()
NASTY = [
    "",
    "~",
    "[]",
    "{}",
    "-1",
    "1e400",
    ".nan",
    "-.inf",
    "true",
    "2001-01-01",
    "'",
    '"\\0"',
    '"\\ud800"',
    "&a",
    "*a",
]
NASTY += [
    "<<: {}",
    "1" + "0" * 400,
    "0x10",
    "!!binary x",
    "!!set {a}",
    "? x",
    "- x",
    "{a: {a: {a: 1}}}",
    "\t",
    "é",
    "|",
]
NASTY += ["1: 2", "null: 3", "extends: tiny.yaml", "maml", "[[[]]]", "@", "`", "%", "---", "...", "\x85", "\ufeff"]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """The tiny study with one to three things changed in it."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.integers(0, len(lines) - 1))
        line, junk = lines[index], draw(st.sampled_from(NASTY) | st.text(max_size=6))
        kind = draw(st.sampled_from(["value", "key", "delete", "double", "indent", "insert", "cut", "line"]))
        key, _, value = line.partition(":")
        if kind == "value":
            lines[index] = f"{key}: {junk}"
        elif kind == "key":
            lines[index] = f"{key[: len(key) - len(key.lstrip())]}{junk}:{value}"
        elif kind == "delete" and len(lines) > 1:
            del lines[index]
        elif kind == "double":
            lines.insert(draw(st.integers(0, len(lines))), line)
        elif kind == "indent":
            lines[index] = " " * draw(st.integers(0, 6)) + line.lstrip()
        elif kind == "cut":
            lines[index] = line[: draw(st.integers(0, len(line)))]
        else:
            at = draw(st.integers(0, len(line)))
            lines[index] = line[:at] + junk + (line[at:] if kind == "insert" else "")
    return "\n".join(lines) + "\n"


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=mutated(), scale=st.sampled_from(["paper", "small"]))
def test_whatever_is_in_the_file_it_is_read_or_refused_in_one_line(text: str, scale: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tiny.yaml")
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        runs, message = [], str(path)
        try:
            runs = load(path, scale).plan()
        except UserError as error:
            message = str(error)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    assert len({run.spec.run_id for run in runs}) == len(runs)


def test_what_a_study_drops_is_dropped_from_all_of_its_ancestors(tmp_path):
    write_study(tmp_path, TINY, "oldest.yaml")
    write_study(tmp_path, "extends: oldest.yaml\nstudy: middle\n", "middle.yaml")
    youngest = write_study(tmp_path, "extends: middle.yaml\nstudy: young\nmethods: {random: null}\n", "youngest.yaml")
    assert {run.method for run in load(youngest).plan()} == {"maml"}

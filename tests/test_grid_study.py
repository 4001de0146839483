"""Studies over a grid of settings: what a cell changes, what is refused and at which line, and runs that repeat."""

from pathlib import Path

import pytest
import yaml

from harness.composition import REGISTRIES, SUITES_FOLDER
from harness.errors import UserError
from harness.results import RunDirectory
from harness.runner import run
from harness.study_source import study_files
from harness.worker import build
from tests.harness_fixtures import PROVENANCE, load, write_study

GRID = """\
study: little
title: A grid for the tests
paper: none

suite: bandits
settings: {constant_input: 0.0}

grid:
  few:
    columns: {N: 4, K: 2, label: few, share: 0.5, odd: false}
    settings: {arms: 2}
  many:
    columns: {N: 6, K: 3, label: many, share: 0.25, odd: true}
    settings: {arms: 3, constant_input: 1.0}
    hyperparameters: {initialisation: uniform_fan_in}
    budget: {episodes_per_task: 6}
    evaluation:
      episodes_per_task: 6
      protocols: {own: {updates: 2}}
    methods:
      maml: {hyperparameters: {inner_lr: 5.0}}
      ucb1: null

hyperparameters:
  actor_hidden_sizes: [3]
  initialisation: xavier_uniform
  discount: 0.95

methods:
  maml:
    algorithm: maml_trpo
    hyperparameters: {inner_lr: 0.5}
  gittins:
    algorithm: gittins
    hyperparameters: {candidates: [0.5, 0.9], table_pulls: 20, table_grid: 51}
    budget: {meta_iterations: 1}
    seeds: 7
  ucb1:
    algorithm: ucb1
    hyperparameters: {candidates: [0.1, 0.2]}
    budget: {meta_iterations: 1}
    seeds: 0,3
  thompson:
    algorithm: thompson
    budget: {meta_iterations: 0}
    seeds: 0

seeds: 0-1

budget:
  meta_iterations: 2
  meta_batch_size: 3
  episodes_per_task: 4

evaluation:
  seed: 1
  meta_test_tasks: 3
  episodes_per_task: 4
  shared_noise: false
  protocols:
    own:
      rule: inner
      updates: 1

scales:
  paper: {}
  small:
    budget: {meta_batch_size: 2}
    grid: {many: null}
  swapped:
    grid: {few: {settings: {arms: 9}}}
"""


def specs(study):
    """Specs by setting, method and seed."""
    return {(run.setting, run.method, run.spec.seed): run.spec for run in study.plan()}


def test_a_grid_names_its_settings_and_their_columns(tmp_path):
    assert load(write_study(tmp_path, GRID)).file.settings_and_columns() == {
        "few": {"N": 4, "K": 2, "label": "few", "share": 0.5, "odd": False},
        "many": {"N": 6, "K": 3, "label": "many", "share": 0.25, "odd": True},
    }
    lone = GRID[: GRID.index("grid:")] + "setting: only\n" + GRID[GRID.index("hyperparameters:\n  actor") :]
    lone = lone.replace("settings: {constant_input: 0.0}", "settings: {arms: 2}")
    study = load(write_study(tmp_path, lone[: lone.index("  small:")]))
    assert study.file.settings_and_columns() == {"only": {}}
    assert {run.setting for run in study.plan()} == {"only"}


def test_a_cell_changes_what_it_says_and_nothing_else(tmp_path):
    by_name = specs(load(write_study(tmp_path, GRID)))
    few, many = by_name["few", "maml", 0], by_name["many", "maml", 0]
    assert few.suite.settings == {"arms": 2, "constant_input": 0.0}
    assert many.suite.settings == {"arms": 3, "constant_input": 1.0}
    assert (few.budget.episodes_per_task, many.budget.episodes_per_task) == (4, 6)
    assert (few.evaluation.episodes_per_task, many.evaluation.episodes_per_task) == (4, 6)
    assert [spec.evaluation.protocols["own"].updates for spec in (few, many)] == [1, 2]
    changed = {name for name, value in few.algorithm.settings.items() if many.algorithm.settings[name] != value}
    assert changed == {"inner_lr", "initialisation"}
    assert [spec.algorithm.settings["inner_lr"] for spec in (few, many)] == [0.5, 5.0]
    assert few.algorithm.settings["initialisation"] == "xavier_uniform"
    for name in ("meta_iterations", "meta_batch_size", "threads"):
        assert getattr(few.budget, name) == getattr(many.budget, name)


def test_shared_hyperparameters_go_to_the_methods_that_have_them(tmp_path):
    by_name = specs(load(write_study(tmp_path, GRID)))
    assert by_name["few", "maml", 0].algorithm.settings["discount"] == 0.95
    assert by_name["few", "gittins", 7].algorithm.settings == {
        "candidates": [0.5, 0.9], "table_pulls": 20, "table_grid": 51,
    }  # fmt: skip
    assert by_name["few", "thompson", 0].algorithm.settings == {}


def test_the_plan_goes_by_seed_setting_and_method_and_methods_may_have_seeds_of_their_own(tmp_path):
    study = load(write_study(tmp_path, GRID))
    assert [(run.spec.seed, run.setting, run.method) for run in study.plan()] == [
        (0, "few", "maml"), (0, "few", "ucb1"), (0, "few", "thompson"), (0, "many", "maml"), (0, "many", "thompson"),
        (1, "few", "maml"), (1, "many", "maml"),
        (3, "few", "ucb1"),
        (7, "few", "gittins"), (7, "many", "gittins"),
    ]  # fmt: skip
    # Asked for other seeds, a method with its own keeps these.
    assert [(run.spec.seed, run.method) for run in study.plan([5]) if run.setting == "few"] == [
        (0, "ucb1"), (0, "thompson"), (3, "ucb1"), (5, "maml"), (7, "gittins"),
    ]  # fmt: skip


def test_a_scale_may_drop_and_change_cells(tmp_path):
    path = write_study(tmp_path, GRID)
    small, swapped = load(path, "small"), load(path, "swapped")
    assert set(small.file.settings_and_columns()) == {"few"}
    assert {run.spec.budget.meta_batch_size for run in small.plan()} == {2}
    assert specs(swapped)["few", "maml", 0].suite.settings["arms"] == 9
    assert specs(swapped)["many", "maml", 0] == specs(load(path))["many", "maml", 0]


def test_a_scale_may_drop_from_one_cell_what_only_the_study_has(tmp_path):
    own = (
        "  tried:\n    grid:\n      few: {methods: {gittins: null, ucb1: null}}\n      many: {methods: {maml: null}}\n"
    )
    study = load(write_study(tmp_path, GRID.rstrip("\n") + "\n" + own), "tried")
    planned = {(run.setting, run.method) for run in study.plan()}
    assert planned == {
        ("few", "maml"),
        ("few", "thompson"),
        ("many", "maml"),
        ("many", "gittins"),
        ("many", "thompson"),
    }
    # What the cell itself has of its own is taken back, as before: the study's own value holds.
    rates = {run.setting: run.spec.algorithm.settings["inner_lr"] for run in study.plan() if run.method == "maml"}
    assert rates == {"few": 0.5, "many": 0.5}


def test_a_child_may_replace_the_grid_of_its_parent(tmp_path):
    write_study(tmp_path, GRID, "parent.yaml")
    child = load(
        write_study(
            tmp_path,
            "extends: parent.yaml\nstudy: child\n"
            "grid: {few: null, many: null, other: {columns: {K: 4}, settings: {arms: 4}}}\n"
            "methods: {thompson: null, gittins: null, ucb1: null}\nscales: {small: null, swapped: null}\n",
            "child.yaml",
        )
    )
    planned, _ = child.plan()
    assert (planned.setting, planned.method, planned.spec.suite.settings["arms"]) == ("other", "maml", 4)


def test_every_cell_of_every_study_of_the_project_has_the_columns_of_the_others():
    grids = 0
    for path in study_files(SUITES_FOLDER).values():
        columns = [set(one) for one in load(path).file.settings_and_columns().values()]
        assert all(one == columns[0] for one in columns)
        grids += len(columns) > 1
    assert grids >= 3


FAULTS = {
    "unknown key in a cell": ("settings: {arms: 2}", "setings: {arms: 2}", "setings & did you mean 'settings'?"),
    "unknown setting in a cell": ("{arms: 2}", "{arm: 2}", "'arm' & did you mean 'arms'?"),
    "unknown hyperparameter in a cell": (
        "{initialisation: uniform_fan_in}",
        "{initialization: uniform_fan_in}",
        "'initialization' & did you mean 'initialisation'?",
    ),
    "unknown budget in a cell": (
        "budget: {episodes_per_task: 6}",
        "budget: {episodes: 6}",
        "unknown key 'budget.episodes' & did you mean 'episodes_per_task'?",
    ),
    "unknown key of a cell's meta-test": (
        "      episodes_per_task: 6\n",
        "      episode_per_task: 6\n",
        "'evaluation.episode_per_task' & did you mean 'episodes_per_task'?",
    ),
    "unknown key of a cell's method": (
        "{hyperparameters: {inner_lr: 5.0}}",
        "{hyperparameter: {inner_lr: 5.0}}",
        "'methods.maml.hyperparameter' & did you mean 'hyperparameters'?",
    ),
    "unknown hyperparameter of a cell's method": ("inner_lr: 5.0", "iner_lr: 5.0", "did you mean 'inner_lr'?"),
    "unknown rule in a cell": (
        "{updates: 2}",
        "{updates: 2, rule: inne}",
        "unknown rule 'inne' & did you mean 'inner'?",
    ),
    "unknown algorithm in a cell": (
        "maml: {hyperparameters: {inner_lr: 5.0}}",
        "maml: {algorithm: mamll}",
        "unknown algorithm 'mamll' & did you mean 'maml",
    ),
    "no columns": (
        "columns: {N: 6, K: 3, label: many, share: 0.25, odd: true}",
        "columns: {}",
        "grid.many.columns & at least 1",
    ),
    "column with a bad name": ("columns: {N: 6", 'columns: {"N!": 6', "grid.many.columns & match"),
    "column that is a list": ("columns: {N: 6", "columns: {N: [6]", "grid.many.columns.N & [6]"),
    "cell with a bad name": ("  many:\n", "  Many Arms:\n", "Many Arms & match"),
    "cell that is no mapping": (
        "  few:\n    columns: {N: 4, K: 2, label: few, share: 0.5, odd: false}\n    settings: {arms: 2}\n",
        "  few: 3\n",
        "grid.few & dictionary & '3'",
    ),
    "two cells of one name": ("  many:\n", "  few:\n", "'few' & twice"),
    "no arms": ("{arms: 2}", "{arms: 0}", "arms & greater than or equal to 1 & '0'"),
    "too many arms": ("{arms: 2}", "{arms: 1001}", "arms & less than or equal to 1000 & '1001'"),
    "arms that are no number": ("{arms: 2}", "{arms: two}", "arms & integer & 'two'"),
    "arms that nobody gives": ("    settings: {arms: 2}\n", "", "missing key 'arms'", "settings: {constant_input"),
    "no pulls in a cell": (
        "budget: {episodes_per_task: 6}",
        "budget: {episodes_per_task: 0}",
        "budget.episodes_per_task & greater than or equal to 1 & '0'",
    ),
    "no pulls in a cell's meta-test": (
        "      episodes_per_task: 6\n",
        "      episodes_per_task: 0\n",
        "evaluation.episodes_per_task & greater than or equal to 1 & '0'",
    ),
    "discount of 0": ("discount: 0.95", "discount: 0.0", "discount & greater than 0 & '0.0'"),
    "discount beyond 1": ("discount: 0.95", "discount: 1.5", "discount & less than or equal to 1 & '1.5'"),
    "discount of 1 for an index": ("[0.5, 0.9]", "[0.5, 1.0]", "candidates.1 & less than 1 & '1.0'"),
    "no candidates": ("[0.5, 0.9]", "[]", "candidates & at least 1"),
    "negative bonus": ("[0.1, 0.2]", "[0.1, -0.2]", "candidates.1 & greater than or equal to 0"),
    "table smaller than the pulls of a task": (
        "table_pulls: 20",
        "table_pulls: 7",
        "table_pulls is 7, but a task has up to 8 pulls",
    ),
    "table smaller than the pulls of a task in one cell": (
        "table_pulls: 20",
        "table_pulls: 17",
        "table_pulls is 17, but a task has up to 18 pulls",
    ),
    "table with one value": ("table_grid: 51", "table_grid: 1", "table_grid & greater than or equal to 2 & '1'"),
    "candidates without a meta-iteration": (
        "table_grid: 51}\n    budget: {meta_iterations: 1}",
        "table_grid: 51}\n    budget: {meta_iterations: 0}",
        "candidates & meta_iterations & 1 & not 0",
        "candidates: [0.5",
    ),
    "candidates with too many meta-iterations": (
        "table_grid: 51}\n    budget: {meta_iterations: 1}",
        "table_grid: 51}\n    budget: {meta_iterations: 5}",
        "candidates & meta_iterations & 1 & not 5",
        "candidates: [0.5",
    ),
    "one candidate that is trained": ("[0.1, 0.2]", "[0.1]", "candidates & meta_iterations & 0 & not 1"),
    "meta-iterations for what cannot learn": (
        "    budget: {meta_iterations: 0}\n",
        "",
        "nothing to train & 0 meta_iterations, not 2",
        "hyperparameters:\n  actor",
    ),
    "Gaussian key on a discrete suite": (
        "  discount: 0.95\n",
        "  discount: 0.95\n  initial_log_std: -0.5\n",
        "initial_log_std belongs to a Gaussian policy & finite set of actions",
    ),
    "Gaussian key in a cell": (
        "{initialisation: uniform_fan_in}",
        "{actor_output_activation: linear}",
        "actor_output_activation belongs to a Gaussian policy",
    ),
    "Gaussian key in a method": (
        "{inner_lr: 0.5}",
        "{inner_lr: 0.5, initial_log_std: 0.0}",
        "initial_log_std belongs to a Gaussian policy",
    ),
    "algorithm that does not fit the suite": (
        "algorithm: thompson",
        "algorithm: psrl",
        "'psrl' needs tables to plan on, suite 'bandits' has none",
    ),
    "both setting and grid": (
        "study: little\n",
        "study: little\nsetting: one\n",
        "'setting' & 'grid'",
        "study: little",
    ),
    "seeds of a method backwards": ("seeds: 0,3", "seeds: 3-0", "'3-0' & 0-4 or 0,2,7"),
    "seeds of a method as a list": ("seeds: 0,3", "seeds: [0, 3]", "methods.ucb1.seeds & seeds are text such as"),
    "a method that another already is": (
        "  thompson:\n",
        "  again: {algorithm: thompson, budget: {meta_iterations: 0}, seeds: 0}\n  thompson:\n",
        "methods 'again' and 'thompson' are the same run; leave one out",
        "thompson:\n",
    ),
    "two cells that are the same": (
        GRID[GRID.index("    columns: {N: 6") : GRID.index("    methods:\n")],
        "    columns: {N: 6, K: 3, label: many, share: 0.25, odd: true}\n    settings: {arms: 2}\n",
        "methods 'thompson' and 'thompson' are the same run (in few and many)",
        "  thompson:\n",
    ),
    "scale with an unknown key in a cell": ("{many: null}", "{many: {colums: {N: 1}}}", "did you mean 'columns'?"),
    "scale with a bad value in a cell": (
        "{many: null}",
        "{many: {settings: {arms: 0}}}",
        "arms & greater than or equal to 1",
    ),
    "scale that drops every cell": ("{many: null}", "{few: null, many: null}", "'setting' & 'grid'", "study: little"),
    "companion that is no name": (
        "study: little\n",
        "study: little\ncompanions: [A b]\n",
        "companions.0 & match & 'A b'",
        "companions",
    ),
}
"""Text of the grid, what stands there instead, words to be said, and the line to be named if not the first changed."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_with_file_and_line_number_and_what_would_be_right(fault, tmp_path):
    old, new, said, *place = FAULTS[fault]
    text = GRID.replace(old, new, 1)
    path = write_study(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load(path, "small" if fault.startswith("scale") else "paper")
    message = str(caught.value)
    changed = next(at for at, (one, other) in enumerate(zip(text, GRID, strict=False)) if one != other)
    line = text[: text.index(place[0]) if place else changed].count("\n") + 1
    assert "\n" not in message
    for words in said.split(" & "):
        assert words in message
    assert message.startswith(f"{path}:{line}: ")


def test_neither_setting_nor_grid_is_refused(tmp_path):
    data = yaml.safe_load(GRID)
    for grid in ({}, None):
        data["grid"] = grid
        if grid is None:
            del data["grid"]
        data["scales"] = {"paper": {}}
        with pytest.raises(UserError, match=r"tiny\.yaml:\d+: .*'setting'.* or 'grid'") as caught:
            load(write_study(tmp_path, data))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("algorithm", "suite", "lacking"),
    [
        ("psrl", "bandits", "tables to plan on"),
        ("psrl", "navigation", "tables to plan on"),
        *(
            (name, suite, "independent arms")
            for name in ("gittins", "ucb1", "thompson", "epsilon_greedy")
            for suite in ("navigation", "tabular_mdp")
        ),
    ],
)
def test_an_algorithm_that_does_not_fit_a_suite_is_refused_at_its_line(algorithm, suite, lacking, tmp_path):
    data = yaml.safe_load(GRID)
    data |= {"suite": suite, "settings": {"arms": 2} if suite == "bandits" else {}, "setting": "one"}
    data["methods"] = {"it": {"algorithm": algorithm, "budget": {"meta_iterations": 0}}}
    del data["grid"], data["hyperparameters"], data["scales"]["small"], data["scales"]["swapped"]
    path = write_study(tmp_path, data)
    line = path.read_text()[: path.read_text().index("algorithm:")].count("\n") + 1
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:{line}: algorithm '{algorithm}' needs {lacking}, suite '{suite}' has none"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("states", 0, "greater than or equal to 1"),
        ("actions", 0, "greater than"),
        ("horizon", 0, "greater than"),
        ("states", 1001, "less than"),
        ("arms", 3, "unknown key 'arms'"),
    ],
)
def test_a_setting_of_tabular_mdps_is_checked(key, value, said, tmp_path):
    data = yaml.safe_load(GRID)
    data |= {
        "suite": "tabular_mdp",
        "settings": {},
        "scales": {"paper": {}},
        "methods": {"maml": data["methods"]["maml"]},
    }
    data["grid"] = {"one": {"columns": {"N": 1}, "settings": {key: value}}}
    path = write_study(tmp_path, data)
    line = path.read_text()[: path.read_text().index(f"{key}: {value}")].count("\n") + 1
    with pytest.raises(UserError, match=said) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


CELLS = [("bandits", "n10_k5"), ("tabular_mdp", "n10")]
"""One cell of each study over a grid; every method of it runs at smoke size."""


def executed(study, setting, folder):
    """The bytes of returns and references of every method of a cell, seed 0."""
    found = {}
    for planned in load(SUITES_FOLDER / study / "study.yaml", "smoke").plan([0]):
        if planned.setting != setting:
            continue
        suite, algorithm = build(planned.spec, REGISTRIES)
        place = folder / planned.method
        assert run(planned.spec, suite, algorithm, dict(REGISTRIES.rules), place, PROVENANCE, 2) == "done"
        directory = RunDirectory(place)
        found[planned.method] = directory.returns.read_bytes(), directory.references.read_bytes()
    return found


@pytest.mark.parametrize(("study", "setting"), CELLS)
def test_a_cell_run_twice_leaves_the_same_bytes(study: str, setting: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("METAREPRO_CACHE", str(tmp_path / "cache"))
    first, again = (executed(study, setting, tmp_path / name) for name in ("first", "again"))
    assert set(first) >= {"maml", "fomaml", "reptile", "pretrained", "random"}
    assert first == again
    returns, references = ([one[kind] for one in first.values()] for kind in (0, 1))
    assert len(set(references)) == 1  # every method meets the same tasks
    assert len(set(returns)) > len(returns) / 2


def test_what_a_study_drops_stays_dropped_under_every_scale(tmp_path):
    base = GRID.replace("  small:", "  small:\n    methods: {gittins: {budget: {meta_batch_size: 2}}}", 1)
    write_study(tmp_path, base, "base.yaml")
    child = "extends: base.yaml\nstudy: child\ngrid: {many: null, never_there: null}\n"
    child += "methods: {gittins: null, ucb1: null}\n"
    for scale in ("paper", "small"):
        study = load(write_study(tmp_path, child, "child.yaml"), scale)
        assert {run.method for run in study.plan()} == {"maml", "thompson"}
        assert {run.setting for run in study.plan()} == {"few"}


def test_settings_with_different_columns_are_refused_before_anything_runs(tmp_path):
    path = write_study(tmp_path, GRID.replace("share: 0.25, odd: true}", "share: 0.25}"))
    with pytest.raises(UserError, match="every setting needs the same columns; many has K, N, label, share, others"):
        load(path)

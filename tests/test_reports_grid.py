"""Grid studies: evidence, both accountings and the table beside the printed numbers, with numbers made by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.errors import UserError
from reports.export import evidence, evidence_csv, own_columns, read_evidence, write_evidence
from reports.grids.bounds import above_bounds, bounds, reference_names
from reports.grids.figures import thinned
from reports.grids.tables import Grid, beside_printed, grid_of, settings_of, summary
from reports.markdown import grid_markdown, markdown
from reports.papers.published import Published
from reports.papers.published_file import load_published
from reports.study_info import MethodInfo, SettingInfo, StudyInfo
from reports.tables import number
from tests.reference.synthetic_grid import (
    BANDITS,
    CELLS,
    KNOWN,
    MDP,
    N10_K5,
    SUITES,
    Cell,
    PerTask,
    bandit_info,
    grid_records,
)


def bandit_grid(cells: Mapping[Cell, PerTask] = CELLS, published: Published = BANDITS) -> Grid:
    info = bandit_info()
    table = evidence(grid_records(cells, KNOWN), info.columns)
    return grid_of(table, info.settings, info.labels, published, "bandits")


def row_of(table: pd.DataFrame, setting: str, method: str, printed: str | None = None) -> pd.Series:
    found = table[table["setting"].eq(setting) & table["method"].eq(method)]
    found = found if printed is None else found[found["printed_as"].eq(printed)]
    assert len(found) == 1
    return found.iloc[0]


# Evidence


def test_evidence_of_a_grid_by_hand():
    table = evidence(grid_records(CELLS, KNOWN), bandit_info().columns)
    assert list(table.columns[:6]) == ["study", "suite", "setting", "N", "K", "scale"]
    after = list(table.columns[table.columns.get_loc("episodes") + 1 : table.columns.get_loc("status")])
    references = ["balanced_exploration_return", "bayes_optimal_return", "expected_optimal_return", "optimal_return"]
    assert after == [*references, "fraction_of_optimum", "sd_fraction_over_tasks"]
    row = table[table["run_id"].eq("n10_k5-maml-0") & table["step"].eq(0)].iloc[0]
    assert (row["N"], row["K"], row["mean_return"], row["optimal_return"]) == (10, 5, 0.5, 0.85)
    # per task 0.4 / 0.8 and 0.6 / 0.9: mean (1/2 + 2/3) / 2 = 7/12, not 0.5 / 0.85; SD (2/3 - 1/2) / sqrt(2)
    assert row["fraction_of_optimum"] == pytest.approx(7 / 12, abs=1e-6)
    assert row["sd_fraction_over_tasks"] == pytest.approx(1 / 6 / 2**0.5, abs=1e-6)
    assert table.loc[table["setting"].eq("n500_k5"), "bayes_optimal_return"].isna().all()


def test_a_fraction_needs_a_positive_optimum_of_every_task():
    known = {"n10_k5": {"optimal_return": [-0.1, 0.9]}, "n500_k5": {"optimal_return": [0.8, 0.9]}}
    table = evidence(grid_records(CELLS, known), bandit_info().columns)
    assert table.loc[table["setting"].eq("n10_k5"), "fraction_of_optimum"].isna().all()
    assert table.loc[table["setting"].eq("n500_k5"), "fraction_of_optimum"].notna().all()
    negative = {name: {"optimal_return": [-0.1, -0.9]} for name in ("n10_k5", "n500_k5")}
    without = evidence(grid_records(CELLS, negative), {})
    assert "fraction_of_optimum" not in without
    assert own_columns(without) == []


def test_grid_evidence_survives_its_file_with_the_types_of_its_columns(tmp_path):
    settings = {"n10_k5": {"input": 0, "biases": "zero", "inner_lr": 0.5, "deep": True}}
    settings["n500_k5"] = {"input": 1, "biases": "default", "inner_lr": 50.0, "deep": False}
    records = grid_records(CELLS, KNOWN, status={("n10_k5", "maml", 1): "diverged"})
    path = write_evidence(records, tmp_path / "bandits.csv", "metarepro export bandits", settings)
    table = evidence(records, settings)
    back = read_evidence(path)
    pd.testing.assert_frame_equal(back, table)
    assert evidence_csv(back).encode() == path.read_bytes()
    first = settings_of(back)[0]
    assert first.columns == {"input": 0, "biases": "zero", "inner_lr": 0.5, "deep": True}
    assert [type(value) for value in first.columns.values()] == [int, str, float, bool]
    assert ",n10_k5,0,zero,0.5,True,paper,maml,0,adapted,0,0.500000," in path.read_text()


def test_committed_evidence_without_a_grid_is_read_and_written_byte_for_byte():
    path = Path(__file__).parent.parent / "reports" / "evidence" / "navigation.csv"
    assert evidence_csv(read_evidence(path)).encode() == path.read_bytes()


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"n10_k5": {"N": 10}}, "setting n500_k5"),
        ({"n10_k5": {"N": 10}, "n500_k5": {"N": 500, "K": 5}}, "setting n500_k5"),
        ({"n10_k5": {"tasks": 1}, "n500_k5": {"tasks": 2}}, "'tasks' occurs twice"),
        ({"n10_k5": {"optimal_return": 1}, "n500_k5": {"optimal_return": 2}}, "'optimal_return' occurs twice"),
    ],
)
def test_columns_that_cannot_be_told_apart_are_refused(columns, says):
    with pytest.raises(UserError, match=says):
        evidence(grid_records(CELLS, KNOWN), columns)


def test_text_in_a_reference_column_is_refused(tmp_path):
    path = write_evidence(grid_records(CELLS, KNOWN), tmp_path / "bandits.csv", "x", bandit_info().columns)
    path.write_text(path.read_text().replace("0.850000", "much"))
    with pytest.raises(UserError, match=r"bandits\.csv: not an evidence file"):
        read_evidence(path)


# The two accountings


def test_both_accountings_multiply_the_mean_per_pull_by_n():
    table = beside_printed(bandit_grid())
    row = row_of(table, "n10_k5", "maml")
    # during: seeds 10 * 0.5 and 10 * 0.6; adapted: 10 * 0.70 and 10 * 0.72
    assert (row["during_mean"], row["adapted_mean"], row["seeds"]) == (pytest.approx(5.5), pytest.approx(7.1), 2)
    assert row["during_sd_over_seeds"] == pytest.approx(0.5**0.5)
    assert row["adapted_sd_over_seeds"] == pytest.approx(0.02**0.5)
    # interval over seeds: t(.975, 1) = 12.7062047; half width t * SD / sqrt(2) = 12.7062047 * 0.1
    assert row["adapted_low"] == pytest.approx(7.1 - 1.27062047)
    # across two tasks: SD of both seeds 10 * 0.2 / sqrt(2) = sqrt(2), so half width 12.7062047 * sqrt(2) / sqrt(2)
    assert row["adapted_task_high"] == pytest.approx(7.1 + 12.7062047, abs=1e-4)
    # the optimum is that of these two tasks, 10 * 0.85, and the expected one 10 * 5/6; printed 7.0 ± 0.1, adapted
    assert (row["optimum"], row["gap_during"], row["gap_adapted"]) == pytest.approx((8.5, 3.0, 1.4))
    assert (row["paper_mean"], row["paper_ci95"], row["accounting"]) == (7.0, 0.1, "adapted")
    assert (row["difference"], row["paper_gap"]) == pytest.approx((0.1, 50 / 6 - 7.0), abs=1e-5)


def test_a_printed_column_is_compared_in_its_own_accounting():
    row = row_of(beside_printed(bandit_grid()), "n10_k5", "gittins")
    assert (row["accounting"], row["paper_mean"]) == ("during", 6.6)
    assert row["difference"] == pytest.approx(10 * 0.65 - 6.6)
    assert np.isnan(row["during_low"])  # one seed: no interval over seeds
    assert np.isnan(row["predict_low"])
    # nothing to train: tasks only. SD 10 * 0.1 / sqrt(2); 1/2 + 1/1000 tasks; t(.975, 1)
    half = 12.7062047 * (0.5 * (1 / 2 + 1 / 1000)) ** 0.5
    assert (row["printed_low"], row["printed_high"]) == pytest.approx((6.5 - half, 6.5 + half), abs=1e-4)
    assert row["paper_inside"] == "yes"


def test_equal_seeds_on_other_tasks_are_held_against_the_task_spread():
    row = row_of(beside_printed(bandit_grid()), "n500_k5", "maml")
    # SD over seeds 0; over tasks 500 * 0.08 / sqrt(2) = 28.2843; v_t = 800 * (1/2 + 1/200) = 404, df 1
    half = 12.7062047 * 404**0.5
    assert (row["printed_low"], row["printed_high"]) == pytest.approx((420 - half, 420 + half), abs=1e-2)
    assert (row["predict_low"], row["predict_high"]) == pytest.approx((420, 420))


@pytest.mark.parametrize(("pull", "inside"), [(0.6645, "yes"), (0.6655, "no")])
def test_a_printed_number_stands_for_all_that_round_to_it(pull, inside):
    # Two equal tasks: no spread, so that the interval is a point, 6.645 or 6.655; 6.6 is printed with one decimal.
    cells = CELLS | {("n10_k5", "gittins", 0): ([pull, pull], [pull, pull])}
    row = row_of(beside_printed(bandit_grid(cells)), "n10_k5", "gittins")
    assert (row["printed_low"], row["printed_high"]) == pytest.approx((10 * pull, 10 * pull))
    assert row["paper_inside"] == inside


def test_records_of_another_n_than_the_columns_say_are_refused():
    table = evidence(grid_records(CELLS, KNOWN), bandit_info().columns)
    table.loc[table["setting"].eq("n10_k5"), "episodes"] = 7
    with pytest.raises(UserError, match="n10_k5 has N = 10 among its columns, but its runs have 7 episodes"):
        grid_of(table, settings_of(table), ["maml"], BANDITS, "bandits")


def test_printed_columns_that_are_not_rerun_and_dashes_keep_a_row():
    table = beside_printed(bandit_grid())
    snail = row_of(table, "n500_k5", "", "snail")
    assert (snail["paper_mean"], snail["paper_ci95"], snail["accounting"]) == (408.1, 4.9, "during")
    assert (snail["paper_origin"], snail["seeds"], snail["paper_inside"]) == ("quoted", 0, "")
    dash = row_of(table, "n500_k5", "", "maml_mishra")
    assert np.isnan(dash["paper_mean"])
    assert (dash["paper_note"], dash["accounting"]) == ("printed as a dash", "unknown")


def test_a_setting_without_runs_keeps_its_printed_rows():
    cells = {key: value for key, value in CELLS.items() if key[0] == "n10_k5"}
    row = row_of(beside_printed(bandit_grid(cells)), "n500_k5", "maml")
    assert (row["paper_mean"], row["seeds"], row["paper_inside"]) == (416.8, 0, "")
    assert np.isnan(row["during_mean"])
    assert np.isnan(row["difference"])


def mdp_grid(returns: PerTask, optima: Sequence[float]) -> Grid:
    info = StudyInfo(
        "tabular_mdp", "MDPs", "paper", (SettingInfo("n10", {"N": 10}),),
        (MethodInfo("maml", "", (0, 1), ("n10",)),), (0, 1),
    )  # fmt: skip
    known = {"n10": {"optimal_return": optima, "random_return": [10.0] * len(optima)}}
    records = grid_records({("n10", "maml", seed): returns for seed in (0, 1)}, known, study="tabular_mdp")
    return grid_of(evidence(records, info.columns), info.settings, info.labels, MDP, "tabular_mdp")


def test_the_fraction_of_the_optimum_is_taken_per_task_and_not_of_the_means():
    row = row_of(beside_printed(mdp_grid(([10.0, 10.0], [20.0, 10.0]), [20.0, 40.0])), "n10", "maml")
    # per task 10/20, 10/40 and 20/20, 10/40; the ratios of the means would be 1/3 and 1/2
    assert (row["during_mean"], row["adapted_mean"]) == pytest.approx((0.375, 0.625))
    assert (row["optimum"], row["gap_adapted"]) == pytest.approx((1.0, 0.375))
    assert (row["during_reward"], row["adapted_reward"]) == pytest.approx((10.0, 15.0))
    assert (row["paper_mean"], row["difference"]) == pytest.approx((0.745, 0.625 - 0.745))


def test_without_references_there_is_no_fraction_and_no_optimum():
    info = bandit_info()
    records = grid_records(CELLS, {})
    grid = grid_of(evidence(records, info.columns), info.settings, info.labels, BANDITS, "bandits")
    row = row_of(beside_printed(grid), "n10_k5", "maml")
    assert row["adapted_mean"] == pytest.approx(7.1)
    assert np.isnan(row["optimum"])
    assert reference_names(bounds(records.references, records.runs, grid), grid) == []
    fractions = grid_of(grid.evidence, (N10_K5,), ("maml",), MDP, "tabular_mdp")
    assert summary(fractions).empty


def test_the_ablation_stands_beside_one_printed_number():
    cells: dict[Cell, PerTask] = {
        ("a", "maml", 0): ([0.5, 0.5], [0.5, 0.5]),
        ("b", "maml", 0): ([0.5, 0.5], [0.8, 0.8]),
    }
    settings = tuple(SettingInfo(name, {"inner_lr": lr}) for name, lr in (("a", 0.5), ("b", 50.0)))
    columns = {setting.name: setting.columns for setting in settings}
    table = evidence(grid_records(cells, {}, study="bandits_ablation", episodes=100), columns)
    beside = beside_printed(grid_of(table, settings, ("maml",), BANDITS, "bandits_ablation"))
    assert list(beside["paper_mean"]) == [80.3, 80.3]
    assert list(beside["adapted_mean"]) == [50, 80]  # N = 100 from `where`


# Bounds


def test_bounds_scale_with_n_and_say_what_the_choice_of_tasks_does():
    records = grid_records(CELLS, KNOWN)
    grid = bandit_grid()
    table = bounds(records.references, records.runs, grid)
    row = table.set_index("setting").loc["n10_k5"]
    assert (row["optimal_return"], row["bayes_optimal_return"]) == pytest.approx((8.5, 6.66))
    # SD of 8 and 9 is 1 / sqrt(2); over the paper's 200 tasks: t(.975, 199) = 1.9719565
    assert row["sd_of_optimum"] == pytest.approx(0.5**0.5)
    assert row["half_width_of_tasks"] == pytest.approx(1.9719565 * 0.5**0.5 / 200**0.5)
    assert row["printed_half_width"] == 0.1  # MAML's; Reptile's is 0.2, SNAIL's 0.1 is quoted
    assert reference_names(table, grid)[0] == "optimal_return"


def test_printed_means_above_a_bound_are_listed_in_the_accounting_that_the_bound_is_about():
    records = grid_records(CELLS, KNOWN)
    grid = bandit_grid()
    above = above_bounds(bounds(records.references, records.runs, grid), grid)
    rows = {(r["setting"], r["printed_as"], r["bound"]): r for r in above.to_dict("records")}
    assert set(rows) == {
        ("n10_k5", "maml", "bayes_optimal_return"),  # 7.0 > 6.66
        ("n10_k5", "reptile", "bayes_optimal_return"),  # 7.2 > 6.66
        ("n10_k5", "reptile", "balanced_exploration_return"),  # 7.2 > 7.16
        ("n500_k5", "maml", "balanced_exploration_return"),  # 416.8 > 415
        ("n500_k5", "maml", "expected_optimal_return"),  # 416.8 > 416.67
    }
    assert rows["n10_k5", "maml", "bayes_optimal_return"]["beyond"] == "yes"  # 7.0 - 0.1 - 0.05 > 6.66
    assert rows["n10_k5", "reptile", "balanced_exploration_return"]["beyond"] == "no"
    assert rows["n500_k5", "maml", "expected_optimal_return"]["beyond"] == "no"


def test_the_normaliser_that_a_printed_random_score_implies():
    grid = mdp_grid(([10.0, 10.0], [20.0, 10.0]), [20.0, 40.0])
    known = pd.DataFrame({"run_id": "n10-maml-0", "task": [0, 1], "name": "random_return", "value": [9.0, 11.0]})
    runs = pd.DataFrame({"run_id": ["n10-maml-0"], "setting": ["n10"]})
    row = bounds(known, runs, grid).iloc[0]
    assert row["implied_normaliser"] == pytest.approx(10 / 0.482)


# Markdown


def test_the_markdown_table_of_a_grid_is_in_the_printed_accounting():
    table = evidence(grid_records(CELLS, KNOWN), bandit_info().columns)
    lines = grid_markdown(table, BANDITS, "table_1", ["maml", "gittins", "ucb1"]).splitlines()
    assert lines[0] == "| N | K | maml, adapted | gittins, during | ucb1, during |"
    assert lines[2] == "| 10 | 5 | 7.10 ± 0.14 (7.0) | 6.50 (6.6) | – |"
    assert lines[3] == "| 500 | 5 | 420.00 ± 0.00 (416.8) | – (405.8) | – |"


def test_a_printed_mean_outside_its_prediction_interval_has_a_star():
    cells: dict[Cell, PerTask] = {
        ("n10_k5", "maml", seed): ([0.5] * 4, [0.5 + 0.001 * seed + 0.002 * task for task in range(4)])
        for seed in range(3)
    }
    table = evidence(grid_records(cells, {}), {"n10_k5": N10_K5.columns})
    assert "| 10 | 5 | 5.04 ± 0.01 (7.0*) |" in grid_markdown(table, BANDITS, "table_1", ["maml"])


def test_one_entry_point_chooses_the_table():
    table = evidence(grid_records(CELLS, KNOWN), bandit_info().columns)
    assert markdown(table, BANDITS, "bandits", ["maml"]) == grid_markdown(table, BANDITS, "table_1", ["maml"])
    folder = Path(__file__).parent.parent
    navigation = load_published(SUITES / "navigation" / "published.yaml")
    committed = read_evidence(folder / "reports" / "evidence" / "navigation.csv")
    assert markdown(committed, navigation, "navigation", ["maml"]).startswith("| method | seeds | 0 updates |")
    with pytest.raises(UserError, match="no paper-scale run of study hotter"):
        markdown(table, BANDITS, "hotter", ["maml"])
    with pytest.raises(UserError, match="no paper-scale run of study bandits"):
        markdown(table.assign(scale="smoke"), BANDITS, "bandits", ["maml"])


def test_a_study_without_a_printed_table_shows_its_returns():
    table = evidence(grid_records(CELLS, KNOWN), bandit_info().columns).assign(study="hotter")
    lines = markdown(table, BANDITS, "hotter", ["maml", "absent"]).splitlines()
    place = [name for name in own_columns(table) if table[name].notna().any()]
    assert lines[0].startswith(f"| {' | '.join(place)} | method | protocol | seeds | 0 updates | 1 update |")
    first = table[table["method"].eq("maml") & table["setting"].eq(table["setting"].iloc[0])]
    own = first[first["protocol"].eq(first["protocol"].iloc[0])]
    values = [own.loc[own["step"].eq(step), "mean_return"] for step in sorted(own["step"].unique())]
    shown = " | ".join(f"{number(one.mean())} ± {number(one.std())}" for one in values)
    assert lines[2].endswith(f"| {own['seed'].nunique()} | {shown} |")
    assert not any("absent" in line for line in lines)
    seed = first["seed"].iloc[0]
    lost = table.assign(status=table["status"].mask(table.index.isin(first.index) & table["seed"].eq(seed), "diverged"))
    assert f"| {own['seed'].nunique() - 1} of {own['seed'].nunique()} |" in markdown(lost, BANDITS, "hotter", ["maml"])
    none = table.assign(status=table["status"].mask(table.index.isin(first.index), "diverged"))
    assert f"| maml | – | 0 of {own['seed'].nunique()} | – | – |" in markdown(none, BANDITS, "hotter", ["maml"])


def test_thinned_curves_are_block_means_of_every_seed():
    frame = pd.DataFrame({"iteration": [0, 1, 2, 3] * 2, "seed": [0] * 4 + [1] * 4, "value": [0, 2, 4, 6, 2, 4, 6, 8]})
    table = thinned(frame, points=2)
    assert table.to_numpy().tolist() == [[1, 3], [5, 7]]
    assert list(table.index) == [0.5, 2.5]

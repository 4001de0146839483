"""What pages show beside returns: the numbers are those computed by hand, the figures are there and the same twice."""

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from reports.artifacts import PATH_COLUMNS, no_measures, no_paths
from reports.comparisons import paired_tests
from reports.display import mean_text
from reports.exhibits import paths as paths_exhibit
from reports.exhibits.blocks import figure_data
from reports.exhibits.measures import over_seeds
from reports.export import evidence, evidence_csv, measure_columns, read_evidence, write_evidence
from reports.markdown import measures_markdown
from reports.papers.exhibits import MeasuresExhibit, PathsExhibit
from reports.papers.published import Published
from reports.papers.published_file import load_published
from reports.records import load
from suites import point_corners
from tests.reference.synthetic_corners import (
    CORNERS,
    GOALS,
    SOLVED,
    built,
    corner_records,
)
from tests.reference.synthetic_runs import write_store

FIGURE_5, NUMBERS = CORNERS.exhibits[:2]
assert isinstance(FIGURE_5, PathsExhibit)
assert isinstance(NUMBERS, MeasuresExhibit)
HALF = float(stats.t.ppf(0.975, 2)) / 3**0.5  # half-width of a t interval over three seeds, in SDs


# Evidence


def test_measures_are_the_last_columns_of_the_evidence_as_means_over_tasks():
    table = evidence(corner_records(), {})
    assert list(table.columns[-4:]) == ["code_version", "corner_regions", "final_distance", "solved"]
    row = table[table["run_id"].eq("momentum-lvc_trpo-1") & table["step"].eq(3)].iloc[0]
    # two of four tasks are solved: distances 0.5, 0.5, 3 and 3
    assert (row["solved"], row["final_distance"], row["corner_regions"]) == (0.5, 1.75, 3)


def test_evidence_with_measures_survives_its_file(tmp_path):
    path = write_evidence(corner_records(), tmp_path / "point_corners.csv", "x", {}, {"_paths": "a,b\n1,2\n"})
    back = read_evidence(path)
    pd.testing.assert_frame_equal(back, evidence(corner_records(), {}))
    assert evidence_csv(back).encode() == path.read_bytes()
    assert measure_columns(back) == ["corner_regions", "final_distance", "solved"]
    assert (tmp_path / "point_corners_paths.csv").read_text() == "a,b\n1,2\n"
    assert "point_corners_paths.csv" in (tmp_path / "point_corners.provenance.json").read_text()


def test_runs_without_measures_have_no_columns_for_them():
    records = dataclasses.replace(corner_records(), measures=no_measures())
    assert measure_columns(evidence(records, {})) == []


def test_measures_and_paths_are_read_from_the_store(tmp_path):
    wrote = corner_records({"lvc_trpo": (0.5,), "random": (0.0,)})
    got = load(write_store(tmp_path, wrote), "point_corners", "paper")
    for name, order in (("measures", ["run_id", "name", "step", "task"]), ("paths", ["run_id", *PATH_COLUMNS[:5]])):
        tables = [getattr(one, name).sort_values(order, ignore_index=True) for one in (got, wrote)]
        pd.testing.assert_frame_equal(tables[0], tables[1][tables[0].columns], check_dtype=False)
    assert evidence_csv(evidence(got, {})) == evidence_csv(evidence(wrote, {}))


# Measures


def test_measures_over_seeds_by_hand():
    frame = over_seeds(evidence(corner_records(), {}), NUMBERS, list(SOLVED))
    row = frame[frame["method"].eq("lvc_trpo") & frame["step"].eq(3)].iloc[0]
    # shares 1, 0.5 and 0.75: mean 0.75, SD 0.25; returns ten times that
    assert (row["solved_mean"], row["seeds"]) == (0.75, 3)
    assert (row["solved_low"], row["solved_high"]) == pytest.approx((0.75 - 0.25 * HALF, 0.75 + 0.25 * HALF))
    assert row["mean_return_mean"] == pytest.approx(7.5)
    assert row["final_distance_mean"] == pytest.approx(3 - 2.5 * 0.75)
    assert "reward_regions_mean" not in frame  # no run recorded them


def test_tests_between_methods_by_hand():
    tests = paired_tests(
        evidence(corner_records(), {}),
        [("lvc_trpo", "maml_trpo"), ("lvc_trpo", "promp")],
        "adapted",
        ["solved", "none"],
    )
    assert list(tests["quantity"]) == ["solved"]  # promp has no run, `none` no column
    row = tests.iloc[0]
    # differences 1, 0.25 and 0.5: mean 7/12, t against stats
    expected = stats.ttest_rel(SOLVED["lvc_trpo"], SOLVED["maml_trpo"])
    assert (row["step"], row["pairs"], row["difference"]) == (3, 3, pytest.approx(7 / 12))
    assert (row["t"], row["p"], row["p_holm"]) == pytest.approx((expected.statistic, expected.pvalue, expected.pvalue))


def test_an_interval_ends_where_no_number_is_possible():
    row = {"mean": 0.9, "low": -0.2, "high": 1.4}
    assert mean_text(row) == "0.90 [−0.20, 1.40]"
    assert mean_text(row, limits=(0.0, None)) == "0.90 [0.00, 1.40]"
    assert mean_text(row, limits=(0.0, 1.0)) == "0.90 [0.00, 1.00]"
    assert mean_text({"mean": 0.3, "low": 0.1 + 0.2, "high": 0.3}) == "0.30 [–]"
    assert mean_text({"mean": 0.3, "low": float("nan"), "high": float("nan")}) == "0.30"


def test_a_table_for_a_readme_by_hand():
    data = (
        NUMBERS.model_dump()
        | {"tested": [], "beside_claims": []}
        | {"quantities": {"solved": {"title": "solved"}, "mean_return": {"title": "return", "digits": 1}}}
    )
    table = evidence(corner_records(), {})
    lines = measures_markdown(table, MeasuresExhibit.model_validate(data), ["maml_trpo", "lvc_trpo"]).splitlines()
    assert lines == [
        "| method | seeds | solved | return |",
        "| --- | ---: | ---: | ---: |",
        # shares 0, 0.25 and 0.25: mean 1/6, SD 0.144; returns ten times that; both 0 before adaptation
        "| maml_trpo | 3 | 0.00 → 0.17 ± 0.14 | 0.0 → 1.7 ± 1.4 |",
        # shares 1, 0.5 and 0.75
        "| lvc_trpo | 3 | 0.00 → 0.75 ± 0.25 | 0.0 → 7.5 ± 2.5 |",
    ]


def test_a_table_for_a_readme_names_the_settings_of_a_grid_and_needs_two_seeds_for_an_sd():
    table = evidence(corner_records({"lvc_trpo": (0.5,)}), {"momentum": {"reward": "sparse"}})
    data = NUMBERS.model_dump() | {"tested": [], "beside_claims": []} | {"quantities": {"solved": {"title": "solved"}}}
    lines = measures_markdown(table, MeasuresExhibit.model_validate(data), ["lvc_trpo"]).splitlines()
    assert lines[0] == "| reward | method | seeds | solved |"
    assert lines[2:] == ["| sparse | lvc_trpo | 1 | 0.00 → 0.50 |"]


def test_the_family_of_tests_is_adjusted_over_contrasts_and_quantities():
    pairs = [("lvc_trpo", "maml_trpo"), ("lvc_trpo", "random")]
    tests = paired_tests(evidence(corner_records(), {}), pairs, "adapted", ["mean_return", "solved"])
    assert list(tests["a"] + tests["b"]) == ["lvc_trpomaml_trpo"] * 2 + ["lvc_trporandom"] * 2
    smallest = tests["p"].idxmin()
    assert tests.loc[smallest, "p_holm"] == pytest.approx(4 * tests["p"].min())


def test_the_page_of_the_corner_tasks(tmp_path):
    text = built(tmp_path)
    assert "0.75 [0.13, 1.00]" in text  # share solved by lvc_trpo after the last step; 1.37 is not possible
    assert "reaches beyond the possible range is shown up to its end. [–]: all seeds agree" in text
    assert "<td>0.00 [–]</td>" in text  # before adaptation
    assert "nothing to compare" not in text  # of one protocol
    assert "random (not trained)" in text
    assert "the optimal return of these tasks, as far as it is known, is 190.00 on average" in text
    assert "on the corner task MAML does not learn to identify the task" in text
    assert "share of tasks solved, after step 3: lvc_trpo 0.75 [0.13, 1.00]; maml_trpo 0.17 [0.00, 0.53]" in text
    assert "no verdict" in text
    folder = tmp_path / "first" / "point_corners"
    names = {path.name.removeprefix("point_corners-") for path in folder.iterdir()}
    assert "protocols.svg" not in names
    assert {"figure_5.svg", "corners.csv", "corners_steps.svg", "corners_tests.csv"} <= names
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    assert set(re.findall(r'href="point_corners/([^"]+)"', text)) <= {path.name for path in folder.iterdir()}


def test_a_page_without_measures_and_paths(tmp_path):
    records = dataclasses.replace(corner_records(), measures=no_measures(), paths=no_paths())
    text = built(tmp_path, records)
    assert "No finished run has recorded what this needs." in text  # no path
    assert "mean return, after step 3" not in text  # not among those beside the claims
    assert "7.5 [1.3, 13.7]" in text  # the return is there all the same


def test_a_page_of_runs_that_have_not_finished(tmp_path):
    records = corner_records()
    nothing = {name: getattr(records, name).iloc[:0] for name in ("returns", "measures", "paths", "references")}
    runs = records.runs.assign(status="running")
    text = built(tmp_path, dataclasses.replace(records, runs=runs, **nothing))
    assert text.count("No finished run has recorded what this needs.") == 2


# Paths


def test_the_goals_of_the_figure_are_the_corners_of_the_suite():
    assert tuple(FIGURE_5.goals) == point_corners.CORNERS == GOALS


def test_paths_are_of_the_first_seed_the_first_and_last_step_and_every_fourth_position():
    table = paths_exhibit.drawn(corner_records(), "adapted", ["lvc_trpo", "random"])
    assert set(table["method"]) == {"lvc_trpo", "random"}
    assert set(table["seed"]) == {0}
    assert set(table["step"]) == {0, 3}
    assert set(table["episode"]) == {0, 1}
    one = table[table["method"].eq("random") & table["step"].eq(3) & table["task"].eq(1) & table["episode"].eq(1)]
    assert list(one["time"]) == [0, 4, 8, 10]
    assert list(one["x"]) == [0, 0.72, 1.44, 1.8]  # 2 * time / 10 * 0.9
    assert list(one["y"]) == [0, -0.72, -1.44, -1.8]


def test_a_path_of_an_unfinished_run_is_not_drawn():
    records = corner_records()
    states = records.runs["status"].mask(records.runs["run_id"].eq("momentum-random-0"), "diverged")
    table = paths_exhibit.drawn(
        dataclasses.replace(records, runs=records.runs.assign(status=states)), "adapted", SOLVED
    )
    assert set(table.loc[table["method"].eq("random"), "seed"]) == {1}


def test_the_figure_of_paths_can_be_drawn_from_what_is_committed(tmp_path):
    beside = figure_data(corner_records(), CORNERS, "point_corners")
    assert list(beside) == ["_paths"]
    path = tmp_path / "paths.csv"
    path.write_text(beside["_paths"])
    labels = list(SOLVED)
    again = paths_exhibit.paths_figure(pd.read_csv(path), FIGURE_5, labels)
    drawn = paths_exhibit.drawn(corner_records(), "adapted", labels)
    assert again == paths_exhibit.paths_figure(drawn, FIGURE_5, labels)
    assert all(f">{label}</text>" in again for label in labels)


# Declarations


def test_a_claim_that_the_paper_does_not_make_is_refused():
    wrong = FIGURE_5.model_dump() | {"claims": ["corners_are_round"]}
    with pytest.raises(ValueError, match="makes no claim corners_are_round"):
        Published.model_validate(CORNERS.model_dump(exclude={"exhibits"}) | {"exhibits": [wrong]})


def test_a_quantity_that_is_tested_but_not_shown_is_refused():
    with pytest.raises(ValueError, match="speed is not among its quantities"):
        MeasuresExhibit.model_validate(NUMBERS.model_dump() | {"tested": ["speed"]})


@pytest.mark.parametrize("suite", ["navigation", "bandits", "tabular_mdp"])
def test_suites_without_exhibits_ask_for_no_further_curves(suite):
    published = load_published(Path(__file__).parent.parent / "suites" / suite / "published.yaml")
    assert published.curves_of(suite) == []

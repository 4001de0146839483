"""Exhibits of training: spread of meta-gradients and paths of parameters, with numbers computed by hand."""

import dataclasses
import re

import numpy as np
import pytest
from scipy import stats

from reports.exhibits import plane as plane_exhibit
from reports.exhibits import spread as spread_exhibit
from reports.exhibits.blocks import figure_data
from reports.papers.exhibits import PlaneExhibit, SpreadExhibit
from reports.study_info import SettingInfo
from tests.reference.synthetic_corners import CORNERS, TOY, built, curve_info, curve_records

FIGURE_4, FIGURE_6 = CORNERS.exhibits[2], TOY.exhibits[0]
assert isinstance(FIGURE_4, SpreadExhibit)
assert isinstance(FIGURE_6, PlaneExhibit)
DRAWN = (FIGURE_6.drawn or [""])[0]
MOMENTUM = SettingInfo("momentum")

# Spread of meta-gradients

# (method, seed) -> level of the spread; DiCE over LVC: 2 and 8, of which the geometric mean is 4
LEVELS = {("dice_vpg", 0): 4.0, ("dice_vpg", 1): 8.0, ("lvc_vpg", 0): 2.0, ("lvc_vpg", 1): 1.0}


def spread_records():
    curves = {}
    for (method, seed), level in LEVELS.items():
        wave = level * np.array([0.5, 1.5] * 60)
        names = ("meta_gradient_relative_sd", "meta_gradient_relative_sd_coordinates")
        curves[method, seed] = {name: list(wave) for name in names} | {
            "post_update_return": list(level * np.arange(120.0)),
            "pre_update_return": [0.0] * 120,
        }
    return curve_records("gradient_spread", "momentum", curves)


def test_blocks_of_training_keep_the_mean():
    table = spread_exhibit.thinned_curves(spread_records(), FIGURE_4, ["lvc_vpg", "dice_vpg"])
    assert len(table) == 4 * 60
    one = table[table["method"].eq("lvc_vpg") & table["seed"].eq(0)]
    assert list(one["iteration"][:2]) == [0.5, 2.5]
    assert set(one["meta_gradient_relative_sd"]) == {2.0}
    assert one["post_update_return"].mean() == pytest.approx(2 * 59.5)
    assert "pre_update_return" not in table


def test_the_ratio_of_spreads_by_hand():
    table = spread_exhibit.thinned_curves(spread_records(), FIGURE_4, ["lvc_vpg", "dice_vpg"])
    found = spread_exhibit.ratios(table, FIGURE_4)
    assert list(found["average"]) == ["means", "typical"] * 2
    half = float(stats.t.ppf(0.975, 1)) * np.log(4) / 2  # logs of 2 and 8: SD log(4)/√2, over √2 seeds
    for row in found.to_dict("records"):
        assert row["pairs"] == 2
        assert (row["mean"], row["low"], row["high"]) == pytest.approx((4, 4 * np.exp(-half), 4 * np.exp(half)))
    assert found.loc[0, ["dice_vpg", "lvc_vpg"]].to_list() == pytest.approx([6.0, 1.5])


def test_the_section_of_the_spreads_on_the_page_of_the_corner_tasks(tmp_path):
    info = curve_info("gradient_spread", MOMENTUM, {"lvc_vpg": 2, "dice_vpg": 2})
    text = built(tmp_path, companions=[(spread_records(), info)])
    assert "meta-gradient standard deviation with DiCE is on average 60% higher than with LVC" in text
    assert "dice_vpg ÷ lvc_vpg, ratio of means: 4.00 [" in text
    assert "<td>1.6</td>" in text
    folder = tmp_path / "first" / "point_corners"
    assert (folder / "gradient_spread-figure_4.svg").is_file()
    assert (folder / "gradient_spread-figure_4_ratios.csv").is_file()


def test_the_same_section_without_the_spreads(tmp_path):
    records = spread_records()
    curves = records.curves[records.curves["metric"].eq("post_update_return")]
    info = curve_info("gradient_spread", MOMENTUM, {"lvc_vpg": 2, "dice_vpg": 2})
    text = built(tmp_path, companions=[(dataclasses.replace(records, curves=curves), info)])
    assert "return after adaptation, last tenth of training" in text
    assert "Ratio of the spreads" not in text


def test_the_committed_curves_are_the_blocks():
    text = figure_data(spread_records(), CORNERS, "gradient_spread")["_curves"]
    assert text.splitlines()[0].startswith("setting,method,seed,iteration,meta_gradient_relative_sd,")
    assert len(text.splitlines()) == 1 + 4 * 60


# Paths of parameters


def toy_records(setting: str = DRAWN):
    """`one` walks straight from (0.09, 0.05) to the optimum in 50 updates and stays; `two` goes a detour of twice."""
    share = np.minimum(np.arange(1, 151) / 50, 1.0)
    straight = {"theta_0": list(0.09 * (1 - share)), "theta_1": list(0.05 * (1 - share))}
    there_and_back = {"theta_0": [0.09 + 0.01 * (i % 2) for i in range(1, 151)], "theta_1": [0.05] * 150}
    curves = {("one", seed): straight for seed in range(2)} | {("two", seed): there_and_back for seed in range(2)}
    return curve_records("point_1d", setting, curves)


def test_directions_by_hand():
    numbers = plane_exhibit.directions(toy_records(), FIGURE_6, ["one", "two"]).set_index(["method", "seed"])
    start = float(np.hypot(0.09, 0.05))
    one, two = numbers.loc[("one", 0)], numbers.loc[("two", 1)]
    assert (one["updates"], one["half_way"]) == (150, 25)
    assert (one["path_length"], one["straightness"]) == pytest.approx((start, 1.0))
    assert one["final_distance"] == pytest.approx(0, abs=1e-12)
    assert one["mean_distance"] == pytest.approx(start * sum(1 - i / 50 for i in range(1, 50)) / 150)
    assert two["path_length"] == pytest.approx(150 * 0.01)
    assert two["straightness"] == pytest.approx(0, abs=1e-12)
    assert np.isnan(two["half_way"])
    assert two["final_distance"] == pytest.approx(start)


def test_numbers_say_what_they_hold_for():
    far = {"half_way_seeds": 2, "seeds": 5, "away_seeds": 3, "updates": 150}
    far |= {"half_way_mean": 1.0, "half_way_low": -2.0, "half_way_high": 300.0}
    far |= {"straightness_mean": 0.995, "straightness_low": 0.99, "straightness_high": 1.2}
    far |= {"final_distance_mean": 20741.1234, "final_distance_low": -5.0, "final_distance_high": 50000.0}
    assert plane_exhibit.cell(far, "half_way") == "1.0 [0.0, 150.0] (2 of 5 seeds)"
    assert plane_exhibit.cell(far, "straightness") == "0.995 [0.990, 1.000] † 3 of 5"
    assert plane_exhibit.cell(far, "final_distance") == "20741 [0, 50000]"


def test_a_path_that_runs_off_is_marked_on_the_page(tmp_path):
    off = {"theta_0": [0.09 + 10.0 * i for i in range(1, 4)], "theta_1": [0.05] * 3}
    records = curve_records("point_1d", DRAWN, {("one", seed): off for seed in range(2)})
    info = curve_info("point_1d", SettingInfo(DRAWN, {"outer_lr": 0.001}), {"one": 2})
    text = built(tmp_path, records, info, TOY)
    assert "straightness 1.000 [–] † 2 of 2" in text
    assert "ends farther from the optimum than it began" in text
    assert "The first 3 updates: mean over" in text
    assert "150" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)


def test_every_third_update_of_the_settings_that_are_drawn_is_kept():
    table = plane_exhibit.drawn(toy_records(), FIGURE_6, ["one"])
    mine = table[table["seed"].eq(0)]
    assert list(mine["update"]) == list(range(0, 151, 3))
    assert tuple(mine.iloc[0][["theta_0", "theta_1"]]) == (0.09, 0.05)
    other = next(name for name in FIGURE_6.settings or () if name not in (FIGURE_6.drawn or ()))
    assert plane_exhibit.drawn(toy_records(other), FIGURE_6, ["one"]).empty
    beside = figure_data(toy_records(), TOY, "point_1d")
    assert sorted(beside) == ["_curves", "_directions"]
    assert len(beside["_directions"].splitlines()) == 1 + 4


def test_the_page_of_the_toy_task(tmp_path):
    info = curve_info("point_1d", SettingInfo(DRAWN, {"outer_lr": 0.001}), {"one": 2, "two": 2, "gone": 2})
    text = built(tmp_path, toy_records(), info, TOY)
    assert "one: updates to half of the way 25 [–], final distance 0.0000 [–], straightness 1.000 [–]" in text
    assert "<td>– (0 of 2 seeds)</td>" in text
    assert "diamonds" not in text  # nothing is printed
    assert "formulation I converges faster and more steadily than formulation II" in text
    svg = (tmp_path / "first" / "point_1d" / f"point_1d-figure_6_{DRAWN}.svg").read_text()
    assert ">one</text>" in svg
    assert ">gone</text>" not in svg

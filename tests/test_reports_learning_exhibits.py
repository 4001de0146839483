"""Exhibits of how methods learn, how long it takes and what adaptation changes: numbers computed by hand."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports.comparisons import gains
from reports.decisions import decide
from reports.exhibits import learning, measures, seconds
from reports.exhibits.blocks import blocks, figure_data
from reports.exhibits.source import Source
from reports.export import evidence, write_evidence
from reports.grids.tables import grid_of, scores
from reports.papers.checks import Claim
from reports.papers.exhibits import LearningExhibit, MeasuresExhibit, SecondsExhibit
from reports.papers.published import Published
from reports.papers.published_file import load_published
from reports.quantities import of_evidence, of_records
from reports.study_info import MethodInfo, SettingInfo, StudyInfo
from tests.reference.synthetic_corners import built, curve_records

LOCOMOTION = load_published(Path(__file__).parent.parent / "suites" / "locomotion" / "published.yaml")
KINDS = {exhibit.id: exhibit for exhibit in LOCOMOTION.exhibits}
CURVES, SECONDS, UPDATES = KINDS["figures_2_and_7"], KINDS["figure_8"], KINDS["updates"]
assert isinstance(CURVES, LearningExhibit)
assert isinstance(SECONDS, SecondsExhibit)
assert isinstance(UPDATES, MeasuresExhibit)
CHEETAH, HOPPER = (
    SettingInfo("half_cheetah_fwd_back", {"body": "half_cheetah"}),
    SettingInfo("hopper", {"body": "hopper"}),
)
LENGTHS = [10.0, 10.0, 30.0, 50.0]
SPENT = {"sampling": 8.0, "adaptation": 2.0, "outer": 6.0, "meta_test": 100.0}


def info(methods=("promp", "maml_trpo", "random"), settings=(CHEETAH, HOPPER), seeds=2, name="locomotion"):
    made = tuple(MethodInfo(m, f"what {m} does", tuple(range(seeds)), tuple(s.name for s in settings)) for m in methods)
    return StudyInfo(name, "Locomotion", "paper", tuple(settings), made, tuple(range(seeds)))


def records(setting=CHEETAH):
    """ProMP gains twice what MAML does; seed 1 has 10 more than seed 0. MAML took twice as long."""
    curves = {}
    for seed in range(2):
        for method, slope in (("promp", 2.0), ("maml_trpo", 1.0)):
            after = [10.0 * seed + slope * i for i in range(4)]
            curves[method, seed] = {
                "post_update_return": after,
                "pre_update_return": [one - 1 for one in after],
                "post_update_length": LENGTHS,
            }
    made = curve_records("locomotion", setting.name, curves)
    told = [
        {
            "environment_steps": 4_000_000,
            "seconds": {name: spent * (2 if method == "maml_trpo" else 1) for name, spent in SPENT.items()},
            "cpu": "a processor", "wall_clock_s": 100.0, "cpu_s": 40.0,
        }
        for method in made.runs["method"]
    ]  # fmt: skip
    return dataclasses.replace(made, runs=made.runs.assign(manifest=told))


def both():
    first, second = records(CHEETAH), records(HOPPER)
    parts = {name: [getattr(one, name) for one in (first, second)] for name in ("runs", "returns", "curves")}
    return dataclasses.replace(first, **{name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()})


# Learning curves


def test_environment_steps_end_where_the_run_does_and_follow_the_lengths_of_episodes():
    table = learning.drawn(records(), CURVES, ["promp", "maml_trpo"])
    one = table[table["method"].eq("promp") & table["seed"].eq(0)]
    assert list(one["environment_steps"]) == [400_000, 800_000, 2_000_000, 4_000_000]
    assert list(one["post_update_return"]) == [0, 2, 4, 6]


def test_where_no_lengths_were_recorded_every_iteration_counts_the_same():
    made = records()
    curves = made.curves[made.curves["metric"].ne("post_update_length")]
    table = learning.drawn(dataclasses.replace(made, curves=curves), CURVES, ["promp"])
    assert list(table["environment_steps"][:4]) == [1e6, 2e6, 3e6, 4e6]


def test_a_run_that_counted_no_steps_is_in_the_table_and_not_in_the_figure():
    made = records()
    bare = dataclasses.replace(made, runs=made.runs.assign(manifest=[{}] * len(made.runs)))
    table = learning.drawn(bare, CURVES, ["promp"])
    assert table["environment_steps"].isna().all()
    rows = learning.outcomes(table, CURVES, ["promp"], [CHEETAH.name])
    assert rows.loc[0, "all_mean"] == 8.0
    assert "d=" in learning.figure(table, CURVES, ["promp"], {CHEETAH.name: "one"})


def test_outcomes_by_hand():
    rows = learning.outcomes(
        learning.drawn(records(), CURVES, ["promp", "maml_trpo"]), CURVES, ["promp", "maml_trpo"], [CHEETAH.name]
    ).set_index("method")
    half = float(stats.t.ppf(0.975, 1)) * 5  # two seeds that differ by 10
    assert rows.loc["promp", ["all_mean", "all_low", "last_mean", "before_mean"]].to_list() == pytest.approx(
        [8, 8 - half, 11, 10]
    )
    assert rows.loc["maml_trpo", ["all_mean", "last_mean", "steps"]].to_list() == pytest.approx([6.5, 8, 4])


def test_one_part_has_all_settings_beside_each_other(tmp_path):
    text = built(tmp_path, both(), info(), LOCOMOTION)
    folder = tmp_path / "first" / "locomotion"
    svg = (folder / "locomotion-figures_2_and_7.svg").read_text()
    assert "body = half_cheetah" in svg
    assert "body = hopper" in svg
    frame = pd.read_csv(folder / "locomotion-figures_2_and_7_outcome.csv")
    assert list(frame["setting"]) == [CHEETAH.name] * 2 + [HOPPER.name] * 2
    assert "body = hopper, return after adaptation, last tenth of training: promp 11.0 [" in text
    assert len(re.findall("The physics is not the papers’", text)) == len(LOCOMOTION.exhibits_of("locomotion"))


def test_methods_and_settings_that_did_not_train_are_left_out():
    made = blocks_of(both(), info())
    (part,) = made["figures_2_and_7"]
    assert "random" not in str(part.tables)
    assert made["figure_3"] == []


def blocks_of(made, told):
    from reports.attachments import Attachments

    found = blocks(Attachments(), made, evidence(made, told.columns), told, LOCOMOTION)
    return {one["exhibit"].id: [part["part"] for part in one["parts"]] for one in found}


# Seconds


def test_seconds_by_hand():
    rows = seconds.seconds(records(), ["promp", "maml_trpo"]).set_index(["method", "seed"])
    names = ["sampling", "adaptation", "outer", "seconds_per_iteration", "seconds_of_updates", "iterations"]
    assert rows.loc[("promp", 0), names].to_list() == [2.0, 0.5, 1.5, 4.0, 2.0, 4]
    assert rows.loc[("maml_trpo", 1), "seconds_per_iteration"] == 8.0
    frame = seconds.over_seeds(rows.reset_index(), ["promp", "maml_trpo"], [CHEETAH.name]).set_index("method")
    assert frame.loc["promp", ["total_mean", "rate", "seeds"]].to_list() == [4.0, 250_000.0, 2]


def test_a_training_that_was_taken_over_has_no_time_of_its_own():
    made = records()
    told = [
        one | {"training_of": "another"} if seed else one
        for one, seed in zip(*made.runs[["manifest", "seed"]].T.values, strict=True)
    ]
    rows = seconds.seconds(dataclasses.replace(made, runs=made.runs.assign(manifest=told)), ["promp", "maml_trpo"])
    assert set(rows["seed"]) == {0}


def test_the_page_says_on_what_machine_and_that_it_was_shared(tmp_path):
    text = built(tmp_path, both(), info(), LOCOMOTION)
    assert "measured on a processor, which runs shared with each other" in text
    assert "on average a run had 40 % of a processor" in text


# Numbers for claims, from records and from committed evidence


def test_records_and_committed_evidence_give_the_same_numbers(tmp_path):
    made, told = both(), info()
    path = write_evidence(
        made, tmp_path / "locomotion.csv", "x", told.columns, figure_data(made, LOCOMOTION, "locomotion")
    )
    ours, theirs = of_records(made, told, LOCOMOTION), of_evidence(path, told, LOCOMOTION)
    for name, expected in (
        ("post_update_return_all", [3.0, 13.0]),
        ("post_update_return_last", [6.0, 16.0]),
        ("seconds_per_iteration", [4.0, 4.0]),
        ("seconds_of_updates", [2.0, 2.0]),
    ):
        for numbers in (ours, theirs):
            found = numbers.of("promp", HOPPER.name, name, "", 0)
            assert found["value"].to_list() == pytest.approx(expected)


def test_two_exhibits_that_share_a_file_do_not_share_methods(tmp_path):
    made, told = records(), info(settings=(CHEETAH,))
    path = write_evidence(made, tmp_path / "l.csv", "x", told.columns, figure_data(made, LOCOMOTION, "locomotion"))
    numbers = of_evidence(path, told, LOCOMOTION)
    once = numbers.table[numbers.table["name"].eq("post_update_return_all")]
    assert not once.duplicated(["setting", "method", "seed"]).any()
    assert len(once) == 4


# What adaptation changes


def steps_frame(values, protocol="adapted", method="maml"):
    """Evidence rows: seed -> a return per step."""
    rows = [
        {
            "study": "finn2017_locomotion", "suite": "locomotion", "setting": "half_cheetah_direction",
            "scale": "paper",
            "method": method, "seed": seed, "protocol": protocol, "step": step, "mean_return": value,
            "sd_over_tasks": 1.0, "tasks": 4, "episodes": 2, "status": "done", "run_id": f"{method}{seed}",
            "code_version": "x",
        }
        for seed, steps in enumerate(values)
        for step, value in enumerate(steps)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_gains_by_hand():
    table = pd.concat([steps_frame([[0, 9, 10], [1, 5, 13], [2, 0, 8]]), steps_frame([[5.0]], "told", "oracle")])
    found = gains(table, ["maml", "oracle"], "adapted", ["mean_return", "not_recorded"])
    assert len(found) == 1
    row = found.iloc[0]
    changes = np.array([10, 12, 6])
    assert (row["step"], row["pairs"], row["before"]) == (2, 3, 1)
    assert row["difference"] == pytest.approx(changes.mean())
    assert row["p"] == pytest.approx(stats.ttest_1samp(changes, 0).pvalue)


def test_an_oracle_that_is_measured_in_another_protocol_stands_beside_the_others():
    table = pd.concat([steps_frame([[0, 9], [1, 5]]), steps_frame([[50.0], [60.0]], "told", "oracle")])
    frame = measures.over_seeds(table, UPDATES, ["maml", "oracle"])
    assert list(zip(frame["method"], frame["step"], frame["mean_return_mean"], strict=True)) == [
        ("maml", 0, 0.5), ("maml", 1, 7.0), ("oracle", 0, 55.0),
    ]  # fmt: skip


def test_printed_means_stand_beside_ours_step_by_step():
    from reports.attachments import Attachments

    table = steps_frame([[0, 9, 10, 11], [1, 5, 13, 14]])
    table = pd.concat([table, steps_frame([[50.0], [60.0]], "told", "oracle")])
    setting = SettingInfo("half_cheetah_direction", {"body": "half_cheetah"})
    told = info(("maml", "oracle"), (setting,), name="finn2017_locomotion")
    made = measures.part(Attachments(), UPDATES, Source(records(), table, told, setting, {}, "x", LOCOMOTION))
    groups = dict(made.tables[0]["groups"])
    assert [column.head for column in made.tables[0]["columns"]][-2].startswith("authors’ result files")
    printed = LOCOMOTION.results("finn2017_maml", "raw_cheetah_dir")
    for method, steps in (("maml", 4), ("oracle", 1)):
        rows = [printed.row(method, step) for step in range(steps)]
        assert [cells[-2] for cells in groups[method]] == [f"{row.mean:.1f}".replace("-", "−") for row in rows]
    assert made.tables[1]["title"].startswith("What adaptation changes: after step 3")


def test_an_exhibit_that_names_an_unknown_table_or_no_return_is_refused():
    data = LOCOMOTION.model_dump()
    exhibit = next(one for one in data["exhibits"] if one["id"] == "updates")
    exhibit["printed"] = {"half_cheetah_direction": "raw_cheeta_dir"}
    with pytest.raises(ValueError, match="no results table raw_cheeta_dir of paper finn2017_maml"):
        Published.model_validate(data)
    exhibit |= {"printed": {"a": "raw_cheetah_dir"}, "quantities": {"episode_length": {"title": "x"}}, "tested": []}
    with pytest.raises(ValueError, match="which it does not show"):
        MeasuresExhibit.model_validate(exhibit)


# The shape of a jump


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([[0, 95, 96, 100], [0, 97, 90, 101], [1, 96, 99, 99]], "DIRECTION_REPLICATED"),
        ([[0, 50, 70, 100], [0, 52, 90, 101], [1, 49, 99, 99]], "REVERSED"),
        ([[0, 95, 96, 100], [0, 70, 90, 101], [1, 96, 99, 99]], "INCONCLUSIVE"),
    ],
)
def test_a_jump_is_nearly_all_of_the_gain(values, verdict):
    from reports.claims import drafts

    data = {"schema_version": 1, "papers": [{"id": "p", "short": "P", "citation": "P"}]}
    check = {"kind": "jump", "study": "s", "protocol": "adapted", "method": "maml", "steps": [0, 1, 3], "share": 0.9}
    claim = Claim.model_validate({"id": "p.x", "paper": "p", "statement": "x", "where": "y", "check": check})
    published = Published.model_validate(data | {"claims": [claim.model_dump(exclude_none=True)]})
    setting = SettingInfo("half_cheetah_direction")
    told = info(("maml",), (setting,), seeds=3, name="s")
    from reports.quantities import _numbers

    numbers = _numbers(steps_frame(values), told, published, [])
    (found,) = decide(drafts(published, {("s", "paper"): numbers}))
    assert found.verdict.name == verdict
    expected = np.array([v[1] - (v[0] + 0.9 * (v[3] - v[0])) for v in values])
    assert found.rows[0].estimate.difference == pytest.approx(expected.mean())


# Settings with different numbers of updates


def test_the_adapted_policy_is_that_after_the_last_step_of_its_own_setting():
    short, long = steps_frame([[1, 2]]), steps_frame([[3, 4, 5]]).assign(setting="other")
    table = pd.concat([short, long], ignore_index=True)
    settings = (SettingInfo("half_cheetah_direction", {"body": "a"}), SettingInfo("other", {"body": "b"}))
    found = scores(grid_of(table, settings, ("maml",), LOCOMOTION, "locomotion"))
    rows = found.set_index(["setting", "accounting"])["score"]
    assert rows["half_cheetah_direction", "adapted"] == 2
    assert rows["other", "adapted"] == 5
    assert rows["other", "during"] == 3
    assert len(found) == 4


def test_a_suite_without_an_optimum_has_no_column_for_it(tmp_path):
    text = built(tmp_path, both(), info(), LOCOMOTION)
    assert "optimum of the test tasks" not in text
    assert "No run recorded what is known exactly about its test tasks." in text

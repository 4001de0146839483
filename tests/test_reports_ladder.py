"""The ladder: paired effects, shares of the gap, what is left out and said, against numbers made by hand."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
from scipy import stats

from reports.attachments import Attachments
from reports.exhibits import ladder
from reports.exhibits.source import Source
from reports.markdown import ladder_markdown
from reports.papers.exhibits import LadderExhibit
from reports.study_info import MethodInfo, SettingInfo, StudyInfo

STEP = 1
LEVELS = {  # method -> return at step 1 of seeds 0, 1, 2
    "low": [-20.0, -22.0, -24.0],
    "middle": [-15.0, -18.0, -18.0],  # effects 5, 4, 6
    "high": [-4.0, -6.0, -8.0],  # effects 11, 12, 10
}


def evidence(levels=None, status="done") -> pd.DataFrame:
    rows = []
    for method, values in (levels or LEVELS).items():
        for seed, value in enumerate(values):
            if value is None:
                continue
            for step, one in ((0, -40.0), (STEP, value)):
                for protocol in ("plain", "steps"):
                    shift = 1.0 if (protocol == "steps" and step) else 0.0
                    rows.append((method, seed, protocol, step, one + shift, 3.0, 40, status, f"{method}-{seed}"))
    names = ["method", "seed", "protocol", "step", "mean_return", "sd_over_tasks", "tasks", "status", "run_id"]
    return pd.DataFrame(rows, columns=names)


def exhibit(**changes) -> LadderExhibit:
    given = {
        "id": "ladder", "kind": "ladder", "title": "From low to high", "study": "s", "paper": "p", "step": STEP,
        "rungs": [
            {"factor": "start", "method": "low", "protocol": "plain"},
            {"factor": "first", "method": "middle", "protocol": "plain"},
            {"factor": "second", "method": "high", "protocol": "plain"},
            {"factor": "test", "method": "high", "protocol": "steps"},
        ],
        "full": {"factor": "full", "method": "high", "protocol": "steps"},
        "dropped": [
            {"factor": "second", "method": "middle", "protocol": "steps"},
            {"factor": "test", "method": "high", "protocol": "plain"},
        ],
    }  # fmt: skip
    return LadderExhibit.model_validate(given | changes)


def source(table: pd.DataFrame) -> Source:
    setting = SettingInfo("only")
    methods = tuple(MethodInfo(name, "", (0, 1, 2), ("only",)) for name in LEVELS)
    info = StudyInfo("s", "S", "paper", (setting,), methods, (0, 1, 2))
    return Source(None, table, info, setting, {}, "ladder")  # type: ignore[arg-type]


def test_effects_are_paired_by_seed_and_add_up_to_the_gap():
    up = ladder.rungs(evidence(), exhibit().rungs, STEP)
    assert list(up["factor"]) == ["start", "first", "second", "test"]
    assert list(up["effect_mean"].iloc[1:]) == pytest.approx([5.0, 11.0, 1.0])
    assert up["effect_mean"].sum() == pytest.approx(up["level_mean"].iloc[-1] - up["level_mean"].iloc[0])
    # 5, 4, 6: mean 5, SD 1, so ± t(.975, 2) / √3.
    half = stats.t.ppf(0.975, 2) / 3**0.5
    assert up["effect_low"].iloc[1] == pytest.approx(5.0 - half)
    assert up["effect_high"].iloc[1] == pytest.approx(5.0 + half)
    assert list(up["share"].iloc[1:]) == pytest.approx([5 / 17, 11 / 17, 1 / 17])
    assert list(up["return_0_mean"]) == [-40.0] * 4


def test_an_effect_that_is_the_same_on_every_seed_has_no_interval_and_says_why():
    last = ladder.rungs(evidence(), exhibit().rungs, STEP).iloc[-1]
    assert last["effect_mean"] == pytest.approx(1.0)
    assert last["before_mean"] == pytest.approx(-6.0)
    assert pd.isna(last["effect_low"])
    assert pd.isna(last["p_holm"])
    assert last["why"]


def test_holm_is_over_the_rungs_that_could_be_tested():
    up = ladder.rungs(evidence(), exhibit().rungs, STEP)
    p = up["p"].iloc[1:3].tolist()
    assert sorted(up["p_holm"].dropna()) == pytest.approx(sorted([2 * min(p), max(max(p), 2 * min(p))]))


def test_taken_out_of_the_full_set_up():
    out = ladder.dropped(evidence(), exhibit())
    assert list(out["factor"]) == ["second", "test"]
    assert list(out["effect_mean"]) == pytest.approx([11.0, 1.0])


def test_a_missing_seed_makes_fewer_pairs_and_a_rung_without_runs_is_stepped_over():
    levels = LEVELS | {"middle": [-15.0, None, -18.0]}
    up = ladder.rungs(evidence(levels), exhibit().rungs, STEP).set_index("factor")
    assert up.loc["first", "pairs"] == 2
    assert up.loc["first", "effect_mean"] == pytest.approx(5.5)
    assert up.loc["second", "pairs"] == 2
    without = {name: values for name, values in LEVELS.items() if name != "middle"}
    up = ladder.rungs(evidence(without), exhibit().rungs, STEP)
    assert list(up["factor"]) == ["start", "second", "test"]
    assert up["effect_mean"].iloc[1] == pytest.approx(16.0)


def test_with_other_seeds_bars_and_shares_are_of_the_pairs():
    levels = LEVELS | {"low": [-20.0, -22.0, -24.0, -80.0]}  # a seed that no other rung has
    up = ladder.rungs(evidence(levels), exhibit().rungs, STEP).set_index("factor")
    assert up.loc["start", "level_mean"] == pytest.approx(-36.5)
    assert up.loc["first", ["before_mean", "effect_mean"]].tolist() == pytest.approx([-22.0, 5.0])
    assert up["share"].sum() == pytest.approx(1.0)


def test_what_a_test_needs_is_said():
    up = ladder.rungs(evidence(), exhibit().rungs, STEP)
    needed = stats.t.ppf(1 - 0.0125, 2)
    assert f"With 3 pairs and 2 tests the most certain effect has to be {needed:.1f} times its" in str(
        ladder.sentences(exhibit(), up, ({}, {}))
    )


def test_runs_without_numbers_are_stated():
    table = pd.concat([evidence(), evidence({"middle": [None, None, None, -1.0]}, status="diverged")])
    said = ladder.unfinished(table, exhibit())
    assert said == ["middle: seed 3 diverged; it has no part in the means."]
    assert ladder.unfinished(evidence({"low": [-1.0, -2.0]}), exhibit()) == ["Without a finished run: high, middle."]
    up = ladder.rungs(table, exhibit().rungs, STEP)
    assert list(up["seeds"]) == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        (-15.5, "nearest to the rung “first” (−17.00, 3 seeds); the last rung differs from it by 10.50"),
        (-5.2, "nearest to the rung “test” (−5.00, 3 seeds)"),
        (-13.0, "does not exclude it at: start, first, second, test."),
        (50.0, "in no rung’s 95 % prediction interval of one more seed; the last rung differs from it by −55.00"),
    ],
)
def test_whether_the_printed_end_is_reached_is_computed(printed, words):
    up = ladder.rungs(evidence(), exhibit().rungs, STEP)
    said = ladder.sentences(exhibit(), up, ({}, {STEP: printed}))
    assert words in said[-1]
    assert "from −22.00" in said[0] or "at −22.00" in said[0]


def test_the_page_has_two_figures_two_tables_and_the_same_bytes_again():
    def made() -> tuple[object, dict[str, str]]:
        files = Attachments()
        part = ladder.part(files, exhibit(), source(evidence()))
        return [table["groups"] for table in part.tables], files.contents

    first, second = made(), made()
    assert first == second
    assert sorted(first[1]) == ["ladder_dropped.svg", "ladder_rungs.csv", "ladder_waterfall.svg", "ladder_without.csv"]
    assert "+11.0" in first[1]["ladder_waterfall.svg"]


def test_names_are_escaped_in_figures():
    wild = exhibit(rungs=[{"factor": "<b>&", "method": "low", "protocol": "plain"}, *exhibit().rungs[1:]])
    files = Attachments()
    ladder.part(files, dataclasses.replace(wild) if dataclasses.is_dataclass(wild) else wild, source(evidence()))
    assert "<b>" not in files.contents["ladder_waterfall.svg"]


def test_without_runs_there_is_nothing_and_with_one_rung_a_level():
    assert ladder.part(Attachments(), exhibit(), source(evidence({"other": [-1.0]}))).figures == []
    part = ladder.part(Attachments(), exhibit(), source(evidence({"low": [-1.0, -2.0, -3.0]})))
    assert len(part.figures) == 1


def test_a_readme_shows_effects_upwards_and_what_the_full_set_up_has_over_going_without():
    up, out = ladder_markdown(evidence(), exhibit()).split("\n\n")
    low, high = stats.t.interval(0.95, 2, loc=5, scale=1 / 3**0.5)
    effect = f"5.00 [{low:.2f}, {high:.2f}]"
    assert up.splitlines()[2] == "| start | 3 | −22.00 ± 2.00 | – | – |"
    assert up.splitlines()[3].startswith(f"| first | 3 | −17.00 ± 1.73 | {effect} |")
    assert out.splitlines()[0].startswith("| without … (from full) |")
    assert out.splitlines()[3].startswith("| test | 3 | −6.00 ± 2.00 | 1.00 |")  # the same in every seed: no interval

"""Two result stores side by side: what is the same to the last bit, what differs and where, what cannot be compared."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports.compare.numbers import (
    ONLY_A,
    RETURN,
    SAME_NAME,
    SAME_RUN,
    exact,
    over_seeds,
    run_pairs,
    short,
)  # fmt: skip
from reports.compare.page import Side, StudyPair, build
from reports.compare.tables import verdict_frame
from reports.records import Records
from reports.statistics import holm
from reports.verdicts import Judgement, Outcome, Verdict
from tests.reference.synthetic_grid import CELLS, KNOWN, bandit_info, grid_records
from tests.reference.synthetic_runs import MANIFEST, study_info, synthetic_records

SETTING = "n10_k5"


@pytest.fixture(scope="module")
def records() -> Records:
    return synthetic_records(seeds=(0, 1, 2), iterations=20)


def planted(records: Records, by: float = 0.25) -> Records:
    """One return changed: FOMAML, seed 2, protocol ulm, step 3, task 17."""
    table = records.returns.copy()
    at = table["run_id"].eq("fomaml-2") & table["protocol"].eq("ulm") & table["step"].eq(3) & table["task"].eq(17)
    assert at.sum() == 1
    table.loc[at, "mean_return"] += by
    return dataclasses.replace(records, returns=table)


def with_runs(records: Records, run_id: str, **values: object) -> Records:
    """Fields of one run changed."""
    runs = records.runs.copy()
    for name, value in values.items():
        runs.loc[runs["run_id"].eq(run_id), name] = value
    return dataclasses.replace(records, runs=runs)


def renumbered(records: Records) -> Records:
    """The same runs by another version of every method."""
    parts = {
        name: getattr(records, name).assign(run_id="new-" + getattr(records, name)["run_id"])
        for name in ("runs", "returns", "curves")
    }
    return dataclasses.replace(records, **{**parts, "runs": parts["runs"].assign(algorithm_version="2")})


def empty(records: Records) -> Records:
    parts = {name: getattr(records, name).iloc[:0] for name in ("runs", "returns", "curves")}
    return dataclasses.replace(records, **parts)


def verdict(id: str, word: Verdict, reason: str = "It holds.") -> Judgement:
    return Judgement(id, "claim", "Ulm", "MAML learns", "Table 3.3", word, Outcome.REPLICATES, reason)


def page_of(a: Side, b: Side, folder: Path) -> str:
    """The text of the page, without tags and with single spaces."""
    page = build([StudyPair(study_info(), a, b)], ("runs/a", "runs/b"), folder, command="make report COMPARE=a,b")
    html = re.sub(r"<(style|script)>.*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def by_seed(means: dict[int, float], method: str = "maml") -> Records:
    """A run per seed whose only task has this return at both steps."""
    return grid_records({(SETTING, method, seed): ([mean], [mean]) for seed, mean in means.items()}, {})


def row_of(a: dict[int, float], b: dict[int, float]) -> pd.Series:
    """Step 0 of the comparison of these means by seed."""
    return over_seeds(by_seed(a), by_seed(b), bandit_info()).iloc[0]


# To the last bit


def test_identical_stores_are_said_to_be_bit_identical_in_the_first_sentence(records, tmp_path):
    side = Side(records, [verdict("ulm.a", Verdict.EQUIVALENT)])
    text = page_of(side, side, tmp_path)
    first = "side by side Everything is bit-identical: all 18 runs of 1 study have the same numbers in A and B"
    assert first in text
    # per run 2 protocols × 4 steps × 40 tasks × 4 numbers, and 2 curves of 20 points: 18 · (1280 + 40)
    assert "Bit-identical: all 18 runs of A and B have the same numbers to the last bit (23,760 numbers), and" in text
    frame = pd.read_csv(tmp_path / "compare" / "navigation-over_seeds.csv")
    assert set(frame["words"]) == {"equal in all 3 shared seeds"}
    assert frame["p"].isna().all()
    assert frame["difference"].eq(0).all()


def test_a_planted_difference_is_found_located_and_measured(records, tmp_path):
    other = planted(records)
    pairs = run_pairs(records, other)
    values = exact(records, other, pairs)
    differing = values[values["differ"].gt(0)]
    assert len(differing) == 1
    row = differing.iloc[0]
    assert (row["quantity"], row["differ"], row["values"]) == (RETURN, 1, 320)
    assert row["largest"] == pytest.approx(0.25, rel=1e-12)
    assert row["value_b"] - row["value_a"] == row["largest"]
    assert row["where"] == "protocol ulm, step 3, task 17"
    assert pairs.loc[row["pair"], "run_id_a"] == "fomaml-2"
    text = page_of(Side(records), Side(other), tmp_path)
    assert "Of 18 runs finished in both, 1 differs." in text
    where = "fomaml, setting ulm, seed 2, protocol ulm, step 3, task 17"
    assert f"Largest difference in the return of a task: 0.250 ({where})." in text
    runs = pd.read_csv(tmp_path / "compare" / "navigation-runs.csv")
    assert list(runs.loc[runs["result"].eq("differs"), "run_id_a"]) == ["fomaml-2"]
    assert (runs["result"] == "same").sum() == 17


@pytest.mark.parametrize("by", [-3e-14, 1e-9, 1e6])
def test_a_difference_of_any_size_and_sign_is_seen(records, by):
    values = exact(records, planted(records, by), run_pairs(records, records))
    assert values["differ"].sum() == 1
    assert values["largest"].max() == pytest.approx(abs(by), rel=0.1)


def test_the_largest_of_several_differences_is_the_one_that_is_shown(records):
    table = planted(records, 0.25).returns.copy()
    table.loc[[5, 6, 7], "mean_return"] += [-0.5, 0.1, 0.3]
    other = dataclasses.replace(records, returns=table)
    row = exact(records, other, run_pairs(records, other)).dropna(subset="largest").sort_values("largest")
    assert list(row["differ"]) == [1, 3]
    assert list(row["largest"]) == pytest.approx([0.25, 0.5])
    assert row["where"].iloc[1] == "protocol ulm, step 0, task 5"


def test_curves_and_what_is_known_of_the_tasks_are_compared_as_well():
    a = grid_records(CELLS, KNOWN)
    curves, known = a.curves.copy(), a.references.copy()
    curves.loc[3, "value"] += 0.5
    known.loc[0, "value"] += 1.0
    b = dataclasses.replace(a, curves=curves, references=known)
    values = exact(a, b, run_pairs(a, b)).set_index("quantity")
    found = values[values["differ"].gt(0)]
    assert found["largest"].to_dict() == pytest.approx(
        {"training curve: pre_update_return": 0.5, f"known exactly: {known['name'][0]}": 1.0}
    )
    assert found.loc["training curve: pre_update_return", "where"] == f"iteration {curves['iteration'][3]}"


def test_missing_numbers_equal_each_other_and_nothing_else():
    a, b = by_seed({0: 1.0, 1: 1.0, 2: 0.0}), by_seed({0: 1.0, 1: 1.0, 2: -0.0})
    for records, missing in ((a, [0, 1]), (b, [0])):
        records.returns.loc[records.returns["run_id"].isin([f"{SETTING}-maml-{s}" for s in missing]), "mean_return"] = (
            np.nan
        )
    values = exact(a, b, run_pairs(a, b))
    values = values[values["quantity"].eq(RETURN)].sort_values("pair")
    assert list(values["differ"]) == [0, 2, 2]  # two steps each
    assert list(values["largest"].iloc[1:]) == [np.inf, 0.0]


def test_rows_of_one_side_only_count_as_a_difference(records, tmp_path):
    fewer = dataclasses.replace(records, returns=records.returns[records.returns["task"].lt(30)])
    values = exact(records, fewer, run_pairs(records, fewer))
    returns = values[values["quantity"].eq(RETURN)]
    assert set(returns["only_a"]) == {2 * 4 * 10}
    assert returns["differ"].sum() == returns["only_b"].sum() == 0
    text = page_of(Side(records), Side(fewer), tmp_path)
    assert "Of 18 runs finished in both, 18 differ." in text
    assert "test tasks: 40 in A, 30 in B" in text


# Which runs are there


def test_a_method_that_b_lacks_is_stated(records, tmp_path):
    mine = records.runs["method"].ne("maml")
    other = dataclasses.replace(records, runs=records.runs[mine].reset_index(drop=True))
    pairs = run_pairs(records, other)
    assert pairs["match"].value_counts().to_dict() == {SAME_RUN: 15, ONLY_A: 3}
    text = page_of(Side(records), Side(other), tmp_path)
    assert "Not everything is the same: all 15 runs finished in both are bit-identical." in text
    assert "Only in A: 3 runs." in text
    assert "B is incomplete: 15 of 18 expected runs are done; 3 missing." in text
    frame = pd.read_csv(tmp_path / "compare" / "navigation-over_seeds.csv")
    assert set(frame.loc[frame["method"].eq("maml"), "words"]) == {"no number in B"}


def test_a_change_of_status_is_shown_with_its_reason(records, tmp_path):
    other = with_runs(records, "maml-1", status="diverged")
    at = other.runs.index[other.runs["run_id"].eq("maml-1")][0]
    other.runs.at[at, "manifest"] = {**MANIFEST, "reason": "the loss is not finite"}
    text = page_of(Side(records), Side(other), tmp_path)
    assert "With another status in B: 1 run." in text
    assert "maml ulm 1 same run_id done → diverged B: the loss is not finite" in text
    assert "incomplete" not in text  # a diverged run is a finished one
    frame = pd.read_csv(tmp_path / "compare" / "navigation-over_seeds.csv").set_index("method")
    assert set(frame.loc["maml", "words"]) == {"equal in all 2 shared seeds; 1 seed of A without a partner"}


def test_unfinished_runs_are_not_compared_and_not_hidden(records, tmp_path):
    other = with_runs(records, "maml-1", status="running", manifest=None)
    other.runs["manifest"] = [m if isinstance(m, dict) else {} for m in other.runs["manifest"]]
    kept = records.returns["run_id"].ne("maml-1")
    other = dataclasses.replace(other, returns=records.returns[kept])
    text = page_of(Side(records), Side(other), tmp_path)
    assert "All 17 runs finished in both are bit-identical." in text
    assert "In both, but unfinished or without numbers on a side: 1 run." in text


def test_another_version_of_the_same_runs_is_compared_and_marked(records, tmp_path):
    other = renumbered(records)
    pairs = run_pairs(records, other)
    assert set(pairs["match"]) == {SAME_NAME}
    assert len(pairs) == 18
    text = page_of(Side(records), Side(other), tmp_path)
    assert "Not everything is the same: no run is in both." in text
    assert (
        "With another run_id in B (another version or specification): 18 runs; the same numbers in 18 of the 18" in text
    )
    assert "method maml, version 1 2 ≠" in text
    assert "suite navigation, version 1 1" in text
    assert "suite navigation, version 1 1 ≠" not in text


def test_a_run_under_another_name_is_recognised(records, tmp_path):
    runs = records.runs.assign(method=records.runs["method"].replace("maml", "maml_renamed"))
    text = page_of(Side(records), Side(dataclasses.replace(records, runs=runs)), tmp_path)
    assert "Under another name in B: 3 runs." in text
    assert "both, in B as ulm / maml_renamed" in text


def test_different_provenance_is_marked(records, tmp_path):
    manifest = {**MANIFEST, "packages": {"numpy": "2.0.1"}, "cpu": "another processor"}
    runs = records.runs.assign(code_version="fff0000", dirty=True, manifest=[manifest] * len(records.runs))
    text = page_of(Side(records), Side(dataclasses.replace(records, runs=runs)), tmp_path)
    for line in ("code version abc1234 fff0000 ≠", "package numpy 2.0.0 2.0.1 ≠"):
        assert line in text
    assert "uncommitted changes none in 18 of 18 runs ≠" in text
    assert "processor test processor another processor ≠" in text
    assert "lock hash 0f0f0f0f0f0f0f0f 0f0f0f0f0f0f0f0f Python" in text
    assert "Everything is bit-identical" in text


# Over training seeds


def test_shared_seeds_are_paired_by_hand():
    row = row_of({0: 1.0, 1: 2.0, 2: 3.0}, {0: 2.0, 1: 4.0, 2: 6.0, 9: 50.0})
    # differences 1, 2, 3 over the shared seeds: t = 2 sqrt(3), p = 0.0741799; half width 4.3026527 / sqrt(3)
    assert row["test"] == "paired t, df 2"
    assert (row["difference"], row["p"]) == pytest.approx((2.0, 0.0741799))
    assert (row["low"], row["high"]) == pytest.approx((2 - 2.4841377, 2 + 2.4841377))
    assert (row["seeds_a"], row["seeds_b"], row["shared"], row["equal"]) == (3, 4, 3, 0)
    assert row["words"] == "no difference shown; 1 seed of B without a partner"


@pytest.mark.parametrize(("b", "shared"), [({3: 4.0, 4: 6.0, 5: 8.0}, 0), ({2: 4.0, 4: 6.0, 5: 8.0}, 1)])
def test_unequal_seeds_are_compared_by_welch(b, shared):
    row = row_of({0: 1.0, 1: 2.0, 2: 3.0}, b)
    # se² = 1/3 + 4/3, df = (5/3)² / ((1/9 + 16/9) / 2) = 2.9411765
    reference = stats.ttest_ind([4.0, 6.0, 8.0], [1.0, 2.0, 3.0], equal_var=False)
    assert (row["difference"], row["p"]) == pytest.approx((4.0, reference.pvalue))
    assert row["test"] == "Welch t, df 2.94"
    assert row["shared"] == shared


def test_swapping_the_sides_turns_the_sign_and_nothing_else():
    rng = np.random.default_rng(0)
    a, b = ({seed: float(x) for seed, x in enumerate(rng.normal(size=5))} for _ in range(2))
    one, other = row_of(a, b), row_of(b, a)
    assert one["difference"] == -other["difference"]
    assert (one["low"], one["p"], one["detectable"]) == pytest.approx((-other["high"], other["p"], other["detectable"]))


def test_the_adjustment_is_over_all_tests_of_the_study():
    rng = np.random.default_rng(1)
    cells = {(SETTING, m, s): tuple(rng.normal(size=(2, 3))) for m in ("maml", "gittins") for s in range(4)}
    moved = {key: (steps[0] + 0.1 * key[2] + 1, steps[1] + rng.normal(size=3)) for key, steps in cells.items()}
    frame = over_seeds(grid_records(cells, {}), grid_records(moved, {}), bandit_info())
    assert len(frame) == 4
    assert list(frame["p_holm"]) == pytest.approx(holm(list(frame["p"])))
    assert list(frame["words"].str.startswith("B is higher")) == [p < 0.05 for p in frame["p_holm"]]
    assert frame["words"].str.startswith("B is higher").any()


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}, "equal in all 2 shared seeds"),
        ({0: 1.0}, {0: 1.0}, "equal in the one shared seed"),
        ({0: 1.0}, {0: 1.5}, "one shared seed: no spread over seeds to test with"),
        ({0: 1.0, 1: 2.0}, {0: 1.0}, "equal in the one shared seed; 1 seed of A without a partner"),
        ({0: 1.0, 1: 2.0}, {5: 1.0}, "one seed in B: no spread over seeds to test with"),
        ({0: 1.0}, {5: 1.0}, "one seed in A and B: no spread over seeds to test with"),
        ({0: 1.0, 1: 1.0}, {5: 2.0, 6: 2.0}, "the seeds of each side agree: no spread to test with"),
        ({0: 0.1, 1: 0.7}, {0: 0.4, 1: 1.0}, "every seed differs by the same amount: no spread to test with"),
        ({0: 0.1, 1: 0.3}, {0: 0.1, 1: 0.1 + 0.2}, "equal up to rounding: at most 5.6·10⁻¹⁷ apart"),
        ({0: 1.0, 1: 2.0, 2: np.nan}, {0: 1.0, 1: 2.0}, "equal in all 2 shared seeds; no finite mean in 1 seed of A"),
    ],
)  # fmt: skip
def test_what_cannot_be_tested_is_said_in_words(a, b, words):
    row = row_of(a, b)
    assert row["words"] == words
    assert np.isnan(row["p"])
    assert np.isnan(row["p_holm"])


def test_numbers_of_every_size_are_readable():
    assert [short(x) for x in (0.0, -12.3456, 0.0034, -1.2e-17)] == ["0", "−12.35", "0.0034", "−1.2·10⁻¹⁷"]
    assert [short(x) for x in (float("nan"), float("inf"))] == ["–", "not finite"]


# Verdicts


def test_verdicts_are_matched_by_id(records, tmp_path):
    a = [verdict("same", Verdict.EQUIVALENT), verdict("turned", Verdict.EQUIVALENT), verdict("gone", Verdict.REVERSED)]
    b = [
        verdict("new", Verdict.REVERSED),
        verdict("turned", Verdict.INCONCLUSIVE, "Too few seeds."),
        verdict("same", Verdict.EQUIVALENT, "Its numbers moved."),
    ]
    frame = verdict_frame(a, b)
    assert dict(zip(frame["id"], frame["change"], strict=True)) == {
        "turned": "changed",
        "gone": "only in A",
        "new": "only in B",
        "same": "same, for another reason",
    }
    text = page_of(Side(records, a), Side(records, b), tmp_path)
    assert "Verdicts that changed or are on one side only: 3 of 4." in text
    assert "EQUIVALENT (replicates): It holds. INCONCLUSIVE (replicates): Too few seeds." in text
    assert "Everything is bit-identical" not in text
    assert "All 18 runs finished in both are bit-identical." in text


# What is missing, and what is always the same


@pytest.mark.parametrize("problem", ["study navigation mixes versions 1 and 2 of suite navigation", ""])
def test_a_side_without_records_is_said(records, tmp_path, problem):
    text = page_of(Side(records), Side(None, (), problem), tmp_path)
    assert "There is nothing to compare: no usable record in B." in text
    assert f"B: {problem or 'no run of this study is recorded'}." in text
    assert "no number in B" in text
    assert "identical" not in text.partition("Overview")[0]


def test_an_empty_store_is_said(records, tmp_path):
    assert "no usable record in A and B" in page_of(Side(empty(records)), Side(), tmp_path)


def test_disjoint_stores_are_said(tmp_path):
    info = study_info(methods=("maml", "random"))
    a, b = synthetic_records(methods=("maml",), iterations=3), synthetic_records(methods=("random",), iterations=3)
    page = build([StudyPair(info, Side(a), Side(b))], ("a", "b"), tmp_path, command="x")
    assert "Not everything is the same: no run is in both." in page.read_text()


def test_studies_without_a_partner_do_not_hide_the_others(records, tmp_path):
    quick = Side(dataclasses.replace(records, scale="quick"))
    pairs = [
        StudyPair(study_info(), Side(records), Side(records)),
        StudyPair(study_info(scale="quick"), Side(None, (), "nothing"), quick),
    ]
    text = build(pairs, ("a", "b"), tmp_path, command="x").read_text()
    assert "Not everything is the same: all 18 runs finished in both are bit-identical." in text
    assert "1 of 2 studies cannot be compared: a side has no usable record." in text


def test_no_study_at_all_is_said(tmp_path):
    assert "There is no study to compare." in build([], ("a", "b"), tmp_path, command="x").read_text()


def test_records_that_were_left_out_or_repeated_are_counted(records, tmp_path):
    other = dataclasses.replace(records, left_out=4, duplicates=1)
    text = page_of(Side(records), Side(other), tmp_path)
    assert "B: 4 records of other versions or specifications were left out." in text
    assert "B: 1 repeated record gave way to the one that got furthest." in text


def test_the_page_is_a_function_of_the_records(records, tmp_path):
    def made(a: Records, b: Records, folder: Path) -> dict[str, bytes]:
        page = build([StudyPair(study_info(), Side(a), Side(b))], ("a", "b"), folder, command="x")
        return {str(p.relative_to(folder)): p.read_bytes() for p in [page, *(folder / "compare").iterdir()]}

    def shuffled(records: Records) -> Records:
        parts = {
            name: getattr(records, name).sample(frac=1, random_state=1, ignore_index=True)
            for name in ("runs", "returns", "curves")
        }
        return dataclasses.replace(records, **parts)

    first = made(records, planted(records), tmp_path / "first")
    assert made(records, planted(records), tmp_path / "again") == first
    assert made(shuffled(records), shuffled(planted(records)), tmp_path / "shuffled") == first


def test_text_from_the_records_is_escaped(records, tmp_path):
    other = with_runs(records, "maml-1", code_version="<b>bold</b>")
    page = build([StudyPair(study_info(), Side(records), Side(other))], ("<a>", "b"), tmp_path, command="x").read_text()
    assert "&lt;b&gt;bold" in page
    assert "<b>bold" not in page
    assert "<code>&lt;a&gt;</code>" in page

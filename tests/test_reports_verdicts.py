"""From numbers per seed to verdicts: hand-made cases with a known answer, and the rules one by one."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy import stats

from reports import claims, number_verdicts
from reports.beside_print import Printed, against
from reports.decisions import OUTCOMES, decide
from reports.papers.printed import ResultRow
from reports.study_info import SettingInfo
from reports.verdicts import Outcome, Verdict
from tests.reference.synthetic_numbers import claim, numbers, printed, published

FAR = {("a", 1): [5.0, 5.2, 4.9, 5.1], ("b", 1): [1.0, 1.1, 0.8, 1.2]}
NEAR = {("a", 1): [5.0, 5.2, 4.9, 5.1], ("b", 1): [5.1, 5.0, 5.0, 5.0]}
NOISY = {("a", 1): [5.0, -3.0, 9.0, 1.0], ("b", 1): [1.0, 1.1, 0.8, 1.2]}
TENTH = {"value": 0.5, "rationale": "r"}


def judged(check, values, **more):
    """The judgement of one claim on hand-made numbers."""
    return judged_on(numbers(values), check, **more)


def judged_on(given, check, **more):
    """The judgement of one claim on the numbers of a study."""
    file = published(claims=[claim(check, **more)])
    (one,) = decide(claims.drafts(file, {("toy", "paper"): given}))
    return one


def ordering(first, second, **more):
    return {"kind": "ordering", "first": first, "second": second, **more}


@pytest.mark.parametrize(
    ("check", "values", "verdict"),
    [
        (ordering("a", "b"), FAR, Verdict.DIRECTION_REPLICATED),
        (ordering("b", "a"), FAR, Verdict.REVERSED),
        (ordering("a", "b", better="lower"), FAR, Verdict.REVERSED),
        (ordering("b", "a", better="lower"), FAR, Verdict.DIRECTION_REPLICATED),
        (ordering("a", "b"), NOISY, Verdict.INCONCLUSIVE),
        (ordering("a", "b"), NEAR, Verdict.INCONCLUSIVE),
        (ordering("a", "b", margin=TENTH), NEAR, Verdict.INCONCLUSIVE),
        ({"kind": "not_worse", "first": "b", "second": "a", "margin": TENTH}, NEAR, Verdict.DIRECTION_REPLICATED),
        ({"kind": "not_worse", "first": "b", "second": "a", "margin": TENTH}, FAR, Verdict.REVERSED),
        ({"kind": "equal", "first": "a", "second": "b", "margin": TENTH}, NEAR, Verdict.EQUIVALENT),
        ({"kind": "equal", "first": "a", "second": "b", "margin": TENTH}, FAR, Verdict.DIFFERENT_BETTER),
        ({"kind": "equal", "first": "b", "second": "a", "margin": TENTH}, FAR, Verdict.DIFFERENT_WORSE),
        ({"kind": "equal", "first": "a", "second": "b", "margin": {"value": 9.0, "rationale": "r"}}, FAR,
         Verdict.DIFFERENT_WITHIN_MARGIN),
        ({"kind": "equal", "first": "a", "second": "b", "margin": TENTH}, NOISY, Verdict.INCONCLUSIVE),
    ],
)  # fmt: skip
def test_a_claim_with_a_known_answer(check, values, verdict):
    one = judged(check, values)
    assert one.verdict is verdict
    assert one.outcome is (
        Outcome.FAILS if verdict is Verdict.EQUIVALENT and check["kind"] == "ordering" else OUTCOMES[verdict]
    )
    assert one.reason.endswith(".")


def test_an_order_that_holds_in_one_cell_only_is_not_replicated():
    values = FAR | {("a", 2): [1.0, 1.2, 0.7, 1.1], ("b", 2): [1.0, 1.1, 0.8, 1.2]}
    one = judged(ordering("a", "b", steps=[1, 2]), values)
    assert one.verdict is Verdict.INCONCLUSIVE
    assert "1 of 2 cells" in one.reason


def test_an_order_that_is_reversed_in_one_cell_is_reversed():
    values = FAR | {("a", 2): [1.0, 1.1, 0.8, 1.2], ("b", 2): [5.0, 5.2, 4.9, 5.1]}
    assert judged(ordering("a", "b", steps=[1, 2]), values).verdict is Verdict.REVERSED


def test_rising_compares_each_step_with_the_one_before():
    values = {("a", step): [step + 0.01 * seed * (step + 1) for seed in range(4)] for step in range(3)}
    check = {"kind": "rising", "method": "a", "steps": [0, 1, 2]}
    one = judged(check, values)
    assert one.verdict is Verdict.DIRECTION_REPLICATED
    assert [row.where for row in one.rows] == ["update 0 to 1", "update 1 to 2"]
    falling = values | {("a", 2): [0.1, 0.2, 0.1, 0.3]}
    assert judged(check, falling).verdict is Verdict.REVERSED


def test_p_of_an_ordering_is_that_of_the_paired_test_by_hand():
    one = judged(ordering("a", "b"), NOISY)
    differences = [a - b for a, b in zip(NOISY["a", 1], NOISY["b", 1], strict=True)]
    assert one.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, rel=1e-12)
    assert one.rows[0].seeds == 4


def test_claims_of_one_family_are_adjusted_together():
    both = [claim(ordering("a", "b"), id=f"p.claim_{i}") for i in range(2)]
    (first, second) = decide(claims.drafts(published(claims=both), {("toy", "paper"): numbers(FAR)}))
    assert first.p_holm == pytest.approx(2 * first.p)
    assert second.p_holm == first.p_holm
    apart = [one | {"family": str(i)} for i, one in enumerate(both)]
    (alone, _) = decide(claims.drafts(published(claims=apart), {("toy", "paper"): numbers(FAR)}))
    assert alone.p_holm == alone.p


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({("a", 1): [1.0, 2.0]}, "no finished run on one side"),
        ({("a", 1): [1.0, 2.0], ("b", 1): [0.0, 1.0]}, "all differences are equal"),
    ],
)
def test_what_cannot_be_tested_says_why(values, words):
    one = judged(ordering("a", "b"), values)
    assert one.outcome in (Outcome.UNTESTED, Outcome.UNDECIDED)
    assert words in one.reason.lower()
    assert math.isnan(one.p)


def test_a_study_that_was_not_run_is_named():
    file = published(claims=[claim(ordering("a", "b"))])
    (one,) = decide(claims.drafts(file, {}))
    assert one.verdict is Verdict.NOT_TESTABLE
    assert "toy" in one.reason
    assert "paper" in one.reason


def test_single_seeds_counts_those_that_show_nothing():
    values = {("a", 1): [5.0, 1.0, 5.0, 5.0], ("b", 1): [1.0, 1.0, 1.0, 1.0]}
    one = judged({"kind": "single_seeds", "first": "a", "second": "b"}, values)
    assert one.verdict is Verdict.DIRECTION_REPLICATED
    assert dict(one.alone) == {0: "no", 1: "yes", 2: "no", 3: "no"}
    assert "1 of 4 seeds" in one.reason
    assert "[0.01, 0.81]" in one.reason  # Clopper & Pearson 1934
    none = judged({"kind": "single_seeds", "first": "a", "second": "b"}, FAR)
    assert none.verdict is Verdict.INCONCLUSIVE


def test_each_seed_alone_is_tested_over_its_tasks():
    values = {("a", 1): [1.5, 1.0, 0.0], ("b", 1): [1.0, 1.0, 1.0]}  # SD 1, 40 tasks: t = 2.24, 0, -4.5; df 39
    assert dict(judged(ordering("a", "b"), values).alone) == {0: "yes", 1: "–", 2: "no"}


@pytest.mark.parametrize(
    ("kind", "said"),
    [("equal", {0: "no", 1: "yes", 2: "no"}), ("not_worse", {0: "yes", 1: "yes", 2: "no"})],
)
def test_one_seed_takes_a_difference_that_is_not_found_for_none(kind, said):
    values = {("a", 1): [1.5, 1.0, 0.0], ("b", 1): [1.0, 1.0, 1.0]}
    check = {"kind": kind, "first": "a", "second": "b", "margin": TENTH}
    assert dict(judged(check, values).alone) == said


def test_a_ratio_is_compared_as_a_logarithm():
    values = {("a", 1): [1.6, 3.21, 6.38, 0.801], ("b", 1): [1.0, 2.0, 4.0, 0.5]}
    check = {"kind": "ratio", "first": "a", "second": "b", "value": 1.6, "margin": {"value": 0.3, "rationale": "r"}}
    one = judged(check, values)
    assert one.verdict is Verdict.EQUIVALENT
    assert one.rows[0].margin == pytest.approx(math.log(1.9 / 1.6))
    same = {("a", 1): [1.0, 2.02, 3.96, 0.51], ("b", 1): [1.0, 2.0, 4.0, 0.5]}
    off = judged(check, same)
    assert off.verdict is Verdict.DIFFERENT_WORSE
    assert off.reason.startswith("Ours is off by a factor of 0.628 [")
    assert off.reason.endswith("], against a margin of 0.842 to 1.19.")  # 1.6 / 1.9 to 1.9 / 1.6
    assert one.reason.endswith("of the factor lies within 0.842 to 1.19.")


# Sizes that have to stay below something.

SIZES = {("a", 1): [5.0, 5.2, 4.9, 5.14], ("b", 1): [1.0, 1.1, 0.8, 1.25]}


def at_most(value, **more):
    return {"kind": "at_most", "first": "b", "margin": {"value": value, "rationale": "r"}} | more


def test_a_size_below_its_bound_by_hand():
    one = judged(at_most(1.5), SIZES)
    assert one.verdict is Verdict.DIRECTION_REPLICATED
    assert one.outcome is Outcome.REPLICATES
    one_sided = stats.ttest_1samp(SIZES["b", 1], 1.5, alternative="less").pvalue
    assert one.p == pytest.approx(2 * one_sided, rel=1e-12)
    assert one.reason == "It is below 1.50: 1.04 [0.737, 1.34]."
    assert one.rows[0].ours == "1.04 ± 0.189 (4 seeds × 40 tasks)"


@pytest.mark.parametrize(
    ("value", "verdict", "words"),
    [
        (0.5, Verdict.REVERSED, "It is above 0.500: 1.04 [0.737, 1.34]."),
        (1.1, Verdict.INCONCLUSIVE, "The size 1.04 [0.737, 1.34] includes 1.10; about"),
    ],
)
def test_a_size_that_is_not_below_its_bound(value, verdict, words):
    one = judged(at_most(value), SIZES)
    assert one.verdict is verdict
    assert one.reason.startswith(words)


def test_a_size_has_to_be_small_in_every_cell_and_is_not_where_it_is_large_in_one():
    both = SIZES | {("b", 2): SIZES["b", 1]}
    one = judged(at_most(1.5, steps=[1, 2]), both)
    assert one.verdict is Verdict.DIRECTION_REPLICATED
    assert one.reason.startswith("It is below 1.50 in both cells; least clearly after 1 update: ")
    large = judged(at_most(1.5, steps=[1, 2]), SIZES | {("b", 2): SIZES["a", 1]})
    assert large.verdict is Verdict.REVERSED
    assert large.reason.startswith("It is above 1.50 in 1 of 2 cells; most clearly after 2 updates: 5.06")
    unclear = judged(at_most(1.5, steps=[1, 2]), SIZES | {("b", 2): NOISY["a", 1]})
    assert unclear.verdict is Verdict.INCONCLUSIVE
    assert unclear.reason.startswith("It is clearly below 1.50 in 1 of 2 cells only: the size 3.00")


def test_a_size_without_a_run_says_so():
    one = judged(at_most(1.5, first="c"), SIZES)
    assert one.verdict is Verdict.NOT_TESTABLE
    assert one.reason == "No finished run of c."


@pytest.mark.parametrize(
    ("mean", "better", "verdict", "words"),
    [
        (9.0, "higher", Verdict.DIRECTION_REPLICATED, "It is lower: −3.95 ["),
        (1.0, "higher", Verdict.REVERSED, "It is higher: 4.05 ["),
        (5.1, "higher", Verdict.INCONCLUSIVE, "The difference −0.050 ["),
        (9.0, "lower", Verdict.REVERSED, "The opposite holds: −3.95 ["),
        (1.0, "lower", Verdict.DIRECTION_REPLICATED, "It holds: 4.05 ["),
    ],
)
def test_worse_than_printed_is_lower_where_more_is_better(mean, better, verdict, words):
    check = {"kind": "printed", "first": "a", "table": "1", "printed": "high", "relation": "worse", "printed_seeds": 1}
    file = published(rows=[printed("high", 1, mean)], claims=[claim(check | {"better": better})])
    (one,) = decide(claims.drafts(file, {("toy", "paper"): numbers(FAR)}))
    assert one.verdict is verdict
    assert one.reason.startswith(words)
    assert one.rows[0].estimate.difference == pytest.approx(5.05 - mean)  # ours minus the printed one, as everywhere


# Identities.

TEST = "tests/test_surrogates.py::test_a"


def test_an_identity_asks_no_run():
    given = claim({"kind": "identity"}) | {"check": {"kind": "identity", "test": TEST}}
    (one,) = decide(claims.drafts(published(claims=[given]), {}))
    assert (one.verdict, one.outcome) == (Verdict.EQUIVALENT, Outcome.REPLICATES)
    assert one.reason == f"Exact: it holds identically, so that no run is asked; {TEST} states it."
    assert (one.study, one.scale, one.reduced, one.rows) == ("", "", False, ())
    assert published(claims=[given]).studies() == []


def test_an_identity_leaves_the_family_of_the_others_alone():
    exact = claim({"kind": "identity"}) | {"check": {"kind": "identity", "test": TEST}, "id": "p.exact"}
    file = published(claims=[claim(ordering("a", "b")), exact])
    (one, _) = decide(claims.drafts(file, {("toy", "paper"): numbers(FAR)}))
    assert one.p_holm == one.p


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "identity", "test": "test_a"},
        {"kind": "identity", "test": TEST, "study": "toy"},
        {"kind": "at_most", "study": "toy", "first": "a",
         "margin": {"fraction": 0.1, "upper": 1.0, "lower": 0.0, "rationale": "r"}},
        {"kind": "ordering", "study": "toy", "first": "a", "second": "b", "statistic": "spread", "margin": TENTH},
    ],
)  # fmt: skip
def test_checks_that_cannot_be_meant_are_refused(check):
    with pytest.raises(ValidationError):
        published(claims=[claim({"kind": "ordering"}) | {"check": check}])


# What of the seeds is compared.

WIDE = {("a", 1): [1.0, 9.0, 4.0, -6.0, 12.0, 4.5], ("b", 1): [3.0, 3.3, 2.6, 3.1, 2.9, 3.2]}


def test_more_spread_is_the_test_of_brown_and_forsythe():
    one = judged(ordering("a", "b", statistic="spread"), WIDE)
    away = [np.abs(np.array(WIDE[name, 1]) - np.median(WIDE[name, 1])) for name in ("a", "b")]
    assert one.p == pytest.approx(stats.ttest_ind(*away, equal_var=False).pvalue, rel=1e-9)
    # Of groups of one size, Welch's t and Brown & Forsythe's F differ in the degrees of freedom only.
    t = one.rows[0].estimate.t
    assert t**2 == pytest.approx(stats.levene(WIDE["a", 1], WIDE["b", 1], center="median").statistic, rel=1e-9)
    assert one.verdict is Verdict.DIRECTION_REPLICATED
    assert one.reason.endswith(" in the mean distance from the median.")
    assert one.rows[0].ours.startswith("the mean distance from the median: 4.42 ± 4.03 (6 seeds) against 0.183 ± ")
    assert dict(one.alone) == {}


def test_more_spread_asked_of_the_narrower_side_is_reversed():
    assert judged(ordering("b", "a", statistic="spread"), WIDE).verdict is Verdict.REVERSED


def test_sizes_that_differ_by_factors_are_compared_by_their_ratio():
    values = {("a", 1): [1.0, 10.0, 100.0, 1000.0], ("b", 1): [1.4, 16.0, 155.0, 1450.0]}
    raw = judged(ordering("a", "b", better="lower"), values)
    assert raw.verdict is Verdict.INCONCLUSIVE
    one = judged(ordering("a", "b", better="lower", statistic="ratio"), values)
    logs = np.log(np.array(values["b", 1]) / np.array(values["a", 1]))
    assert one.p == pytest.approx(stats.ttest_1samp(logs, 0).pvalue, rel=1e-9)
    assert one.verdict is Verdict.DIRECTION_REPLICATED
    low, high = np.exp(stats.t.interval(0.95, 3, logs.mean(), stats.sem(logs)))
    assert one.reason == f"It holds: a factor of {np.exp(logs.mean()):.2f} [{low:.2f}, {high:.2f}]."
    assert one.rows[0].ours.startswith("277.8 ± 483.6 (4 seeds × 40 tasks) against 405.6 ± ")
    reversed_ = judged(ordering("b", "a", better="lower", statistic="ratio"), values)
    assert reversed_.verdict is Verdict.REVERSED
    equal = {("a", 1): values["a", 1], ("b", 1): [1.4, 8.0, 120.0, 900.0]}
    assert "the factor 1.0" in judged(ordering("a", "b", better="lower", statistic="ratio"), equal).reason.lower()


def test_a_ratio_of_what_is_not_positive_cannot_be_formed():
    one = judged(ordering("a", "b", statistic="ratio"), {("a", 1): [1.0, 2.0], ("b", 1): [1.0, -1.0]})
    assert one.verdict is Verdict.INCONCLUSIVE
    assert math.isnan(one.p)


def test_sides_in_settings_of_their_own_are_compared_in_one_cell():
    here, there = numbers({("a", 1): FAR["a", 1]}), numbers({("a", 1): FAR["b", 1]})
    both = pd.concat([here.table, there.table.assign(setting="other")], ignore_index=True)
    info = replace(here.info, settings=(SettingInfo("only"), SettingInfo("other")))
    first, second = ({"method": "a", "setting": name} for name in ("only", "other"))
    one = judged_on(replace(here, info=info, table=both), ordering(first, second, settings=["only"]))
    differences = [a - b for a, b in zip(FAR["a", 1], FAR["b", 1], strict=True)]
    assert one.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, rel=1e-12)
    assert len(one.rows) == 1


def test_what_is_counted_is_named():
    mdps = replace(numbers(SIZES), unit="MDP")
    one = judged_on(mdps, ordering("a", "b"))
    assert one.rows[0].ours == "5.06 ± 0.136 (4 MDPs × 40 tasks) against 1.04 ± 0.189 (4 MDPs × 40 tasks)"
    assert one.rows[0].estimate.unit == "MDP"
    unclear = judged_on(replace(numbers(NOISY), unit="MDP"), ordering("a", "b"))
    assert " MDPs would decide it" in unclear.reason
    ratio = {"kind": "ratio", "first": "a", "second": "b", "value": 5.0, "margin": {"value": 1.0, "rationale": "r"}}
    assert judged_on(mdps, ratio).rows[0].ours.endswith("(4 pairs of MDPs)")
    assert judged_on(mdps, at_most(1.5)).rows[0].ours == "1.04 ± 0.189 (4 MDPs × 40 tasks)"


def test_cells_that_are_clear_only_by_themselves_are_told_as_that():
    a, b = [1.0, 2.0, 1.5, 2.4], [0.3, 0.6, 0.6, 0.6]
    values = {(name, step): each for name, each in (("a", a), ("b", b)) for step in (1, 2)}
    many = [claim(ordering("a", "b", steps=[1, 2]), id=f"p.claim_{i}") for i in range(9)]
    one, *_ = decide(claims.drafts(published(claims=many), {("toy", "paper"): numbers(values)}))
    assert one.p < 0.05 < one.p_holm
    assert one.verdict is Verdict.INCONCLUSIVE
    assert one.reason.startswith(
        "It is clear in both cells, each by itself, but the difference 1.20 [0.410, 1.99] (after "
    )
    assert " is not clear enough after adjustment for the family; about " in one.reason


@pytest.mark.parametrize(("tasks", "words"), [(False, ": the paper has 2, and the luck"), (True, ": the paper has 2.")])
def test_what_no_seed_decides_says_what_stands_in_the_way(tasks, words):
    check = {"kind": "printed", "first": "a", "table": "1", "printed": "high", "relation": "better", "printed_seeds": 2}
    file_rows = [printed("high", 1, 3.0), printed("low", 1, 0.0)]
    file = published(rows=file_rows, claims=[claim(check | {"same_tasks": tasks})])
    (one,) = decide(claims.drafts(file, {("toy", "paper"): numbers(NOISY)}))
    assert one.verdict is Verdict.INCONCLUSIVE
    assert words in one.reason


def number_of(values, mean, **more):
    comparison = {
        "id": "t", "title": "Table 1", "paper": "p", "table": "1", "study": "toy", "setting": "only",
        "protocol": "adapted", "methods": {"high": ["a"]},
        "margin": {"fraction": 0.1, "upper": "high", "lower": "low", "rationale": "r"},
    } | more  # fmt: skip
    rows = [printed("high", 1, mean), printed("low", 1, mean - 20.0)]
    file = published(rows=rows, comparisons=[comparison])
    return next(iter(decide(list(number_verdicts.drafts(numbers(values), file)))))


def test_a_printed_number_by_hand():
    """n = 4 seeds, SD .129099, the paper one seed of the same spread: se² = s² (1/4 + 1) + .01²/12·(rounding .1)."""
    one = number_of(FAR, 5.1)
    estimate = one.rows[0].estimate
    variance = stats.tvar(FAR["a", 1])
    assert estimate.difference == pytest.approx(-0.05)
    assert estimate.se**2 == pytest.approx(1.25 * variance + 0.1**2 / 12)
    assert one.rows[0].margin == pytest.approx(2.0)
    assert one.verdict is Verdict.EQUIVALENT
    assert one.readings == {}
    assert one.rows[0].printed == "5.1 ± 1.0 (SD), n = 40"


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [(15.0, Verdict.DIFFERENT_WORSE), (-15.0, Verdict.DIFFERENT_BETTER), (6.0, Verdict.DIFFERENT_WITHIN_MARGIN)],
)
def test_a_printed_number_that_is_off(mean, verdict):
    assert number_of(FAR, mean).verdict is verdict


def test_a_paper_with_one_seed_can_leave_no_number_of_seeds_enough():
    one = number_of({("a", 1): [5.0, -3.0, 9.0, 1.0]}, 5.1)
    assert one.verdict is Verdict.INCONCLUSIVE
    assert one.needed is None
    assert "the paper has one" in one.reason


@pytest.mark.parametrize(
    ("reading", "variance"),
    [
        ("our_spread", lambda s2, ci: s2 / 4 + s2 / 5),
        ("ci_over_seeds", lambda s2, ci: s2 / 4 + (ci / 2.7764451) ** 2),
        ("ci_over_values", lambda s2, ci: s2 / 4 + (ci / 1.9599640) ** 2),
    ],
)
def test_readings_of_a_printed_interval(reading, variance):
    row = ResultRow(method="m", setting={}, mean=5.0, ci95=0.4, n=1000, approximate=False)
    ours = numbers(FAR).of("a", "only", "mean_return", "adapted", 1)
    cell = against(ours, Printed(row, half_unit=0.0, seeds=5), reading)
    assert cell.row.estimate.se**2 == pytest.approx(variance(stats.tvar(FAR["a", 1]), 0.4), rel=1e-6)


def test_other_test_tasks_add_their_luck():
    row = ResultRow(method="m", setting={}, mean=5.0, ci95=0.4, n=1000, approximate=False)
    ours = numbers(FAR, sd=2.0, tasks=50).of("a", "only", "mean_return", "adapted", 1)
    alone, other = (
        against(ours, Printed(row, 0.0, 5, tasks, other_tasks=True), "our_spread").row.estimate.se ** 2
        for tasks in (None, 200)
    )
    assert other - alone == pytest.approx(4.0 / 200)


def test_reading_over_tasks_is_welch_on_the_summaries():
    row = ResultRow(method="m", setting={}, mean=4.0, std=2.0, n=40, approximate=False)
    ours = numbers(FAR, sd=1.5, tasks=30).of("a", "only", "mean_return", "adapted", 1)
    found = against(ours, Printed(row, 0.0, 1), "tasks").row.estimate
    ours_mean = sum(FAR["a", 1]) / 4
    welch = stats.ttest_ind_from_stats(ours_mean, 1.5, 30, 4.0, 2.0, 40, equal_var=False)
    assert found.p == pytest.approx(welch.pvalue, rel=1e-9)

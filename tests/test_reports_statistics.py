"""Intervals and tests against hand-computed values and SciPy; their coverage is in test_reports_coverage.py."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.statistics import (
    conservative_t,
    holm,
    median_interval,
    paired_t,
    pooled_t_from_summaries,
    prediction_interval,
    prediction_of_mean,
    t_interval,
    task_interval,
)


def test_t_interval_of_one_to_five():
    # mean 3, s = sqrt(2.5) = 1.5811388; t(.975, 4) = 2.7764451; half width t * s / sqrt(5) = 1.9632432
    interval = t_interval([1, 2, 3, 4, 5])
    assert interval.n == 5
    assert interval.mean == 3
    assert interval.sd == pytest.approx(1.5811388)
    assert (interval.low, interval.high) == pytest.approx((3 - 1.9632432, 3 + 1.9632432))


def test_the_interval_of_a_median_are_order_statistics():
    # P(Bin(10, 1/2) < 2) = 11/1024 = .0107 and P(< 3) = 56/1024 = .0547: the second smallest and the second largest
    assert median_interval([100, 9, 8, 7, 6, 5, 4, 3, 2, 1]) == (5.5, 2, 9)
    # P(Bin(6, 1/2) < 1) = 1/64 = .0156; with five values 1/32 = .031 is more than .025
    assert median_interval([6, 5, 4, 3, 2, 1]) == (3.5, 1, 6)
    assert math.isnan(median_interval([5, 4, 3, 2, 1])[1])


def test_one_seed_has_a_mean_and_no_interval():
    interval = t_interval([-12.5])
    assert (interval.mean, interval.n) == (-12.5, 1)
    assert math.isnan(interval.sd)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_prediction_interval_of_three_seeds():
    # mean 2, s = 1, t(.975, 2) = 4.3026527: half = 4.3026527 sqrt(4/3) = 4.9682754
    assert prediction_interval([1, 2, 3]) == pytest.approx((-2.9682754, 6.9682754))
    assert prediction_interval([1]) == pytest.approx((float("nan"), float("nan")), nan_ok=True)


def test_prediction_of_the_mean_of_further_seeds_by_hand():
    # same tasks: mean 2, s = 1, n = 3, m = 5: half = 4.3026527 sqrt(1/3 + 1/5) = 3.1422136
    assert prediction_of_mean([1, 2, 3], 5) == pytest.approx((2 - 3.1422136, 2 + 3.1422136))
    assert prediction_of_mean([1, 2, 3], 1) == pytest.approx(prediction_interval([1, 2, 3]))
    # fresh tasks as well: t(.975, 9) = 2.2621572; h_t² = 2.2621572² * 4 (1/10 + 1/5)
    half = (3.1422136**2 + 2.2621572**2 * 1.2) ** 0.5
    got = prediction_of_mean([1, 2, 3], 5, sd_over_tasks=2, tasks=10, further_tasks=5)
    assert got == pytest.approx((2 - half, 2 + half))


def test_one_seed_predicts_only_where_there_is_nothing_to_train():
    assert all(map(math.isnan, prediction_of_mean([6.5], 5, sd_over_tasks=2, tasks=4, further_tasks=4)))
    # nothing to train: t(.975, 3) = 3.1824463 times 2 sqrt(1/4 + 1/4)
    half = 3.1824463 * 2**0.5
    got = prediction_of_mean([6.5], None, sd_over_tasks=2, tasks=4, further_tasks=4)
    assert got == pytest.approx((6.5 - half, 6.5 + half))
    assert prediction_of_mean([1, 1], 5) == (1, 1)


@pytest.mark.parametrize(("seeds", "tasks", "sd_of_seeds"), [(5, 40, 0.3), (5, 40, 0.05), (3, 20, 1.0), (20, 40, 0.5)])
def test_the_mean_of_a_further_study_on_other_tasks_falls_inside_as_often_as_it_says(seeds, tasks, sd_of_seeds):
    """Both studies draw their own tasks, which all their seeds share; the noise of a run on a task is small."""
    rng = np.random.default_rng([seeds, tasks])
    studies, further_seeds, further_tasks = 2000, 5, 30
    inside = without_tasks = 0
    for _ in range(studies):
        ours = rng.normal(0, sd_of_seeds, (seeds, 1)) + rng.normal(0, 1, tasks) + rng.normal(0, 0.1, (seeds, tasks))
        theirs = rng.normal(0, sd_of_seeds, (further_seeds, 1)) + rng.normal(0, 1, further_tasks)
        sd = float(ours.std(axis=1, ddof=1).mean())
        means, printed = ours.mean(axis=1), theirs.mean()
        low, high = prediction_of_mean(means, 5, sd_over_tasks=sd, tasks=tasks, further_tasks=further_tasks)
        inside += low <= printed <= high
        low, high = prediction_of_mean(means, 5)
        without_tasks += low <= printed <= high
    error = 4 * (0.95 * 0.05 / studies) ** 0.5
    assert 0.95 - error < inside / studies < 0.98 + error
    assert without_tasks < inside  # the interval on the same tasks is too narrow for a study on others


def test_task_interval_by_hand():
    # t(.975, 4) = 2.7764451; 2 / sqrt(5) = 0.8944272
    assert task_interval(7, 2, 5) == pytest.approx((7 - 2.4833280, 7 + 2.4833280))
    assert all(map(math.isnan, task_interval(7, 2, 1)))


def test_pooled_equals_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 7), rng.normal(0.5, 3, 12)
    expected = stats.ttest_ind(a, b, equal_var=True)
    got = pooled_t_from_summaries(a.mean(), a.std(ddof=1), 7, b.mean(), b.std(ddof=1), 12)
    assert (got.t, got.p, got.df) == pytest.approx((expected.statistic, expected.pvalue, expected.df))
    assert (got.low, got.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_conservative_df_is_the_smaller_sample_less_one():
    # t = (1 - 0) / sqrt(4/4 + 9/9) = 1/sqrt(2)
    test = conservative_t(1, 2, 4, 0, 3, 9)
    assert (test.t, test.df) == (pytest.approx(0.70710678), 3)
    assert test.p >= stats.ttest_ind_from_stats(1, 2, 4, 0, 3, 9, equal_var=False).pvalue


def test_paired_t_of_three_pairs():
    # differences 1, 2, 3: mean 2, s = 1, t = 2 sqrt(3) = 3.4641016, df = 2, p = 0.0741799
    test = paired_t([2, 4, 6], [1, 2, 3])
    assert (test.difference, test.df) == (2, 2)
    assert test.t == pytest.approx(3.4641016)
    assert test.p == pytest.approx(0.0741799, abs=1e-7)


def test_holm_by_hand_leaves_untestable_rows_out():
    # m = 3: .01 * 3 = .03, .03 * 2 = .06, .04 * 1 = .04 raised to .06 because the order must not turn
    assert holm([0.6, 0.3]) == [0.6, 0.6]
    assert holm([0.9, 0.6]) == [1, 1]
    assert holm([0.04, float("nan"), 0.01, 0.03]) == pytest.approx([0.06, float("nan"), 0.03, 0.06], nan_ok=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda: t_interval([]),
        lambda: t_interval([1.0, float("nan")]),
        lambda: conservative_t(0, 1, 1, 0, 1, 5),
        lambda: conservative_t(0, -1, 5, 0, 1, 5),
        lambda: pooled_t_from_summaries(0, 0, 5, 1, 0, 5),
        lambda: paired_t([1, 2], [1, 2, 3]),
        lambda: paired_t([1, 2], [0, 1]),
        lambda: prediction_of_mean([], 5),
    ],
)
def test_undefined_tests_are_refused(call):
    with pytest.raises(ValueError):  # noqa: PT011
        call()

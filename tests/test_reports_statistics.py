"""Intervals and tests against hand-computed values, SciPy, and what the paper prints."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.statistics import (
    conservative_t,
    holm,
    paired_t,
    pooled_t_from_summaries,
    prediction_interval,
    t_interval,
)


def test_t_interval_of_one_to_five():
    # mean 3, s = sqrt(2.5) = 1.5811388; t(.975, 4) = 2.7764451; half width t * s / sqrt(5) = 1.9632432
    interval = t_interval([1, 2, 3, 4, 5])
    assert interval.n == 5
    assert interval.mean == 3
    assert interval.sd == pytest.approx(1.5811388)
    assert (interval.low, interval.high) == pytest.approx((3 - 1.9632432, 3 + 1.9632432))


def test_one_seed_has_a_mean_and_no_interval():
    interval = t_interval([-12.5])
    assert (interval.mean, interval.n) == (-12.5, 1)
    assert math.isnan(interval.sd)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_t_interval_covers_its_mean_as_often_as_it_says(seeds):
    x = np.random.default_rng(seeds).normal(size=(4000, seeds))
    inside = np.mean([interval.low <= 0 <= interval.high for interval in map(t_interval, x)])
    assert abs(inside - 0.95) < 4 * (0.95 * 0.05 / 4000) ** 0.5


def test_prediction_interval_of_three_seeds():
    # mean 2, s = 1, t(.975, 2) = 4.3026527: half = 4.3026527 sqrt(4/3) = 4.9682754
    assert prediction_interval([1, 2, 3]) == pytest.approx((-2.9682754, 6.9682754))
    assert prediction_interval([1]) == pytest.approx((float("nan"), float("nan")), nan_ok=True)


@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
def test_prediction_interval_holds_one_more_seed_as_often_as_it_says(seeds):
    x = np.random.default_rng(seeds).normal(size=(4000, seeds + 1))
    inside = np.mean([low <= row[-1] <= high for row in x for low, high in [prediction_interval(row[:-1])]])
    assert abs(inside - 0.95) < 4 * (0.95 * 0.05 / 4000) ** 0.5


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
    ],
)
def test_undefined_tests_are_refused(call):
    with pytest.raises(ValueError):  # noqa: PT011
        call()

"""Estimates against hand-computed values, SciPy's tests, and the definitions of equivalence and power."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.estimates import (
    Estimate,
    from_components,
    of_mean,
    paired,
    seeds_needed,
    welch,
    welch_from_summaries,
)
from reports.power import power_bound, power_of_difference, power_of_equivalence


def samples(seed, n_a=6, n_b=9):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, n_a), rng.normal(0.7, 3, n_b)


def test_an_estimate_by_hand():
    # t = 3 / 1.5 = 2 with df = 4: P(T > 2) = .0580583; t(.975, 4) = 2.7764451
    estimate = Estimate(3, 1.5, 4, "by hand", "training seed")
    assert estimate.t == 2
    assert estimate.p == pytest.approx(0.1161165, abs=1e-7)
    assert estimate.p_above() == pytest.approx(0.0580583, abs=1e-7)
    assert estimate.p_below() == pytest.approx(1 - 0.0580583, abs=1e-7)
    assert estimate.p_above(3) == estimate.p_below(3) == 0.5
    assert estimate.interval() == pytest.approx((3 - 4.1646677, 3 + 4.1646677))


def test_infinite_degrees_of_freedom_are_the_normal_distribution():
    estimate = Estimate(1.9599640, 1, math.inf, "z")
    assert estimate.p == pytest.approx(0.05, abs=1e-8)
    assert estimate.interval() == pytest.approx((0, 3.9199280), abs=1e-7)


def test_mean_of_five_by_hand():
    # mean 3, s = sqrt(2.5), se = sqrt(.5)
    estimate = of_mean([1, 2, 3, 4, 5], unit="training seed")
    assert (estimate.difference, estimate.df, estimate.unit) == (3, 4, "training seed")
    assert estimate.se == pytest.approx(0.5**0.5)
    assert estimate.p == pytest.approx(stats.ttest_1samp([1, 2, 3, 4, 5], 0).pvalue)


def test_paired_equals_scipy():
    a, b = samples(0, 7, 7)
    expected = stats.ttest_rel(a, b)
    got = paired(a, b)
    assert (got.t, got.df, got.p) == pytest.approx((expected.statistic, expected.df, expected.pvalue))
    assert got.interval(0.9) == pytest.approx(tuple(expected.confidence_interval(0.9)))
    assert got.p_above() == pytest.approx(stats.ttest_rel(a, b, alternative="greater").pvalue)
    assert got.p_below() == pytest.approx(stats.ttest_rel(a, b, alternative="less").pvalue)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 10), (6, 9), (20, 5)])
def test_welch_equals_scipy(sizes):
    a, b = samples(1, *sizes)
    expected = stats.ttest_ind(a, b, equal_var=False)
    got = welch(a, b)
    assert (got.t, got.df, got.p) == pytest.approx((expected.statistic, expected.df, expected.pvalue))
    assert got.interval() == pytest.approx(tuple(expected.confidence_interval()))


def test_welch_of_summaries_by_hand_and_by_scipy():
    # se² = 4/4 + 9/9 = 2; df = 2² / (1/3 + 1/8) = 8.7272727
    got = welch_from_summaries(1, 2, 4, 0, 3, 9)
    assert (got.se, got.df) == pytest.approx((2**0.5, 8.7272727))
    expected = stats.ttest_ind_from_stats(1, 2, 4, 0, 3, 9, equal_var=False)
    assert (got.t, got.p) == pytest.approx((expected.statistic, expected.pvalue))
    # no spread on one side: the other side's degrees of freedom
    assert welch_from_summaries(1, 2, 4, 0, 0, 9).df == 3


def test_components_by_hand():
    # 1 with 2 df, 3 with 6, 2 known: se² = 6; df = 36 / (1/2 + 9/6 + 0) = 18; zeros are left out
    got = from_components(-2, [(1, 2), (3, 6), (2, math.inf), (0, 1)], "three parts", "training seed")
    assert (got.difference, got.name, got.unit) == (-2, "three parts", "training seed")
    assert (got.se, got.df) == pytest.approx((6**0.5, 18))
    assert from_components(0, [(4, 7)], "one").df == pytest.approx(7)
    assert from_components(0, [(4, math.inf)], "known").df == math.inf
    assert from_components(0, [(1e-200, 3), (1e-200, 3)], "tiny").df == pytest.approx(6)


@pytest.mark.parametrize("difference", [-1.2, -0.2, 0.0, 0.4, 0.999, 1.0, 3.0])
@pytest.mark.parametrize("df", [2, 5.5, 60])
def test_equivalence_is_the_90_percent_interval_within_the_margin(difference, df):
    for margin in (0.3, 1.0, 2.5):
        estimate = Estimate(difference, 0.25, df, "t")
        low, high = estimate.interval(0.9)
        assert (estimate.tost(margin) < 0.05) == (-margin < low and high < margin)
        sides = stats.t.sf((difference + margin) / 0.25, df), stats.t.cdf((difference - margin) / 0.25, df)
        assert estimate.tost(margin) == pytest.approx(max(sides))


def test_equivalence_of_paired_values_is_two_tests_of_shifted_values():
    a, b = samples(2, 8, 8)
    lower = stats.ttest_rel(a + 4, b, alternative="greater").pvalue
    upper = stats.ttest_rel(a - 4, b, alternative="less").pvalue
    assert paired(a, b).tost(4) == pytest.approx(max(lower, upper))


@pytest.mark.parametrize(("effect", "n"), [(0.5, 64), (0.8, 26)])
def test_detectable_difference_of_two_groups_as_in_cohens_table(effect, n):
    """Cohen 1992, table 2: runs per group for a medium and a large effect, in SDs, at α = .05 and power .8."""
    found = [Estimate(0, (2 / size) ** 0.5, 2 * size - 2, "t").detectable() for size in (n - 1, n)]
    assert found[0] > effect >= found[1]


@pytest.mark.parametrize("df", [1, 2, 4, 9, 38, 500])
@pytest.mark.parametrize(("power", "alpha"), [(0.8, 0.05), (0.95, 0.01), (0.5, 0.2)])
def test_detectable_difference_has_this_power_by_scipys_noncentral_t(df, power, alpha):
    estimate = Estimate(17.0, 2.5, df, "t")
    shift = estimate.detectable(power, alpha) / 2.5
    c = stats.t.ppf(1 - alpha / 2, df)
    found = stats.nct.sf(c, df, shift) + (stats.nct.cdf(-c, df, shift) if shift < 4 else 0)
    assert found == pytest.approx(power, abs=1e-7)


@pytest.mark.parametrize("df", [1e3, 1e5, 1e7, 1e12, math.inf])
def test_detectable_difference_at_many_degrees_of_freedom_is_the_normal_one(df):
    # z(.975) + z(.8) = 1.9599640 + .8416212, and the other tail, below 1e-6
    assert Estimate(0, 1, df, "t").detectable() == pytest.approx(2.8015852, rel=2 / df + 2e-6)


@pytest.mark.parametrize("shift", [0.0, 1.0, 5.0, 38.0, 100.0, 1e4])
def test_power_is_a_probability_where_scipys_noncentral_t_fails(shift):
    df = np.array([1, 2, 5, 38, 1e4, 1e6, 1e9, math.inf])
    found = power_of_difference(np.full(df.shape, shift), df, 0.05)
    assert (found > 0.05 - 1e-6).all()
    assert (found < 1 + 1e-9).all()
    if shift >= 38:
        assert found[2:] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("df", "shift", "alpha"), [(1, 20.0, 0.05), (2, 1.5, 0.05), (4, 12.0, 0.001), (30, 2.0, 0.1)])
def test_power_by_simulation(df, shift, alpha):
    """Both tests decide by the rule that their p values state: 200 000 draws of difference and standard error."""
    rng = np.random.default_rng([df, int(shift)])
    s, z = (rng.chisquare(df, 200_000) / df) ** 0.5, rng.normal(shift, 1, 200_000)
    room = shift + 3.5
    at = np.array([shift]), np.array([float(df)])
    for frequency, power in (
        (np.mean(np.abs(z) > stats.t.ppf(1 - alpha / 2, df) * s), power_of_difference(*at, alpha)),
        (
            np.mean(np.abs(z) + stats.t.ppf(1 - alpha, df) * s < room),
            power_of_equivalence(at[0], np.array([room]), at[1], alpha),
        ),
    ):
        assert abs(frequency - power[0]) < 4 * (power[0] * (1 - power[0]) / 200_000) ** 0.5 + 1e-6


def test_no_t_test_has_more_power_than_the_bound():
    shift, df = (axis.ravel() for axis in np.meshgrid(np.linspace(0, 8, 17), [1, 2, 5, 30, 1e4, math.inf]))
    for alpha in (0.05, 0.001):
        assert (power_of_difference(shift, df, alpha) <= power_bound(shift, None, alpha) + 1e-6).all()
        for beyond in (0.1, 2.0, 6.0):
            found = power_of_equivalence(shift, shift + beyond, df, alpha)
            assert (found <= power_bound(shift, shift + beyond, alpha) + 1e-6).all()


def test_seeds_needed_of_a_textbook_case():
    """One sample, standardised difference .5, α = .05, two-sided: 34 for power .8, 44 for .9 (G*Power)."""
    assert seeds_needed(0.5, 1.0) == 34
    assert seeds_needed(-0.5, 1.0, power=0.9) == 44


CASES = [
    {"difference": 1.0, "variance_per_seed": 4.0},
    {"difference": 2.0, "variance_per_seed": 1.0},
    {"difference": 0.1, "variance_per_seed": 1.0, "margin": 0.5},
    {"difference": -0.1, "variance_per_seed": 1.0, "margin": 0.5, "fixed": [(0.004, math.inf), (0.003, 19)]},
    {"difference": 1.0, "variance_per_seed": 2.0, "fixed": [(0.02, 4)], "alpha": 0.05 / 12},
    {"difference": 0.9, "variance_per_seed": 1.0, "margin": 1.0, "power": 0.9},
]


@pytest.mark.parametrize("case", CASES)
def test_seeds_needed_is_the_least_number_that_is_enough(case):
    """Simulated studies of n seeds decide with the power, those of n - 1 do not."""
    n = seeds_needed(**case)
    power, alpha, margin = case.get("power", 0.8), case.get("alpha", 0.05), case.get("margin")

    def decided(n):
        at = from_components(0, [(case["variance_per_seed"] / n, n - 1), *case.get("fixed", ())], "t")
        rng = np.random.default_rng(n)
        difference = rng.normal(case["difference"], at.se, 400_000)
        se = at.se * (rng.chisquare(at.df, 400_000) / at.df) ** 0.5
        different = np.mean(np.abs(difference) > stats.t.ppf(1 - alpha / 2, at.df) * se)
        if margin is None:
            return different
        return max(different, np.mean(np.abs(difference) + stats.t.ppf(1 - alpha, at.df) * se < margin))

    error = 4 * (power * (1 - power) / 400_000) ** 0.5
    assert decided(n) > power - error
    assert decided(n - 1) < power + error


def test_seeds_needed_takes_the_cheaper_of_difference_and_equivalence():
    # far inside a wide margin equivalence is cheap, close to its edge the difference is
    assert seeds_needed(0.1, 1.0, margin=1.0) < seeds_needed(0.1, 1.0)
    assert seeds_needed(0.9, 1.0, margin=1.0) == seeds_needed(0.9, 1.0)
    # a margin that the difference exceeds says nothing
    assert seeds_needed(0.9, 1.0, margin=0.5) == seeds_needed(0.9, 1.0)
    assert seeds_needed(0.0, 1.0, margin=0.5) == seeds_needed(0.0, 4.0, margin=1.0)


def test_seeds_needed_against_one_printed_seed_whose_spread_is_ours():
    """variance (1/n + 1) with n - 1 df: more seeds of ours still teach how far one seed strays."""
    case = {"variance_per_seed": 1.0, "other_seeds": 1}
    assert seeds_needed(3.2, **case, most=12) is None
    needed = seeds_needed(3.2, **case)
    for n, enough in ((needed - 1, False), (needed, True)):
        shift, c = 3.2 / (1 / n + 1) ** 0.5, stats.t.ppf(0.975, n - 1)
        assert (stats.nct.sf(c, n - 1, shift) + stats.nct.cdf(-c, n - 1, shift) >= 0.8) == enough
    # with the df of three seeds held fast, no number would do
    assert seeds_needed(3.2, 1.0, fixed=[(1.0, 2)]) is None
    assert seeds_needed(2.8, **case) is None  # below z(.975) + z(.8), one seed's own noise is too much


def test_no_number_of_seeds_is_enough():
    assert seeds_needed(0.0, 1.0) is None  # a true difference of nothing is never found
    assert seeds_needed(0.5, 1.0, most=33) is None
    assert seeds_needed(1.0, 1.0, fixed=[(1.0, 4)]) is None  # the printed mean alone is too noisy
    assert seeds_needed(1.0, 0.0, fixed=[(1.0, math.inf)]) is None
    assert seeds_needed(3.0, 0.0, fixed=[(1.0, math.inf)]) == 2


def test_few_fixed_degrees_of_freedom_can_undo_a_sufficient_number():
    """With a part of two df, more seeds raise its share, and with it the critical value: no bisection finds this."""
    needed = seeds_needed(1.4, 1.0, fixed=[(0.1, 2)], power=0.75)
    assert needed is not None
    n = np.array([needed - 1, needed, 10_000])
    ours = [from_components(0, [(1 / k, k - 1), (0.1, 2)], "t") for k in n.tolist()]
    power = power_of_difference(np.array([1.4 / e.se for e in ours]), np.array([e.df for e in ours]), 0.05)
    assert power[1] >= 0.75 > power[0]
    assert power[2] < 0.75


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: of_mean([1]), "1 values"),
        (lambda: of_mean([2, 2, 2]), "all values are equal"),
        (lambda: of_mean([1, float("nan")]), "not finite"),
        (lambda: paired([1, 2, 3], [0, 1, 2]), "all differences are equal"),
        (lambda: paired([1, 2], [1, 2, 3]), "2 values against 3"),
        (lambda: paired([1], [2]), "1 values"),
        (lambda: welch([1, 2], [1]), "1 values"),
        (lambda: welch([1, 1], [2, 2]), "no spread"),
        (lambda: welch_from_summaries(0, 1, 1, 0, 1, 5), "n = 1"),
        (lambda: welch_from_summaries(0, -1, 3, 0, 1, 5), "standard deviation -1"),
        (lambda: welch_from_summaries(0, float("nan"), 3, 0, 1, 5), "standard deviation nan"),
        (lambda: welch_from_summaries(float("inf"), 1, 3, 0, 1, 5), "difference inf"),
        (lambda: from_components(0, [(0, 3)], "t"), "no spread"),
        (lambda: from_components(0, [], "t"), "no spread"),
        (lambda: from_components(0, [(-1, 3)], "t"), "not a component"),
        (lambda: from_components(0, [(1, 0)], "t"), "not a component"),
        (lambda: from_components(0, [(float("nan"), 3)], "t"), "not a component"),
        (lambda: Estimate(1, 0, 3, "t"), "standard error 0"),
        (lambda: Estimate(1, 1, 0, "t"), "0 degrees"),
        (lambda: Estimate(1, 1, float("nan"), "t"), "nan degrees"),
        (lambda: Estimate(1, 1, 3, "t").tost(0), "margin 0"),
        (lambda: Estimate(1, 1, 3, "t").tost(float("nan")), "margin nan"),
        (lambda: Estimate(1, 1, 3, "t").detectable(power=0.05), "power 0.05"),
        (lambda: seeds_needed(1, 1, margin=-1), "margin -1"),
        (lambda: seeds_needed(1, 1, power=1), "power 1"),
        (lambda: seeds_needed(1, 0), "no spread"),
        (lambda: seeds_needed(1, -1), "not a component"),
        (lambda: seeds_needed(float("nan"), 1), "difference nan"),
    ],
)
def test_undefined_estimates_are_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()

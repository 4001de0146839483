"""How often each method of ours errs, by simulation, at the numbers of training seeds that studies have.

The table is printed at the end of a test run (`pytest_terminal_summary` in conftest.py). The functions are those that
the reports call; two rows are of methods that they do not use, and show why.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from reports.estimates import from_components, of_mean, paired, welch
from reports.resampling import permutation_test, stratified_bootstrap_iqm
from reports.statistics import holm, paired_t, prediction_interval, t_interval

SIZES = (3, 5, 10)
STUDIES = 2000
OFFSETS = np.array([-3, -2, -1, -0.5, 0.5, 1, 2, 3])  # of eight strata, about a true interquartile mean of 0


@dataclass(frozen=True)
class Method:
    """What is simulated: the frequency, over independent studies, with which an interval covers or a test rejects.

    expected: by the number of seeds n. tolerance: for a method that is approximate, on top of four binomial errors.
    """

    nominal: float
    expected: Mapping[int, float]
    frequency: Callable[[np.random.Generator, int], float]
    tolerance: float = 0.0
    studies: int = STUDIES

    def agrees(self, frequency: float, n: int) -> bool:
        p = self.expected[n]
        return abs(frequency - p) <= 4 * (p * (1 - p) / self.studies) ** 0.5 + self.tolerance


def share(study: Callable[[np.random.Generator, int], bool], studies: int = STUDIES):
    """The frequency of an outcome of single studies."""
    return lambda rng, n: sum(study(rng, n) for _ in range(studies)) / studies


def exact(nominal: float) -> dict[int, float]:
    return dict.fromkeys(SIZES, nominal)


def t_covers(rng, n):
    interval = t_interval(rng.normal(size=n))
    return interval.low <= 0 <= interval.high


def normal_covers(rng, n):
    x = rng.normal(size=n)
    return abs(x.mean()) <= 1.96 * x.std(ddof=1) / n**0.5


def prediction_covers(rng, n):
    low, high = prediction_interval(rng.normal(size=n))
    return low <= rng.normal() <= high


def t_interval_covers_one_more(rng, n):
    interval = t_interval(rng.normal(size=n))
    return interval.low <= rng.normal() <= interval.high


def two_samples(rng, n, ratio, times):
    return rng.normal(0, ratio, n), rng.normal(0, 1, times * n)


def welch_rejects(rng, n, ratio=1, times=1):
    return welch(*two_samples(rng, n, ratio, times)).p < 0.05


def pooled_rejects(rng, n):
    return stats.ttest_ind(*two_samples(rng, n, 4, 2)).pvalue < 0.05


def pairs(rng, n):
    """Two methods that differ by noise only, on seeds that make three times as much difference."""
    seeds = rng.normal(0, 3, n)
    return seeds + rng.normal(size=n), seeds + rng.normal(size=n)


def paired_rejects(rng, n):
    return paired(*pairs(rng, n)).p < 0.05


def unpaired_rejects(rng, n):
    return welch(*pairs(rng, n)).p < 0.05


def tost_accepts(rng, n):
    """Equivalence within 10, where the true difference is 10: the worst case of H0."""
    a, b = pairs(rng, n)
    return paired(a + 10, b).tost(10) < 0.05


def one_sided_test_accepts(rng, n):
    a, b = pairs(rng, n)
    return paired(a + 10, b).p_above(-10) < 0.05


def four_tests(rng, n):
    return [paired_t(*pairs(rng, n)).p for _ in range(4)]


def holm_rejects_any(rng, n):
    return min(holm(four_tests(rng, n))) < 0.05


def unadjusted_rejects_any(rng, n):
    return min(four_tests(rng, n)) < 0.05


def permutation_rejects(rng, n, pair):
    """Skewed values; one run is far from normal."""
    a, b = rng.exponential(size=(2, n)) ** 2
    return permutation_test(a, b, rng, paired=pair, resamples=199) <= 0.05


def printed_seed_rejects(rng, n, of_printed=1.0):
    """Our seeds against one printed seed of the same population, whose spread is judged by ours."""
    ours = of_mean(rng.normal(size=n))
    variance = ours.se**2 * n
    part = (variance * (1 / n + of_printed), ours.df)
    return from_components(ours.difference - rng.normal(), [part], "t").p < 0.05


def iqm_covers(rng, n):
    found = stratified_bootstrap_iqm(OFFSETS[:, None] + rng.normal(size=(8, n)), rng, resamples=300)
    return found.low <= 0 <= found.high


def pooled_iqm_covers(rng, n):
    found = stratified_bootstrap_iqm([(OFFSETS[:, None] + rng.normal(size=(8, n))).ravel()], rng, resamples=300)
    return found.low <= 0 <= found.high


def bootstrap_covers(rng, n, studies=STUDIES, resamples=1000):
    """The percentile bootstrap of a mean: what the reports do not use. At n = 3 it spans the three values."""
    covered = 0
    for _ in range(studies // 500):
        x, drawn = rng.normal(size=(500, n)), rng.integers(n, size=(500, resamples, n))
        means = np.take_along_axis(x[:, None, :], drawn, axis=2).mean(axis=2)
        low, high = np.quantile(means, [0.025, 0.975], axis=1)
        covered += int(((low <= 0) & (high >= 0)).sum())
    return covered / studies


def tasks_reject(rng, n, studies=STUDIES, tasks=40):
    """A t-test over the tasks of n = 1 trained model each, between seeds that differ by half as much as tasks do.

    The reports do not use it for a method: it takes the difference between two seeds for one between two methods.
    """
    a, b = rng.normal(0, 0.5, (2, studies, n)) + rng.normal(size=(2, studies, tasks))
    return float(np.mean(stats.ttest_ind(a, b, axis=1).pvalue < 0.05))


# Expected is the nominal rate, but where another is known. By arithmetic: Holm over four independent tests
# 1 - (1 - .05/4)^4; permutations, in twos, the most of 20, 252, and of 8, 32, 1024 arrangements that are no more than
# 5 %; the percentile bootstrap of three values 1 - 2/8. By larger simulations (10 000 to 100 000 studies): the other
# bootstraps.
METHODS = {
    "t interval, coverage": Method(0.95, exact(0.95), share(t_covers)),
    "prediction interval, coverage of one more seed": Method(0.95, exact(0.95), share(prediction_covers)),
    "Welch t, equal SDs": Method(0.05, exact(0.05), share(welch_rejects), tolerance=0.02),
    "Welch t, SDs 4:1": Method(0.05, exact(0.05), share(functools.partial(welch_rejects, ratio=4)), tolerance=0.02),
    "Welch t, SDs 4:1, n against 2n": Method(
        0.05, exact(0.05), share(functools.partial(welch_rejects, ratio=4, times=2)), tolerance=0.02
    ),
    "paired t": Method(0.05, exact(0.05), share(paired_rejects)),
    "TOST at the margin, paired": Method(0.05, exact(0.05), share(tost_accepts)),
    "t against one printed seed": Method(0.05, exact(0.05), share(printed_seed_rejects)),
    "Holm, any of 4 paired t": Method(0.05, exact(0.0491), share(holm_rejects_any, 1000), studies=1000),
    "permutation, two samples": Method(
        0.05, {3: 0, 5: 12 / 252, 10: 0.05}, share(functools.partial(permutation_rejects, pair=False))
    ),
    "permutation, pairs": Method(
        0.05, {3: 0, 5: 0, 10: 50 / 1024}, share(functools.partial(permutation_rejects, pair=True))
    ),
    "stratified bootstrap IQM of 8 strata, coverage": Method(
        0.95, {3: 0.86, 5: 0.905, 10: 0.925}, share(iqm_covers, 1000), tolerance=0.01, studies=1000
    ),
    "not used: percentile bootstrap of a mean, coverage": Method(
        0.95, {3: 0.75, 5: 0.83, 10: 0.895}, bootstrap_covers, tolerance=0.01
    ),
    "not used: t over 40 tasks of one seed each": Method(0.05, {1: 0.548}, tasks_reject, tolerance=0.01),
}
BROKEN = {
    "t interval, coverage": normal_covers,
    "prediction interval, coverage of one more seed": t_interval_covers_one_more,
    "Welch t, SDs 4:1, n against 2n": pooled_rejects,
    "paired t": unpaired_rejects,
    "TOST at the margin, paired": one_sided_test_accepts,
    "t against one printed seed": functools.partial(printed_seed_rejects, of_printed=0),
    "Holm, any of 4 paired t": unadjusted_rejects_any,
    "stratified bootstrap IQM of 8 strata, coverage": pooled_iqm_covers,
}


@pytest.mark.parametrize(("label", "n"), [(label, n) for label, method in METHODS.items() for n in method.expected])
def test_a_method_errs_as_often_as_it_says(label, n, record_property):
    method = METHODS[label]
    found = method.frequency(np.random.default_rng([list(METHODS).index(label), n]), n)
    record_property("error_rate", [label, n, float(found), method.nominal])
    assert method.agrees(found, n)


@pytest.mark.parametrize("label", BROKEN)
def test_the_margin_is_missed_by_a_broken_method(label):
    """In order: normal quantiles, no spread of the new seed, one variance for two, no pairing, one side, no spread of
    the printed seed, no adjustment, no strata."""
    method = METHODS[label]
    found = share(BROKEN[label], method.studies)(np.random.default_rng(0), 5)
    assert not method.agrees(found, 5)

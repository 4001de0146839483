"""Bootstrap and permutation against hand-counted arrangements and SciPy, and their randomness as a parameter."""

import numpy as np
import pytest
from scipy import stats

from reports import resampling
from reports.resampling import interquartile_mean, permutation_test, stratified_bootstrap_iqm


def test_interquartile_mean_by_hand():
    # of eight values the two lowest and the two highest go: (3 + 4 + 5 + 6) / 4
    assert interquartile_mean(np.array([100, 1, 2, 3, 4, 5, 6, -50])) == 3.5
    # of seven values ⌊7/4⌋ = 1 goes on each side: (2 + 3 + 4 + 5 + 6) / 5
    assert interquartile_mean(np.array([2, 3, 900, 4, 5, 6, -900])) == 4
    assert interquartile_mean(np.array([1, 5])) == 3


@pytest.mark.parametrize("n", [2, 3, 4, 15, 40])
def test_interquartile_mean_equals_scipy(n):
    x = np.random.default_rng(n).normal(size=(6, n))
    assert interquartile_mean(x) == pytest.approx(stats.trim_mean(x, 0.25, axis=1))


def test_bootstrap_of_two_strata_by_enumeration():
    # resampled first stratum: 00, 04, 40, 44, each 1/4; IQM of (., ., 10, 10) is the mean of its larger value and 10
    found = stratified_bootstrap_iqm([[0, 4], [10, 10]], np.random.default_rng(0), level=0.4)
    assert (found.value, found.n) == (7, 4)
    # IQM* is 5 with 1/4, else 7: the .3 and the .7 quantile are both 7, the .2 and the .8 quantile 5 and 7
    assert (found.low, found.high) == (7, 7)
    wide = stratified_bootstrap_iqm([[0, 4], [10, 10]], np.random.default_rng(0), level=0.6)
    assert (wide.low, wide.high) == (5, 7)


def test_runs_are_drawn_within_their_stratum():
    """Constant runs in each stratum: any resample is the sample, so the interval is a point."""
    found = stratified_bootstrap_iqm([[1, 1], [5, 5, 5], [9, 9]], np.random.default_rng(0), resamples=50)
    assert found.value == found.low == found.high == 5


def test_blocks_cover_every_resample_once(monkeypatch):
    monkeypatch.setattr(resampling, "BLOCK", 50)
    assert resampling._blocks(7, 20) == [2, 2, 2, 1]
    scores = [np.arange(10.0), np.arange(10.0)]
    assert stratified_bootstrap_iqm(scores, np.random.default_rng(1), resamples=7).n == 20


def draws(rng):
    """One of each: a bootstrap, and Monte Carlo permutations of both kinds."""
    a, b = np.arange(16.0), np.arange(16.0)[::-1] + 0.3
    interval = stratified_bootstrap_iqm([a, b**2], rng, resamples=40)
    return interval, *(permutation_test(a, b, rng, paired=paired, resamples=199) for paired in (False, True))


def test_equal_generator_states_give_equal_numbers():
    assert draws(np.random.default_rng(3)) == draws(np.random.default_rng(3))
    assert draws(np.random.default_rng(3)) != draws(np.random.default_rng(4))


def test_the_global_generator_is_neither_read_nor_moved():
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()  # noqa: NPY002
    first = draws(np.random.default_rng(3))
    after = np.random.get_state()  # noqa: NPY002
    assert before[2:] == after[2:]
    assert (before[1] == after[1]).all()
    np.random.seed(6)  # noqa: NPY002
    assert draws(np.random.default_rng(3)) == first


def test_permutations_counted_by_hand():
    rng = np.random.default_rng(0)
    # {1, 2} against {3, 4}: of 6 allocations only this one and its mirror are as far apart
    assert permutation_test([1, 2], [3, 4], rng, paired=False) == 2 / 6
    # {1, 4} against {2, 6}: d = -1.5; sums of the first pair 3, 5, 7 | 6, 8, 10, of 13: |2s - 13| = 7, 3, 1 | 1, 3, 7
    assert permutation_test([1, 4], [2, 6], rng, paired=False) == 4 / 6
    # differences 1, 2, -3: sums of signs ±6 (1 way each), ±4 (1), ±2 (1), 0 (2); observed 0
    assert permutation_test([1, 2, 0], [0, 0, 3], rng, paired=True) == 1
    # differences 1, 2, 4: observed 7, only all-plus and all-minus reach it
    assert permutation_test([1, 2, 4], [0, 0, 0], rng, paired=True) == 2 / 8
    # unequal sizes have no mirror: {9} and another against the rest; 9 + 2 is the farthest sum of 10 pairs
    assert permutation_test([9, 2], [0, 0.5, 1], rng, paired=False) == 1 / 10


def test_arrangements_equal_but_for_rounding_count_as_equal():
    # 0.1 + 0.2 and 0.3: d = 0.1 + 0.2 - 0.3 is 0 up to rounding, so every arrangement is as far out
    assert permutation_test([0.1, 0.2, 0], [0, 0, 0.3], np.random.default_rng(0), paired=True) == 1
    assert permutation_test([5, 5], [5, 5], np.random.default_rng(0), paired=False) == 1


@pytest.mark.parametrize(("n", "paired"), [(5, False), (7, False), (6, True), (14, True)])
def test_enumeration_equals_scipy_and_draws_nothing(n, paired):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0, 1, n), rng.normal(0.8, 2, n)
    state = rng.bit_generator.state
    kind = "samples" if paired else "independent"
    expected = stats.permutation_test(
        (a, b),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        permutation_type=kind,
        vectorized=True,
        n_resamples=np.inf,
    )
    assert permutation_test(a, b, rng, paired=paired) == pytest.approx(expected.pvalue)
    assert rng.bit_generator.state == state


@pytest.mark.parametrize("paired", [False, True])
def test_random_arrangements_come_near_the_exact_p(monkeypatch, paired):
    rng = np.random.default_rng(8)
    a, b = rng.normal(0, 1, 8), rng.normal(0.9, 1, 8)
    exact = permutation_test(a, b, rng, paired=paired)
    monkeypatch.setattr(resampling, "EXACT", 1)
    drawn = permutation_test(a, b, rng, paired=paired, resamples=20_000)
    assert abs(drawn - exact) < 4 * (exact * (1 - exact) / 20_000) ** 0.5


def test_a_drawn_p_is_never_zero():
    far = np.arange(20) + 100
    assert permutation_test(far, np.arange(20), np.random.default_rng(0), paired=False, resamples=99) == 1 / 100
    assert permutation_test(far, np.arange(20), np.random.default_rng(0), paired=True, resamples=99) == 1 / 100


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda rng: stratified_bootstrap_iqm([], rng), "no stratum"),
        (lambda rng: stratified_bootstrap_iqm([[1, 2], [3]], rng), "1 values"),
        (lambda rng: stratified_bootstrap_iqm([[1, float("inf")]], rng), "not finite"),
        (lambda rng: stratified_bootstrap_iqm([[1, 2]], rng, resamples=0), "0 resamples"),
        (lambda rng: permutation_test([1], [2, 3], rng, paired=False), "1 values"),
        (lambda rng: permutation_test([1, 2], [2, 3, 4], rng, paired=True), "2 values against 3"),
        (lambda rng: permutation_test([1, float("nan")], [2, 3], rng, paired=False), "not finite"),
        (lambda rng: permutation_test([1, 2], [2, 3], rng, paired=False, resamples=0), "0 resamples"),
    ],
)
def test_what_cannot_be_resampled_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call(np.random.default_rng(0))

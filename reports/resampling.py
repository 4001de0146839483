"""Resampling where no formula fits: an interquartile mean over many strata, and a test without normality.

Every draw comes from the generator that is handed in: an equal state of it gives equal numbers, and NumPy's global
generator is neither read nor moved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from reports.estimates import finite_values

EXACT = 20_000  # permutations up to which all are looked at
BLOCK = 2_000_000  # values held at once


@dataclass(frozen=True)
class ResampledInterval:
    """A statistic of the values as they are, and the ends of its bootstrap interval; n: values over all strata."""

    value: float
    low: float
    high: float
    n: int


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """The mean without the lowest and the highest quarter, over the last axis.

        IQM = mean of x_(k+1), ..., x_(n-k),   k = ⌊n / 4⌋                                (Agarwal et al. 2021)

    Shapes: [..., n] in, [...] out.
    """
    n = scores.shape[-1]
    k = n // 4
    return np.partition(scores, (k, n - k - 1), axis=-1)[..., k : n - k].mean(axis=-1)


def stratified_bootstrap_iqm(
    scores_by_task: Sequence[ArrayLike], rng: np.random.Generator, resamples: int = 2000, level: float = 0.95
) -> ResampledInterval:
    """Interquartile mean over all runs of all task families, with its stratified percentile bootstrap interval.

        [q_{(1-level)/2}, q_{(1+level)/2}] of IQM(x*),   x*_j: n_j runs drawn with replacement from the n_j of stratum j
                                                                                          (Agarwal et al. 2021)

    Shapes:
        scores_by_task: per stratum [seeds]   scores that are comparable between task families; n_j may differ
    Valid for many strata with independent runs; the strata are taken as the whole benchmark, not as a sample. A stratum
    of n runs shows (n - 1)/n of its variance, so with few runs in each the interval is too narrow, however many strata:
    with eight of them .86, .90, .93 instead of .95 at 3, 5, 10 runs (simulated in the tests). For one task family take
    `statistics.t_interval`.
    Errors: ValueError for no stratum, fewer than two runs in one, a score that is not finite, or no resamples.
    """
    strata = [finite_values(scores, minimum=2) for scores in scores_by_task]
    if not strata:
        raise ValueError("no stratum: at least one is needed")
    _some(resamples)
    pooled = np.concatenate(strata)
    found = [
        interquartile_mean(np.concatenate([rng.choice(runs, (size, runs.size)) for runs in strata], axis=1))
        for size in _blocks(resamples, pooled.size)
    ]
    low, high = np.quantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2])
    return ResampledInterval(float(interquartile_mean(pooled)), float(low), float(high), pooled.size)


def permutation_test(
    a: ArrayLike, b: ArrayLike, rng: np.random.Generator, *, paired: bool, resamples: int = 9999
) -> float:
    """Two-sided p of mean a minus mean b, under exchange of the labels, or of the signs of the paired differences.

        all M arrangements, M ≤ 20000:   p = #{|d*| ≥ |d|} / M
        else m random ones:              p = (#{|d*| ≥ |d|} + 1) / (m + 1)             (Phipson & Smyth 2010)

    Shapes:
        a, b: [seeds]   one number per training seed; paired: the same seeds in the same order
    Valid without normality, at every n, if the labels could be exchanged (unpaired: equal distributions under H0, which
    unequal variances are not; paired: differences symmetric about 0). With equal sizes p is at least 2/M, so it can be
    below .05 only from 4 runs against 4, or from 6 pairs.
    Errors: ValueError for fewer than two values on a side, one that is not finite, different lengths of pairs, or no
    resamples.
    """
    x, y = finite_values(a, minimum=2), finite_values(b, minimum=2)
    _some(resamples)
    if not paired:
        pooled = np.concatenate([x, y])
        centred = pooled - pooled.mean()  # d is then in proportion to the sum over one group
        observed, (sums, exact) = centred[: x.size].sum(), _group_sums(centred, x.size, rng, resamples)
    elif x.shape == y.shape:
        observed, (sums, exact) = (x - y).sum(), _signed_sums(x - y, rng, resamples)
    else:
        raise ValueError(f"{x.size} values against {y.size}: pairs need the same seeds on both sides")
    rounding = 1e-12 * (np.abs(x).sum() + np.abs(y).sum())  # arrangements of one d differ in their last digits
    as_far = int((np.abs(sums) >= abs(observed) - rounding).sum())
    return as_far / sums.size if exact else (as_far + 1) / (sums.size + 1)


def _signed_sums(d: np.ndarray, rng: np.random.Generator, resamples: int) -> tuple[np.ndarray, bool]:
    """Σ ±d_i under all, or else random, signs; and whether it was all."""
    if 2**d.size <= EXACT:
        bits = np.arange(2**d.size)[:, None] >> np.arange(d.size) & 1
        return (1 - 2 * bits) @ d, True
    return np.concatenate([rng.choice((-1.0, 1.0), (size, d.size)) @ d for size in _blocks(resamples, d.size)]), False


def _group_sums(x: np.ndarray, group: int, rng: np.random.Generator, resamples: int) -> tuple[np.ndarray, bool]:
    """The sum over the first group under all, or else random, allocations to groups; and whether it was all."""
    if math.comb(x.size, group) <= EXACT:
        return x[np.array(list(combinations(range(x.size), group)))].sum(axis=1), True
    sums = [
        rng.permuted(np.broadcast_to(x, (size, x.size)), axis=1)[:, :group].sum(axis=1)
        for size in _blocks(resamples, x.size)
    ]
    return np.concatenate(sums), False


def _blocks(resamples: int, width: int) -> list[int]:
    """Sizes that sum to `resamples`, each small enough for a table of this width to be held at once."""
    size = max(1, BLOCK // width)
    return [min(size, resamples - start) for start in range(0, resamples, size)]


def _some(resamples: int) -> None:
    if resamples < 1:
        raise ValueError(f"{resamples} resamples: at least one is needed")

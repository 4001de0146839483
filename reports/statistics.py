"""Intervals and t-tests.

The unit of analysis is the training seed: average the tasks of one trained model first, infer over seeds, pair by seed
where two methods share it. A test over the meta-test tasks of one model holds for that model only; whoever calls a
function of this module on tasks must label the result "conditional on this model".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from reports.estimates import Estimate, finite_values, paired, variance_of_mean


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided interval; sd, low and high are NaN where n < 2 leaves them undefined."""

    mean: float
    sd: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class TTest:
    """A two-sided t-test of mean a minus mean b, with the interval of that difference."""

    name: str
    difference: float
    low: float
    high: float
    t: float
    df: float
    p: float


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's interval of a mean.

        x̄ ± t_{(1+level)/2, n-1} · s / √n,   s² = Σ (x_i - x̄)² / (n - 1)          (Student 1908)

    Shapes:
        values: [seeds]   one number per training seed, in the units of the return
    Valid for independent values that are roughly normal; exact coverage under normality at every n ≥ 2. With n = 1 the
    mean is returned and sd, low, high are NaN.
    Errors: ValueError for no values, or for one that is not finite.
    """
    x = finite_values(values, minimum=1)
    mean, n = float(x.mean()), x.size
    if n < 2:
        return Interval(mean, float("nan"), float("nan"), float("nan"), n)
    sd = float(x.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * sd / n**0.5
    return Interval(mean, sd, mean - half, mean + half, n)


def median_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Median, and the ends of its distribution-free interval.

        [x_(k), x_(n+1-k)],   the largest k with P(Bin(n, 1/2) < k) ≤ (1 - level) / 2          (Conover 1999, 3.2)

    Shapes:
        values: [cases]   -> median, low, high
    Valid for independent values of any continuous distribution, heavy tails included; coverage is at least `level`.
    With fewer than six values no such interval has 95 %: both ends are NaN.
    Errors: as `t_interval`.
    """
    x = np.sort(finite_values(values, minimum=1))
    tails = stats.binom.cdf(np.arange(x.size), x.size, 0.5)
    k = int((tails <= (1 - level) / 2).sum())
    ends = (float(x[k - 1]), float(x[x.size - k])) if k else (float("nan"), float("nan"))
    return float(np.median(x)), *ends


def prediction_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Where the mean return of one more training seed would fall, judging by ours.

        x̄ ± t_{(1+level)/2, n-1} · s · √(1 + 1/n)          (Whitmore 1986; Spence & Stanley 2016 for replications)

    This, and not the interval of the mean, is what a paper with one training seed can be held against: its number is
    one draw, and carries the whole spread between seeds.

    Shapes:
        values: [seeds]   one number per training seed, in the units of the return
    Valid where the new seed comes from the same, roughly normal, population: for a paper, under the hypothesis that its
    code and ours are the same experiment. With n = 1 both ends are NaN.
    Errors: as `t_interval`.
    """
    interval = t_interval(values, level)
    half = float(stats.t.ppf((1 + level) / 2, interval.n - 1)) * interval.sd * (1 + 1 / interval.n) ** 0.5
    return interval.mean - half, interval.mean + half


def prediction_of_mean(
    values: ArrayLike,
    further_seeds: int | None,
    *,
    sd_over_tasks: float = 0.0,
    tasks: int | None = None,
    further_tasks: int | None = None,
    level: float = 0.95,
) -> tuple[float, float]:
    """Where the mean of a further study would fall: m training seeds, each tested on the same T' fresh tasks.

        x̄ ± √(h_s² + h_t²)                                                          (Zou & Donner 2008, "MOVER")
        h_s = t_{(1+level)/2, n-1} · s · √(1/n + 1/m),   h_t = t_{(1+level)/2, T-1} · σ · √(1/T + 1/T')

    s: SD over our n seeds; σ: `sd_over_tasks`, the SD over our T test tasks within a seed. A printed mean over several
    seeds is steadier than one more seed (1/m in place of 1). But its test tasks are other draws than ours, which all
    our seeds share: their luck is in x̄ as a whole, and no spread over seeds shows it. With σ = 0 this is the interval
    on the same test tasks.

    Shapes:
        values: [seeds]   one number per training seed
    further_seeds: m; None where there is nothing to train and one seed is as good as many (1/m = 0; h_s = 0 for n = 1).
    further_tasks: T'; None where it is not known (1/T' = 0: the interval is then too narrow for a finite T').
    Valid for effects of seed and task that are independent and roughly normal; never narrower than on the same tasks,
    and, as every such combination, a little wide where both parts matter. What is particular to a pair of seed and
    task is in s and in σ, and counts twice: with few tasks the interval errs towards too wide, as it does if every
    seed of the other study had tasks of its own.
    With one seed of a method that trains, both ends are NaN.
    Errors: as `t_interval`.
    """
    interval = t_interval(values, level)
    n = interval.n
    if n == 1 and further_seeds is not None:
        return float("nan"), float("nan")
    quantile = (1 + level) / 2
    square = 0.0
    if n > 1:
        square += float(stats.t.ppf(quantile, n - 1)) ** 2 * interval.sd**2 * (1 / n + _inverse(further_seeds))
    if tasks:
        square += (
            float(stats.t.ppf(quantile, tasks - 1)) ** 2 * sd_over_tasks**2 * (1 / tasks + _inverse(further_tasks))
        )
    half = square**0.5
    return interval.mean - half, interval.mean + half


def _inverse(count: int | None) -> float:
    return 0.0 if count is None else 1 / count


def task_interval(mean: float, sd_over_tasks: float, tasks: int, level: float = 0.95) -> tuple[float, float]:
    """Student's interval across the meta-test tasks of one trained model: conditional on this model.

        x̄ ± t_{(1+level)/2, T-1} · σ / √T

    Shapes: scalars; sd_over_tasks with T - 1, in the units of the mean; of several seeds the mean of their SDs.
    Valid for independent tasks. It says where the mean over all tasks of the family lies for this model, and nothing
    about other training seeds. NaN for fewer than two tasks.
    """
    half = float(stats.t.ppf((1 + level) / 2, tasks - 1)) * sd_over_tasks / tasks**0.5 if tasks > 1 else float("nan")
    return mean - half, mean + half


def conservative_t(
    mean_a: float, sd_a: float, n_a: int, mean_b: float, sd_b: float, n_b: int, level: float = 0.95
) -> TTest:
    """Welch's t value with the conservative degrees of freedom that the Ulm report uses.

        t = (ā - b̄) / √(s_a²/n_a + s_b²/n_b),   df = min(n_a, n_b) - 1   (Bluman 2009, which the report cites)

    Shapes: scalars; means and SDs in the units of the return, SDs with n - 1.
    Valid for independent samples that are roughly normal; p is never smaller than with Welch's df, so the test errs
    towards "no difference".
    Errors: ValueError for n < 2, a negative SD, or two SDs of zero.
    """
    va, vb = variance_of_mean(sd_a, n_a), variance_of_mean(sd_b, n_b)
    if va + vb == 0:
        raise ValueError("both standard deviations are zero; t is undefined")
    df = min(n_a, n_b) - 1
    return _t_test(Estimate(mean_a - mean_b, (va + vb) ** 0.5, df, "two-sample t, df = min(n) - 1"), level)


def pooled_t_from_summaries(
    mean_a: float, sd_a: float, n_a: int, mean_b: float, sd_b: float, n_b: int, level: float = 0.95
) -> TTest:
    """The independent two-sample t-test with a pooled variance.

        s_p² = ((n_a-1) s_a² + (n_b-1) s_b²) / (n_a + n_b - 2)
        t = (ā - b̄) / (s_p √(1/n_a + 1/n_b)),   df = n_a + n_b - 2                   (Fisher 1925)

    Shapes: scalars; means and SDs in the units of the return, SDs with n - 1.
    Valid for two independent samples of equal variance; with n_a = n_b its t equals Welch's and only df differs.
    Errors: ValueError for n < 2, a negative SD, or two SDs of zero.
    """
    variance_of_mean(sd_a, n_a), variance_of_mean(sd_b, n_b)
    df = n_a + n_b - 2
    pooled = ((n_a - 1) * sd_a**2 + (n_b - 1) * sd_b**2) / df
    if pooled == 0:
        raise ValueError("both standard deviations are zero; t is undefined")
    se = (pooled * (1 / n_a + 1 / n_b)) ** 0.5
    return _t_test(Estimate(mean_a - mean_b, se, df, "pooled two-sample t"), level)


def paired_t(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> TTest:
    """Paired t-test.

        d_i = a_i - b_i,   t = d̄ / (s_d / √n),   df = n - 1                         (Student 1908)

    Shapes:
        a, b: [seeds]   one number per training seed, the same seeds in the same order
    Valid where the differences are independent and roughly normal. Runs may be paired by seed because a seed decides
    the tasks and, for equal observations, the initial weights on both sides (noise only while both draw equally often).
    Errors: ValueError for different lengths, fewer than two pairs, a value that is not finite, or equal differences.
    """
    return _t_test(paired(a, b), level)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of a declared family.

        p̃_(i) = max_{j ≤ i} min(1, (m - j + 1) p_(j)),   p_(1) ≤ ... ≤ p_(m)           (Holm 1979)

    Shapes: [tests] in, [tests] out, in the order given. NaN (a test that could not be made) stays NaN, outside m.
    Valid under any dependence between the tests; controls the family-wise error rate.
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return [float(value) for value in adjusted]


def _t_test(estimate: Estimate, level: float) -> TTest:
    low, high = estimate.interval(level)
    return TTest(estimate.name, estimate.difference, low, high, estimate.t, float(estimate.df), estimate.p)

"""A difference with its standard error, and everything that follows from the two: tests, equivalence, power, seeds.

The unit of analysis is written into the estimate (`unit`): the training seed, or, where tasks of one trained model are
what varies, "meta-test task, conditional on this model".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from reports.power import power_bound, power_of_difference, power_of_equivalence

Component = tuple[float, float]  # the variance of a mean, and the degrees of freedom of that variance


@dataclass(frozen=True)
class Estimate:
    """A difference, its standard error and degrees of freedom: all that intervals, tests and power need.

        (difference - true difference) / se  ~  Student's t with df degrees of freedom

    difference: in the units of what was compared. se: positive, in the same units. df: may be infinite (se is known).
    name: of the test, such as "paired t". unit: of analysis, such as "training seed".
    Errors: ValueError for a difference or se that is not finite, se of zero or less, or df that is not positive.
    """

    difference: float
    se: float
    df: float
    name: str
    unit: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.difference):
            raise ValueError(f"difference {self.difference} is not finite")
        if not (math.isfinite(self.se) and self.se > 0):
            raise ValueError(f"standard error {self.se} is not a positive number; t is undefined")
        if not self.df > 0:
            raise ValueError(f"{self.df} degrees of freedom; a positive number is needed")

    @property
    def t(self) -> float:
        """t = difference / se."""
        return self.difference / self.se

    @property
    def p(self) -> float:
        """Two-sided p of H0: the true difference is 0;   p = 2 P(T_df > |t|)."""
        return 2 * float(stats.t.sf(abs(self.t), self.df))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The two-sided interval of the true difference;   difference ± t_{(1+level)/2, df} · se."""
        half = float(stats.t.ppf((1 + level) / 2, self.df)) * self.se
        return self.difference - half, self.difference + half

    def p_above(self, bound: float = 0.0) -> float:
        """One-sided p; H1: the true difference is above the bound."""
        return float(stats.t.sf((self.difference - bound) / self.se, self.df))

    def p_below(self, bound: float = 0.0) -> float:
        """One-sided p; H1: the true difference is below the bound."""
        return float(stats.t.cdf((self.difference - bound) / self.se, self.df))

    def tost(self, margin: float) -> float:
        """The p of equivalence: two one-sided tests; H1: the true difference lies strictly between -margin and margin.

            p = max(P(T_df > (d + margin) / se), P(T_df < (d - margin) / se))            (Schuirmann 1987)

        p < α exactly where the two-sided interval of level 1 - 2α lies within the margin.
        Errors: ValueError for a margin that is not positive and finite.
        """
        _positive_margin(margin)
        return max(self.p_above(-margin), self.p_below(margin))

    def detectable(self, power: float = 0.8, alpha: float = 0.05) -> float:
        """The smallest absolute true difference that the two-sided test at level alpha finds with this power.

            the δ · se at which P(|T'_{df,δ}| > t_{1-α/2, df}) = power,   T' noncentral t           (Cohen 1988)

        Valid for planning: se and df are taken as they would be in the next study of this kind. It does not depend on
        the observed difference, and is no "observed power".
        Errors: ValueError unless alpha < power < 1.
        """
        _reachable(power, alpha)
        df = np.array([self.df])

        def missing(shift: float) -> float:
            return float(power_of_difference(np.array([shift]), df, alpha)[0]) - power

        high = 1.0
        while missing(high) < 0:
            high *= 2
        return float(optimize.brentq(missing, 0.0, high, xtol=1e-12)) * self.se


def of_mean(values: ArrayLike, unit: str = "") -> Estimate:
    """The mean of one sample against 0.

        x̄,   se = s / √n,   df = n - 1                                                    (Student 1908)

    Shapes:
        values: [seeds]   one number per training seed; to test against a known number, that number subtracted
    Valid for independent values that are roughly normal.
    Errors: ValueError for fewer than two values, one that is not finite, or values that are all equal.
    """
    x = finite_values(values, minimum=2)
    return Estimate(float(x.mean()), _spread(x, "values") / x.size**0.5, x.size - 1, "one-sample t", unit)


def paired(a: ArrayLike, b: ArrayLike, unit: str = "") -> Estimate:
    """Mean a minus mean b over pairs.

        d_i = a_i - b_i,   d̄,   se = s_d / √n,   df = n - 1                               (Student 1908)

    Shapes:
        a, b: [seeds]   one number per training seed, the same seeds in the same order
    Valid where the differences are independent and roughly normal.
    Errors: ValueError for different lengths, fewer than two pairs, a value that is not finite, or equal differences.
    """
    x, y = finite_values(a, minimum=2), finite_values(b, minimum=2)
    if x.shape != y.shape:
        raise ValueError(f"{x.size} values against {y.size}: pairs need the same seeds on both sides")
    d = x - y
    return Estimate(float(d.mean()), _spread(d, "differences") / d.size**0.5, d.size - 1, "paired t", unit)


def welch(a: ArrayLike, b: ArrayLike, unit: str = "") -> Estimate:
    """Mean a minus mean b of two independent samples, as `welch_from_summaries`.

    Shapes:
        a: [seeds of a], b: [seeds of b]   one number per training seed
    Errors: ValueError for fewer than two values on a side, one that is not finite, or no spread on either side.
    """
    x, y = finite_values(a, minimum=2), finite_values(b, minimum=2)
    sd_x, sd_y = float(x.std(ddof=1)), float(y.std(ddof=1))
    return welch_from_summaries(float(x.mean()), sd_x, x.size, float(y.mean()), sd_y, y.size, unit)


def welch_from_summaries(
    mean_a: float, sd_a: float, n_a: int, mean_b: float, sd_b: float, n_b: int, unit: str = ""
) -> Estimate:
    """Mean a minus mean b of two independent samples of any two variances.

        se² = s_a²/n_a + s_b²/n_b,   df = se⁴ / ((s_a²/n_a)²/(n_a-1) + (s_b²/n_b)²/(n_b-1))           (Welch 1947)

    Shapes: scalars; means and SDs in the units of the return, SDs with n - 1.
    Valid for independent samples that are roughly normal; approximate: with three values a side its type-I error at
    level .05 is .036 for equal SDs and .056 for SDs of 4:1, with three of the larger SD against six .066 (10⁶ studies).
    Errors: ValueError for n < 2, a negative SD, or two SDs of zero.
    """
    components = [(variance_of_mean(sd_a, n_a), n_a - 1), (variance_of_mean(sd_b, n_b), n_b - 1)]
    return from_components(mean_a - mean_b, components, "Welch t", unit)


def from_components(difference: float, components: Sequence[Component], name: str, unit: str = "") -> Estimate:
    """A difference whose variance is a sum of independently estimated parts.

        se² = Σ v_i,   df = (Σ v_i)² / Σ (v_i² / df_i)                            (Satterthwaite 1946)

    components: (v_i, df_i) each: the part's contribution to the variance of the difference, and the degrees of freedom
        with which it was estimated, infinite where it is known. Parts of zero are left out. Parts that rest on the same
        sample are one part: against one printed seed, whose spread is taken to be ours, (s² (1/n + 1), n - 1).
    Valid for parts from independent, roughly normal samples; exact with one part, else approximate.
    Errors: ValueError for a negative or infinite part, df that are not positive, or if all parts are zero.
    """
    parts = _proper(components)
    if not parts:
        raise ValueError("all variances are zero: no spread to test with; t is undefined")
    variance, df = _satterthwaite(parts)
    return Estimate(difference, float(variance) ** 0.5, float(df), name, unit)


def seeds_needed(
    difference: float,
    variance_per_seed: float,
    *,
    fixed: Sequence[Component] = (),
    other_seeds: int | None = None,
    margin: float | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
    most: int = 10_000,
) -> int | None:
    """The smallest number of training seeds that decides, with this power, when the true difference is `difference`.

        the least n ≥ 2 at which, with the components (variance_per_seed · (1/n + 1/other_seeds), n - 1) and `fixed`,
        P(the two-sided t-test at level α rejects) ≥ power,   or, for |difference| < margin, P(TOST p < α) ≥ power

    The probabilities are exact given se and df (noncentral t; for TOST Owen 1965), which are those of
    `from_components`. None where no n up to `most` is enough: the fixed part alone may be too noisy.

    variance_per_seed: between our seeds, or between the differences of our pairs.
    fixed:  components that more seeds of ours do not shrink, such as the printed mean's; as in `from_components`.
    other_seeds: of the other side, where its spread is judged by ours, and with more of ours better; None (1/∞) where
        the other side has none, or its own spread in `fixed`.
    margin: of equivalence; None where none is declared.
    Errors: ValueError unless alpha < power < 1; for a margin that is not positive, or for components as above.
    """
    _reachable(power, alpha)
    if margin is not None:
        _positive_margin(margin)
    if not math.isfinite(difference):
        raise ValueError(f"difference {difference} is not finite")
    others = _proper(fixed)
    if not _proper([(variance_per_seed, 1)]) and not others:
        raise ValueError("all variances are zero: no spread to test with; t is undefined")
    n = np.arange(2, most + 1)
    share = 1 / n + (0.0 if other_seeds is None else 1 / other_seeds)
    ours = [(variance_per_seed * share, n - 1)] if variance_per_seed else []
    variance, df = _satterthwaite([*ours, *others])
    shift, df = abs(difference) / variance**0.5 + 0 * n, df + 0 * n
    room = None if margin is None or abs(difference) >= margin else margin / variance**0.5 + 0 * n
    # Every n that the bound leaves: with few fixed degrees of freedom the power is not monotone in n.
    candidates = np.flatnonzero(power_bound(shift, room, alpha) >= power)
    for start in range(0, len(candidates), 64):
        at = candidates[start : start + 64]
        decides = power_of_difference(shift[at], df[at], alpha) >= power
        if room is not None:
            decides |= power_of_equivalence(shift[at], room[at], df[at], alpha) >= power
        if decides.any():
            return int(n[at[decides.argmax()]])
    return None


def finite_values(values: ArrayLike, minimum: int) -> np.ndarray:
    """The values as a flat float array.   Errors: ValueError for fewer than `minimum`, or one that is not finite."""
    x = np.asarray(values, dtype=float).ravel()
    if x.size < minimum:
        raise ValueError(f"{x.size} values, at least {minimum} needed")
    if not np.isfinite(x).all():
        raise ValueError("a value is not finite; leave diverged runs out and count them")
    return x


def variance_of_mean(sd: float, n: int) -> float:
    """s² / n.   Errors: ValueError for n < 2 or a negative SD."""
    if n < 2:
        raise ValueError(f"n = {n}: a t-test needs at least two values on each side")
    if not sd >= 0:
        raise ValueError(f"standard deviation {sd} is not a non-negative number")
    return sd**2 / n


def _spread(x: np.ndarray, what: str) -> float:
    sd = float(x.std(ddof=1))
    if sd == 0:
        raise ValueError(f"all {what} are equal; t is undefined")
    return sd


def _positive_margin(margin: float) -> None:
    if not 0 < margin < math.inf:
        raise ValueError(f"margin {margin} is not a positive number")


def _reachable(power: float, alpha: float) -> None:
    if not 0 < alpha < power < 1:
        raise ValueError(f"power {power} at level {alpha}: 0 < alpha < power < 1 is needed")


def _proper(components: Sequence[Component]) -> list[Component]:
    for variance, df in components:
        if not 0 <= variance < math.inf or not df > 0:
            raise ValueError(f"variance {variance} with {df} degrees of freedom is not a component of a variance")
    return [(variance, df) for variance, df in components if variance > 0]


def _satterthwaite(components: Sequence[tuple]) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the variances and its degrees of freedom; parts are scalars or arrays of one shape."""
    variance = np.asarray(sum(v for v, _ in components), dtype=float)
    with np.errstate(divide="ignore"):  # all df infinite
        # Shares before squares: a variance of 1e-200 has no square.
        return variance, 1 / np.asarray(sum((v / variance) ** 2 / df for v, df in components), dtype=float)

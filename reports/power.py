"""The power of the two-sided t-test and of the test of equivalence, exact for normal data.

Shapes, of all functions here: [cases] in, [cases] out; differences and margins in standard errors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special, stats

CERTAIN = 8.0  # so many standard deviations out, Φ is 0 or 1 to 15 digits


NODES = np.polynomial.legendre.leggauss(64)
"""Nodes and weights of Gauss and Legendre's quadrature on [-1, 1]."""


def power_of_difference(shift: np.ndarray, df: np.ndarray, alpha: float) -> np.ndarray:
    """P(|T'_{df,δ}| > c), c = t_{1-α/2, df}, T' noncentral t;   shift: δ = true difference / se.

        = E_S[Φ(δ - c S) + Φ(-δ - c S)],   S² ~ χ²_df / df

    scipy.stats.nct gives the same, but NaN for some far tails.
    """
    c, delta = stats.t.ppf(1 - alpha / 2, df)[:, None], shift[:, None]
    return _expectation(
        lambda s: special.ndtr(delta - c * s) + special.ndtr(-delta - c * s),
        df[:, None], (delta - CERTAIN) / c, (delta + CERTAIN) / c,
    )  # fmt: skip


def power_of_equivalence(shift: np.ndarray, room: np.ndarray, df: np.ndarray, alpha: float) -> np.ndarray:
    """P(both one-sided tests reject), c = t_{1-α, df};   shift: δ, room: margin M, both divided by se; 0 ≤ δ < M.

        = E_S[(Φ(M - c S - δ) - Φ(-M + c S - δ))⁺],   S² ~ χ²_df / df                  (Owen 1965; Phillips 1990)

    Not the sum of two tail probabilities less one, which is too small where c S exceeds M.
    """
    c, delta, ends = stats.t.ppf(1 - alpha, df)[:, None], shift[:, None], room[:, None]
    return _expectation(
        lambda s: special.ndtr(ends - c * s - delta) - special.ndtr(c * s - ends - delta),
        df[:, None], (ends - delta - CERTAIN) / c, (ends - np.maximum(delta - CERTAIN, 0)) / c,
    )  # fmt: skip


def power_bound(shift: np.ndarray, room: np.ndarray | None, alpha: float) -> np.ndarray:
    """What neither of the two tests' power exceeds: that of the z-test with the same standard error.

        Φ(δ - z) + Φ(-δ - z), z = z_{1-α/2};   of equivalence Φ(M - δ - z_{1-α})            (Lehmann & Romano 2005)

    room: M as in `power_of_equivalence`; None where no equivalence is to be shown.
    """
    z = special.ndtri(1 - alpha / 2)
    bound = special.ndtr(shift - z) + special.ndtr(-shift - z)
    return bound if room is None else np.maximum(bound, special.ndtr(room - shift - special.ndtri(1 - alpha)))


def _expectation(
    of: Callable[[np.ndarray], np.ndarray], df: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """E[of(S)], S² ~ χ²_df / df, of a function that is 1 below low and 0 above high; all [cases, 1], result [cases].

    Gauss-Legendre on 64 nodes. Above 10⁶ degrees of freedom 10⁶ are used: the result differs by less than 1e-6.
    """
    df = np.minimum(df, 1e6)
    least, largest = ((tail / df) ** 0.5 for tail in (stats.chi2.ppf(1e-14, df), stats.chi2.isf(1e-14, df)))
    low = np.clip(low, least, largest)
    high = np.clip(high, low, largest)
    x, weights = NODES
    s = low + (high - low) * (x + 1) / 2
    density = 2 * s * df * stats.chi2.pdf(df * s**2, df)
    between = (of(s) * density * weights).sum(axis=1) * ((high - low) / 2)[:, 0]
    return between + stats.chi2.cdf(df * low**2, df)[:, 0]

"""How far estimates are from the truth: bias, spread and direction of vectors, with standard errors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STATISTICS = (
    "truth_norm", "bias", "bias_squared", "bias_squared_se", "sd", "mse", "cosine", "cosine_se", "cosine_of_mean",
    "relative_sd_coordinates",
)  # fmt: skip
TINY = 1e-8
"""Keeps a coordinate without a mean finite; as in the released code of Rothfuss et al. 2019."""


def statistics_of(estimates: Tensor, truth: Tensor) -> dict[str, float]:
    """Statistics of independent estimates g_1 ... g_R of a vector g; ḡ, S: their mean and covariance (R - 1).

        bias_squared = (‖ḡ - g‖² - tr S / R) / ‖g‖²      unbiased for ‖E g_i - g‖² / ‖g‖², and so may be negative
        bias = √max(bias_squared, 0),   sd = √tr S / ‖g‖,   mse = mean_i ‖g_i - g‖² / ‖g‖²
        cosine = mean_i cos(g_i, g), cosine_se its standard error,   cosine_of_mean = cos(ḡ, g)
        relative_sd_coordinates = mean_j √S_jj / (|ḡ_j| + 1e-8)         the statistic of Rothfuss et al. 2019, figure 4

    ``bias_squared_se``: see :func:`bias_squared_se`.

    Shapes: estimates [batches, D], truth [D]; float64, at least 4 batches, truth not zero.
    """
    norm = float(torch.linalg.vector_norm(truth))
    count = estimates.shape[0]
    errors = estimates - truth
    mean, covariance = estimates.mean(0), torch.atleast_2d(estimates.T.cov())
    deviation = covariance.diagonal().clamp(min=0.0).sqrt()
    spread = float(covariance.trace())
    bias_squared = (float(errors.mean(0).square().sum()) - spread / count) / norm**2
    cosines = estimates @ truth / (torch.linalg.vector_norm(estimates, dim=1).clamp(min=1e-30) * norm)
    return {
        "truth_norm": norm,
        "bias": math.sqrt(max(bias_squared, 0.0)),
        "bias_squared": bias_squared,
        "bias_squared_se": bias_squared_se(errors.mean(0), covariance, count) / norm**2,
        "sd": math.sqrt(spread) / norm,
        "mse": float(errors.square().sum(1).mean()) / norm**2,
        "cosine": float(cosines.mean()),
        "cosine_se": float(cosines.std()) / math.sqrt(count),
        "cosine_of_mean": float(mean @ truth / (torch.linalg.vector_norm(mean).clamp(min=1e-30) * norm)),
        "relative_sd_coordinates": float((deviation / (mean.abs() + TINY)).mean()),
    }


def bias_squared_se(error: Tensor, covariance: Tensor, count: int) -> float:
    """Standard error of ‖ē‖² - tr S / R, the U-statistic Σ_{i≠j} e_i · e_j / (R (R - 1)).

        Var = 4 μᵀ Σ μ / R + 2 tr Σ² / (R (R - 1))          (Hoeffding 1948, for the kernel e_i · e_j)

    μᵀ Σ μ is estimated by ēᵀ S ē less what noise adds to it, tr S² / R, and not below 0; tr Σ² by the estimate that is
    unbiased for normal vectors, (R - 1)² / ((R - 2) (R + 1)) (tr S² - (tr S)² / (R - 1)). Because of the 0 the error is
    on the large side where there is hardly a bias, by about 1.4 times where there is none, as the jackknife's is too.

    Shapes: error ē [D], covariance S [D, D] of R = ``count`` vectors.
    """
    squared = float(covariance.square().sum())
    spread = float(covariance.trace())
    along = max(float(error @ covariance @ error) - squared / count, 0.0)
    debiased = (count - 1) ** 2 / ((count - 2) * (count + 1)) * (squared - spread**2 / (count - 1))
    return math.sqrt(4.0 * along / count + 2.0 * max(debiased, 0.0) / (count * (count - 1)))

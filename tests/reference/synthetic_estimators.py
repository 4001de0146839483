"""A made-up audit of estimators for the tests of `reports`: every number follows from a formula, for use by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

ESTIMATORS = ("score_function", "lvc", "dice", "emaml_paper")
SD = {"score_function": 3.0, "lvc": 1.0, "dice": 2.0, "emaml_paper": 30.0}
MDPS = 3


def rows(
    stages: Sequence[str] = ("initial", "near_optimum"), episodes: Sequence[int] = (10, 20, 100)
) -> list[dict[str, Any]]:
    """One row per stage, MDP, quantity, estimator and number of episodes; α = 2, no baseline.

    SD: that of the estimator, times (1 + mdp), over √(episodes / 10). DiCE's is twice LVC's, by coordinates 3 times, on
    every MDP. Squared bias: 0.04 for LVC, less than nothing for DiCE, 1 for the others.
    """
    made = []
    for stage in stages:
        for mdp in range(MDPS):
            for quantity in ("curvature", "meta_gradient"):
                for estimator in ESTIMATORS:
                    if quantity == "curvature" and estimator.startswith("emaml"):
                        continue
                    made += [_row(stage, mdp, quantity, estimator, count) for count in episodes]
    return made


def _row(stage: str, mdp: int, quantity: str, estimator: str, episodes: int) -> dict[str, Any]:
    squared = {"lvc": 0.04, "dice": -0.001}.get(estimator, 1.0)
    sd = SD[estimator] * (1 + mdp) / (episodes / 10) ** 0.5
    coordinates = sd * (1.5 if estimator == "dice" else 1.0)
    return {
        "stage": stage, "mdp": mdp, "alpha": 2.0, "episodes": episodes, "quantity": quantity, "estimator": estimator,
        "baseline": "none", "batches": 100, "truth_norm": 0.5, "bias": max(squared, 0.0) ** 0.5,
        "bias_squared": squared, "bias_squared_se": 0.002, "sd": sd, "mse": max(squared, 0.0) + sd**2,
        "cosine": 1 / (1 + sd), "cosine_se": 0.01, "cosine_of_mean": 0.9, "relative_sd_coordinates": coordinates,
        "h12_share": 0.2, "return_fraction": 0.99 if stage == "near_optimum" else 0.0,
    }  # fmt: skip


def write(path: Path, made: Sequence[dict[str, Any]] | None = None) -> Path:
    """The audit as the command writes it, in another order."""
    frame = pd.DataFrame(rows() if made is None else made).sample(frac=1.0, random_state=0)
    frame.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
    return path

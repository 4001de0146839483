"""Which parameter decides who is among the best trials: PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reports.tuning.trials import StageInfo, complete

FEWEST = 10
"""Complete trials below which nothing is said."""


def importances(trials: pd.DataFrame, info: StageInfo) -> dict[str, float] | None:
    """Parameter -> share, summing to 1; None where too few trials are complete, or all have one value.

    By Optuna's evaluator with its defaults, on a study in memory that is rebuilt from the table.
    """
    finished = complete(trials)
    if len(finished) < FEWEST or finished["value"].nunique() < 2:
        return None
    import optuna

    known = {name: _distribution(entry) for name, entry in info.space.items()}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize")
        for row in finished.to_dict("records"):
            values = {name: _value(row[name], info.space[name]) for name in info.space}
            study.add_trial(optuna.create_trial(params=values, distributions=known, value=row["value"]))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return {name: float(found.get(name, 0.0)) for name in info.space}


def _distribution(entry: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if "choices" in entry:
        return CategoricalDistribution([str(one) for one in entry["choices"]])
    return FloatDistribution(entry["low"], entry["high"], log=entry["log"])


def _value(value: Any, entry: Any) -> Any:
    """The value as the search had it: the table rounds, and a bound may be rounded to the far side of it."""
    return str(value) if "choices" in entry else float(np.clip(value, entry["low"], entry["high"]))

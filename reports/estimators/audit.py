"""The audit of meta-gradient estimators as tables: averages over MDPs, which are the unit here.

Every MDP is solved exactly, so that an estimator's bias, spread and direction are known on it. What is averaged over
MDPs holds for the family that they were drawn from; within an MDP the number of estimates makes the error small.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import UserError
from reports.exhibits.source import interval_columns
from reports.statistics import median_interval, t_interval

STAGES = ("initial", "middle", "near_optimum", "meta_trained")
ESTIMATORS = ("first_order", "score_function", "lvc", "dice", "emaml_derived", "emaml_paper", "emaml_released")
QUANTITIES = {
    "meta_gradient": "the whole meta-gradient, everything from samples",
    "curvature": "the curvature alone: (I + α Ĥ) v with the exact v",
}
STATISTICS = {"bias": "bias", "sd": "SD", "rmse": "RMSE", "cosine": "cosine"}
PAIR = ("dice", "lvc")
TEXT = ("stage", "quantity", "estimator", "baseline")
NUMBERS = (
    "mdp", "alpha", "episodes", "batches", "truth_norm", "bias", "bias_squared", "bias_squared_se", "sd", "mse",
    "cosine", "cosine_se", "cosine_of_mean", "relative_sd_coordinates", "h12_share", "return_fraction",
)  # fmt: skip
Z = 1.96
CASE = ["quantity", "alpha", "baseline"]


def read_audit(path: Path) -> pd.DataFrame:
    """The rows of an audit, in the order of the page, with `rmse` = √mse.

    Errors: UserError where the file is missing, lacks a column, holds text in place of a number, or has no row.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError:
        raise UserError(f"no audit at {path}; `metarepro estimators` makes it") from None
    except ValueError as error:
        raise UserError(f"{path}: not an audit of estimators ({error}); `metarepro estimators` makes it") from None
    missing = [name for name in (*TEXT, *NUMBERS) if name not in table]
    if missing or table.empty:
        what = f"lacks the columns {', '.join(missing)}" if missing else "has no row"
        raise UserError(f"{path}: not an audit of estimators ({what}); `metarepro estimators` makes it")
    try:
        for name in NUMBERS:
            table[name] = pd.to_numeric(table[name].replace("", None)).astype("float64")
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not an audit of estimators ({error}); `metarepro estimators` makes it") from None
    table = table.astype({"mdp": "int64", "episodes": "int64"}).assign(rmse=np.sqrt(table["mse"]))
    places = [table[name].map(_places(table[name], known)) for name, known in _orders()]
    ranked = table.assign(_quantity=places[0], _stage=places[1], _estimator=places[2])
    order = ["_quantity", "alpha", "baseline", "_stage", "_estimator", "episodes", "mdp"]
    upwards = [name != "alpha" for name in order]  # with a larger inner step estimators differ more
    ranked = ranked.sort_values(order, ascending=upwards, kind="stable", ignore_index=True)
    return ranked.drop(columns=["_quantity", "_stage", "_estimator"])


def _orders() -> list[tuple[str, tuple[str, ...]]]:
    return [("quantity", tuple(QUANTITIES)), ("stage", STAGES), ("estimator", ESTIMATORS)]


def _places(values: pd.Series, known: tuple[str, ...]) -> dict[str, int]:
    """The place of every name: the known ones first, in order, then the others by name."""
    others = sorted(set(values) - set(known))
    return {name: place for place, name in enumerate([*known, *others])}


def names(audit: pd.DataFrame, column: str) -> list[Any]:
    """The values of a column in the order of the page."""
    return list(dict.fromkeys(audit[column]))


def over_mdps(audit: pd.DataFrame) -> pd.DataFrame:
    """A row per case, stage, estimator and number of episodes: means over MDPs with their 95 % t intervals.

    bias_*: as `typical_bias`.
    bias_clear: "yes" where the mean of `bias_squared` over these MDPs, an unbiased estimate that may be negative, is
    more than 1.96 of its standard errors above 0: what remains is not the noise of the estimate.
    """
    rows = []
    keys = [*CASE, "stage", "estimator", "episodes"]
    for key, group in audit.groupby(keys, sort=False):
        row: dict[str, Any] = dict(zip(keys, key, strict=True)) | {"mdps": len(group)}
        row |= typical_bias(group)
        for name in ("sd", "rmse", "cosine", "cosine_of_mean"):
            row |= interval_columns(group[name], f"{name}_")
        row |= median_columns(group["relative_sd_coordinates"], "relative_sd_coordinates_")
        row["bias_clear"] = "yes" if row["bias_low"] > 0 else "no"
        rows.append(row)
    return pd.DataFrame(rows)


def signed_root(square: Any) -> Any:
    """√x, or -√-x below zero: where an unbiased estimate of a square is negative, its root shows it."""
    return np.sign(square) * np.sqrt(np.abs(square))


def typical_bias(group: pd.DataFrame) -> dict[str, float]:
    """`bias_mean`, `_low`, `_high`: the root of the mean of `bias_squared` over these MDPs, with 1.96 of its error.

    A single MDP's root, cut off at zero, is above zero by noise alone, and so is the mean of such roots. The mean of
    the squares is not: what is noise scatters about zero. The interval is that of the estimates on these very MDPs.
    """
    mean = float(group["bias_squared"].mean())
    half = Z * float(np.sqrt(group["bias_squared_se"].pow(2).sum())) / len(group)
    ends = {"mean": mean, "low": mean - half, "high": mean + half}
    return {f"bias_{part}": float(signed_root(square)) for part, square in ends.items()}


def median_columns(values: pd.Series, prefix: str = "") -> dict[str, float]:
    """Median and its distribution-free interval, as columns of a frame."""
    return dict(zip((f"{prefix}{part}" for part in ("median", "low", "high")), median_interval(values), strict=True))


def ratios(audit: pd.DataFrame, over: str = PAIR[0], under: str = PAIR[1]) -> pd.DataFrame:
    """Spread of one estimator divided by that of another on the same MDP, over MDPs.

    norm_*: of `sd`: geometric mean, 95 % t interval of the log. coordinates_*: of the statistic of Rothfuss et al.
    2019, which parameters with a mean near zero decide: median and its distribution-free interval. larger: on how many
    MDPs the SD of `over` is the larger one. One row per case, stage and number of episodes that both have.
    """
    keys = [*CASE, "stage", "episodes"]
    columns = ["sd", "relative_sd_coordinates"]
    sides = [audit[audit["estimator"].eq(name)][[*keys, "mdp", *columns]] for name in (over, under)]
    both = sides[0].merge(sides[1], on=[*keys, "mdp"], suffixes=("_over", "_under"), validate="one_to_one")
    rows = []
    for key, group in both.groupby(keys, sort=False):
        row: dict[str, Any] = dict(zip(keys, key, strict=True)) | {"mdps": len(group)}
        row["larger"] = int(group["sd_over"].gt(group["sd_under"]).sum())
        found = t_interval(np.log(group["sd_over"] / group["sd_under"]))
        row |= {f"norm_{part}": float(np.exp(getattr(found, part))) for part in ("mean", "low", "high")}
        both_statistics = group["relative_sd_coordinates_over"] / group["relative_sd_coordinates_under"]
        row |= median_columns(both_statistics, "coordinates_")
        rows.append(row)
    return pd.DataFrame(rows)


def curvature_bias(audit: pd.DataFrame, estimator: str = PAIR[1]) -> pd.DataFrame:
    """The measured bias of an estimator's curvature, with the most episodes, beside its exact size: a row per MDP.

    Columns: alpha, baseline, stage, mdp, episodes, h12_share, bias_squared, bias_squared_se, bias, sd; bias: the signed
    root of the squared bias, below zero where its unbiased estimate is.
    """
    mine = audit[audit["quantity"].eq("curvature") & audit["estimator"].eq(estimator)]
    mine = mine[mine["episodes"].eq(mine["episodes"].max())]
    mine = mine.assign(bias=signed_root(mine["bias_squared"]))
    kept = ["alpha", "baseline", "stage", "mdp", "episodes", "h12_share", "bias_squared", "bias_squared_se", "bias"]
    return mine[[*kept, "sd"]].reset_index(drop=True)


def bias_by_stage(rows: pd.DataFrame) -> pd.DataFrame:
    """`curvature_bias` over MDPs, one row per case and stage.

    bias_*: as `typical_bias`; h12_share_mean: the root of the mean square as well; sd_*: mean with its 95 % t interval.
    """
    made = []
    for key, group in rows.groupby(["alpha", "baseline", "stage"], sort=False):
        row: dict[str, Any] = dict(zip(["alpha", "baseline", "stage"], key, strict=True))
        row |= {"episodes": int(group["episodes"].iloc[0]), "mdps": len(group)}
        row["h12_share_mean"] = float(np.sqrt(group["h12_share"].pow(2).mean()))
        row |= typical_bias(group)
        row |= interval_columns(group["sd"], "sd_")
        made.append(row)
    return pd.DataFrame(made)


def stages(audit: pd.DataFrame) -> pd.DataFrame:
    """Where every stage is: share of the way up the return, length of the meta-gradient; means over MDPs."""
    one = audit.drop_duplicates(["alpha", "stage", "mdp"])
    made = []
    for (alpha, stage), group in one.groupby(["alpha", "stage"], sort=False):
        row: dict[str, Any] = {"stage": stage, "alpha": alpha, "mdps": len(group)}
        for name in ("return_fraction", "truth_norm", "h12_share"):
            row |= interval_columns(group[name], f"{name}_")
        made.append(row)
    return pd.DataFrame(made)


def cases(audit: pd.DataFrame) -> list[Mapping[str, Any]]:
    """The combinations of quantity, inner step and baseline that were measured."""
    return [dict(zip(CASE, key, strict=True)) for key in audit[CASE].drop_duplicates().itertuples(index=False)]


def of_case(table: pd.DataFrame, case: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of a table that belong to a case, as far as it has the columns."""
    for name, value in case.items():
        if name in table:
            table = table[table[name].eq(value)]
    return table

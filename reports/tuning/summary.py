"""What the searches found beside what is printed, as frames: one row per stage, and one per stage and rate."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.tables import number
from reports.tuning.importances import importances
from reports.tuning.landscape import Place, Scale, place_of, scale_of
from reports.tuning.trials import StageInfo, best_of, by_stage, complete
from reports.tuning.verdict import sentence, word

NAN = float("nan")


@dataclass(frozen=True)
class StageFound:
    """All that is computed of one stage."""

    protocol: str
    name: str
    trials: pd.DataFrame
    info: StageInfo
    best: pd.Series | None
    scale: Scale | None
    place: Place | None
    importances: dict[str, float] | None

    @property
    def digits(self) -> int:
        """Decimals at which the stage's tolerance can be seen."""
        tolerance = self.scale.tolerance if self.scale else 0.0
        return 2 if tolerance == 0 else int(np.clip(np.ceil(-np.log10(tolerance)) + 1, 2, 6))

    @property
    def no_worse(self) -> pd.DataFrame:
        """The complete trials within the tolerance of the best."""
        finished = complete(self.trials)
        return finished[finished["value"].ge(self.scale.best - self.scale.tolerance)] if self.scale else finished

    @property
    def word(self) -> str:
        return word(self.place, self.scale)

    @property
    def sentence(self) -> str:
        return sentence(self.place, self.scale, self.digits)


def found(trials: pd.DataFrame, stages: dict[str, StageInfo]) -> list[StageFound]:
    """Every stage that has trials, protocol by protocol."""
    made = []
    for protocol, name, rows in by_stage(trials):
        info = stages[name]
        scale = scale_of(rows, info)
        place = place_of(rows, info, scale) if scale else None
        made.append(StageFound(protocol, name, rows, info, best_of(rows), scale, place, importances(rows, info)))
    return made


def searches(stages: list[StageFound]) -> pd.DataFrame:
    """One row per stage: its trials and what became of them, the best one, and how many are no worse."""
    rows = []
    for one in stages:
        counts = one.trials["state"].value_counts()
        rows.append(
            {
                "protocol": one.protocol,
                "stage": one.name,
                "method": str(one.trials["method"].iloc[0]),
                "trials": len(one.trials),
                **{state: int(counts.get(state, 0)) for state in ("complete", "pruned", "fail")},
                "reasons": reasons(one.trials),
                "best_trial": NAN if one.best is None else int(one.best["trial"]),
                "best_value": NAN if one.best is None else float(one.best["value"]),
                "seeds": NAN if one.best is None else float(one.best["seeds"]),
                "se_over_seeds": _standard_error(one.best),
                "printed_best": NAN if one.info.printed_best is None else one.info.printed_best,
                "random_median": one.scale.median if one.scale else NAN,
                "roughness": one.scale.roughness if one.scale else NAN,
                "tolerance": one.scale.tolerance if one.scale else NAN,
                "no_worse": len(one.no_worse),
                "cpu_minutes": float(one.trials["cpu_s"].sum()) / 60.0,
            }
        )
    return pd.DataFrame(rows)


def reasons(trials: pd.DataFrame) -> str:
    """Why trials have no comparable value, and how often; numbers of trials within a reason are left out."""
    told = trials.loc[~trials["state"].eq("complete"), "reason"]
    counted = Counter(reason.rpartition(": ")[2] if reason else "no reason recorded" for reason in told)
    return "; ".join(f"{number} × {reason}" for reason, number in counted.most_common())


def _standard_error(best: pd.Series | None) -> float:
    """Of the best trial's mean over its training seeds: SD / √n; NaN for one seed."""
    values = [] if best is None else [float(one) for one in str(best["values"]).split()]
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else NAN


def rates(stages: list[StageFound]) -> pd.DataFrame:
    """One row per stage and rate: found, printed, their ratio, and the range among the trials that are no worse."""
    rows: list[dict[str, Any]] = []
    for one in stages:
        for rate in one.info.assign:
            value: Any = None if one.best is None else one.best[rate]
            is_number = isinstance(value, float) and bool(np.isfinite(value))
            printed = one.info.printed.get(rate, NAN)
            kept = one.no_worse[rate] if is_number else pd.Series(dtype="float64")
            rows.append(
                {
                    "protocol": one.protocol,
                    "stage": one.name,
                    "rate": one.info.name(rate),
                    "found": "–" if value is None else f"{value:.4g}" if is_number else str(value),
                    "printed": printed,
                    "found_over_printed": value / printed if is_number and printed else NAN,
                    "no_worse_low": kept.min(),
                    "no_worse_high": kept.max(),
                }
            )
    return pd.DataFrame(rows)


def places(stages: list[StageFound]) -> pd.DataFrame:
    """One row per stage: where the printed point lies."""
    rows = []
    for one in stages:
        place, scale = one.place, one.scale
        below = scale.best - place.estimate if place is not None and scale is not None else NAN
        point = ", ".join(f"{name} {at:.4g}" for name, at in place.point.items()) if place else "–"
        rows.append(
            {
                "protocol": one.protocol,
                "stage": one.name,
                "answer": one.word,
                "printed_point": point,
                "near": place.near if place else NAN,
                "near_worst": place.around[0] if place else NAN,
                "near_best": place.around[1] if place else NAN,
                "estimate": place.estimate if place else NAN,
                "below_best": below,
                "tolerance": scale.tolerance if scale else NAN,
                "share_of_spread": below / scale.spread if scale and scale.spread else NAN,
                "random_better": place.better if place else NAN,
                "fall": place.fall if place else NAN,
                "fall_open": place.fall_open if place else "",
                "down": place.down if place else NAN,
                "up": place.up if place else NAN,
                "down_open": place.down_open if place else "",
                "up_open": place.up_open if place else "",
            }
        )
    return pd.DataFrame(rows)


def markdown(stages: list[StageFound]) -> str:
    """A line per stage: what it tuned, its best objective and rates with the printed ones in brackets, the answer."""
    lines = ["| protocol: stage | method | trials | best objective | rates | the printed point is |"]
    lines.append("|---|---|---:|---:|---|---|")
    every = rates(stages)
    for one, row in zip(stages, searches(stages).to_dict("records"), strict=True):
        own = every[every["protocol"].eq(one.protocol) & every["stage"].eq(one.name)].to_dict("records")
        listed = ", ".join(f"{of['rate']} {of['found']}{_bracket(of['printed'], 4)}" for of in own)
        best = f"{number(row['best_value'], one.digits)}{_bracket(row['printed_best'], 2)}"
        place = f"`{one.protocol}`: {one.name}"
        lines.append(f"| {place} | {row['method']} | {row['trials']} | {best} | {listed} | {one.word} |")
    return "".join(f"{line}\n" for line in lines)


def _bracket(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f" ({number(value, digits)})"

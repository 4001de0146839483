"""The trials of a tuning as a table, and what is known of its stages beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import UserError

STATES = ("complete", "pruned", "fail")
REQUIRED = ("protocol", "stage", "method", "trial", "state", "value", "seeds", "values", "reason", "cpu_s")


@dataclass(frozen=True)
class StageInfo:
    """What the trials do not say of the stage that they belong to.

    space:   parameter -> `low`, `high`, `log`, or `choices`.
    assign:  rate, a column of the trials -> the parameters whose product it is.
    names:   rate -> what a table calls it; the rate itself where it has no other name.
    printed: rate -> what the paper prints as found.
    printed_best: the objective that the paper's search reached; None where it is not known, or is another objective.
    random_trials: so many trials at the start were drawn at random.
    """

    space: Mapping[str, Mapping[str, Any]]
    assign: Mapping[str, tuple[str, ...]]
    description: str = ""
    objective: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    printed: Mapping[str, float] = field(default_factory=dict)
    printed_best: float | None = None
    random_trials: int = 0

    def ranges(self) -> list[str]:
        """The parameters that are numbers."""
        return [name for name, entry in self.space.items() if "low" in entry]

    def name(self, rate: str) -> str:
        """What a table calls a rate."""
        return self.names.get(rate, rate)


def read_trials(path: Path, stages: Mapping[str, StageInfo]) -> pd.DataFrame:
    """The trials, numbers as numbers, in the order of the file.

    Errors: UserError where the file is missing, lacks a column, has text in place of a number, an unknown state or
    stage, a complete trial without a value, or no row.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError:
        raise UserError(f"no trials at {path}; `metarepro tune` makes them") from None
    except ValueError as error:
        raise _refused(path, str(error)) from None
    if missing := [name for name in REQUIRED if name not in table]:
        raise _refused(path, f"lacks the columns {', '.join(missing)}")
    if table.empty:
        raise _refused(path, "has no row")
    if unknown := sorted(set(table["stage"]) - set(stages)):
        raise _refused(path, f"the tuning has no stage {unknown[0]!r}; it has {', '.join(stages)}")
    if unknown := sorted(set(table["state"]) - set(STATES)):
        raise _refused(path, f"unknown state {unknown[0]!r}; a trial is {', '.join(STATES)}")
    needed = [name for stage in set(table["stage"]) for name in (*stages[stage].space, *stages[stage].assign)]
    if missing := sorted(set(needed) - set(table)):
        raise _refused(path, f"lacks the columns {', '.join(missing)}")
    return _with_numbers(path, table, stages)


def _with_numbers(path: Path, table: pd.DataFrame, stages: Mapping[str, StageInfo]) -> pd.DataFrame:
    text = {name for one in stages.values() for name in one.space if name not in one.ranges()}
    text |= {rate for one in stages.values() for rate, factors in one.assign.items() if text & set(factors)}
    numbers = {name for one in stages.values() for name in (*one.space, *one.assign)} - text
    for name in ("trial", "value", "seeds", "cpu_s", *sorted(numbers & set(table))):
        try:
            table[name] = pd.to_numeric(table[name].replace("", None)).astype("float64")
        except (ValueError, TypeError):
            raise _refused(path, f"column {name}: expected numbers") from None
    if not np.isfinite(table["trial"]).all():
        raise _refused(path, "column trial: expected whole numbers")
    if not np.isfinite(table.loc[table["state"].eq("complete"), "value"]).all():
        raise _refused(path, "a complete trial has no value")
    return table.astype({"trial": "int64"})


def _refused(path: Path, why: str) -> UserError:
    return UserError(f"{path}: not a table of trials ({why}); `metarepro tune` makes it")


def complete(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials whose values can be compared: those that ran all their seeds."""
    return trials[trials["state"].eq("complete")]


def best_of(trials: pd.DataFrame) -> pd.Series | None:
    """The best complete trial, the first of equals; None where there is none."""
    finished = complete(trials)
    return None if finished.empty else finished.iloc[int(finished["value"].to_numpy().argmax())]


def by_stage(trials: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Protocol, stage and trials; protocols and stages in order of first appearance."""
    protocols = list(dict.fromkeys(trials["protocol"]))
    found = [(str(rows["protocol"].iloc[0]), str(name), rows) for name, rows in trials.groupby("stage", sort=False)]
    return sorted(found, key=lambda one: protocols.index(one[0]))

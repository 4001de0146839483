"""The numbers of two result stores: run by run to the last bit, and over training seeds.

A difference is always B minus A. A run is in both stores where its run_id is. Where only setting, method and seed are
the same, another version or specification made it: it is compared as well, and counted apart.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.estimates import Estimate, paired, welch
from reports.markup import p_value
from reports.reasons import compact
from reports.records import Records
from reports.statistics import holm
from reports.study_info import StudyInfo
from reports.tables import NO_NUMBER
from reports.verdicts import ALPHA, POWER

NAME = ["setting", "method", "seed"]
SAME_RUN, SAME_NAME, ONLY_A, ONLY_B = "same run_id", "another run_id", "only in A", "only in B"
FINISHED = ("done", "diverged")
RETURN = "return of a task"
CELL = ["setting", "method", "protocol", "step"]
PAIR_COLUMNS = [*NAME, "match", "run_id_a", "run_id_b", "status_a", "status_b", "name_b"]
VALUE_COLUMNS = ["pair", "quantity", "values", "differ", "only_a", "only_b", "largest", "where", "value_a", "value_b"]
SEED_COLUMNS = [
    *CELL, "mean_a", "sd_a", "seeds_a", "mean_b", "sd_b", "seeds_b", "shared", "equal", "difference", "low", "high",
    "p", "p_holm", "detectable", "test", "words",
]  # fmt: skip
ROUNDING = 1e-12
"""Differences below this part of the larger value are of rounding: a t-test on them would test the order of a sum."""
NAN = float("nan")


@dataclass(frozen=True)
class Kind:
    """A recorded table: what its rows are told apart by, and its numbers with their names; `by` is part of the name."""

    frame: str
    keys: Sequence[str]
    columns: Mapping[str, str]
    by: str | None = None


STEP = ["protocol", "step", "task"]
KINDS = (
    Kind(
        "returns",
        STEP,
        {
            "mean_return": RETURN,
            "sd_return": "SD over the episodes of a task",
            "mean_length": "length of an episode",
            "episodes": "number of episodes",
        },
    ),
    Kind("curves", ["metric", "iteration"], {"value": "training curve"}, by="metric"),
    Kind("measures", [*STEP, "name"], {"value": "measure"}, by="name"),
    Kind("references", ["task", "name"], {"value": "known exactly"}, by="name"),
    Kind("paths", [*STEP, "episode", "time"], {"x": "path, x", "y": "path, y"}),
)


def run_pairs(a: Records, b: Records) -> pd.DataFrame:
    """Every run of either store, once: PAIR_COLUMNS. Text is empty on the side that lacks it.

    match:  SAME_RUN, SAME_NAME, ONLY_A or ONLY_B. name_b: what a run with the same run_id is called in B, where that is
            something else than in A.
    """
    columns = ["run_id", *NAME, "status"]
    left, right = a.runs[columns], b.runs[columns]
    shared = left.merge(right, on="run_id", suffixes=("", "_b"), validate="one_to_one")
    other = " / ".join
    names = [
        "" if (s, m) == (s_b, m_b) else other([s_b, m_b])
        for s, m, s_b, m_b in zip(*(shared[n] for n in ("setting", "method", "setting_b", "method_b")), strict=True)
    ]
    both = shared.assign(match=SAME_RUN, run_id_a=shared["run_id"], run_id_b=shared["run_id"], name_b=names)
    both = both.rename(columns={"status": "status_a"})[PAIR_COLUMNS]
    rest_a, rest_b = (side[~side["run_id"].isin(shared["run_id"])] for side in (left, right))
    rest = rest_a.merge(rest_b, on=NAME, how="outer", suffixes=("_a", "_b"), indicator="match", validate="one_to_one")
    rest["match"] = rest["match"].astype(str).map({"both": SAME_NAME, "left_only": ONLY_A, "right_only": ONLY_B})
    rest = rest.assign(name_b="")[PAIR_COLUMNS].fillna("")
    found = pd.concat([both, rest], ignore_index=True) if len(rest) else both
    return found.astype({"seed": "int64"}).sort_values([*NAME, "run_id_a"], kind="stable", ignore_index=True)


def comparable(pairs: pd.DataFrame) -> pd.Series:
    """Whether a pair is finished on both sides, so that its numbers can be held against each other."""
    finished = pairs["status_a"].isin(FINISHED) & pairs["status_b"].isin(FINISHED)
    return finished & pairs["match"].isin([SAME_RUN, SAME_NAME])


def exact(a: Records, b: Records, pairs: pd.DataFrame) -> pd.DataFrame:
    """Every recorded number of the comparable pairs, to the last bit: a row per pair and quantity, VALUE_COLUMNS.

    pair: index of `pairs`. values: how many numbers both sides have; differ: how many of them have other bits, where
    NaN equals NaN. only_a, only_b: how many one side has alone.
    largest: the largest |B − A| of those that differ, infinite where a side is not a finite number; `where`, `value_a`
    and `value_b` belong to it.
    """
    asked = pairs[comparable(pairs)]
    parts = []
    for kind in KINDS:
        sides = [
            _held(getattr(records, kind.frame), dict(zip(asked[run_id], asked.index, strict=True)), kind)
            for records, run_id in ((a, "run_id_a"), (b, "run_id_b"))
        ]
        if any(len(side) for side in sides):
            merged = _merged(sides[0], sides[1], kind)
            parts += [_by_quantity(merged, kind, column) for column in kind.columns]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=VALUE_COLUMNS)


def _held(frame: pd.DataFrame, pair_of: Mapping[str, Hashable], kind: Kind) -> pd.DataFrame:
    rows = frame[frame["run_id"].isin(list(pair_of))]
    rows = rows.assign(pair=rows["run_id"].map(pair_of).astype("int64"))[["pair", *kind.keys, *kind.columns]]
    return rows.astype(dict.fromkeys(kind.columns, "float64"))


def _merged(a: pd.DataFrame, b: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    """Both sides in one frame, `<column>_a` and `<column>_b`, with `side`: both, left_only or right_only."""
    keys = ["pair", *kind.keys]
    a = a if len(a) else a.astype(b.dtypes[keys].to_dict())
    b = b if len(b) else b.astype(a.dtypes[keys].to_dict())
    return a.merge(b, on=keys, how="outer", suffixes=("_a", "_b"), indicator="side", validate="one_to_one")


def _by_quantity(merged: pd.DataFrame, kind: Kind, column: str) -> pd.DataFrame:
    x, y = (merged[f"{column}_{side}"].to_numpy(dtype="float64", copy=True) for side in "ab")
    both = merged["side"].eq("both").to_numpy()
    same = (x.view("int64") == y.view("int64")) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore"):
        distance = np.abs(y - x)
    table = merged[["pair", *kind.keys]].assign(
        quantity=kind.columns[column] if kind.by is None else f"{kind.columns[column]}: " + merged[kind.by].astype(str),
        values=both,
        differ=both & ~same,
        only_a=merged["side"].eq("left_only"),
        only_b=merged["side"].eq("right_only"),
        largest=np.where(np.isnan(distance), np.inf, distance),
        value_a=x,
        value_b=y,
    )
    by = ["pair", "quantity"]
    counts = table.groupby(by, sort=True)[["values", "differ", "only_a", "only_b"]].sum().reset_index()
    worst = table[table["differ"]].sort_values([*by, "largest"], ascending=[True, True, False], kind="stable")
    worst = worst.drop_duplicates(by)
    keys = [key for key in kind.keys if key != kind.by]
    where = [", ".join(f"{k} {v}" for k, v in zip(keys, row, strict=True)) for row in worst[keys].to_numpy()]
    worst["where"] = pd.Series(where, index=worst.index, dtype="object")
    found = counts.merge(worst[[*by, "largest", "where", "value_a", "value_b"]], on=by, how="left")
    return found.fillna({"where": ""})[VALUE_COLUMNS]


def over_seeds(a: Records | None, b: Records | None, info: StudyInfo) -> pd.DataFrame:
    """Mean returns over the finished training seeds of both sides, and B − A: a row per CELL, SEED_COLUMNS.

        d_s = b_s - a_s over the shared seeds s, paired t;   where no two seeds are shared, Welch's t over all seeds

    shared: number of seeds that both sides have; equal: of these, with the same mean to the last bit. p_holm: over all
    rows with a test. detectable: the true difference that such a test finds with 80 % power. words: the result, or why
    there is no test. A seed without a finite mean is in no number, and the words count it.
    """
    sides = [_seed_means(records) for records in (a, b)]
    cells = [dict(iter(side.groupby(CELL, sort=False))) for side in sides]
    settings, methods = [setting.name for setting in info.settings], list(info.labels)

    def place(cell: tuple[Any, ...]) -> tuple[Any, ...]:
        setting, method, *_ = cell
        known = [*methods, method].index(method), [*settings, setting].index(setting)
        return (known[0], method, known[1], *cell)

    rows = []
    for key in sorted(set(cells[0]) | set(cells[1]), key=place):
        found, said = _cell(*(side.get(key, sides[0].iloc[:0]) for side in cells))
        rows.append((dict(zip(CELL, key, strict=True)) | found, said))
    for (row, said), p in zip(rows, holm([row["p"] for row, _ in rows]), strict=True):
        result = [] if math.isnan(p) else [_direction(row["difference"]) if p < ALPHA else "no difference shown"]
        row |= {"p_holm": p, "words": "; ".join([*result, *said])}
    return pd.DataFrame([row for row, _ in rows], columns=SEED_COLUMNS)


def _direction(difference: float) -> str:
    return "B is higher" if difference > 0 else "B is lower"


def _seed_means(records: Records | None) -> pd.DataFrame:
    """The mean return over tasks of every finished run: CELL, seed, value, tasks."""
    if records is None or records.returns.empty:
        return pd.DataFrame(columns=[*CELL, "seed", "value", "tasks"])
    done = records.runs.loc[records.runs["status"].eq("done"), ["run_id", *NAME]]
    rows = records.returns.merge(done, on="run_id").sort_values([*CELL, "seed", "task"], kind="stable")
    groups = rows.groupby([*CELL, "seed"], sort=True)["mean_return"]
    return groups.agg(value=lambda x: x.mean(skipna=False), tasks="size").reset_index()


def _cell(a: pd.DataFrame, b: pd.DataFrame) -> tuple[dict[str, Any], list[str]]:
    """One row of `over_seeds` without its place and Holm's p, and what is to be said of it."""
    values = [side.set_index("seed")["value"].astype("float64").sort_index() for side in (a, b)]
    x, y = (side[np.isfinite(side)] for side in values)
    shared = x.index.intersection(y.index)
    difference, found = _difference(x, y, shared)
    row: dict[str, Any] = {
        "difference": difference,
        "shared": len(shared),
        "equal": int((x[shared] == y[shared]).sum()),
    }
    for name, side in (("a", x), ("b", y)):
        row |= {f"mean_{name}": side.mean(), f"sd_{name}": side.std(ddof=1), f"seeds_{name}": len(side)}
    if isinstance(found, str):
        row |= dict.fromkeys(("low", "high", "p", "detectable"), NAN) | {"test": ""}
        said = [found]
    else:
        low, high = found.interval()
        row |= {"low": low, "high": high, "p": found.p, "detectable": _detectable(found.df) * found.se}
        row["test"], said = f"{found.name}, df {found.df:.3g}", []
    for name, side, all_of_it in (("A", x, values[0]), ("B", y, values[1])):
        alone, lost = len(side) - len(shared), len(all_of_it) - len(side)
        said += [f"{_seeds(alone)} of {name} without a partner"] * bool(_are_pairs(x, y, shared) and alone)
        said += [f"no finite mean in {_seeds(lost)} of {name}"] * bool(lost)
    tasks = [", ".join(str(n) for n in sorted(set(side["tasks"]))) for side in (a, b)]
    if all(tasks) and tasks[0] != tasks[1]:
        said.append(f"test tasks: {tasks[0]} in A, {tasks[1]} in B")
    return row, said


def _difference(x: pd.Series, y: pd.Series, shared: pd.Index) -> tuple[float, Estimate | str]:
    """B − A and its estimate, or why there is none."""
    lacking = " and ".join(name for name, side in (("A", x), ("B", y)) if side.empty)
    if lacking:
        return NAN, f"no number in {lacking}"
    try:
        if _are_pairs(x, y, shared):
            return _of_pairs(x[shared].to_numpy(), y[shared].to_numpy())
        difference = float(y.mean() - x.mean())
        single = " and ".join(name for name, side in (("A", x), ("B", y)) if len(side) == 1)
        if single:
            return difference, f"one seed in {single}: no spread over seeds to test with"
        if all(side.std(ddof=1) <= ROUNDING * side.abs().max() for side in (x, y)):
            return difference, "the seeds of each side agree: no spread to test with"
        return difference, welch(y, x, "training seed")
    except ValueError as error:
        return NAN, f"no test: {error}"


def _are_pairs(x: pd.Series, y: pd.Series, shared: pd.Index) -> bool:
    """Whether shared seeds alone make the difference: at least two, or all that a side has."""
    return len(shared) > 1 or len(shared) == min(len(x), len(y)) > 0


def _of_pairs(x: np.ndarray, y: np.ndarray) -> tuple[float, Estimate | str]:
    """As `_difference`, of the same seeds in the same order."""
    d, limit = y - x, ROUNDING * max(np.abs(x).max(), np.abs(y).max())
    difference, most, spread = float(d.mean()), float(np.abs(d).max()), float(np.ptp(d))
    if most == 0:
        return 0.0, f"equal in {'the one' if d.size == 1 else f'all {d.size}'} shared seed{'s' * (d.size > 1)}"
    if most <= limit:
        return difference, f"equal up to rounding: at most {short(most)} apart"
    if d.size == 1:
        return difference, "one shared seed: no spread over seeds to test with"
    if spread <= limit:
        return difference, "every seed differs by the same amount: no spread to test with"
    return difference, paired(y, x, "training seed")


@functools.cache
def _detectable(df: float) -> float:
    """In standard errors."""
    return Estimate(0.0, 1.0, df, "").detectable(POWER, ALPHA)


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"


def short(value: float) -> str:
    """A number of any size with about three significant digits; NO_NUMBER for NaN."""
    if math.isnan(value):
        return NO_NUMBER
    if math.isinf(value):
        return "not finite"
    size = abs(float(value))
    digits = "0" if size == 0 else compact(size) if size >= 0.01 else p_value(size)
    return f"−{digits}" if value < 0 else digits

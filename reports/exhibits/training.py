"""Training curves as blocks: means over at most BLOCKS blocks of meta-iterations, of which everything else is made.

The committed blocks therefore give the same figures and the same numbers as the records.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reports.records import Records
from reports.statistics import t_interval

BLOCKS = 60
KEYS = ["setting", "method", "seed", "iteration"]
LAST = 0.1
"""The share of training, at its end, over which what a run ends with is averaged."""


def thinned(records: Records, metrics: Sequence[str], labels: Sequence[str]) -> pd.DataFrame:
    """KEYS and a column per metric: means over blocks of meta-iterations, of the finished runs of these methods."""
    runs = records.runs[records.runs["status"].eq("done") & records.runs["method"].isin(list(labels))]
    mine = records.curves[records.curves["metric"].isin(list(metrics))]
    mine = mine.merge(runs[["run_id", "setting", "method", "seed"]], on="run_id")
    if mine.empty:
        return pd.DataFrame(columns=KEYS)
    length = mine.groupby("run_id")["iteration"].transform("max") + 1
    size = np.ceil(length / BLOCKS)
    mine = mine.assign(block=(mine["iteration"] // size).astype("int64"))
    blocks = mine.groupby(["setting", "method", "seed", "block", "metric"], sort=True)
    means = blocks["value"].mean().unstack("metric")
    centre = mine.groupby(["setting", "method", "seed", "block"], sort=True)["iteration"].mean()
    table = means.assign(iteration=centre).reset_index().drop(columns="block")
    return table[[*KEYS, *(name for name in metrics if name in table)]].rename_axis(columns=None)


def late(curves: pd.DataFrame) -> pd.DataFrame:
    """The blocks of the LAST part of every run's training."""
    end = curves.groupby(["setting", "method", "seed"])["iteration"].transform("max")
    return curves[curves["iteration"].ge((1 - LAST) * end)]


def band(curves: pd.DataFrame, name: str, log: bool = False) -> pd.DataFrame:
    """mean, low and high of one method over seeds, at the blocks that all seeds have: indexed by iteration.

    log: both are taken of the logarithm.
    """
    wide = curves.pivot_table(index="iteration", columns="seed", values=name, dropna=False).dropna()
    found = [t_interval(np.log(row) if log else row) for row in wide.to_numpy()]
    table = pd.DataFrame([(i.mean, i.low, i.high) for i in found], columns=["mean", "low", "high"], index=wide.index)
    return table.apply(np.exp) if log else table

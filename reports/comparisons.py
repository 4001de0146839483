"""The papers' tests beside ours: as printed, recomputed, per trained model, and with the training seed as the unit."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd

from reports.papers.beside import Comparison
from reports.papers.published import Published
from reports.statistics import TTest, conservative_t, holm, paired_t, pooled_t_from_summaries
from reports.tables import done

CONDITIONAL = "conditional on this model"


def printed_tests(published: Published, comparison: Comparison) -> pd.DataFrame:
    """The printed t-tests of a comparison, recomputed from the printed means and SDs.

    recomputed_*: the paper's own test (Welch t value, df = min(n) - 1). named_*: the independent two-sample t-test that
    the paper names (df = n1 + n2 - 2). The papers print |t|; ours keeps the sign of a minus b.
    """
    if comparison.tests_table is None:
        return pd.DataFrame()
    table = published.results(comparison.paper, comparison.table)
    rows = []
    for test in published.tests(comparison.paper, comparison.tests_table):
        step = int(test.setting["iteration"])
        a, b = (table.row(name, step) for name in test.comparison)
        row = {
            "table": comparison.tests_table, "a": test.comparison[0], "b": test.comparison[1], "step": step,
            "printed_t": test.t, "printed_df": test.df, "printed_p": test.p_printed or f"{test.p:g}",
        }  # fmt: skip
        if (
            a
            and b
            and a.mean is not None
            and b.mean is not None
            and a.std is not None
            and b.std is not None
            and a.n
            and b.n
        ):
            own = conservative_t(a.mean, a.std, a.n, b.mean, b.std, b.n)
            named = pooled_t_from_summaries(a.mean, a.std, a.n, b.mean, b.std, b.n)
            row |= {"recomputed_t": own.t, "recomputed_df": own.df, "recomputed_p": own.p}
            row |= {"named_t": named.t, "named_df": named.df, "named_p": named.p}
        rows.append(row)
    printed = ["table", "a", "b", "step", "printed_t", "printed_df", "printed_p"]
    ours = [f"{test}_{value}" for test in ("recomputed", "named") for value in ("t", "df", "p")]
    return pd.DataFrame(rows, columns=[*printed, *ours])


def seed_tests(evidence: pd.DataFrame, contrasts: Sequence[tuple[str, str]], protocol: str) -> pd.DataFrame:
    """Paired t-tests over training seeds, one row per contrast (a minus b) and adaptation step.

    The pairs are the seeds that both methods finished. p_holm: Holm over the family of all contrasts and steps of this
    protocol.
    t, df and p are NaN with fewer than two pairs, or where all differences are equal; `why` then says so.
    """
    means = _means(evidence, protocol)
    rows = [
        {"protocol": protocol, "a": a, "b": b, "step": int(step)} | _paired(means[means["step"].eq(step)], a, b)
        for a, b in contrasts
        for step in sorted(set(means["step"]))
    ]
    return _family(rows, ["protocol", "a", "b", "step"])


def paired_tests(
    evidence: pd.DataFrame, contrasts: Sequence[tuple[str, str]], protocol: str, quantities: Sequence[str]
) -> pd.DataFrame:
    """Paired t-tests over training seeds after the last adaptation step, one row per contrast (a minus b) and quantity.

    quantities: columns of the evidence; those that no run recorded are left out, as are contrasts without a pair.
    Pairs, NaN and `why` as in `seed_tests`; p_holm: Holm over all rows of this table.
    """
    rows: list[dict[str, Any]] = []
    for quantity in (name for name in quantities if name in evidence):
        means = _means(evidence, protocol, quantity)
        last = means[means["step"].eq(means["step"].max())]
        for a, b in contrasts:
            row = _paired(last, a, b)
            if row["pairs"]:
                rows.append({"a": a, "b": b, "quantity": quantity, "step": int(last["step"].max())} | row)
    order = {(a, b): i for i, (a, b) in enumerate(contrasts)}
    rows.sort(key=lambda row: order[row["a"], row["b"]])
    return _family(rows, ["a", "b", "quantity", "step"])


def gains(evidence: pd.DataFrame, labels: Sequence[str], protocol: str, quantities: Sequence[str]) -> pd.DataFrame:
    """What adaptation changes: the last adaptation step minus the first, one row per method and quantity.

    before, after: means over the seeds that have both. Pairs, NaN and `why` as in `seed_tests`; p_holm: Holm over all
    rows of this table.
    """
    rows: list[dict[str, Any]] = []
    for label in labels:
        for quantity in (name for name in quantities if name in evidence):
            mine = done(evidence, protocol)
            wide = mine[mine["method"].eq(label)].pivot(index="seed", columns="step", values=quantity)
            if wide.shape[1] < 2:
                continue
            ends = wide[[wide.columns.min(), wide.columns.max()]].dropna().set_axis(["before", "after"], axis=1)
            row = _paired(ends, "after", "before") | {name: float(ends[name].mean()) for name in ("before", "after")}
            if row["pairs"]:
                rows.append({"method": label, "quantity": quantity, "step": int(wide.columns.max())} | row)
    return _family(rows, ["method", "quantity", "step", "before", "after"])


def _paired(means: pd.DataFrame, a: str, b: str) -> dict[str, Any]:
    """The test of one contrast, from a frame with a column per method and a row per seed."""
    pairs = means.reindex(columns=[a, b]).dropna()
    row: dict[str, Any] = {"pairs": len(pairs)}
    row["difference"] = float((pairs[a] - pairs[b]).mean()) if len(pairs) else float("nan")
    try:
        return row | _columns(paired_t(pairs[a], pairs[b])) | {"why": ""}
    except ValueError as reason:
        return row | {"why": str(reason)}


def _family(rows: list[dict[str, Any]], keys: list[str]) -> pd.DataFrame:
    """The tests as a frame, adjusted over all of them."""
    names = [*keys, "pairs", "difference", "low", "high", "t", "df", "p", "p_holm", "why"]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(p_holm=holm(list(table["p"].astype("float64"))))


def task_tests(evidence: pd.DataFrame, contrasts: Sequence[tuple[str, str]], protocol: str) -> pd.DataFrame:
    """The paper's own test on every single seed of ours: what a study with that one seed would have printed.

    Two-sample t over the meta-test tasks of two trained models, df = min(n) - 1; each row is conditional on this model
    and says nothing about the method.
    """
    rows: list[dict[str, Any]] = []
    mine = done(evidence, protocol)
    found = {(row["method"], row["seed"], row["step"]): row for row in mine.to_dict("records")}
    for a, b in contrasts:
        for seed in sorted(set(mine["seed"])):
            for step in sorted(set(mine["step"])):
                sides = [found.get((label, seed, step)) for label in (a, b)]
                if sides[0] is None or sides[1] is None:
                    continue
                first, second = _summary(sides[0]), _summary(sides[1])
                row: dict[str, Any] = {"protocol": protocol, "a": a, "b": b, "seed": int(seed), "step": int(step)}
                row["unit"] = CONDITIONAL
                try:
                    row |= _columns(conservative_t(*first, *second))
                except ValueError:
                    row["difference"] = first[0] - second[0]
                rows.append(row)
    names = ["protocol", "a", "b", "seed", "step", "difference", "low", "high", "t", "df", "p", "unit"]
    return pd.DataFrame(rows, columns=names)


def single_seed_conclusions(tests: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """How many single seeds would have concluded, at level alpha, that a is better, that b is, or neither."""
    rows = []
    for (a, b, step), group in tests.groupby(["a", "b", "step"], sort=False):
        significant = group["p"].lt(alpha)
        rows.append(
            {
                "a": a,
                "b": b,
                "step": step,
                "seeds": len(group),
                "a_better": int((significant & group["difference"].gt(0)).sum()),
                "b_better": int((significant & group["difference"].lt(0)).sum()),
                "no_conclusion": int((~significant).sum()),
            }
        )
    return pd.DataFrame(rows, columns=["a", "b", "step", "seeds", "a_better", "b_better", "no_conclusion"])


def _means(evidence: pd.DataFrame, protocol: str, quantity: str = "mean_return") -> pd.DataFrame:
    """A quantity of the evidence with the columns seed, step and one per method."""
    rows = done(evidence, protocol)
    return rows.pivot_table(index=["seed", "step"], columns="method", values=quantity).reset_index()


def _summary(row: dict[Hashable, Any]) -> tuple[float, float, int]:
    """Mean, SD and number of tasks of one run at one step, as the tests from summaries take them."""
    return row["mean_return"], row["sd_over_tasks"], int(row["tasks"])


def _columns(test: TTest) -> dict[str, float]:
    return {"difference": test.difference, "low": test.low, "high": test.high, "t": test.t, "df": test.df, "p": test.p}

"""Tables of evidence beside the paper, as frames of numbers: one row per method and adaptation step.

Every function takes the evidence frame of `reports.export` (one study, setting and scale) and uses finished runs only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.errors import UserError
from reports.papers.beside import Comparison
from reports.papers.printed import ResultsTable
from reports.papers.published import Published
from reports.statistics import prediction_interval, t_interval
from reports.study_info import StudyInfo

NO_NUMBER = "–"


def done(evidence: pd.DataFrame, protocol: str | None = None) -> pd.DataFrame:
    """The rows of finished runs that have numbers, of one protocol if named."""
    rows = evidence[evidence["status"].eq("done") & evidence["mean_return"].notna()]
    return rows if protocol is None else rows[rows["protocol"].eq(protocol)]


def protocols(evidence: pd.DataFrame, first: str = "") -> list[str]:
    """The protocols for which there are numbers: `first` if it is among them, then the others by name."""
    return sorted(set(done(evidence)["protocol"]), key=lambda name: (name != first, name))


def ours(evidence: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Our numbers per protocol, method and adaptation step.

        mean = 1/S Σ_s x̄_s,   sd_over_seeds² = Σ_s (x̄_s - mean)² / (S - 1),   sd_over_tasks = 1/S Σ_s sd_s

    x̄_s and sd_s are a seed's mean and sample SD over its meta-test tasks. low and high: 95 % t interval over seeds;
    predict_low and predict_high: 95 % prediction interval of one more seed; NaN for one seed. Both hold for these
    meta-test tasks and this stream of meta-test noise, which all runs share.
    """
    rows = []
    for (protocol, method, step), group in done(evidence).groupby(["protocol", "method", "step"], sort=True):
        interval, predicted = t_interval(group["mean_return"]), prediction_interval(group["mean_return"])
        rows.append(
            {
                "protocol": protocol,
                "method": method,
                "step": step,
                "mean": interval.mean,
                "sd_over_tasks": group["sd_over_tasks"].mean(),
                "sd_over_seeds": interval.sd,
                "low": interval.low,
                "high": interval.high,
                "predict_low": predicted[0],
                "predict_high": predicted[1],
                "seeds": interval.n,
            }
        )
    columns = ["protocol", "method", "step", "mean", "sd_over_tasks", "sd_over_seeds", "low", "high"]
    columns += ["predict_low", "predict_high", "seeds"]
    table = pd.DataFrame(rows, columns=columns)
    table = table.astype({"step": "int64"} | dict.fromkeys(columns[3:], "float64"))
    return _in_order(table, labels, ["method", "protocol", "step"])


def beside_paper(
    evidence: pd.DataFrame, published: Published, comparison: Comparison, labels: Sequence[str]
) -> pd.DataFrame:
    """A printed results table beside ours: one row per method, protocol and step that the paper or our runs have.

    paper_*: as printed (SD over tasks of one trained model); original_*: the table that the comparison names as its
    reference; difference: our mean minus the printed mean; paper_inside: "yes" or "no", whether the printed mean lies
    in the prediction interval of one more seed, "" where there is none. Methods that the comparison maps to no printed
    name are left out.
    """
    mine = ours(evidence, labels)
    names = sorted({comparison.protocol, *mine["protocol"]}, key=lambda name: (name != comparison.protocol, name))
    paper = published.results(comparison.paper, comparison.table)
    steps = sorted({int(row.setting["iteration"]) for row in paper.rows} | {int(step) for step in mine["step"]})
    grid = pd.DataFrame(
        [
            (label, comparison.printed_name(label), protocol, step)
            for label in labels
            if comparison.printed_name(label)
            for protocol in names
            for step in steps
        ],
        columns=["method", "printed_as", "protocol", "step"],
    )
    reference = comparison.reference
    original = published.results(reference.paper, reference.table) if reference else None
    table = grid.merge(_printed(paper, "paper"), on=["printed_as", "step"], how="left")
    table = table.merge(_printed(original, "original"), on=["printed_as", "step"], how="left")
    table = table.merge(mine, on=["method", "protocol", "step"], how="left")
    table["seeds"] = table["seeds"].fillna(0).astype("int64")
    inside = table["paper_mean"].between(table["predict_low"], table["predict_high"]).map({True: "yes", False: "no"})
    known = table["paper_mean"].notna() & table["predict_low"].notna()
    return table.assign(difference=table["mean"] - table["paper_mean"], paper_inside=inside.where(known, ""))


def _printed(table: ResultsTable | None, prefix: str) -> pd.DataFrame:
    """A printed table with columns printed_as, step, <prefix>_mean, <prefix>_sd, <prefix>_n."""
    rows = [(r.method, int(r.setting["iteration"]), r.mean, r.std, r.n) for r in table.rows] if table else []
    names = {f"{prefix}_mean": "float64", f"{prefix}_sd": "float64", f"{prefix}_n": "Int64"}
    return pd.DataFrame(rows, columns=["printed_as", "step", *names]).astype({"step": "int64", **names})


def protocol_table(evidence: pd.DataFrame, labels: Sequence[str], first: str, second: str) -> pd.DataFrame:
    """Two meta-test protocols on the same trained models: `second` minus `first`, paired by seed, with interval."""
    rows: list[dict[str, Any]] = []
    both = done(evidence).pivot_table(index=["method", "step", "seed"], columns="protocol", values="mean_return")
    both = both.reindex(columns=[first, second]).reset_index()
    for (method, step), group in both.groupby(["method", "step"], sort=True):
        pairs = group.dropna()
        row = {"method": method, "step": step, first: group[first].mean(), second: group[second].mean()}
        row |= {"pairs": len(pairs)}
        if len(pairs):
            interval = t_interval(pairs[second] - pairs[first])
            row |= {"difference": interval.mean, "low": interval.low, "high": interval.high}
        rows.append(row)
    columns = ["method", "step", first, second, "difference", "low", "high", "pairs"]
    return _in_order(pd.DataFrame(rows, columns=columns), labels, ["method", "step"])


def per_seed(evidence: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Mean and SD over tasks of every single run; unfinished and diverged runs keep a row with their status."""
    table = evidence[["method", "seed", "protocol", "step", "mean_return", "sd_over_tasks", "status", "run_id"]]
    return _in_order(table, labels, ["method", "protocol", "seed", "step"])


def completeness(runs: pd.DataFrame, info: StudyInfo) -> pd.DataFrame:
    """Per method, over its settings: runs expected, done, diverged, running, failed, missing (expected, no record)."""
    rows = []
    extra = [label for label in sorted(runs["method"].unique()) if label not in info.labels]
    for label in [*info.labels, *extra]:
        mine = runs[runs["method"].eq(label)]
        counts = {status: int(mine["status"].eq(status).sum()) for status in ("done", "diverged", "running", "failed")}
        asked = {(setting, seed) for setting, method, seed in info.expected if method == label}
        missing = len(asked - set(zip(mine["setting"], mine["seed"], strict=True)))
        rows.append({"method": label, "expected": len(asked), **counts, "missing": missing})
    return pd.DataFrame(rows)


def markdown_table(
    evidence: pd.DataFrame, published: Published, labels: Sequence[str], comparison_id: str = "table_3_3"
) -> str:
    """The headline table for a README: a line per method, a column per step; ours ± SD over seeds (paper's mean).

    The seeds are those that finished, "of" all with a record; a printed mean outside the 95 % prediction interval of
    one more seed is marked with *.
    """
    comparison = next(c for c in published.comparisons if c.id == comparison_id)
    mine = evidence[
        evidence["study"].eq(comparison.study)
        & evidence["setting"].eq(comparison.setting)
        & evidence["scale"].eq("paper")
    ]
    if mine.empty:
        raise UserError(
            f"the evidence has no paper-scale run of study {comparison.study}, setting {comparison.setting}, which is "
            f"what {comparison.title} is set beside"
        )
    table = beside_paper(mine, published, comparison, labels)
    table = table[table["protocol"].eq(comparison.protocol)]
    steps = sorted(table["step"].unique())
    lines = ["| method | seeds | " + " | ".join(map(updates, steps)) + " |"]
    lines.append("|---|---:|" + "---:|" * len(steps))
    for method in dict.fromkeys(table["method"]):
        rows = table[table["method"].eq(method)].set_index("step")
        cells = [_markdown_cell(rows.loc[step]) for step in steps]
        recorded = mine.loc[mine["method"].eq(method), "seed"].nunique()
        seeds = f"{int(rows['seeds'].max())}" + (f" of {recorded}" if recorded != rows["seeds"].max() else "")
        lines.append(f"| {method} | {seeds} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _markdown_cell(row: pd.Series) -> str:
    mine = number(row["mean"])
    if row["seeds"] > 1:
        mine += f" ± {row['sd_over_seeds']:.2f}"
    return f"{mine} ({number(row['paper_mean'])}{'*' if row['paper_inside'] == 'no' else ''})"


def updates(step: int) -> str:
    """``1 update``, ``2 updates``."""
    return "1 update" if step == 1 else f"{step} updates"


def mean_and_sd(mean: float, sd: float, digits: int = 2) -> str:
    """``−5.00 ± 1.01``; the mean alone where one number has no spread, a dash where there is none."""
    return number(mean, digits) + ("" if sd is None or pd.isna(sd) else f" ± {number(sd, digits)}")


def number(value: float, digits: int = 2) -> str:
    """A number as the page prints it, with a true minus sign; a dash where there is none."""
    if value is None or pd.isna(value):
        return NO_NUMBER
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"


def _in_order(table: pd.DataFrame, labels: Sequence[str], by: list[str]) -> pd.DataFrame:
    """Sort with the methods in the order of the study; a label the study does not name comes last."""
    rank = {label: i for i, label in enumerate(labels)}
    keyed = table.assign(_rank=table["method"].map(lambda m: rank.get(m, len(rank))))
    return keyed.sort_values(["_rank", *by], kind="stable", ignore_index=True).drop(columns="_rank")

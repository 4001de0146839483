"""The page of the audit of meta-gradient estimators, with its tables as CSV and its figures as SVG beside it.

A function of the CSV and of what is handed in: the same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.files import write_atomic
from reports.attachments import Attachments
from reports.display import ALL_AGREE, Column, Row, count, facts, interval, mean_text, shown, text, value
from reports.estimators import figures
from reports.estimators.audit import (
    PAIR,
    QUANTITIES,
    STATISTICS,
    bias_by_stage,
    cases,
    curvature_bias,
    names,
    of_case,
    over_mdps,
    ratios,
    read_audit,
    stages,
)
from reports.markup import render
from reports.papers.printed import ClaimRow

REFERENCE_EPISODES = 20
"""The number of episodes per task in the paper; where it was not measured, the smallest that was."""
COMMAND = "metarepro estimators"


def build(
    csv: Path,
    provenance: Mapping[str, Any],
    out_dir: Path,
    *,
    title: str = "Meta-gradient estimators against the exact meta-gradient",
    findings: Sequence[str] = (),
    descriptions: Mapping[str, str] | None = None,
    claim: ClaimRow | None = None,
) -> Path:
    """Write `<out_dir>/<stem of the CSV>.html` and the folder of that name beside it; returns the page.

    provenance:   what made the CSV: `scale`, `command`, code and package versions, ...; shown as it is.
    findings:     what the results say, a paragraph each; words between backticks are code.
    descriptions: estimator or stage -> what it is.
    claim:        the paper's ratio of the spreads of DiCE and LVC.
    Errors: UserError where the CSV is not an audit or out_dir cannot be written.
    """
    files, audit, stem = Attachments(), read_audit(csv), csv.stem
    files.text(f"{stem}.csv", csv.read_text(encoding="utf-8"))
    printed = float(claim.value) if claim else None
    context = {
        "title": title,
        "folder": stem,
        "command": str(provenance.get("command") or COMMAND),
        "scale": str(provenance.get("scale") or ""),
        "provenance": facts(provenance),
        "findings": list(findings),
        "descriptions": _described(audit, descriptions or {}),
        "claim": claim,
        "size": _size(audit),
        "csv": f"{stem}.csv",
        "stages": _stages(files, audit),
        "cases": _cases(files, audit),
        "ratios": _ratios(files, audit, printed),
        "bias": _bias(files, audit),
    }
    files.write(out_dir / stem)
    page = out_dir / f"{stem}.html"
    write_atomic(page, render("estimators.html", context).encode())
    return page


def _size(audit: pd.DataFrame) -> dict[str, Any]:
    batches = audit["batches"]
    return {
        "mdps": audit["mdp"].nunique(),
        "fewest": int(batches.min()),
        "most": int(batches.max()),
        "episodes": sorted(int(n) for n in audit["episodes"].unique()),
    }


def _described(audit: pd.DataFrame, descriptions: Mapping[str, str]) -> list[tuple[str, str]]:
    """Estimators, then stages, and what they are; those without a description are left out."""
    known = [*names(audit, "estimator"), *names(audit, "stage")]
    return [(name, descriptions[name]) for name in known if name in descriptions]


def _stages(files: Attachments, audit: pd.DataFrame) -> dict[str, Any]:
    columns = [
        value("α", "alpha", 1),
        interval("share of the way up the return", "return_fraction_"),
        interval("length of the exact meta-gradient", "truth_norm_", 3),
        interval("exact relative size of what LVC leaves out", "h12_share_", 3),
        count("MDPs", "mdps"),
    ]
    note = f"{ALL_AGREE}: the same on all MDPs, by definition of the stage."
    return shown(files, "stages", stages(audit), "stage", columns) | {"note": note}


def _cases(files: Attachments, audit: pd.DataFrame) -> list[dict[str, Any]]:
    """A figure and a table per quantity, inner step and baseline; the page holds the first figure of each quantity."""
    table, style = over_mdps(audit), figures.estimator_style(audit)
    made: list[dict[str, Any]] = []
    for case in cases(audit):
        mine = of_case(table, case)
        name = f"errors_{case['quantity']}_alpha_{case['alpha']:g}_{case['baseline']}".replace(".", "_")
        alt = (
            "Bias, SD, RMSE and cosine of every estimator over the number of episodes, a column of panels per stage; "
            "the values are those of the CSV file."
        )
        caption = (
            "mean over MDPs with 95 % t interval; of the bias the root of the mean square, with the interval of its "
            "estimate. Everything but the cosine is relative to the length of the exact vector, on logarithmic axes. "
            "Hollow: no bias can be told from the noise of its estimate. What is 0, or a squared bias estimated below "
            "0, is not drawn"
        )
        made.append(
            {
                "quantity": case["quantity"],
                "what": QUANTITIES.get(case["quantity"], case["quantity"]),
                "title": f"α = {case['alpha']:g}, baseline {case['baseline']}",
                "first": case["quantity"] not in [one["quantity"] for one in made],
                "figure": files.figure(name, figures.errors(mine, style), alt) | {"caption": caption},
                "table": _table(files, name, mine),
            }
        )
    return made


def _table(files: Attachments, name: str, mine: pd.DataFrame) -> dict[str, Any]:
    """Every estimator at the paper's number of episodes and at the largest; the CSV has them all."""
    columns: list[Column] = [text("estimator", "estimator")]
    for side, episodes in _sides(mine).items():
        columns += [
            interval(f"{title}, {episodes} episodes", f"{side}_{statistic}_", 2, strong=statistic == "rmse")
            for statistic, title in STATISTICS.items()
        ]
    return _wide(files, name, mine, ["stage", "estimator"], columns)


def _ratios(files: Attachments, audit: pd.DataFrame, printed: float | None) -> list[dict[str, Any]]:
    """DiCE's spread divided by LVC's: a figure and a table per quantity."""
    if not set(PAIR) <= set(audit["estimator"]):
        return []
    table, made = ratios(audit), []
    for quantity in names(table, "quantity"):
        mine = table[table["quantity"].eq(quantity)].assign(printed=printed)
        name = f"ratio_{quantity}"
        alt = f"Ratio of the SD with {PAIR[0]} to that with {PAIR[1]} over the number of episodes, a line per stage."
        columns = [value("α", "alpha", 1), text("baseline", "baseline")]
        for side, episodes in _sides(mine).items():
            columns += [
                interval(f"ratio of SDs, {episodes} episodes", f"{side}_norm_", strong=True),
                Column(f"median by the paper’s statistic, {episodes} episodes", _median(f"{side}_coordinates_")),
            ]
        columns.insert(4, Column(f"MDPs on which {PAIR[0]} has the larger SD", _larger))
        columns.append(value("the paper", "printed", 1))
        caption = (
            "above: geometric mean over MDPs and 95 % t interval of the logarithm; below: median over MDPs and its "
            "95 % distribution-free interval, because that statistic is heavy-tailed. Where a band leaves the panel it "
            "is cut off"
        )
        figure = files.figure(name, figures.ratio_lines(mine, printed), alt) | {"caption": caption}
        shape = _wide(files, name, mine, ["stage", "alpha", "baseline", "printed"], columns)
        made.append({"title": QUANTITIES.get(quantity, quantity), "figure": figure, "table": shape})
    return made


def _median(prefix: str) -> Callable[[Row], str]:
    """The text of a median with its interval."""
    return lambda row: mean_text({**row, f"{prefix}mean": row.get(f"{prefix}median")}, prefix)


def _larger(row: Any) -> str:
    return f"{row['few_larger']:.0f} of {row['few_mdps']:.0f}"


def _sides(mine: pd.DataFrame) -> dict[str, int]:
    """Which numbers of episodes a table shows: the paper's, and the largest."""
    numbers = sorted(int(n) for n in mine["episodes"].unique())
    few = REFERENCE_EPISODES if REFERENCE_EPISODES in numbers else numbers[0]
    return {"few": few} | ({"many": numbers[-1]} if numbers[-1] != few else {})


def _wide(
    files: Attachments, name: str, mine: pd.DataFrame, keys: list[str], columns: Sequence[Column]
) -> dict[str, Any]:
    """A shown table with the numbers of episodes side by side; the CSV beside the page has a row for each."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for side, episodes in _sides(mine).items():
        for row in mine[mine["episodes"].eq(episodes)].to_dict("records"):
            key = tuple(row[part] for part in keys)
            place = rows.setdefault(key, dict(zip(keys, key, strict=True)))
            place |= {f"{side}_{part}": one for part, one in row.items() if part not in keys}
    frame = pd.DataFrame(list(rows.values())).sort_values("stage", key=lambda x: x.map(_first(mine)), kind="stable")
    made = shown(Attachments(), name, frame, "stage", columns)
    return made | {"file": files.table(name, mine)["file"]}


def _first(mine: pd.DataFrame) -> dict[Any, int]:
    return {stage: place for place, stage in enumerate(names(mine, "stage"))}


def _bias(files: Attachments, audit: pd.DataFrame) -> dict[str, Any] | None:
    """LVC's measured bias beside its exact size."""
    rows = curvature_bias(audit)
    if rows.empty:
        return None
    alt = f"Measured against exact relative bias of {PAIR[1]}’s curvature, a point per MDP; the line is equality."
    columns = [
        value("α", "alpha", 1),
        text("baseline", "baseline"),
        value("exact", "h12_share_mean", 3),
        interval("measured", "bias_", 3, strong=True),
        interval("SD at this number of episodes", "sd_", 3),
        count("episodes", "episodes"),
        count("MDPs", "mdps"),
    ]
    return {
        "figure": files.figure("curvature_bias", figures.bias_against_exact(rows), alt)
        | {"caption": f"a point per MDP, {int(rows['episodes'].max())} episodes per estimate; the line is equality"},
        "table": shown(files, "curvature_bias", bias_by_stage(rows), "stage", columns),
    }

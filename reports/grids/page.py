"""The blocks of a study with a grid of settings: every method in every setting, beside the printed numbers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports import overview
from reports.attachments import Attachments, grouped
from reports.grids import bounds as grid_bounds
from reports.grids import figures as grid_figures
from reports.grids.tables import STEPS, Grid, beside_printed, grid_of, scores
from reports.papers.published import Published
from reports.records import Records
from reports.study_info import StudyInfo


def blocks(
    files: Attachments, records: Records, table: pd.DataFrame, info: StudyInfo, published: Published
) -> dict[str, Any]:
    """What the template needs about the study.

    records: those of the study's settings; table: their evidence.
    """
    grid = grid_of(table, info.settings, info.labels, published, info.name)
    beside = beside_printed(grid)
    known = grid_bounds.bounds(records.references, records.runs, grid)
    above = grid_bounds.above_bounds(known, grid)
    svg = grid_figures.overview(grid, beside)
    return {
        "grid": grid,
        "paper": published.paper(grid.comparison.paper) if grid.comparison else None,
        "settings": {setting.name: setting.describe() for setting in info.settings},
        "beside": _by_setting(files, "beside_printed", beside),
        "inside": _inside(beside),
        "bounds": files.table("bounds", known) | {"names": grid_bounds.reference_names(known, grid)},
        "above": _by_setting(files, "printed_above_bounds", above),
        "limits": _limits(known, above, info),
        "widths": _widths(known, beside),
        "has_optimum": bool(beside["optimum"].notna().any()),
        "overview": files.figure("overview", svg, _alt(grid)),
        "curves": _training(files, records, grid),
        "per_seed": _per_seed(files, table, grid, info),
        "gaps": files.table("gaps", gaps(records.runs, info)),
    }


def gaps(runs: pd.DataFrame, info: StudyInfo) -> pd.DataFrame:
    """Expected runs that are not done: one row per setting, method and state, with the seeds."""
    states = {
        (row["setting"], row["method"], int(row["seed"])): str(row["status"])
        for row in runs[["setting", "method", "seed", "status"]].to_dict("records")
    }
    rows, expected = [], info.expected
    for setting in info.settings:
        for method in info.methods:
            missing: dict[str, list[int]] = {}
            for seed in sorted(method.seeds):
                if (setting.name, method.label, seed) not in expected:
                    continue
                state = states.get((setting.name, method.label, seed), "missing")
                if state != "done":
                    missing.setdefault("not finished" if state == "running" else state, []).append(seed)
            for state, seeds in sorted(missing.items()):
                row = {"setting": setting.name, "method": method.label, "state": state, "runs": len(seeds)}
                rows.append(row | {"seeds": overview.ranges(seeds)})
    return pd.DataFrame(rows, columns=["setting", "method", "state", "runs", "seeds"])


def _by_setting(files: Attachments, name: str, frame: pd.DataFrame) -> dict[str, Any]:
    shown = files.table(name, frame)
    return shown | {"groups": grouped(shown["rows"], "setting")}


def _inside(beside: pd.DataFrame) -> list[dict[str, Any]]:
    """Per printed column that we rerun: in how many settings the printed mean is inside, of those that have both.

    settings_inside: the names of those settings.
    """
    rows = []
    for (method, printed), group in beside[beside["method"].ne("")].groupby(["method", "printed_as"], sort=False):
        known = group[group["paper_inside"].ne("")]
        if printed:
            inside = list(known.loc[known["paper_inside"].eq("yes"), "setting"])
            rows.append({"method": method, "printed_as": printed, "known": len(known), "settings_inside": inside})
    return rows


def _limits(known: pd.DataFrame, above: pd.DataFrame, info: StudyInfo) -> list[dict[str, Any]]:
    """Every setting with an exact Bayes-optimal value, and the printed means above it."""
    if grid_bounds.BAYES_OPTIMAL not in known:
        return []
    exceeded = above[above["bound"].eq(grid_bounds.BAYES_OPTIMAL)]
    described = {setting.name: setting.describe() for setting in info.settings}
    return [
        {
            "setting": described[row["setting"]],
            "value": row[grid_bounds.BAYES_OPTIMAL],
            "above": exceeded[exceeded["setting"].eq(row["setting"])].to_dict("records"),
        }
        for row in known.to_dict("records")
        if not pd.isna(row[grid_bounds.BAYES_OPTIMAL])
    ]


def _widths(known: pd.DataFrame, beside: pd.DataFrame) -> dict[str, Any] | None:
    """The setting in which the printed half-width falls shortest of what the choice of test tasks gives by itself."""
    if "printed_half_width" not in known or not {"half_width_of_tasks"} <= set(known):
        return None
    ratio = (known["half_width_of_tasks"] / known["printed_half_width"]).dropna()
    if ratio.empty:
        return None
    row: dict[Any, Any] = known.loc[[ratio.idxmax()]].to_dict("records")[0]
    columns = beside[beside["setting"].eq(row["setting"]) & beside["paper_ci95"].eq(row["printed_half_width"])]
    own = columns[columns["paper_origin"].eq("own")]
    return row | {"printed_as": own["printed_as"].iloc[0], "short": int(ratio.gt(1).sum()), "of": len(ratio)}


def _alt(grid: Grid) -> str:
    what = "One panel per setting, one line per method" if len(grid.labels) > 1 else "One line per setting"
    beside = ", beside the printed means" if grid.comparison else ""
    return (
        f"{what}: reward during adaptation and of the adapted policy{beside}. The values are those of the table above."
    )


def _training(files: Attachments, records: Records, grid: Grid) -> list[dict[str, Any]]:
    shown = []
    present = set(records.curves["metric"])
    for metric, title in overview.CURVE_TITLES.items():
        if metric in present:
            svg = grid_figures.training(grid, records.curves, records.runs, metric, "mean return")
            alt = (
                f"One panel per setting, one line per method: {title} over meta-iterations, mean of the finished seeds."
            )
            shown.append(files.figure(f"training_{metric}", svg, alt) | {"caption": title})
    return shown


def _per_seed(files: Attachments, table: pd.DataFrame, grid: Grid, info: StudyInfo) -> dict[str, Any]:
    """Every run's score in both accountings, seeds side by side; runs without numbers by their status."""
    columns = ["setting", *info.settings[0].columns, "method", "seed", "accounting", "score", "sd_score"]
    columns += ["mean_return", "status", "run_id"]
    frame = scores(grid)[columns]
    blocks = []
    for name in STEPS:
        part = frame[frame["accounting"].eq(name)]
        seeds: dict[tuple[str, str], dict[int, float]] = {}
        for row in part.to_dict("records"):
            seeds.setdefault((row["setting"], row["method"]), {})[int(row["seed"])] = row["score"]
        lines = [
            {"setting": setting.name, "method": label, "seeds": seeds[setting.name, label]}
            for setting in info.settings
            for label in info.labels
            if (setting.name, label) in seeds
        ]
        shown = sorted(int(seed) for seed in part["seed"].unique())
        blocks.append({"accounting": name, "seeds": shown, "groups": grouped(lines, "setting")})
    without = table[table["protocol"].eq("")]
    file = files.table("per_seed", frame)["file"]
    return {"blocks": blocks, "without": without.to_dict("records"), "file": file}

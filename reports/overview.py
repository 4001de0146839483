"""How complete the records of studies are, and what made them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.attachments import Attachments
from reports.export import distinct, packages
from reports.records import Records
from reports.study_info import StudyInfo

STATES = ("done", "diverged", "running", "failed")
CURVE_TITLES = {
    "pre_update_return": "return before the inner update",
    "post_update_return": "return after the inner update (of the policy itself for methods without one)",
}


def of_settings(records: Records, info: StudyInfo) -> Records:
    """The records of the study's own settings."""
    runs = records.runs[records.runs["setting"].isin([setting.name for setting in info.settings])]
    parts = {
        name: frame[frame["run_id"].isin(runs["run_id"])].reset_index(drop=True)
        for name in ("returns", "curves", "references", "measures", "paths")
        for frame in [getattr(records, name)]
    }
    return dataclasses.replace(records, runs=runs.reset_index(drop=True), **parts)


def summary(runs: pd.DataFrame | None, info: StudyInfo) -> dict[str, Any]:
    """Completeness of a study in one line: counts over the expected runs, and the seeds that are there.

    runs: None where there are no records.
    """
    if runs is None:
        runs = pd.DataFrame(columns=["setting", "method", "seed", "status"])
    keys = zip(runs["setting"], runs["method"], runs["seed"], strict=True)
    expected = runs[pd.Series([key in info.expected for key in keys], index=runs.index, dtype=bool)]
    counts = {status: int(expected["status"].eq(status).sum()) for status in STATES}
    total = len(info.expected)
    done_seeds = sorted(int(seed) for seed in runs.loc[runs["status"].eq("done"), "seed"].unique())
    return {
        **counts,
        "info": info,
        "expected": total,
        "missing": total - len(expected),
        "complete": counts["done"] + counts["diverged"] == total,
        "extra": len(runs) - len(expected),
        "seeds": ranges(done_seeds),
        "num_seeds": len(done_seeds),
        "smoke": info.scale == "smoke",
        "smaller": info.scale not in ("smoke", "paper"),
    }


def state(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a reader of the whole page has to be warned of: the studies that are incomplete, smoke tests, or reduced."""
    return {
        "studies": list(summaries),
        "incomplete": [one for one in summaries if not one["complete"]],
        "smoke": [one for one in summaries if one["smoke"]],
        "smaller": [one for one in summaries if one["smaller"]],
        "done": sum(one["done"] for one in summaries),
        "expected": sum(one["expected"] for one in summaries),
    }


def ranges(numbers: list[int]) -> str:
    """Sorted whole numbers as short text: [0, 1, 2, 5] -> "0–2, 5"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}–{p[-1]}" for p in parts)


def provenance(files: Attachments, runs: pd.DataFrame) -> dict[str, Any]:
    """What made the records; every manifest key is optional."""
    manifests = list(runs["manifest"])
    total = {
        key: sum(m[key] for m in manifests if m.get(key) is not None) for key in ("wall_clock_s", "environment_steps")
    }
    started = sorted(str(m["started_at"]) for m in manifests if m.get("started_at"))
    lines = runs.drop(columns="manifest").assign(
        wall_clock_s=[m.get("wall_clock_s") for m in manifests],
        environment_steps=[m.get("environment_steps") for m in manifests],
        started_at=[m.get("started_at", "") for m in manifests],
    )
    return {
        "code": sorted(runs["code_version"].unique()),
        "dirty": int(runs["dirty"].sum()),
        "suites": sorted((runs["suite"] + " " + runs["suite_version"]).unique()),
        "algorithms": sorted((runs["algorithm"] + " " + runs["algorithm_version"]).unique()),
        "facts": {
            key: [str(v) for v in distinct(manifests, key)]
            for key in ("lock_hash", "python", "cpu", "threads", "command")
        },
        "packages": packages(manifests),
        "wall_clock_s": total["wall_clock_s"],
        "environment_steps": total["environment_steps"],
        "started": f"{started[0]} to {started[-1]}" if started else "",
        "runs": files.table("runs", lines),
    }

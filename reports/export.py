"""Committed evidence: one row per run, protocol and adaptation step, as a small sorted CSV with its provenance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import UserError
from harness.files import write_atomic, write_json
from reports.records import STATUSES, Records

COLUMNS = [
    "study", "suite", "setting", "scale", "method", "seed", "protocol", "step", "mean_return", "sd_over_tasks", "tasks",
    "episodes", "status", "run_id", "code_version",
]  # fmt: skip
_RUN_PART = ["study", "suite", "setting", "scale", "method", "seed", "status", "run_id", "code_version"]
_COUNTS = ["step", "tasks", "episodes"]
_ORDER = ["study", "setting", "scale", "method", "seed", "protocol", "step", "run_id"]


def evidence(records: Records) -> pd.DataFrame:
    """Summarise every run over its meta-test tasks.

        mean_return = 1/T Σ_i R_i,   sd_over_tasks² = Σ_i (R_i - mean_return)² / (T - 1)

    R_i is the mean undiscounted return of meta-test task i over its episodes. `episodes` is the number per task (the
    smallest). A run without returns (diverged, failed, still running) keeps one row with an empty protocol, step and
    numbers, so that it is never dropped in silence. Numbers are rounded to the six decimals of the file.
    """
    groups = records.returns.groupby(["run_id", "protocol", "step"], sort=True)
    summary = groups.agg(
        mean_return=("mean_return", lambda x: x.mean(skipna=False)),
        sd_over_tasks=("mean_return", lambda x: x.std(ddof=1, skipna=False)),
        tasks=("task", "nunique"),
        episodes=("episodes", "min"),
    ).reset_index()
    merged = records.runs[_RUN_PART].merge(summary, on="run_id", how="left", validate="one_to_many")
    merged["protocol"] = merged["protocol"].fillna("").astype(str)
    return _typed(merged)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.astype(dict.fromkeys(_COUNTS, "Int64") | {"seed": "int64"})
    for name in ("mean_return", "sd_over_tasks"):
        frame[name] = frame[name].astype("float64").round(6)
    return frame.sort_values(_ORDER, kind="stable", ignore_index=True)[COLUMNS]


def read_evidence(path: Path) -> pd.DataFrame:
    """Read an evidence file that `write_evidence` wrote.

    Errors: UserError where the file is missing, lacks a column or holds text in place of a number.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        frame = frame.astype({"seed": "int64"})
        for name in (*_COUNTS, "mean_return", "sd_over_tasks"):
            frame[name] = pd.to_numeric(frame[name].replace("", None))
        return _typed(frame)
    except OSError:
        raise UserError(f"no evidence at {path}; `metarepro export` makes it from recorded runs") from None
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not an evidence file ({error}); `metarepro export` makes it") from None


def evidence_csv(frame: pd.DataFrame) -> str:
    """The text of an evidence file: six decimals, so that a change shows up as a change of lines."""
    return frame.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def write_evidence(records: Records, path: Path, command: str) -> Path:
    """Write the evidence CSV and `<name>.provenance.json` beside it, each atomically; returns the path of the CSV."""
    text = evidence_csv(evidence(records))
    write_atomic(path, text.encode())
    write_json(path.with_suffix(".provenance.json"), provenance(records, text, command))
    return path


def provenance(records: Records, csv_text: str, command: str) -> dict[str, Any]:
    """What made an evidence file: command, code and package versions, counts, hash of the CSV."""
    runs = records.runs
    manifests = list(runs["manifest"])
    return {
        "study": records.study,
        "scale": records.scale,
        "command": command,
        "sha256": hashlib.sha256(csv_text.encode()).hexdigest(),
        "code_version": sorted(runs["code_version"].unique()),
        "dirty": bool(runs["dirty"].any()),
        "suite_version": sorted(runs["suite_version"].unique()),
        "algorithm_version": dict(sorted(zip(runs["algorithm"], runs["algorithm_version"], strict=True))),
        "runs": {status: int(runs["status"].eq(status).sum()) for status in STATUSES},
        "seeds": sorted(int(seed) for seed in runs["seed"].unique()),
        "lock_hash": distinct(manifests, "lock_hash"),
        "python": distinct(manifests, "python"),
        "cpu": distinct(manifests, "cpu"),
        "threads": distinct(manifests, "threads"),
        "packages": packages(manifests),
    }


def distinct(manifests: Sequence[dict[str, Any]], key: str) -> list[Any]:
    """The different values of an optional manifest key, sorted as text."""
    values = {json.dumps(m[key], sort_keys=True): m[key] for m in manifests if m.get(key) is not None}
    return [values[text] for text in sorted(values)]


def packages(manifests: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Package -> version, or versions where the runs differ."""
    seen: dict[str, set[str]] = {}
    for manifest in manifests:
        for name, version in (manifest.get("packages") or {}).items():
            seen.setdefault(name, set()).add(str(version))
    return {name: ", ".join(sorted(seen[name])) for name in sorted(seen)}

"""The files that a recorded run left in the store: manifest, returns, measures, paths, what is known exactly."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Hashable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pandas as pd

from harness.errors import UserError

RETURN_COLUMNS = ["protocol", "step", "task", "episodes", "mean_return", "sd_return", "mean_length"]
REFERENCE_COLUMNS = ["task", "name", "value"]
MEASURE_COLUMNS = ["protocol", "step", "task", "name", "value"]
PATH_COLUMNS = ["protocol", "step", "task", "episode", "time", "x", "y"]
FINISHED = ("done", "diverged")
REBUILD = "delete mlflow.db in the results folder and run `metarepro run` again: it is made anew from runs/"


def manifest(run: dict[Hashable, Any], tracking_uri: str) -> dict[str, Any]:
    """The manifest of a finished run; empty for an unfinished one."""
    content = _artifact(run, "manifest.json", tracking_uri) if run["status"] in FINISHED else None
    try:
        return dict(json.loads(content)) if content else {}
    except (ValueError, TypeError):
        raise UserError(f"{run['artifacts']}/manifest.json is damaged; {REBUILD}") from None


def returns(runs: pd.DataFrame, tracking_uri: str) -> pd.DataFrame:
    """The per-task returns of every finished run; a diverged run may have none."""
    return _tables(runs, tracking_uri, "returns.parquet", RETURN_COLUMNS, required=True)


def references(runs: pd.DataFrame, tracking_uri: str) -> pd.DataFrame:
    """What is known exactly about each meta-test task of every finished run that recorded it."""
    return _tables(runs, tracking_uri, "references.parquet", REFERENCE_COLUMNS, required=False)


def measures(runs: pd.DataFrame, tracking_uri: str) -> pd.DataFrame:
    """What the suite measured beyond the return, of every finished run that recorded any."""
    return _tables(runs, tracking_uri, "measures.parquet", MEASURE_COLUMNS, required=False)


def paths(runs: pd.DataFrame, tracking_uri: str) -> pd.DataFrame:
    """Where the agent was in the first test tasks, of every finished run in which it moves in a plane."""
    return _tables(runs, tracking_uri, "paths.parquet", PATH_COLUMNS, required=False)


def no_references() -> pd.DataFrame:
    """The references of runs that recorded none."""
    return _empty(REFERENCE_COLUMNS)


def no_measures() -> pd.DataFrame:
    """The measures of runs that recorded none."""
    return _empty(MEASURE_COLUMNS)


def no_paths() -> pd.DataFrame:
    """The paths of runs that recorded none."""
    return _empty(PATH_COLUMNS)


def _empty(columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=["run_id", *columns])


def _tables(runs: pd.DataFrame, tracking_uri: str, name: str, columns: list[str], required: bool) -> pd.DataFrame:
    """One Parquet table of every finished run, below each other, with the run_id; `required` of runs that are done."""
    parts = []
    for run in runs.to_dict("records"):
        content = _artifact(run, name, tracking_uri) if run["status"] in FINISHED else None
        if content is None:
            if required and run["status"] == "done":
                raise UserError(
                    f"run {run['run_id']} ({run['method']}, seed {run['seed']}) is marked done, but {run['artifacts']} "
                    f"holds no {name}; {REBUILD}"
                )
            continue
        try:
            frame = pd.read_parquet(io.BytesIO(content))
        except (ValueError, OSError):
            raise UserError(f"{run['artifacts']}/{name} is damaged; {REBUILD}") from None
        missing = sorted(set(columns) - set(frame.columns))
        if missing:
            raise UserError(f"{run['artifacts']}/{name} lacks the columns {', '.join(missing)}")
        parts.append(frame[columns].assign(run_id=run["run_id"]))
    return pd.concat(parts, ignore_index=True)[["run_id", *columns]] if parts else _empty(columns)


def _artifact(run: dict[Hashable, Any], name: str, tracking_uri: str) -> bytes | None:
    """The content of a run's artifact; None where there is none."""
    parsed = urlparse(run["artifacts"])
    if parsed.scheme in ("", "file"):
        path = Path(unquote(parsed.path)) / name
        return path.read_bytes() if path.is_file() else None
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            uri = f"runs:/{run['mlflow_id']}/{name}"
            local = download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=tracking_uri)
        except (MlflowException, OSError):
            return None
        return Path(local).read_bytes()

"""The files that a recorded run left in the store: manifest, returns, measures, paths, what is known exactly."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pandas as pd
import pyarrow
from pyarrow import parquet

from harness.errors import UserError
from harness.files import sha256

Run = dict[Hashable, Any]

RETURN_COLUMNS = ["protocol", "step", "task", "episodes", "mean_return", "sd_return", "mean_length"]
REFERENCE_COLUMNS = ["task", "name", "value"]
MEASURE_COLUMNS = ["protocol", "step", "task", "name", "value"]
PATH_COLUMNS = ["protocol", "step", "task", "episode", "time", "x", "y"]
FINISHED = ("done", "diverged")
AT_A_TIME = 8
"""So many files are asked for at once: of a server, most of the time is waiting."""
CURVES, ITERATION = "curves.parquet", "iteration"
SEAL = "DONE.json"
"""What a run writes last: the checksums of the files that it leaves."""
TEXT, WHOLE = {"protocol", "name"}, {"step", "task", "episodes", "episode", "time", ITERATION}
"""Columns of text and of whole numbers; all others are of numbers."""
REBUILD = "delete mlflow.db in the results folder and run `metarepro run` again: it is made anew from runs/"


def seals(runs: pd.DataFrame, tracking_uri: str) -> list[dict[str, str]]:
    """File name -> checksum, of every run; empty for an unfinished one, and of a release that did not record them."""
    found = {run["run_id"]: _seal(run, content) for run, content in _contents(runs, SEAL, tracking_uri)}
    return [found.get(run_id, {}) for run_id in runs["run_id"]]


def _seal(run: Run, content: bytes | None) -> dict[str, str]:
    try:
        return {} if content is None else {str(name): str(sum_) for name, sum_ in json.loads(content)["sha256"].items()}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise _damaged(run, SEAL) from None


def manifests(runs: pd.DataFrame, tracking_uri: str) -> list[dict[str, Any]]:
    """The manifest of every run; empty for an unfinished one."""
    found = {run["run_id"]: _manifest(run, content) for run, content in _contents(runs, "manifest.json", tracking_uri)}
    return [found.get(run_id, {}) for run_id in runs["run_id"]]


def _manifest(run: Run, content: bytes | None) -> dict[str, Any]:
    try:
        return dict(json.loads(content)) if content else {}
    except (ValueError, TypeError, RecursionError):
        raise _damaged(run, "manifest.json") from None


def _damaged(run: Run, name: str) -> UserError:
    return UserError(f"{run['artifacts']}/{name} is damaged; {REBUILD}")


def curves(runs: pd.DataFrame, tracking_uri: str, metrics: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """run_id -> name -> [iterations], of every finished run that left its curves.

    The names are ITERATION and those of `metrics` that the run recorded.
    """
    found = {}
    for run, content in _contents(runs, CURVES, tracking_uri):
        if content is not None:
            table = _read(run, CURVES, content, [ITERATION], optional=metrics)
            found[run["run_id"]] = {name: table[name].to_numpy() for name in table.column_names}
    return found


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
    for run, content in _contents(runs, name, tracking_uri):
        if content is not None:
            part = _read(run, name, content, columns)
            parts.append(part.add_column(0, "run_id", pyarrow.repeat(run["run_id"], part.num_rows)))
        elif required and run["status"] == "done":
            raise UserError(
                f"run {run['run_id']} ({run['method']}, seed {run['seed']}) is marked done, but {run['artifacts']} "
                f"holds no {name}; {REBUILD}"
            )
    return below_each_other(parts) if parts else _empty(columns)


def below_each_other(parts: Sequence[pyarrow.Table]) -> pd.DataFrame:
    """Tables of the same columns as one frame."""
    return pyarrow.concat_tables(parts, promote_options="permissive").to_pandas(ignore_metadata=True)


def _read(run: Run, name: str, content: bytes, columns: list[str], optional: Sequence[str] = ()) -> pyarrow.Table:
    """These columns of a run's Parquet table, and of the optional ones those that it has."""
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(content))
        known = file.schema_arrow.names
        missing = sorted(set(columns) - set(known))
        wanted = [*columns, *(name for name in optional if name in known)]
        table = None if missing else file.read(wanted, use_threads=False).select(wanted)
        if table is not None:
            table.validate(full=True)
    except (pyarrow.ArrowException, ValueError, OSError):
        raise _damaged(run, name) from None
    if table is None:
        raise UserError(f"{run['artifacts']}/{name} lacks the columns {', '.join(missing)}")
    if not all(_is_of_its_kind(field) for field in table.schema):
        raise _damaged(run, name)
    return table


def _is_of_its_kind(field: pyarrow.Field) -> bool:
    types, kind = pyarrow.types, field.type
    if field.name in TEXT:
        return bool(types.is_string(kind) or types.is_large_string(kind))
    return bool(types.is_integer(kind) or (types.is_floating(kind) and field.name not in WHOLE))


def _contents(runs: pd.DataFrame, name: str, tracking_uri: str) -> Iterator[tuple[Run, bytes | None]]:
    """Every finished run with the content of its file of that name, in order; several are on their way at a time.

    Errors: a file that is not the one whose checksum the run left.
    """
    finished = [run for run in runs.to_dict("records") if run["status"] in FINISHED]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for run, content in zip(finished, pool.map(partial(_content, name, tracking_uri), finished), strict=True):
            checksum = None if content is None else sha256(content)
            if run.get("seal", {}).get(name, checksum) != checksum:
                raise _damaged(run, name)
            yield run, content


def _content(name: str, tracking_uri: str, run: Run) -> bytes | None:
    """The content of a run's file; None where there is none."""
    try:
        parsed = urlparse(run["artifacts"])
        if parsed.scheme in ("", "file"):
            path = Path(unquote(parsed.path)) / name
            return path.read_bytes() if path.is_file() else None
    except (OSError, ValueError):  # a path that no file can have, or a file that this user may not read
        raise _damaged(run, name) from None
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            uri = f"{run['artifacts']}/{name}"  # not `runs:/`, for which MLflow asks its server five times per file
            return Path(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=tracking_uri)).read_bytes()
        except (MlflowException, OSError):
            return None

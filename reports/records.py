"""Recorded runs of a study as tidy data frames, read from MLflow. Nothing is ever written to the store."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow

from harness.errors import UserError
from reports import artifacts
from reports.artifacts import ITERATION, REBUILD

RUN_COLUMNS = [
    "run_id", "study", "suite", "suite_version", "setting", "scale", "method", "algorithm", "algorithm_version", "seed",
    "status", "code_version", "dirty",
]  # fmt: skip
CURVE_COLUMNS = ["run_id", "metric", "iteration", "value"]
CURVE_METRICS = ("pre_update_return", "post_update_return")
STATUSES = ("done", "diverged", "running", "failed")  # of two records of one run, the earlier in this list counts
_INFINITE = 1e300  # MLflow stores an infinite metric as the largest finite number


class NothingRecorded(UserError):
    """There is no run of this study at this scale: incomplete, and not wrong."""


@dataclass(frozen=True)
class Records:
    """The recorded runs of one study at one scale.

    runs:      one row per run: RUN_COLUMNS, `manifest` (a dict, empty for unfinished runs)
    returns:   one row per run, protocol, adaptation step and meta-test task: run_id,
               artifacts.RETURN_COLUMNS
    curves:    one row per run, metric and meta-iteration: run_id, metric, iteration, value (NaN where not finite)
    duplicates: records of a run that another record of the same run replaced
    left_out:  records that belong to none of the run_ids asked for
    references: one row per run, meta-test task and name: run_id, artifacts.REFERENCE_COLUMNS; what is known exactly
               about the task, as mean undiscounted return per episode; empty where the runs recorded none
    measures:  one row per run, protocol, adaptation step, meta-test task and name: run_id, artifacts.MEASURE_COLUMNS
    paths:     one row per run, protocol, adaptation step, meta-test task, episode and time: run_id,
               artifacts.PATH_COLUMNS; the first few tasks and episodes only
    """

    study: str
    scale: str
    runs: pd.DataFrame
    returns: pd.DataFrame
    curves: pd.DataFrame
    duplicates: int = 0
    left_out: int = 0
    references: pd.DataFrame = field(default_factory=artifacts.no_references)
    measures: pd.DataFrame = field(default_factory=artifacts.no_measures)
    paths: pd.DataFrame = field(default_factory=artifacts.no_paths)


def load(
    tracking_uri: str,
    study: str,
    scale: str,
    *,
    seeds: Collection[int] | None = None,
    setting: str | None = None,
    run_ids: Collection[str] | Callable[[list[int]], Collection[str]] | None = None,
    metrics: Sequence[str] = (),
) -> Records:
    """Read a study's runs. Unfinished, diverged and failed runs are kept: they are counted, not averaged.

    The curves are those of CURVE_METRICS and of `metrics`. Of several records of one run_id the finished one counts.
    With `run_ids` (those that the study file expands to, or a function from the recorded seeds to them) every other
    record is left out and counted; without, records that cannot be told apart by a reader are refused.

    Errors:
        UserError: no store, no such study, no run that fits; two versions or two specifications of one method and seed;
        a finished run whose returns cannot be read.
    """
    client, found = _found(tracking_uri, study)
    table = _filtered(found, scale, setting, seeds)
    make = f"`metarepro run {study} --scale {scale}` makes"
    if table.empty:
        counts = found["scale"].value_counts().sort_index()
        there = ", ".join(f"{count} at scale {name}" for name, count in counts.items())
        where = f"{tracking_uri} ({there})" if there else tracking_uri
        raise NothingRecorded(f"study {study} has no run at scale {scale} in {where}; {make} them")
    left_out = 0
    if run_ids is not None:
        asked = run_ids(sorted(set(table["seed"].tolist()))) if callable(run_ids) else run_ids
        wanted = table["run_id"].isin(list(asked))
        left_out, table = int((~wanted).sum()), table[wanted]
        if table.empty:
            where = f"{tracking_uri} holds {left_out} records of study {study} at scale {scale}"
            raise UserError(f"{where}, all of other versions or specifications; {make} the current ones")
    unique = _one_record_per_run(table)
    _refuse_mixtures(unique, study)
    runs = unique.reset_index(drop=True)
    runs["seal"] = pd.Series(artifacts.seals(runs, tracking_uri), index=runs.index, dtype="object")
    runs["manifest"] = pd.Series(artifacts.manifests(runs, tracking_uri), index=runs.index, dtype="object")
    with _reading(tracking_uri):
        curves = _curves(client, runs, list(dict.fromkeys((*CURVE_METRICS, *metrics))), tracking_uri)
    return Records(
        study=study,
        scale=scale,
        runs=runs[[*RUN_COLUMNS, "manifest"]],
        returns=artifacts.returns(runs, tracking_uri),
        curves=curves,
        duplicates=len(table) - len(unique),
        left_out=left_out,
        references=artifacts.references(runs, tracking_uri),
        measures=artifacts.measures(runs, tracking_uri),
        paths=artifacts.paths(runs, tracking_uri),
    )


def _found(tracking_uri: str, study: str) -> tuple[Any, pd.DataFrame]:
    """An MLflow client, and one row per child run of the study."""
    with _reading(tracking_uri):
        client, experiment_id = _open(tracking_uri, study)
        rows = list(_child_runs(client, experiment_id))
    columns = [*RUN_COLUMNS, "mlflow_id", "started", "artifacts", "metrics"]
    return client, pd.DataFrame.from_records(rows, columns=columns)


@contextlib.contextmanager
def _reading(tracking_uri: str) -> Iterator[None]:
    """Whatever a store raises that is damaged, or away, becomes one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the client raises many kinds, of MLflow's and of whatever is below it
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{tracking_uri}: MLflow cannot read this store ({first})") from None


def _open(tracking_uri: str, study: str) -> tuple[Any, str]:
    """An MLflow client and the study's experiment; refuses a SQLite file that MLflow would have to create."""
    hint = f"`metarepro run` on study {study}, with the same --results, makes it"
    if tracking_uri.startswith("sqlite:///"):
        path = Path(tracking_uri.removeprefix("sqlite:///"))
        if not path.is_file():
            raise NothingRecorded(f"no run store at {path}; {hint}")
        if not _is_mlflow_store(path):
            raise UserError(f"{path} is not an MLflow store; {REBUILD}")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri)
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        raise NothingRecorded(f"{tracking_uri} holds no runs of study {study}; {hint}")
    return client, experiment.experiment_id


def _is_mlflow_store(path: Path) -> bool:
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return connection.execute("select 1 from sqlite_master where name = 'experiments'").fetchone() is not None
        finally:
            connection.close()
    except sqlite3.DatabaseError:
        return False


def _child_runs(client: Any, experiment_id: str) -> Iterable[dict[str, Any]]:
    """Every child run of the experiment, page by page."""
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], filter_string="tags.kind = 'run'", max_results=1000, page_token=token
        )
        for run in page:
            tags = run.data.tags
            yield {
                **{name: tags.get(name, "") for name in RUN_COLUMNS},
                "mlflow_id": run.info.run_id,
                "started": run.info.start_time or 0,
                "artifacts": run.info.artifact_uri,
                "metrics": tuple(sorted(run.data.metrics)),
            }
        token = page.token
        if not token:
            return


def _filtered(table: pd.DataFrame, scale: str, setting: str | None, seeds: Collection[int] | None) -> pd.DataFrame:
    bad = table[~table["seed"].astype(str).str.fullmatch(r"[0-9]{1,10}") | ~table["status"].isin(STATUSES)]
    if len(bad):
        row = bad.iloc[0]
        raise UserError(
            f"run {row['mlflow_id']} has the tags seed={row['seed']!r}, status={row['status']!r}; "
            f"expected a whole number and one of {', '.join(STATUSES)}"
        )
    table = table.assign(seed=table["seed"].astype("int64"), dirty=table["dirty"].eq("true"))
    keep = table["scale"].eq(scale)
    if setting is not None:
        keep &= table["setting"].eq(setting)
    if seeds is not None:
        keep &= table["seed"].isin(list(seeds))
    return table[keep]


def _one_record_per_run(table: pd.DataFrame) -> pd.DataFrame:
    """The finished record of every run_id (else the furthest, else the latest), in a fixed order."""
    rank = table["status"].map({status: i for i, status in enumerate(STATUSES)})
    ordered = table.assign(rank=rank).sort_values(
        ["run_id", "rank", "started", "mlflow_id"], ascending=[True, True, False, True]
    )
    unique = ordered.drop_duplicates("run_id").drop(columns="rank")
    return unique.sort_values(["setting", "method", "seed", "run_id"], kind="stable")


def _refuse_mixtures(runs: pd.DataFrame, study: str) -> None:
    """Averages over two versions of the code, or two specifications, mean nothing."""
    advice = "run the study again into an empty results folder, or delete the stale runs in MLflow"
    for _, group in runs.groupby(["suite"], sort=True):
        versions = sorted(group["suite_version"].unique())
        if len(versions) > 1:
            raise UserError(
                f"study {study} mixes versions {' and '.join(versions)} of suite {group['suite'].iloc[0]}; {advice}"
            )
    for _, group in runs.groupby(["setting", "method"], sort=True):
        versions = sorted((group["algorithm"] + " version " + group["algorithm_version"]).unique())
        if len(versions) > 1:
            raise UserError(
                f"method {group['method'].iloc[0]} of study {study} mixes {' and '.join(versions)}; {advice}"
            )
    for _, group in runs.groupby(["setting", "method", "seed"], sort=True):
        if len(group) > 1:
            ids = " and ".join(group["run_id"])
            first = group.iloc[0]
            raise UserError(
                f"method {first['method']} with seed {first['seed']} of study {study} was run with different "
                f"hyperparameters (run_id {ids}); {advice}"
            )


def _curves(client: Any, runs: pd.DataFrame, metrics: Sequence[str], tracking_uri: str) -> pd.DataFrame:
    """The training curves: of a finished run from the file that it left, else from what it has logged so far.

    The file is one read per run; the store takes one query per run and metric, most of the time of a page.
    """
    left = artifacts.curves(runs, tracking_uri, metrics)
    parts = []
    for run in runs.to_dict("records"):
        mine = left.get(run["run_id"], {})
        for metric in (name for name in metrics if name in run["metrics"]):
            found = (mine[ITERATION], mine[metric]) if metric in mine else _logged(client, run["mlflow_id"], metric)
            parts.append(_curve(run["run_id"], metric, *found))
    return artifacts.below_each_other(parts) if parts else pd.DataFrame(columns=CURVE_COLUMNS)


def _curve(run_id: str, metric: str, iterations: np.ndarray, values: np.ndarray) -> pyarrow.Table:
    finite = np.where(np.abs(values) < _INFINITE, values, np.nan)
    names = [pyarrow.repeat(name, len(values)) for name in (run_id, metric)]
    return pyarrow.table([*names, iterations.astype("int64"), finite], names=CURVE_COLUMNS)


def _logged(client: Any, run: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Iterations and values of a metric in the store; of two points at one iteration the later logged counts."""
    points = sorted(client.get_metric_history(run, metric), key=lambda point: (point.step, point.timestamp))
    latest = {point.step: point.value for point in points}
    return np.array(list(latest), dtype="int64"), np.array(list(latest.values()), dtype="float64")

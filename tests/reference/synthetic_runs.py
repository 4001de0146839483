"""A made-up study for the tests of `reports`: numbers from a formula, no training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from reports.records import Records
from reports.study_info import Deviation, MethodInfo, SettingInfo, StudyInfo

METHODS = ("maml", "fomaml", "maml_elementwise", "pretrained", "random", "oracle")
START = {
    "maml": -42.0,
    "fomaml": -42.5,
    "maml_elementwise": -42.2,
    "pretrained": -41.0,
    "random": -77.0,
    "oracle": -4.5,
}
END = {"maml": -12.0, "fomaml": -12.2, "maml_elementwise": -12.1, "pretrained": -23.0, "random": -42.0, "oracle": -5.0}
MANIFEST = {
    "code_version": "abc1234", "dirty": False, "lock_hash": "0f" * 8,
    "packages": {"numpy": "2.0.0"}, "python": "3.11.2",
    "cpu": "test processor", "threads": 1, "wall_clock_s": 12.5, "environment_steps": 8_000_000,
    "started_at": "2025-01-01T00:00:00Z", "command": "metarepro run navigation",
}  # fmt: skip


def run_returns(method: str, seed: int, tasks: int = 40) -> pd.DataFrame:
    """Per-task returns of one run: from START towards END, with a seed effect and a spread over tasks."""
    rng = np.random.default_rng([METHODS.index(method) if method in METHODS else 99, seed])
    start, end = START.get(method, -40.0), END.get(method, -20.0)
    effect, spread = rng.normal(0, 0.5), rng.normal(0, 1, tasks)
    parts = []
    for protocol in ("ulm", "inner_rule"):
        for step in range(4):
            mean = end + (start - end) * 0.4**step + effect + (-1.0 if protocol == "inner_rule" and step else 0.0)
            returns = np.minimum(mean + spread * abs(mean) * 0.15, -0.5)
            parts.append(
                pd.DataFrame(
                    {
                        "protocol": protocol,
                        "step": np.int32(step),
                        "task": np.arange(tasks, dtype=np.int32),
                        "episodes": np.int32(40),
                        "mean_return": returns,
                        "sd_return": 1.0,
                        "mean_length": 90.0,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def synthetic_records(
    methods: Sequence[str] = METHODS, seeds: Sequence[int] = (0, 1, 2), scale: str = "paper", iterations: int = 100
) -> Records:
    """Records of finished runs only, as `reports.records.load` returns them."""
    runs, returns, curves = [], [], []
    for method in sorted(methods):
        for seed in seeds:
            run_id = f"{method}-{seed}"
            runs.append(
                {
                    "run_id": run_id, "study": "navigation", "suite": "navigation", "suite_version": "1",
                    "setting": "ulm",
                    "scale": scale, "method": method, "algorithm": method, "algorithm_version": "1", "seed": seed,
                    "status": "done", "code_version": "abc1234", "dirty": False, "manifest": dict(MANIFEST),
                }
            )  # fmt: skip
            returns.append(run_returns(method, seed).assign(run_id=run_id))
            steps = np.arange(iterations)
            for k, metric in enumerate(("pre_update_return", "post_update_return")):
                wave = -40 + 10 * k * (1 - np.exp(-steps / 20)) + np.sin(steps * (seed + 1))
                curves.append(pd.DataFrame({"run_id": run_id, "metric": metric, "iteration": steps, "value": wave}))
    return Records(
        study="navigation",
        scale=scale,
        runs=pd.DataFrame(runs),
        returns=pd.concat(returns, ignore_index=True),
        curves=pd.concat(curves, ignore_index=True),
    )


def study_info(methods: Sequence[str] = METHODS, seeds: Sequence[int] = (0, 1, 2), scale: str = "paper") -> StudyInfo:
    """The description of the made-up study."""
    return StudyInfo(
        name="navigation",
        title="2D navigation",
        scale=scale,
        settings=(SettingInfo("ulm"),),
        methods=tuple(MethodInfo(label, f"what {label} does", tuple(seeds), ("ulm",)) for label in methods),
        seeds=tuple(seeds),
        deviations=(Deviation("inner step size of the critic", "0.1200", "0.1100", "0.1100, as in the tuning log"),),
        commands={"run": "metarepro run navigation", "report": "metarepro report navigation"},
    )


def write_store(folder: Path, records: Records, extra_metrics: int = 0) -> str:
    """Write records to a new MLflow store as the harness does; returns its tracking URI."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment(records.study, artifact_location=(folder / "artifacts").as_uri())
    client.create_run(experiment, tags={"kind": "invocation"})
    returns = dict(iter(records.returns.groupby("run_id")))
    further = {
        name: dict(iter(getattr(records, name).groupby("run_id"))) for name in ("references", "measures", "paths")
    }
    curves = dict(iter(records.curves.groupby("run_id")))
    for row in records.runs.to_dict("records"):
        manifest = row.pop("manifest")
        tags = {key: str(value).lower() if key == "dirty" else str(value) for key, value in row.items()}
        run = client.create_run(experiment).info
        points = []
        for point in curves.get(row["run_id"], records.curves.iloc[:0]).itertuples():
            points.append(Metric(point.metric, float(point.value), 0, int(point.iteration)))
            if point.metric == "pre_update_return":
                points += [Metric(f"extra_{i}", float(i), 0, int(point.iteration)) for i in range(extra_metrics)]
        batch = [RunTag(key, value) for key, value in {**tags, "kind": "run"}.items()]
        client.log_batch(run.run_id, metrics=points[:1000], params=[Param("seed", tags["seed"])], tags=batch)
        for start in range(1000, len(points), 1000):
            client.log_batch(run.run_id, metrics=points[start : start + 1000])
        target = folder / "artifacts" / run.run_id / "artifacts"
        target.mkdir(parents=True)
        if row["run_id"] in returns:
            returns[row["run_id"]].drop(columns="run_id").to_parquet(target / "returns.parquet")
        for name, tables in further.items():
            if row["run_id"] in tables:
                tables[row["run_id"]].drop(columns="run_id").to_parquet(target / f"{name}.parquet")
        if row["status"] in ("done", "diverged"):
            (target / "manifest.json").write_text(json.dumps(manifest))
        client.set_terminated(run.run_id)
    return uri

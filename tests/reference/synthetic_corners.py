"""Made-up runs with measures, paths and training curves for the tests of `reports`: every number is given by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from reports.papers.published import Published
from reports.papers.published_file import load_published
from reports.records import Records
from reports.study_info import MethodInfo, SettingInfo, StudyInfo
from tests.reference.synthetic_verdicts import report

SUITES = Path(__file__).parent.parent.parent / "suites"
CORNERS = load_published(SUITES / "point_corners" / "published.yaml")
TOY = load_published(SUITES / "point_1d" / "published.yaml")
GOALS = ((-2.0, -2.0), (2.0, -2.0), (-2.0, 2.0), (2.0, 2.0))
STEPS = 4
# method -> a value per seed: the share of tasks solved after the last step; the return there is ten times as large.
SOLVED = {"lvc_trpo": (1.0, 0.5, 0.75), "maml_trpo": (0.0, 0.25, 0.25), "random": (0.0, 0.0, 0.25)}


def run_rows(study: str, setting: str, methods: Mapping[str, int]) -> pd.DataFrame:
    """One finished run per method and seed; methods: label -> number of seeds."""
    rows = [
        {
            "run_id": f"{setting}-{method}-{seed}", "study": study, "suite": study, "suite_version": "1",
            "setting": setting, "scale": "paper", "method": method, "algorithm": method, "algorithm_version": "1",
            "seed": seed, "status": "done", "code_version": "abc1234", "dirty": False, "manifest": {},
        }
        for method, seeds in sorted(methods.items())
        for seed in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def corner_records(solved: Mapping[str, Sequence[float]] = SOLVED) -> Records:
    """Records of the corner tasks: four tasks, of which the share `solved` is 0 at step 0 and as given at the last."""
    runs = run_rows("point_corners", "momentum", {method: len(values) for method, values in solved.items()})
    returns, measures, paths = [], [], []
    for run in runs.to_dict("records"):
        share = solved[run["method"]][run["seed"]]
        for step in range(STEPS):
            level = share * step / (STEPS - 1)
            key = {"run_id": run["run_id"], "protocol": "adapted", "step": step, "task": range(4)}
            returns.append(pd.DataFrame(key | {"episodes": 20, "mean_return": 10 * level, "sd_return": 1.0}))
            done = [float(task < round(4 * level)) for task in range(4)]
            found = {"solved": done, "final_distance": [3.0 - 2.5 * one for one in done], "corner_regions": [3.0] * 4}
            measures += [pd.DataFrame(key | {"name": name, "value": values}) for name, values in found.items()]
            paths += [_path(run["run_id"], step, task, episode) for task in range(4) for episode in range(3)]
    return Records(
        study="point_corners",
        scale="paper",
        runs=runs,
        returns=pd.concat(returns, ignore_index=True).assign(mean_length=100.0),
        curves=pd.DataFrame(columns=["run_id", "metric", "iteration", "value"]),
        references=pd.DataFrame(
            {"run_id": run_id, "task": task, "name": "optimal_return", "value": 190.0}
            for run_id in runs["run_id"]
            for task in range(4)
        ),
        measures=pd.concat(measures, ignore_index=True),
        paths=pd.concat(paths, ignore_index=True),
    )


def _path(run_id: str, step: int, task: int, episode: int) -> pd.DataFrame:
    """Ten steps on a straight line towards the task's corner; one episode ends short of another."""
    times = np.arange(11)
    share = times / 10 * (step / (STEPS - 1)) * (1 - 0.1 * episode)
    position = {"x": GOALS[task][0] * share, "y": GOALS[task][1] * share}
    key = {"run_id": run_id, "protocol": "adapted", "step": step, "task": task, "episode": episode, "time": times}
    return pd.DataFrame(key | position)


def corner_info(methods: Sequence[str] = tuple(SOLVED), seeds: int = 3) -> StudyInfo:
    """The description of the made-up corner study."""
    made = tuple(MethodInfo(label, f"what {label} does", tuple(range(seeds)), ("momentum",)) for label in methods)
    return StudyInfo("point_corners", "Corner tasks", "paper", (SettingInfo("momentum"),), made, tuple(range(seeds)))


def curve_records(study: str, setting: str, curves: Mapping[tuple[str, int], Mapping[str, Sequence[float]]]) -> Records:
    """Records with training curves, (method, seed) -> metric -> a value per iteration, and one return per run."""
    methods: dict[str, int] = {}
    for method, seed in curves:
        methods[method] = max(methods.get(method, 0), seed + 1)
    runs = run_rows(study, setting, methods)
    points = [
        pd.DataFrame(
            {"run_id": f"{setting}-{method}-{seed}", "metric": metric, "iteration": range(len(values)), "value": values}
        )
        for (method, seed), metrics in curves.items()
        for metric, values in metrics.items()
    ]
    returns = [
        pd.DataFrame({"run_id": run_id, "protocol": "adapted", "step": step, "task": [0, 1], "mean_return": [1.0, 2.0]})
        for run_id in runs["run_id"]
        for step in (0, 1)
    ]
    return Records(
        study=study,
        scale="paper",
        runs=runs,
        returns=pd.concat(returns, ignore_index=True).assign(episodes=20, sd_return=1.0, mean_length=5.0),
        curves=pd.concat(points, ignore_index=True),
    )


def curve_info(study: str, setting: SettingInfo, methods: Mapping[str, int]) -> StudyInfo:
    """The description that goes with `curve_records`."""
    made = tuple(MethodInfo(m, f"what {m} does", tuple(range(n)), (setting.name,)) for m, n in methods.items())
    return StudyInfo(study, f"Study {study}", "paper", (setting,), made, tuple(range(max(methods.values()))))


def built(
    tmp_path: Path,
    records: Records | None = None,
    info: StudyInfo | None = None,
    published: Published = CORNERS,
    companions: Sequence[tuple[Records, StudyInfo]] = (),
) -> str:
    """The page as text, after it was built twice to the same bytes."""
    records, info = records or corner_records(), info or corner_info()
    studies = [(records, info, published), *((*companion, published) for companion in companions)]
    first, second = (report(tmp_path / name, *studies) for name in ("first", "second"))
    folders = [page.with_suffix("") for page in (first, second)]
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == names[1]
    for name in names[0]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert first.read_bytes() == second.read_bytes()
    return first.read_text()

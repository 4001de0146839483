"""Made-up grid studies for the tests of `reports`: every return is given by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from reports.papers.published_file import load_published
from reports.records import Records
from reports.study_info import MethodInfo, SettingInfo, StudyInfo

SUITES = Path(__file__).parent.parent.parent / "suites"
BANDITS = load_published(SUITES / "bandits" / "published.yaml")
MDP = load_published(SUITES / "tabular_mdp" / "published.yaml")
Cell = tuple[str, str, int]  # setting, method, seed
PerTask = tuple[Sequence[float], Sequence[float]]  # mean return of every test task at step 0 and at step 1


def grid_records(
    cells: Mapping[Cell, PerTask],
    references: Mapping[str, Mapping[str, Sequence[float]]],
    study: str = "bandits",
    status: Mapping[Cell, str] | None = None,
    episodes: int = 10,
) -> Records:
    """Records of runs with these returns per task; references: setting -> name -> a value per task.

    A setting called n100... has 100 episodes, another ``episodes``.
    """
    runs, returns, known, curves = [], [], [], []
    for (setting, method, seed), steps in sorted(cells.items()):
        run_id = f"{setting}-{method}-{seed}"
        state = (status or {}).get((setting, method, seed), "done")
        runs.append(
            {
                "run_id": run_id, "study": study, "suite": study, "suite_version": "1", "setting": setting,
                "scale": "paper", "method": method, "algorithm": method, "algorithm_version": "1", "seed": seed,
                "status": state, "code_version": "abc1234", "dirty": False, "manifest": {},
            }
        )  # fmt: skip
        if state != "done":
            continue
        named = re.match(r"n(\d+)", setting)
        count = int(named.group(1)) if named else episodes
        for step, values in enumerate(steps):
            table = {"run_id": run_id, "protocol": "adapted", "step": step, "task": range(len(values))}
            table |= {"episodes": count, "mean_return": values, "sd_return": 0.5, "mean_length": 1.0}
            returns.append(pd.DataFrame(table))
        for name, values in references.get(setting, {}).items():
            part = {"run_id": run_id, "task": range(len(values)), "name": name, "value": values}
            known.append(pd.DataFrame(part))
        wave = np.linspace(0.5, 0.6, 30) + 0.01 * seed
        for metric in ("pre_update_return", "post_update_return"):
            part = {"run_id": run_id, "metric": metric, "iteration": np.arange(30), "value": wave}
            curves.append(pd.DataFrame(part))
    return Records(
        study=study,
        scale="paper",
        runs=pd.DataFrame(runs),
        returns=pd.concat(returns, ignore_index=True),
        curves=pd.concat(curves, ignore_index=True),
        references=pd.concat(known, ignore_index=True)
        if known
        else pd.DataFrame(columns=["run_id", "task", "name", "value"]),
    )


N10_K5 = SettingInfo("n10_k5", {"N": 10, "K": 5})
N500_K5 = SettingInfo("n500_k5", {"N": 500, "K": 5})
KNOWN = {
    "n10_k5": {
        "optimal_return": [0.8, 0.9], "expected_optimal_return": [5 / 6, 5 / 6], "bayes_optimal_return": [0.666, 0.666],
        "balanced_exploration_return": [0.716, 0.716],
    },
    "n500_k5": {
        "optimal_return": [0.8, 0.9], "expected_optimal_return": [5 / 6, 5 / 6],
        "balanced_exploration_return": [0.83, 0.83],
    },
}  # fmt: skip
# Seeds 0 and 1 of MAML: during 0.5 and 0.6 per pull, adapted 0.7 and 0.72; Gittins has one seed.
CELLS: dict[Cell, PerTask] = {
    ("n10_k5", "maml", 0): ([0.4, 0.6], [0.6, 0.8]),
    ("n10_k5", "maml", 1): ([0.5, 0.7], [0.62, 0.82]),
    ("n10_k5", "gittins", 0): ([0.6, 0.7], [0.7, 0.8]),
    ("n500_k5", "maml", 0): ([0.5, 0.5], [0.8, 0.88]),
    ("n500_k5", "maml", 1): ([0.5, 0.5], [0.8, 0.88]),
}


def bandit_info(seeds: tuple[int, ...] = (0, 1), settings: tuple[SettingInfo, ...] = (N10_K5, N500_K5)) -> StudyInfo:
    names = tuple(setting.name for setting in settings)
    methods = (MethodInfo("maml", "one step", seeds, names), MethodInfo("gittins", "an index", (0,), names))
    return StudyInfo("bandits", "Bandits", "paper", settings, methods, seeds)

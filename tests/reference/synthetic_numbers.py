"""Numbers per training seed, written down by hand, as verdicts are formed from them."""

from collections.abc import Mapping, Sequence

import pandas as pd

from reports.papers.published import Published
from reports.quantities import COLUMNS, StudyNumbers
from reports.study_info import MethodInfo, SettingInfo, StudyInfo

Values = Mapping[tuple[str, int], Sequence[float]]
"""(method, adaptation step) -> a value per seed."""


def numbers(values: Values, *, sd: float = 1.0, tasks: int = 40, scale: str = "paper", name: str = "mean_return"):
    """A study `toy` with one setting, protocol `adapted`."""
    rows = [
        ("only", method, seed, "adapted", step, name, value, sd, tasks)
        for (method, step), each in values.items()
        for seed, value in enumerate(each)
    ]
    labels = list(dict.fromkeys(method for method, _ in values))
    info = StudyInfo(
        name="toy",
        title="Toy",
        scale=scale,
        settings=(SettingInfo("only"),),
        methods=tuple(MethodInfo(label, label, (0, 1), ("only",)) for label in labels),
        seeds=(0, 1),
    )
    table = pd.DataFrame(rows, columns=COLUMNS)
    evidence = table.rename(columns={"value": "mean_return", "sd": "sd_over_tasks"}).assign(
        study="toy", scale=scale, status="done", run_id="0", code_version="abc", episodes=1
    )
    return StudyNumbers(info, evidence, table)


def published(*, claims: Sequence[dict] = (), rows: Sequence[dict] = (), comparisons: Sequence[dict] = ()) -> Published:
    """A file of one paper `p` with one results table `1`."""
    table = {
        "id": "1",
        "kind": "results",
        "caption": "c",
        "source": "printed",
        "metric": {"name": "return", "better": "higher"},
        "uncertainty": "std",
        "over": "40 tasks",
        "columns": ["iteration"],
        "rows": list(rows) or [printed("high", 1, 10.0), printed("low", 1, 0.0)],
    }
    paper = {"id": "p", "short": "P", "citation": "P", "tables": [table]}
    return Published.model_validate(
        {"schema_version": 1, "papers": [paper], "claims": list(claims), "comparisons": list(comparisons)}
    )


def printed(method: str, step: int, mean: float, std: float = 1.0, n: int = 40) -> dict:
    """A printed row."""
    return {
        "method": method,
        "setting": {"iteration": step},
        "mean": mean,
        "std": std,
        "n": n,
        "approximate": False,
    }


def claim(check: dict, **more) -> dict:
    """A claim of the paper `p` on the study `toy`."""
    given = {"study": "toy", "protocol": "adapted", "steps": [1]} | check
    if given["kind"] == "rising":
        given.pop("steps") if "steps" not in check else None
    return {"id": "p.claim", "paper": "p", "statement": "s", "where": "section 1", "check": given} | more

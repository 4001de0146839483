"""The blocks of a study with one setting: returns over adaptation steps, beside the printed tables and tests."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from reports import comparisons, figures, overview, tables
from reports.attachments import Attachments, grouped
from reports.papers.beside import Comparison
from reports.papers.published import Published
from reports.records import Records
from reports.study_info import StudyInfo


def blocks(
    files: Attachments, records: Records, table: pd.DataFrame, info: StudyInfo, published: Published
) -> dict[str, Any]:
    """What the template needs about the study.

    records: those of the study's setting; table: their evidence.
    """
    return {
        "headlines": [
            _comparison(files, table, published, comparison, info)
            for comparison in published.comparisons_of(info.name, info.settings[0].name)
        ],
        "protocols": _protocols(files, table, published, info),
        "per_seed": _per_seed(files, table, published, info),
        "training": _training(files, records, info, published.curves_of(info.name)),
    }


def _comparison(
    files: Attachments, table: pd.DataFrame, published: Published, comparison: Comparison, info: StudyInfo
) -> dict[str, Any]:
    """A printed table beside ours, its tests, and its figure where the comparison names one."""
    beside = tables.beside_paper(table, published, comparison, info.labels)
    task_tests = comparisons.task_tests(table, comparison.contrasts, comparison.protocol)
    own = [name for name in tables.protocols(table) if name != comparison.protocol]
    shown = files.table(comparison.id, beside)
    return {
        "comparison": comparison,
        "paper": published.paper(comparison.paper),
        "reference": published.paper(comparison.reference.paper) if comparison.reference else None,
        "protocols": {
            name: grouped([row for row in shown["rows"] if row["protocol"] == name], "method")
            for name in [comparison.protocol, *own]
        },
        "file": shown["file"],
        "printed_tests": files.table(
            f"{comparison.id}_tests_printed", comparisons.printed_tests(published, comparison)
        ),
        "seed_tests": [
            {"protocol": name} | _contrasts(files, f"{comparison.id}_tests_over_seeds_{name}", tests)
            for name in [comparison.protocol, *own]
            if len(tests := comparisons.seed_tests(table, comparison.contrasts, name))
        ],
        "task_tests": files.table(f"{comparison.id}_tests_per_seed", task_tests),
        "conclusions": _contrasts(
            files, f"{comparison.id}_single_seed_conclusions", comparisons.single_seed_conclusions(task_tests)
        ),
        "figures": _adaptation_figures(files, table, published, comparison, info) if comparison.figure else [],
    }


def _adaptation_figures(
    files: Attachments, table: pd.DataFrame, published: Published, comparison: Comparison, info: StudyInfo
) -> list[dict[str, Any]]:
    bands = {
        "sd": "band: ± SD over the meta-test tasks",
        "interval": "band: 95 % interval (ours over training seeds, the paper's over the tasks of its one model)",
    }
    name, shown = re.sub(r"\W+", "_", (comparison.figure or "").lower()), []
    for band, text in bands.items():
        for log in (False, True):
            scale = "logarithmic" if log else "linear"
            svg = figures.figure_3_2(table, published, comparison, info.labels, band, log)
            alt = (
                f"Return over adaptation updates, {scale} scale, {text}. Left: this replication. Right: as printed in "
                f"the paper. The values are those of {comparison.title}."
            )
            shown.append(files.figure(f"{name}_{band}_{scale}", svg, alt) | {"caption": f"{scale} scale, {text}"})
    return shown


def _protocols(files: Attachments, table: pd.DataFrame, published: Published, info: StudyInfo) -> dict[str, Any]:
    """The meta-test protocols side by side; nothing where there are not two."""
    names = tables.protocols(table, _declared(published, info))
    first, second = [*names, "", ""][:2]
    block: dict[str, Any] = {"names": names, "first": first, "second": second}
    if not second:
        return block | {"figure": None, "groups": [], "file": None}
    alt = "Return over adaptation updates, a panel per meta-test protocol; mean and 95 % interval over seeds."
    svg = figures.protocol_curves(tables.ours(table, info.labels), info.labels, names)
    block["figure"] = files.figure("protocols", svg, alt)
    shown = files.table("protocols", tables.protocol_table(table, info.labels, first, second))
    return block | {"groups": grouped(shown["rows"], "method"), "file": shown["file"]}


def _declared(published: Published, info: StudyInfo) -> str:
    """The protocol that the study's first comparison uses; empty where there is none."""
    return next((c.protocol for c in published.comparisons_of(info.name, info.settings[0].name)), "")


def _per_seed(files: Attachments, table: pd.DataFrame, published: Published, info: StudyInfo) -> dict[str, Any]:
    """One line per run with its steps side by side, per protocol; runs without numbers by their status."""
    frame = tables.per_seed(table, info.labels)
    blocks = []
    for name in tables.protocols(table, _declared(published, info)):
        rows = frame[frame["protocol"].eq(name)]
        steps = sorted(int(step) for step in rows["step"].unique())
        lines = [
            {
                "method": method,
                "seed": seed,
                "status": group["status"].iloc[0],
                "steps": group.set_index("step").to_dict("index"),
            }
            for (method, seed), group in rows.groupby(["method", "seed"], sort=False)
        ]
        alt = "Mean return of every training seed after the last adaptation update; values in the table below."
        svg = figures.seed_dots(table, info.labels, name)
        figure = files.figure(f"seeds_{name}", svg, alt)
        blocks.append({"protocol": name, "steps": steps, "groups": grouped(lines, "method"), "figure": figure})
    without = frame[frame["protocol"].eq("")]
    return {"blocks": blocks, "without": without.to_dict("records"), "file": files.table("per_seed", frame)["file"]}


def _training(files: Attachments, records: Records, info: StudyInfo, exhibited: list[str]) -> list[dict[str, Any]]:
    """The returns over training, and every other metric that no exhibit draws."""
    titles = overview.CURVE_TITLES
    shown = []
    present = set(records.curves["metric"]) - (set(exhibited) - set(titles))
    for metric in [*(m for m in titles if m in present), *sorted(present - set(titles))]:
        title = titles.get(metric, metric.replace("_", " "))
        svg = figures.training_curves(records.curves, records.runs, info.labels, metric, title)
        alt = f"One panel per method: {title} over meta-iterations, thin lines per seed, thick line the mean."
        shown.append(files.figure(f"training_{metric}", svg, alt) | {"caption": title})
    return shown


def _contrasts(files: Attachments, name: str, frame: pd.DataFrame) -> dict[str, Any]:
    """A table of tests, grouped by its contrasts."""
    shown = files.table(name, frame)
    return shown | {"groups": grouped([row | {"pair": (row["a"], row["b"])} for row in shown["rows"]], "pair")}

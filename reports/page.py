"""One self-contained HTML page per study, with every table as CSV and every figure as SVG in a folder beside it.

The page is a function of the records: no time of rendering, no random id; the same records give the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from harness.files import write_atomic
from reports import comparisons, figures, tables
from reports.export import distinct, evidence, evidence_csv, packages
from reports.markup import environment, inline_svg
from reports.published import Comparison, Published
from reports.records import Records
from reports.study_info import StudyInfo


def build(records: Records, study_info: StudyInfo, published: Published, out_dir: Path) -> Path:
    """Write `<out_dir>/<study>.html` and the folder `<out_dir>/<study>/` with its CSV and SVG files; returns the page.

    At another scale than `paper` both are called `<study>_<scale>`, so that a smoke test never replaces a replication.

    Only runs of the study's setting are used. Missing, diverged and unfinished runs are stated on the page.

    Errors: UserError where out_dir cannot be written.
    """
    runs = records.runs[records.runs["setting"].eq(study_info.setting)].reset_index(drop=True)
    table = evidence(records)
    table = table[table["setting"].eq(study_info.setting)].reset_index(drop=True)
    files: dict[str, str] = {"evidence.csv": evidence_csv(table)}
    context = {
        "info": study_info,
        "records": records,
        "summary": _summary(runs, study_info),
        "completeness": _table(files, "completeness", tables.completeness(runs, study_info)),
        "headlines": [
            _comparison(files, table, published, comparison, study_info)
            for comparison in published.comparisons_of(study_info.name, study_info.setting)
        ],
        "protocols": _protocols(files, table, published, study_info),
        "per_seed": _per_seed(files, table, published, study_info),
        "training": _training(files, records, runs, study_info),
        "provenance": _provenance(files, runs),
    }
    text = environment().get_template("page.html").render(context)
    for name, content in sorted(files.items()):
        write_atomic(out_dir / study_info.stem / name, content.encode())
    page = out_dir / f"{study_info.stem}.html"
    write_atomic(page, text.encode())
    return page


def _summary(runs: pd.DataFrame, info: StudyInfo) -> dict[str, Any]:
    """Completeness in one line: counts over the expected runs, and the seeds that are there."""
    expected = runs[runs["method"].isin(info.labels) & runs["seed"].isin(info.seeds)]
    counts = {status: int(expected["status"].eq(status).sum()) for status in ("done", "diverged", "running", "failed")}
    total = len(info.labels) * len(set(info.seeds))
    done_seeds = sorted(int(seed) for seed in runs.loc[runs["status"].eq("done"), "seed"].unique())
    return {
        **counts,
        "expected": total,
        "missing": total - len(expected),
        "complete": counts["done"] == total,
        "finished": counts["done"] + counts["diverged"] == total,
        "extra": len(runs) - len(expected),
        "seeds": ranges(done_seeds),
        "num_seeds": len(done_seeds),
        "smoke": info.scale != "paper",
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


def _comparison(
    files: dict[str, str], table: pd.DataFrame, published: Published, comparison: Comparison, info: StudyInfo
) -> dict[str, Any]:
    """A printed table beside ours, its tests, and its figure where the comparison names one."""
    beside = tables.beside_paper(table, published, comparison, info.labels)
    task_tests = comparisons.task_tests(table, comparison.contrasts, comparison.protocol)
    own = [name for name in tables.protocols(table) if name != comparison.protocol]
    shown = _table(files, comparison.id, beside)
    return {
        "comparison": comparison,
        "paper": published.paper(comparison.paper),
        "reference": published.paper(comparison.reference.paper) if comparison.reference else None,
        "protocols": {
            name: _groups([row for row in shown["rows"] if row["protocol"] == name], "method")
            for name in [comparison.protocol, *own]
        },
        "file": shown["file"],
        "printed_tests": _table(
            files, f"{comparison.id}_tests_printed", comparisons.printed_tests(published, comparison)
        ),
        "seed_tests": [
            {"protocol": name} | _contrasts(files, f"{comparison.id}_tests_over_seeds_{name}", tests)
            for name in [comparison.protocol, *own]
            if len(tests := comparisons.seed_tests(table, comparison.contrasts, name))
        ],
        "task_tests": _table(files, f"{comparison.id}_tests_per_seed", task_tests),
        "conclusions": _contrasts(
            files, f"{comparison.id}_single_seed_conclusions", comparisons.single_seed_conclusions(task_tests)
        ),
        "figures": _figure_3_2(files, table, published, comparison, info) if comparison.figure else [],
    }


def _figure_3_2(
    files: dict[str, str], table: pd.DataFrame, published: Published, comparison: Comparison, info: StudyInfo
) -> list[dict[str, Any]]:
    bands = {
        "sd": "band: ± SD over the meta-test tasks",
        "interval": "band: 95 % interval (ours over training seeds, the paper's over the tasks of its one model)",
    }
    shown = []
    for band, text in bands.items():
        for log in (False, True):
            scale = "logarithmic" if log else "linear"
            svg = figures.figure_3_2(table, published, comparison, info.labels, band, log)
            alt = (
                f"Return over adaptation updates, {scale} scale, {text}. Left: this replication. Right: as printed in "
                f"the paper. The values are those of {comparison.title}."
            )
            shown.append(_figure(files, f"figure_3_2_{band}_{scale}", svg, alt) | {"caption": f"{scale} scale, {text}"})
    return shown


def _protocols(files: dict[str, str], table: pd.DataFrame, published: Published, info: StudyInfo) -> dict[str, Any]:
    """The meta-test protocols side by side."""
    names = tables.protocols(table, _declared(published, info))
    first, second = [*names, "", ""][:2]
    ours = tables.ours(table, info.labels)
    block: dict[str, Any] = {"names": names, "first": first, "second": second, "figure": None}
    if names:
        alt = "Return over adaptation updates, a panel per meta-test protocol; mean and 95 % interval over seeds."
        block["figure"] = _figure(files, "protocols", figures.protocol_curves(ours, info.labels, names), alt)
    both = tables.protocol_table(table, info.labels, first, second) if second else pd.DataFrame()
    shown = _table(files, "protocols", both)
    return block | {"groups": _groups(shown["rows"], "method"), "file": shown["file"]}


def _declared(published: Published, info: StudyInfo) -> str:
    """The protocol that the study's first comparison uses; empty where there is none."""
    return next((c.protocol for c in published.comparisons_of(info.name, info.setting)), "")


def _per_seed(files: dict[str, str], table: pd.DataFrame, published: Published, info: StudyInfo) -> dict[str, Any]:
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
        figure = _figure(files, f"seeds_{name}", svg, alt)
        blocks.append({"protocol": name, "steps": steps, "groups": _groups(lines, "method"), "figure": figure})
    without = frame[frame["protocol"].eq("")]
    return {"blocks": blocks, "without": without.to_dict("records"), "file": _table(files, "per_seed", frame)["file"]}


def _training(files: dict[str, str], records: Records, runs: pd.DataFrame, info: StudyInfo) -> list[dict[str, Any]]:
    titles = {
        "pre_update_return": "return before the inner update",
        "post_update_return": "return after the inner update (of the policy itself for methods without one)",
    }
    shown = []
    present = set(records.curves["metric"])
    for metric in [*(m for m in titles if m in present), *sorted(present - set(titles))]:
        title = titles.get(metric, metric.replace("_", " "))
        svg = figures.training_curves(records.curves, runs, info.labels, metric, title)
        alt = f"One panel per method: {title} over meta-iterations, thin lines per seed, thick line the mean."
        shown.append(_figure(files, f"training_{metric}", svg, alt) | {"caption": title})
    return shown


def _provenance(files: dict[str, str], runs: pd.DataFrame) -> dict[str, Any]:
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
        "runs": _table(files, "runs", lines),
    }


def _table(files: dict[str, str], name: str, frame: pd.DataFrame) -> dict[str, Any]:
    """Rows for the template, and the same table as CSV beside the page."""
    if frame.empty:
        return {"rows": [], "file": None}
    files[f"{name}.csv"] = _csv(frame)
    return {"rows": frame.to_dict("records"), "file": f"{name}.csv"}


def _contrasts(files: dict[str, str], name: str, frame: pd.DataFrame) -> dict[str, Any]:
    """A table of tests, grouped by its contrasts."""
    table = _table(files, name, frame)
    return table | {"groups": _groups([row | {"pair": (row["a"], row["b"])} for row in table["rows"]], "pair")}


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def _groups(rows: list[dict[str, Any]], key: str) -> list[tuple[Any, list[dict[str, Any]]]]:
    """Rows that share a key, in order of first appearance."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return list(groups.items())


def _figure(files: dict[str, str], name: str, svg: str, alt: str) -> dict[str, Any]:
    files[f"{name}.svg"] = svg
    return {"svg": inline_svg(svg, name, alt), "file": f"{name}.svg"}

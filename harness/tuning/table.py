"""The trials of a tuning as a table: in its folder while it goes on, and as committed evidence."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.files import read_json, sha256, write_atomic, write_json
from harness.results import RunDirectory
from harness.tuning.plan import Tuning
from harness.tuning.schema import AFTER, COLUMNS

if TYPE_CHECKING:
    from harness.tuning.search import Stage


def table(tuning: Tuning, stages: list[Stage], results: Path) -> str:
    """All trials as CSV: the point, what was assigned, the value, and what became of it."""
    rows = [row for stage in stages for row in _rows(tuning, stage, results)]
    points = list(dict.fromkeys(name for row in rows for name in row if name not in (*COLUMNS, *AFTER)))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, (*COLUMNS, *points, *AFTER), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _rows(tuning: Tuning, stage: Stage, results: Path) -> list[dict[str, Any]]:
    file, entry, columns, rows = tuning.file, stage.entry, stage.entry.columns, []
    for trial in stage.trials():
        attrs = trial.user_attrs
        assigned = tuning.assigned(stage.name, trial.params)
        point = {**trial.params, **{columns[place]: value for place, value in assigned.items()}}
        curves, run_ids = attrs.get("curves", {}), attrs.get("run_ids", [])
        rows.append(
            {
                "tuning": file.tuning,
                "scale": tuning.scale,
                "protocol": entry.protocol,
                "stage": stage.name,
                "method": entry.method,
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "value": "" if trial.value is None else f"{trial.value:.6f}",
                **{name: f"{value:.8g}" if isinstance(value, float) else value for name, value in point.items()},
                **{name: f"{value:.6f}" for name, value in curves.items()},
                "seeds": len(attrs.get("values", [])),
                "values": " ".join(f"{value:.6f}" for value in attrs.get("values", [])),
                "reason": attrs.get("reason", ""),
                "run_ids": " ".join(run_ids),
                "cpu_s": f"{sum(_seconds(results, run_id) for run_id in run_ids):.2f}",
            }
        )
    return rows


def _seconds(results: Path, run_id: str) -> float:
    """Processor time of one run; a training that was taken over costs nothing."""
    directory = RunDirectory.of(results, run_id)
    return _cpu(read_json(directory.manifest)) if directory.manifest.exists() else 0.0


def _cpu(manifest: dict[str, Any]) -> float:
    """Runs of earlier releases recorded no processor time: their wall-clock on one thread, which is no less."""
    return float(manifest.get("cpu_s", manifest["wall_clock_s"]))


def write_evidence(tuning: Tuning, trials: Path, folder: Path, results: Path, command: str, whole: bool = True) -> Path:
    """The table of trials as committed evidence, with what made it. Errors: ``whole``, and runs of it are not there."""
    text = trials.read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    ran = [RunDirectory.of(results, run_id) for row in rows for run_id in row["run_ids"].split()]
    manifests = [read_json(one.manifest) for one in ran if one.manifest.exists()]
    if whole and len(manifests) < len(ran):
        raise UserError(
            f"{results / 'runs'}: {len(ran) - len(manifests)} of the {len(ran)} runs behind the trials are not here, "
            "so nobody could say what made them; export with the --results where they are"
        )

    def distinct(key: str) -> list[Any]:
        return sorted({one[key] for one in manifests})

    packages: dict[str, set[str]] = {}
    for one in manifests:
        for package, version in one["packages"].items():
            packages.setdefault(package, set()).add(version)
    target = folder / f"{tuning.stem}.csv"
    write_atomic(target, text.encode())
    write_json(
        target.with_suffix(".provenance.json"),
        {
            "tuning": tuning.file.tuning,
            "scale": tuning.scale,
            "command": command,
            "sha256": sha256(text.encode()),
            "trials": len(rows),
            "runs": len(manifests),
            **({"runs_not_here": len(ran) - len(manifests)} if len(manifests) < len(ran) else {}),
            "cpu_minutes": round(sum(_cpu(one) for one in manifests) / 60.0, 1),
            "code_version": distinct("code_version"),
            "dirty": any(one["dirty"] for one in manifests),
            "lock_hash": distinct("lock_hash"),
            "python": distinct("python"),
            "cpu": distinct("cpu"),
            "packages": {package: ", ".join(sorted(versions)) for package, versions in sorted(packages.items())},
        },
    )
    return target

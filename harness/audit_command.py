"""``metarepro estimators``: measure what is missing of the audit, write its table, and its evidence if asked."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track

from harness.api import Registries
from harness.audit_file import AUDIT_VERSION, Audit, Cell
from harness.audit_statistics import STATISTICS
from harness.errors import UserError
from harness.files import read_json, require_writable, sha256, write_atomic, write_json
from harness.plan import duration
from harness.provenance import provenance

KEYS = ("stage", "mdp", "alpha", "episodes", "quantity", "estimator", "baseline")
COLUMNS = (*KEYS, "batches", *STATISTICS, "h12_share", "return_fraction")
LINE_EVERY_S = 15.0

Row = dict[str, Any]


class Measured(NamedTuple):
    """An audit that is whole: its file, the CSV of all cells, and what made them."""

    audit: Audit
    table: Path
    provenance: dict[str, Any]


def run_audit(
    path: Path, scale: str, registries: Registries, results: Path, evidence: Path | None, command: str
) -> Measured:
    """Measure the cells that are not there yet, write the table, and with a folder for ``evidence`` a copy there.

    Every finished cell is one small file under ``<results>/estimators/cells``, named by a hash of what decides its
    numbers: the command goes on where it was interrupted.
    """
    audit = Audit(path, scale, registries)
    console = Console(highlight=False, soft_wrap=True)
    require_writable(results)
    folder, files = results / "estimators", _files(audit, results)
    known = {cell: _measured(file) for cell, file in files.items()}
    missing = [cell for cell, found in known.items() if found is None]
    name = audit.file.audit
    console.print(f"{name} ({scale}): {len(files)} cells: {len(files) - len(missing)} done, {len(missing)} missing")
    if missing:
        _measure(audit, missing, lambda cell: files[cell], command, console)
    cells = [known[cell] or read_json(file) for cell, file in files.items()]
    text = table(row for cell in cells for row in cell["rows"])
    target = folder / f"{audit.stem}.csv"
    write_atomic(target, text.encode())
    console.print(f"table: {target}")
    made_by = _provenance(audit, cells, text, command)
    if evidence is not None:
        written = evidence / f"{audit.stem}.csv"
        write_atomic(written, text.encode())
        write_json(written.with_suffix(".provenance.json"), made_by)
        console.print(f"evidence: {written}\nprovenance: {written.with_suffix('.provenance.json')}")
    return Measured(audit, target, made_by)


def missing_cells(audit: Audit, results: Path) -> list[Cell]:
    """The cells that are still to be measured."""
    return [cell for cell, file in _files(audit, results).items() if _measured(file) is None]


def _files(audit: Audit, results: Path) -> dict[Cell, Path]:
    return {cell: results / "estimators" / "cells" / f"{audit.key(cell)}.json" for cell in audit.cells()}


def _measured(file: Path) -> dict[str, Any] | None:
    """What a cell was found to be; None if it is still to be measured, also because it was damaged since."""
    try:
        cell: dict[str, Any] = read_json(file) if file.exists() else {}
        whole = cell["rows"] and "provenance" in cell and all(set(COLUMNS) <= set(row) for row in cell["rows"])
    except (UserError, KeyError, TypeError):
        return None
    return cell if whole else None


def evidence_folder(asked: str | None, scale: str, committed: Path) -> Path | None:
    """Where ``--export`` writes: None not at all, "" to the committed evidence, else to the folder that it names."""
    if asked == "" and scale != "paper":
        raise UserError("only the audit at paper scale goes to the committed evidence; say --export FOLDER")
    return None if asked is None else Path(asked or committed)


def table(rows: Any) -> str:
    """The rows as CSV: sorted, four significant digits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in sorted(rows, key=lambda row: tuple(row[key] for key in KEYS)):
        writer.writerow([f"{row[name]:.4g}" if isinstance(row[name], float) else row[name] for name in COLUMNS])
    return buffer.getvalue()


def _measure(audit: Audit, cells: list[Cell], file_of: Callable[[Cell], Path], command: str, console: Console) -> None:
    import torch

    from harness.audit import Experiment

    torch.set_num_threads(1)  # part of what decides the last bit
    surroundings = provenance(command) | {"threads": 1}
    started = last = time.monotonic()
    experiment = Experiment(audit)
    bar = track(cells, audit.file.audit, console=console, disable=not console.is_terminal)
    for done, cell in enumerate(bar, start=1):
        rows = experiment.measure(cell)
        write_json(file_of(cell), {"cell": cell._asdict(), "rows": rows, "provenance": surroundings})
        now = time.monotonic()
        if not console.is_terminal and now - last > LINE_EVERY_S:
            last = now
            left = duration((now - started) * (len(cells) - done) / done)
            console.print(f"{done}/{len(cells)} cells; {cell.stage}, {cell.episodes} episodes; {left} left")


def _provenance(audit: Audit, cells: list[dict[str, Any]], text: str, command: str) -> dict[str, Any]:
    """What made the evidence: command, code and package versions, hash of the CSV."""
    made_by = [cell["provenance"] for cell in cells]

    def distinct(key: str) -> list[Any]:
        return sorted({one[key] for one in made_by})

    packages: dict[str, set[str]] = {}
    for one in made_by:
        for package, version in one["packages"].items():
            packages.setdefault(package, set()).add(version)
    return {
        "audit": audit.file.audit,
        "audit_version": AUDIT_VERSION,
        "scale": audit.scale,
        "command": command,
        "sha256": sha256(text.encode()),
        "code_version": distinct("code_version"),
        "dirty": any(one["dirty"] for one in made_by),
        "suite_version": {audit.suite.name: audit.suite.version},
        "algorithm_version": {audit.algorithm.name: audit.algorithm.version},
        "cells": len(cells),
        "seed": audit.file.seed,
        "lock_hash": distinct("lock_hash"),
        "python": distinct("python"),
        "cpu": distinct("cpu"),
        "threads": distinct("threads"),
        "packages": {package: ", ".join(sorted(versions)) for package, versions in sorted(packages.items())},
    }

"""The commands about tuning: ``metarepro tune`` and ``metarepro tune-ui``."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.composition import (
    EVIDENCE_FOLDER,
    REGISTRIES,
    SUITES_FOLDER,
    command_line,
    execution_of,
    from_elsewhere,
    tracking_uri,
)  # fmt: skip
from harness.errors import UserError
from harness.files import read_json, require_writable
from harness.recorded import published_at
from harness.redaction import without_secrets
from harness.tuning.plan import Tuning, find_tuning, tuning_files

if TYPE_CHECKING:
    from harness.tuning.schema import StageEntry
    from harness.worker import Execute
    from reports.tuning.printed import Printed
    from reports.tuning.trials import StageInfo


def tuning_of(options: argparse.Namespace, name: str | None = None) -> Tuning:
    """The tuning that was asked for."""
    return Tuning(find_tuning(name or options.tuning, SUITES_FOLDER), options.scale, REGISTRIES)


def tune(options: argparse.Namespace, execute: Execute) -> int:
    """Carry a tuning to its end, write its page, and with ``--export`` the evidence."""
    from harness.tuning.run import run_tuning
    from harness.tuning.table import write_evidence

    tuning, results = tuning_of(options), Path(options.results)
    if options.export == "" and (tuning.scale == "smoke" or tuning.path not in tuning_files(SUITES_FOLDER).values()):
        raise UserError(
            "only the project's own tunings, and no smoke test, go to its committed evidence; say --export FOLDER"
        )
    if options.export is not None:
        require_writable(Path(options.export or EVIDENCE_FOLDER))
    stages, printed = _stages(tuning)  # refuse a table that is not there now, not after the search
    trials = run_tuning(
        tuning, results, tracking_uri(options), options.storage, execution_of(options), command_line(), execute
    )
    if options.export is not None:
        written = write_evidence(tuning, trials, Path(options.export or EVIDENCE_FOLDER), results, command_line())
        print(f"evidence: {written}\nprovenance: {written.with_suffix('.provenance.json')}")
    page = _write_page(tuning, trials, results, stages, printed)
    print(f"page:    {page}\ntables and figures: {page.with_suffix('')}")
    return 0


def _write_page(
    tuning: Tuning, trials: Path, results: Path, stages: dict[str, StageInfo], printed: Printed | None
) -> Path:
    """The page of a tuning; the trials that it is made of, and what made them, stand in the folder beside it."""
    from harness.tuning.table import write_evidence
    from reports.tuning.page import build

    file, out = tuning.file, results / "reports"
    beside = write_evidence(tuning, trials, out / tuning.stem, results, command_line(), whole=False)
    findings = file.findings if tuning.scale == "paper" else ()
    told = read_json(beside.with_suffix(".provenance.json"))
    return build(
        beside, told, out, stages=stages, title=file.title, printed=printed, notes=file.notes, findings=findings
    )


def print_tuning_table(options: argparse.Namespace) -> int:
    """Print what every stage found beside what is printed, in Markdown, from committed evidence."""
    from reports.tuning.summary import found, markdown
    from reports.tuning.trials import read_trials

    tuning = tuning_of(options, options.study)
    stages, _ = _stages(tuning)
    trials = read_trials(Path(options.evidence or EVIDENCE_FOLDER / f"{tuning.stem}.csv"), stages)
    print(markdown(found(trials, stages)), end="")
    return 0


def _stages(tuning: Tuning) -> tuple[dict[str, StageInfo], Printed | None]:
    """What a page or a table has to know of all stages, and the printed table beside them."""
    printed = _printed(tuning)
    return {name: _info(tuning, entry, printed) for name, entry in tuning.file.stages.items()}, printed


def _printed(tuning: Tuning) -> Printed | None:
    """The printed table that the tuning names, of the suite that it tunes."""
    from reports.tuning.printed import printed_of

    if tuning.file.table is None:
        return None
    stage = next(iter(tuning.file.stages))
    suite = tuning.runs(stage, tuning.probe(stage), {}, 0)[0].spec.suite.name
    return printed_of(published_at(SUITES_FOLDER / suite / "published.yaml"), tuning.file.table)


def _info(tuning: Tuning, entry: StageEntry, printed: Printed | None) -> StageInfo:
    """What a page has to know of a stage."""
    from reports.tuning.trials import StageInfo

    objective, column = entry.objective, entry.columns
    if objective.of == "curve":
        said = f"`{objective.name}`, {'mean over' if objective.over == 'mean' else 'after'} all meta-iterations"
    else:
        said = f"return at meta-test after {objective.step} updates, protocol `{objective.protocol}`"
    scopes = {column[place]: scope for place, scope in entry.published.items()}
    return StageInfo(
        space={name: one.model_dump() for name, one in entry.space.items()},
        assign={column[place]: tuple(factors) for place, factors in entry.factors.items()},
        description=entry.description,
        objective=f"{said}; training seeds {entry.seeds}",
        names=scopes,
        printed=printed.values(entry.published_name, scopes) if printed else {},
        printed_best=printed.best(entry.published_name, entry.protocol) if printed else None,
        random_trials=tuning.file.sampler.startup_trials if tuning.file.sampler.name == "tpe" else entry.trials,
    )


def start_dashboard(options: argparse.Namespace) -> int:
    """Open optuna-dashboard on 127.0.0.1 over the trials of a tuning."""
    from harness.tuning.storage import database

    tuning = tuning_of(options)
    source = options.storage or str(Path(options.results) / "tuning" / tuning.stem / "optuna.journal")
    if options.storage is not None:
        database(options.storage)  # refuse one that does not answer
    elif not Path(source).exists():
        raise UserError(f"{source}: there are no trials yet; `metarepro tune {options.tuning}` makes them")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", options.port)) == 0:
            raise UserError(f"port {options.port} is taken; choose another with --port")
    program = Path(sys.executable).with_name("optuna-dashboard")
    said = f"optuna-dashboard on http://127.0.0.1:{options.port} over {without_secrets(source)}; Ctrl-C ends it"
    print(f"{said}\n{from_elsewhere(options.port)}", flush=True)
    os.execv(program, [str(program), source, "--host", "127.0.0.1", "--port", str(options.port)])

"""``metarepro all``: every study, every tuning, the audit of estimators and the report, as one resumable plan."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from harness.agenda import Item, cheapest_first, table
from harness.audit_file import Audit
from harness.command_line import Handler
from harness.composition import AUDIT, REGISTRIES, SUITES_FOLDER, execution_of, of_other_study, study_of
from harness.errors import UserError
from harness.evidence_commands import audit_estimators
from harness.plan import Plan
from harness.recorded import ALL, ESTIMATORS
from harness.report_commands import write_report
from harness.study import Study
from harness.study_source import scales_of, study_files
from harness.tuning.plan import Tuning, tuning_files
from harness.validation import nearest

PlanOf = Callable[[Study, argparse.Namespace], Plan]


def run_everything(options: argparse.Namespace, plan_of: PlanOf, run_study: Handler, tune: Handler) -> int:
    """Say what is left at a scale and how long it takes, do it, the cheapest first, and write the report on all.

    What fails does not stop the others: the exit code is the worst of all. The same command goes on where it stopped.
    """
    found = _found(options, plan_of, run_study, tune)
    items, refused = [], []
    for name, make in found.items():
        try:
            items.append(make())
        except UserError as error:
            refused.append(_refused(name, error))
    ordered = cheapest_first(items)
    where = execution_of(options)
    on = where.described(where.workers)
    print(f"everything at scale {options.scale} on {on}, cheapest first:\n{table(ordered)}")
    if left_out := sorted({*_files()} - {*found}):
        print(f"without a scale {options.scale!r}, left out: {', '.join(left_out)}")
    if options.dry_run:
        return max(refused, default=0)
    codes = dict(_done(ordered))
    codes["report"] = _attempt("report", partial(_report, options, ordered))
    if failed := [name for name, code in codes.items() if code]:
        print(f"failed: {', '.join(failed)}; the same command tries again", flush=True)
    return max([*codes.values(), *refused])


def _done(ordered: list[Item]) -> Iterator[tuple[str, int]]:
    """Do one after the other; yields name and exit code."""
    for number, item in enumerate(ordered, start=1):
        print(f"\n[{number}/{len(ordered)}] {item.name}", flush=True)
        if item.is_done:
            print(f"nothing to do: {item.page}", flush=True)
            yield item.name, 0
        else:
            yield item.name, _attempt(item.name, item.start)
    print("\n[report]", flush=True)


def _attempt(name: str, start: Callable[[], int]) -> int:
    try:
        return start()
    except UserError as error:
        return _refused(name, error)


def _refused(name: str, error: UserError) -> int:
    """The line of an error, and its exit code."""
    print(f"metarepro: error: {name}: {error}", file=sys.stderr, flush=True)
    return 2


def _files() -> dict[str, Path]:
    """Everything that the project can run, by name."""
    return {**study_files(SUITES_FOLDER), **tuning_files(SUITES_FOLDER), ESTIMATORS: AUDIT}


def _found(
    options: argparse.Namespace, plan_of: PlanOf, run_study: Handler, tune: Handler
) -> dict[str, Callable[[], Item]]:
    """What has the scale, and how to see what is left of it."""
    scales = {name: scales_of(path) for name, path in _files().items()}
    names = [name for name, its in scales.items() if options.scale in its]
    if not names:
        known = sorted({scale for its in scales.values() for scale in its})
        raise UserError(f"nothing has a scale {options.scale!r}{nearest(options.scale, known)}")
    tunings = tuning_files(SUITES_FOLDER)

    def maker(name: str) -> Callable[[], Item]:
        if name == ESTIMATORS:
            return partial(_audit_item, options)
        if name in tunings:
            return partial(_tuning_item, options, name, tune)
        return partial(_study_item, options, name, plan_of, run_study)

    return {name: maker(name) for name in names}


def _study_item(options: argparse.Namespace, name: str, plan_of: PlanOf, run_study: Handler) -> Item:
    theirs = argparse.Namespace(**vars(of_other_study(options, name)) | {"seeds": options.seeds})
    plan = plan_of(study_of(theirs), theirs)
    return Item(name, "runs", plan.expected_each(), partial(run_study, theirs), execution_of(options).workers)


def _tuning_item(options: argparse.Namespace, name: str, tune: Handler) -> Item:
    from harness.tuning.storage import told_trials

    tuning, results = Tuning(tuning_files(SUITES_FOLDER)[name], options.scale, REGISTRIES), Path(options.results)
    trials = {f"{tuning.stem}/{stage}": entry.trials for stage, entry in tuning.file.stages.items()}
    told = told_trials(results / "tuning" / tuning.stem, trials)
    share = None if tuning.file.minutes is None else 60.0 * tuning.file.minutes / sum(trials.values())
    left = {f"{stage}/{trial}": share for stage, most in trials.items() for trial in range(told[stage], most)}
    theirs = argparse.Namespace(**vars(options) | {"tuning": name, "storage": None, "export": None})
    page = results / "reports" / f"{tuning.stem}.html"
    return Item(name, "trials", left, partial(tune, theirs), execution_of(options).workers, page)


def _audit_item(options: argparse.Namespace) -> Item:
    from harness.audit_command import missing_cells  # it imports torch

    audit, results = Audit(AUDIT, options.scale, REGISTRIES), Path(options.results)
    sizes = {cell: cell.episodes * cell.batches for cell in audit.cells()}  # what a cell costs is about its episodes
    minutes, whole = audit.file.minutes, sum(sizes.values())
    left = {
        str(cell): None if minutes is None else 60.0 * minutes * sizes[cell] / whole
        for cell in missing_cells(audit, results)
    }
    theirs = argparse.Namespace(**vars(options) | {"export": None})
    page = results / "reports" / f"{audit.stem}.html"
    return Item(ESTIMATORS, "cells", left, partial(audit_estimators, theirs), 1, page)


def _report(options: argparse.Namespace, ordered: list[Item]) -> int:
    """Write the report on all, unless it is there, nothing was left to do, and nothing was made since."""
    results = Path(options.results)
    page = results / "reports" / ("report.html" if options.scale == "paper" else f"report_{options.scale}.html")
    sources = [*results.glob("runs/*/DONE.json"), *results.glob("estimators/*.csv")]
    made = max((path.stat().st_mtime for path in sources), default=0.0)
    if page.exists() and page.stat().st_mtime > made and not any(item.left or item.shared for item in ordered):
        print(f"nothing to do: {page}", flush=True)
        return 0
    return write_report(argparse.Namespace(**vars(options) | {"study": ALL, "compare": None}))

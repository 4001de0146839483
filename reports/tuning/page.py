"""The page of a tuning, with its tables as CSV and its figures as SVG beside it.

A function of the trials and of what is handed in: the same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.files import write_atomic
from reports.attachments import Attachments
from reports.display import Column, Row, count, facts, shown, text, value
from reports.markup import render
from reports.tables import NO_NUMBER, number
from reports.tuning import figures
from reports.tuning.landscape import FEWEST_RANDOM, NEIGHBOURS, ROOM, SHARE, STEEP, STEP
from reports.tuning.printed import Printed
from reports.tuning.summary import StageFound, found, places, rates, searches
from reports.tuning.trials import StageInfo, read_trials

COMMAND = "metarepro tune"


def build(
    csv: Path,
    provenance: Mapping[str, Any],
    out_dir: Path,
    *,
    stages: Mapping[str, StageInfo],
    title: str = "Tuning",
    printed: Printed | None = None,
    notes: Sequence[str] = (),
    findings: Sequence[str] = (),
) -> Path:
    """Write `<out_dir>/<stem of the CSV>.html` and the folder of that name beside it; returns the page.

    provenance: what made the CSV: `scale`, `command`, code and package versions, ...; shown as it is.
    stages:     what the trials do not say of their stages; one that has no trials yet is named as such.
    printed:    where the printed values stand, and what is said of them there.
    notes:      how the search differs from the published one. findings: what the results say. A paragraph each; words
                between backticks are code.
    Errors: UserError where the CSV is not a table of trials or out_dir cannot be written.
    """
    files, trials, stem = Attachments(), read_trials(csv, stages), csv.stem
    files.text(f"{stem}.csv", csv.read_text(encoding="utf-8"))
    made = found(trials, dict(stages))
    rules = {"neighbours": NEIGHBOURS, "share": f"{SHARE:.0%}", "room": ROOM, "steep": f"{STEEP:g}", "step": STEP}
    context = {
        "title": title,
        "folder": stem,
        "csv": f"{stem}.csv",
        "command": str(provenance.get("command") or COMMAND),
        "scale": str(provenance.get("scale") or trials.get("scale", pd.Series([""])).iloc[0]),
        "provenance": facts(provenance),
        "findings": list(findings),
        "notes": list(notes),
        "printed": printed,
        "rules": rules | {"fewest_random": FEWEST_RANDOM},
        "size": {"trials": len(trials), "stages": len(made), "cpu_minutes": float(trials["cpu_s"].sum()) / 60.0},
        "missing": [name for name in stages if name not in set(trials["stage"])],
        "described": [(one.name, one.info) for one in made],
        "searches": _searches(files, made),
        "rates": _rates(files, made),
        "answers": _answers(files, made),
        "importances": _importances(files, made),
        "protocols": _protocols(files, made),
    }
    files.write(out_dir / stem)
    page = out_dir / f"{stem}.html"
    write_atomic(page, render("tuning.html", context).encode())
    return page


def _fine(stages: Sequence[StageFound], head: str, key: str, strong: bool = False) -> Column:
    """A value with as many decimals as the tolerance of its stage asks for."""
    digits = {one.name: one.digits for one in stages}
    return Column(head, lambda row: number(row[key], digits[row["stage"]]), strong=strong)


def _searches(files: Attachments, made: Sequence[StageFound]) -> dict[str, Any]:
    columns = [
        text("stage", "stage"),
        text("method", "method"),
        Column("trials: complete / pruned / failed", _states),
        count("best trial", "best_trial"),
        _fine(made, "its value", "best_value", strong=True),
        value("the paper’s best", "printed_best"),
        value("SE over its seeds", "se_over_seeds"),
        value("a median random draw", "random_median"),
        _fine(made, "tolerance", "tolerance"),
        Column("trials within it", lambda row: f"{row['no_worse']} of {row['complete']}"),
        value("CPU minutes", "cpu_minutes", 1),
    ]
    frame = searches(list(made))
    told = [f"{row['stage']}: {row['reasons']}" for row in frame.to_dict("records") if row["reasons"]]
    note = f"Without a value that can be compared: {'; '.join(told)}." if told else ""
    return shown(files, "searches", frame, "protocol", columns) | {"note": note}


def _states(row: Row) -> str:
    return f"{row['complete']} / {row['pruned']} / {row['fail']}"


def _rates(files: Attachments, made: Sequence[StageFound]) -> dict[str, Any]:
    columns = [
        text("stage", "stage"),
        text("rate", "rate"),
        Column("found", lambda row: row["found"], strong=True),
        Column("printed", lambda row: _rate(row["printed"])),
        Column("found ÷ printed", lambda row: _rate(row["found_over_printed"], 3)),
        Column("in the trials within tolerance", _kept),
    ]
    return shown(files, "rates", rates(list(made)), "protocol", columns)


def _rate(one: float, digits: int = 4) -> str:
    return NO_NUMBER if pd.isna(one) else f"{one:.{digits}g}"


def _kept(row: Row) -> str:
    low, high = row["no_worse_low"], row["no_worse_high"]
    return NO_NUMBER if pd.isna(low) else f"{_rate(low)} to {_rate(high)}"


def _answers(files: Attachments, made: Sequence[StageFound]) -> dict[str, Any]:
    """Plateau or cliff, a sentence per stage and the table behind it."""
    columns = [
        text("stage", "stage"),
        text("the printed point is", "answer"),
        text("printed point", "printed_point"),
        count("trials near", "near"),
        _fine(made, "estimate there", "estimate", strong=True),
        _fine(made, "below the best trial", "below_best"),
        Column("random draws that are better", lambda row: _percent(row["random_better"])),
        _fine(made, f"lost over a factor of {ROOM}", "fall"),
        Column("room downwards, log units", lambda row: _room(row, "down")),
        Column("room upwards, log units", lambda row: _room(row, "up")),
    ]
    table = shown(files, "printed_point", places(list(made)), "protocol", columns)
    return {"sentences": [(one.protocol, one.name, one.sentence) for one in made], "table": table}


def _percent(share: float) -> str:
    return NO_NUMBER if pd.isna(share) else f"{share:.0%}"


def _room(row: Row, side: str) -> str:
    known = number(row[side], 2)
    return f"at least {known}" if row[f"{side}_open"] and known != NO_NUMBER else known


def _importances(files: Attachments, made: Sequence[StageFound]) -> dict[str, Any] | None:
    svg = figures.importance_bars(made)
    if svg is None:
        return None
    known = [(one, shares) for one in made if (shares := one.importances)]
    frame = pd.DataFrame(
        [
            {"protocol": one.protocol, "stage": one.name, "parameter": name, "share": share}
            for one, shares in known
            for name, share in shares.items()
        ]
    )
    columns = [text("stage", "stage"), text("parameter", "parameter"), value("share", "share", 2, strong=True)]
    table = shown(files, "importances", frame, "protocol", columns)
    said = "; ".join(f"{row['stage']}: {row['parameter']} {row['share']:.2f}" for row in frame.to_dict("records"))
    caption = "a bar per stage and parameter; the bars of a stage sum to 1"
    return {"figure": files.figure("importances", svg, f"Importances: {said}.") | {"caption": caption}, "table": table}


def _protocols(files: Attachments, made: Sequence[StageFound]) -> list[dict[str, Any]]:
    """The figures of every stage, protocol by protocol."""
    names = list(dict.fromkeys(one.protocol for one in made))
    return [{"name": name, "stages": [_stage(files, one) for one in made if one.protocol == name]} for name in names]


def _stage(files: Attachments, one: StageFound) -> dict[str, Any]:
    alt = f"Stage {one.name}: the value of every trial and the best so far; a line per trial through its parameters."
    caption = (
        "left: what is below the axis stands on its lower edge as a triangle; a pruned trial has the mean over fewer "
        "seeds, which is no value to compare. Right: every axis is the searched range, logarithmic where the search "
        "was; the brighter the line, the better the trial"
    )
    drawn = [files.figure(f"search_{one.name}", figures.search(one), alt) | {"caption": caption}]
    svg = figures.over_rates(one)
    if svg:
        alt = (
            f"Stage {one.name}: the objective over its parameters, with the found and the printed point; {one.sentence}"
        )
        caption = (
            "colour: the value, better is brighter; the darkest colour has no lower end. Left: the local estimate, "
            f"empty where fewer than {NEIGHBOURS} trials are within a factor of 2; dots are trials. Star: found; "
            "diamond: printed"
        )
        drawn.append(files.figure(f"landscape_{one.name}", svg, alt) | {"caption": caption})
    return {"name": one.name, "info": one.info, "figures": drawn, "sentence": one.sentence}

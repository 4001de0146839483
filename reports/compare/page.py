"""One page that sets two result stores side by side: what made them, and which runs, numbers and verdicts differ.

The page is a function of the records: the same two stores give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.files import write_atomic
from reports.attachments import Attachments
from reports.compare import tables as compare_tables
from reports.compare.numbers import (
    ONLY_A,
    ONLY_B,
    RETURN,
    SAME_NAME,
    SAME_RUN,
    comparable,
    exact,
    over_seeds,
    run_pairs,
    short,
)  # fmt: skip
from reports.compare.tables import SAME, STATES, Sides
from reports.display import shown, text
from reports.markup import render
from reports.records import Records
from reports.study_info import StudyInfo
from reports.verdicts import ALPHA, Judgement

FOLDER = "compare"


@dataclass(frozen=True)
class Side:
    """One study in one of the two stores.

    records: None where nothing is recorded or what is there was refused; `problem` says why in one line.
    judgements: the verdicts that these records lead to, each id once.
    """

    records: Records | None = None
    judgements: Sequence[Judgement] = ()
    problem: str = ""


@dataclass(frozen=True)
class StudyPair:
    """One study at one scale in both stores. info: what is expected of both."""

    info: StudyInfo
    a: Side
    b: Side


def build(pairs: Sequence[StudyPair], names: tuple[str, str], out_dir: Path, *, command: str) -> Path:
    """Write `<out_dir>/compare.html` and its CSV files in `<out_dir>/compare/`; returns the page.

    names: what the stores A and B are called, such as their folders. command: what makes the page.
    Errors: UserError where out_dir cannot be written; ValueError where two pairs are of one study and scale.
    """
    files = Attachments()
    studies = [_study(files.of(pair.info.stem), pair) for pair in pairs]
    context = {
        "title": "Two result stores side by side",
        "names": dict(zip("AB", names, strict=True)),
        "command": command,
        "folder": FOLDER,
        **_overall([study["counts"] for study in studies]),
        "studies": studies,
        "overview": _overview(files, studies),
    }
    page = out_dir / f"{FOLDER}.html"
    content = render("compare.html", context).encode()
    files.write(out_dir / FOLDER)
    write_atomic(page, content)
    return page


def _study(files: Attachments, pair: StudyPair) -> dict[str, Any]:
    """What the template needs of one study."""
    sides = {name: _recorded(side) for name, side in (("A", pair.a), ("B", pair.b))}
    seeds = over_seeds(sides["A"], sides["B"], pair.info)
    verdicts = compare_tables.verdict_frame(pair.a.judgements, pair.b.judgements)
    counts = Counter(
        verdicts=len(verdicts),
        verdicts_changed=int((~verdicts["change"].isin(SAME)).sum()),
    )
    made: dict[str, Any] = {
        "info": pair.info,
        "problems": _problems(pair, sides),
        "identity": compare_tables.identity(files, sides),
        "states": compare_tables.states(files, sides, pair.info),
        "runs": None,
        "seeds": compare_tables.seed_tables(files, seeds, pair.info),
        "verdicts": compare_tables.verdict_tables(files, verdicts),
        "counts": counts,
    }
    counts.update({f"runs_{name}": 0 if records is None else len(records.runs) for name, records in sides.items()})
    a, b = sides.values()
    if a is None or b is None:
        counts["absent"] = 1
        lacking = " and ".join(name for name, records in sides.items() if records is None)
        return made | _said(f"There is nothing to compare: no usable record in {lacking}", _of_verdicts(counts))
    pairs = run_pairs(a, b)
    values = exact(a, b, pairs)
    runs, quantities = compare_tables.run_frame(pairs, values), compare_tables.quantity_frame(values, pairs)
    counts.update(_counts(runs, values))
    counts.update(tests=int(seeds["p"].notna().sum()), found=int(seeds["p_holm"].lt(ALPHA).sum()))
    made["runs"] = compare_tables.run_tables(files, runs, quantities, sides, pair.info)
    return made | _of_study(counts, _largest(quantities))


def _recorded(side: Side) -> Records | None:
    """The records of a side; None where there is no run among them."""
    return side.records if side.records is not None and len(side.records.runs) else None


def _problems(pair: StudyPair, sides: Sides) -> list[str]:
    """What a reader has to know of a side before its numbers."""
    said = []
    for (name, records), side in zip(sides.items(), (pair.a, pair.b), strict=True):
        if side.problem or records is None:
            said.append(f"{name}: {side.problem or 'no run of this study is recorded'}".rstrip(".") + ".")
        found = compare_tables.of_side(records, pair.info)
        if found and not found["complete"]:
            lacking = [f"{found[key]} {word}" for key, word in STATES.items() if key != "done" and found[key]]
            of = f"{found['done']} of {found['expected']} expected runs are done"
            said.append(f"{name} is incomplete: {of}; {', '.join(lacking)}.")
        if records is not None and records.left_out:
            what = _many(records.left_out, "record")
            said.append(f"{name}: {what} of other versions or specifications were left out.")
        if records is not None and records.duplicates:
            what = _many(records.duplicates, "repeated record")
            said.append(f"{name}: {what} gave way to the one that got furthest.")
    return said


def _counts(runs: pd.DataFrame, values: pd.DataFrame) -> dict[str, int]:
    """What the sentences say of the runs; compared, equal: of those with the same run_id."""
    match, held = runs["match"], comparable(runs) & runs["result"].ne("")
    same, other = match.eq(SAME_RUN), match.eq(SAME_NAME)
    masks: Mapping[str, pd.Series] = {
        "both": same,
        "compared": same & held,
        "equal": same & runs["result"].eq("same"),
        "renumbered": other,
        "renumbered_compared": other & held,
        "renumbered_equal": other & runs["result"].eq("same"),
        "only_a": match.eq(ONLY_A),
        "only_b": match.eq(ONLY_B),
        "renamed": runs["name_b"].ne(""),
        "status": runs["status_change"].ne(""),
    }
    return {name: int(mask.sum()) for name, mask in masks.items()} | {"values": int(values["values"].sum())}


def _largest(quantities: pd.DataFrame) -> str:
    """The largest difference in the return of a task, or else in what differs first."""
    differing = quantities[quantities["differ"].gt(0)]
    if differing.empty:
        return ""
    returns = differing[differing["quantity"].eq(RETURN)]
    row = (returns if len(returns) else differing).iloc[0]
    size = short(row["largest"]) if row["largest"] else "the sign of a zero"
    return f"Largest difference in the {row['quantity']}: {size} ({row['where']})"


def _is_identical(c: Mapping[str, int]) -> bool:
    """Whether all runs are in both, finished and the same to the last bit, with the same verdicts."""
    others = ("absent", "only_a", "only_b", "renumbered", "renamed", "status", "verdicts_changed")
    return c["both"] == c["compared"] == c["equal"] > 0 and not any(c[key] for key in others)


def _said(first: str, further: Sequence[str] = ()) -> dict[str, Any]:
    """The first sentence of a page or study, and what else is to be said."""
    return {"first": f"{first}.", "further": [f"{clause}." for clause in further]}


def _of_study(c: Counter[str], largest: str) -> dict[str, Any]:
    if _is_identical(c):
        runs = f"all {c['both']:,} runs of A and B have" if c["both"] > 1 else "the one run of A and B has"
        verdicts = ", and all verdicts are the same" if c["verdicts"] else ""
        return _said(f"Bit-identical: {runs} the same numbers to the last bit ({c['values']:,} numbers){verdicts}")
    return _said(_of_runs(c), [*[largest] * bool(largest), *_of_others(c), *_of_seeds(c), *_of_verdicts(c)])


def _overall(found: Sequence[Counter[str]]) -> dict[str, Any]:
    total: Counter[str] = Counter()
    for one in found:
        total.update(one)
    if not found:
        return _said("There is no study to compare")
    studies = _many(len(found), "study", "studies")
    if all(_is_identical(one) for one in found):
        runs = f"all {_many(total['both'], 'run')} of {studies}"
        return _said(f"Everything is bit-identical: {runs} have the same numbers in A and B to the last bit")
    if total["absent"] == len(found):
        return _said("There is nothing to compare: in every study a side has no usable record")
    absent = [f"{total['absent']} of {studies} cannot be compared: a side has no usable record"] * bool(total["absent"])
    runs = _of_runs(total)
    first = f"Not everything is the same: {runs[0].lower()}{runs[1:]}"
    return _said(first, [*absent, *_of_others(total), *_of_seeds(total), *_of_verdicts(total)])


def _of_runs(c: Counter[str]) -> str:
    """What the runs with the same run_id say."""
    differ = c["compared"] - c["equal"]
    if not c["compared"]:
        return "No run is finished in both" if c["both"] else "No run is in both"
    if differ:
        return f"Of {_many(c['compared'], 'run')} finished in both, {differ:,} {'differ' if differ > 1 else 'differs'}"
    return f"All {c['compared']:,} runs finished in both are bit-identical"


def _of_others(c: Counter[str]) -> list[str]:
    """What else there is about runs; nothing where there is nothing."""
    lines = {
        "In both, but unfinished or without numbers on a side": c["both"] - c["compared"],
        "Only in A": c["only_a"],
        "Only in B": c["only_b"],
        "Under another name in B": c["renamed"],
        "With another status in B": c["status"],
    }
    said = [f"{head}: {_many(number, 'run')}" for head, number in lines.items() if number]
    if c["renumbered"]:
        of = f"the same numbers in {c['renumbered_equal']:,} of the {c['renumbered_compared']:,} finished in both"
        runs = _many(c["renumbered"], "run")
        said.append(f"With another run_id in B (another version or specification): {runs}; {of}")
    return said


def _of_seeds(c: Counter[str]) -> list[str]:
    return [f"Tests over training seeds that show a difference (Holm): {c['found']:,} of {c['tests']:,}"] * bool(
        c["tests"]
    )


def _of_verdicts(c: Counter[str]) -> list[str]:
    if not c["verdicts"]:
        return ["No verdict was formed on either side"]
    return [f"Verdicts that changed or are on one side only: {c['verdicts_changed']:,} of {c['verdicts']:,}"]


def _many(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _overview(files: Attachments, studies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A line per study."""
    keys = {
        "runs_A": "runs in A", "runs_B": "runs in B", "both": "in both", "compared": "finished in both",
        "equal": "bit-identical", "renumbered": "with another run_id", "only_a": "only in A", "only_b": "only in B",
        "status": "status changed", "tests": "tests over seeds", "found": "of these with a difference",
        "verdicts": "verdicts", "verdicts_changed": "of these changed",
    }  # fmt: skip
    rows = [
        {"study": study["info"].title.partition(":")[0], "scale": study["info"].scale}
        | {key: study["counts"].get(key) for key in keys}
        for study in studies
    ]
    frame = pd.DataFrame(rows, columns=["study", "scale", *keys])
    columns = [text("scale", "scale"), *(compare_tables.whole(head, key) for key, head in keys.items())]
    return shown(files, "overview", frame, "study", columns, "Studies")

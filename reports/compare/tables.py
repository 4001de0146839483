"""The tables of the page that sets two result stores side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports import overview
from reports.attachments import Attachments
from reports.compare.numbers import NAME, ONLY_A, ONLY_B, RETURN, SAME_NAME, SAME_RUN, comparable, short
from reports.display import Column, Row, count, shown, text
from reports.export import distinct, packages
from reports.markup import p_value
from reports.records import Records
from reports.study_info import StudyInfo
from reports.tables import NO_NUMBER
from reports.verdicts import Judgement

Sides = Mapping[str, Records | None]
"""A and B; None where there is no run of the study."""
Table = dict[str, Any]
FACTS = {
    "lock_hash": "lock hash", "python": "Python", "platform": "platform", "cpu": "processor",
    "threads": "threads per run",
}  # fmt: skip
STATES = {
    "done": "done", "diverged": "diverged", "failed": "failed", "running": "started but not finished",
    "missing": "missing",
}  # fmt: skip
SAME = ("same", "same, for another reason")
CHANGES = ("changed", ONLY_A, ONLY_B, *SAME[::-1])
COUNTS = ["values", "differ", "only_a", "only_b"]
WORST = ["largest", "value_a", "value_b", "where"]


def identity(files: Attachments, sides: Sides) -> Table:
    """What made the runs of each side, fact by fact; `differs` marks what is not the same."""
    a, b = ({} if records is None else _facts(records) for records in sides.values())
    known = [fact for fact in dict.fromkeys([*a, *b]) if (a.get(fact), b.get(fact)) != (NO_NUMBER, NO_NUMBER)]
    rows = [{"fact": fact, "A": a.get(fact, NO_NUMBER), "B": b.get(fact, NO_NUMBER)} for fact in known]
    frame = pd.DataFrame(rows, columns=["fact", "A", "B"])
    both = None not in sides.values()
    frame["differs"] = np.where(both & frame["A"].ne(frame["B"]), "≠", "")
    return shown(
        files, "identity", frame, "fact", [text(name, name) for name in ("A", "B", "differs")], "What made the runs"
    )


def _facts(records: Records) -> dict[str, str]:
    runs, manifests = records.runs, list(records.runs["manifest"])
    dirty = int(runs["dirty"].sum())
    found = {"code version": ", ".join(sorted(runs["code_version"].unique()))}
    found["uncommitted changes"] = f"in {dirty} of {len(runs)} runs" if dirty else "none"
    for part, column in (("suite", "suite"), ("method", "algorithm")):
        for name, group in runs.groupby(column, sort=True):
            found[f"{part} {name}, version"] = ", ".join(sorted(group[f"{column}_version"].unique()))
    for key, word in FACTS.items():
        found[word] = ", ".join(str(value) for value in distinct(manifests, key)) or NO_NUMBER
    return found | {f"package {name}": version for name, version in packages(manifests).items()}


def states(files: Attachments, sides: Sides, info: StudyInfo) -> Table:
    """How many runs of each side are in which state."""
    found = {name: of_side(records, info) for name, records in sides.items()}
    words = {"expected": "expected", **STATES, "extra": "recorded, not expected", "seeds": "training seeds done"}
    rows = [
        {"runs": word} | {name: str(one[key]) if one else NO_NUMBER for name, one in found.items()}
        for key, word in words.items()
    ]
    return shown(files, "states", pd.DataFrame(rows), "runs", [text("A", "A"), text("B", "B")], "Runs by state")


def of_side(records: Records | None, info: StudyInfo) -> dict[str, Any] | None:
    """How complete a side is; a run of a setting that the study does not name is recorded and not expected."""
    if records is None:
        return None
    mine = overview.of_settings(records, info).runs
    found = overview.summary(mine, info)
    return found | {"extra": found["extra"] + len(records.runs) - len(mine)}


def run_frame(pairs: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """`run_pairs` with the counts of `exact` over all quantities, and the largest difference in the return of a task.

    result: same, differs, or empty where nothing was compared. status_change: such as "done → diverged", or empty.
    """
    sums = values.groupby("pair")[COUNTS].sum().reindex(pairs.index).fillna(0).astype("int64")
    returns = values[values["quantity"].eq(RETURN)].set_index("pair")[WORST]
    unequal = sums[["differ", "only_a", "only_b"]].sum(axis=1).gt(0)
    held = comparable(pairs) & (sums["values"].gt(0) | unequal)
    changed = pairs["match"].isin([SAME_RUN, SAME_NAME]) & pairs["status_a"].ne(pairs["status_b"])
    table = pairs.join(sums).join(_readable(returns))
    return table.assign(
        where=table["where"].fillna(""),
        result=np.select([held & unequal, held], ["differs", "same"], ""),
        status_change=(pairs["status_a"] + " → " + pairs["status_b"]).where(changed, ""),
    )


def quantity_frame(values: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Per quantity how many runs and numbers are the same, and where the largest difference is."""
    rows = []
    for quantity, group in values.groupby("quantity", sort=False):
        unequal = group[["differ", "only_a", "only_b"]].sum(axis=1).gt(0)
        row: dict[Hashable, Any] = {"quantity": quantity, "runs": len(group), "runs_differ": int(unequal.sum())}
        row |= {name: int(group[name].sum()) for name in COUNTS}
        row |= group[WORST].iloc[0].to_dict()
        if row["differ"]:
            worst = group.sort_values("largest", ascending=False, kind="stable").iloc[0]
            run = pairs.loc[int(worst["pair"])]
            where = f"{run['method']}, setting {run['setting']}, seed {run['seed']}, {worst['where']}"
            row |= worst[WORST].to_dict() | {"where": where}
        rows.append(row)
    return _readable(pd.DataFrame(rows, columns=["quantity", "runs", "runs_differ", *COUNTS, *WORST]))


def _readable(frame: pd.DataFrame) -> pd.DataFrame:
    """value_a and value_b as text, with every digit."""
    written = {
        name: [repr(float(number)) if place else "" for number, place in zip(frame[name], frame["where"], strict=True)]
        for name in ("value_a", "value_b")
    }
    return frame.assign(**written)


def run_tables(
    files: Attachments, runs: pd.DataFrame, quantities: pd.DataFrame, sides: Sides, info: StudyInfo
) -> dict[str, Table]:
    """What the two sides share, run by run; `runs` has every run as CSV."""
    setting, seed, match = _setting(info), count("seed", "seed"), text("in both as", "match")
    numbers = [whole("numbers", "values"), whole("differ", "differ", strong=True)]
    numbers += [whole("only in A", "only_a"), whole("only in B", "only_b"), *_largest()]
    changed = runs[runs["status_change"].ne("")]
    changed = changed[[*NAME, "match", "status_change", "run_id_a", "run_id_b"]]
    changed = changed.assign(reason=[_reason(row, sides) for row in changed.to_dict("records")])
    elsewhere = _elsewhere(runs[runs["match"].ne(SAME_RUN) | runs["name_b"].ne("")])
    differing = runs[runs["result"].eq("differs")]
    state = [setting, seed, match, text("status", "status_change"), text("reason recorded", "reason")]
    place = [setting, text("found", "found"), count("runs", "runs"), text("seeds", "seeds"), text("status", "status")]
    of_quantity = [whole("runs", "runs"), whole("runs that differ", "runs_differ"), *numbers]
    return {
        "all": files.table("runs", runs),
        "status": shown(files, "status_changes", changed, "method", state, "Runs whose status changed"),
        "elsewhere": shown(files, "not_in_both", elsewhere, "method", place, "Runs that are not the same run in both"),
        "quantities": shown(
            files, "quantities", quantities, "quantity", of_quantity, "Every recorded number, B against A"
        ),
        "runs": shown(
            files, "differing", differing, "method", [setting, seed, match, *numbers], "Runs whose numbers differ"
        ),
    }


def _setting(info: StudyInfo) -> Column:
    """The setting by its coordinates, or by its name where the study does not know it."""
    names = {setting.name: setting.describe() for setting in info.settings}
    return Column("setting", lambda row: names.get(str(row["setting"]), str(row["setting"])), text=True)


def whole(head: str, key: str, strong: bool = False) -> Column:
    """A whole number with separators; NO_NUMBER where there is none."""
    return Column(head, lambda row: NO_NUMBER if pd.isna(row[key]) else f"{int(row[key]):,}", strong=strong)


def _largest() -> list[Column]:
    def where(row: Row) -> str:
        return f"{row['where']}: {row['value_a']} → {row['value_b']}" if row["where"] else NO_NUMBER

    largest = Column(
        "largest |B\u00a0−\u00a0A|", lambda row: short(row["largest"]) if row["where"] else NO_NUMBER, strong=True
    )
    return [largest, Column("where, and A → B", where, text=True)]


def _reason(row: Row, sides: Sides) -> str:
    """Why the runs of a pair ended as they did, where their manifests say so."""
    said = []
    for name, records in sides.items():
        assert records is not None
        mine = records.runs["run_id"].eq(row[f"run_id_{name.lower()}"])
        said += [f"{name}: {one['reason']}" for one in records.runs.loc[mine, "manifest"] if one.get("reason")]
    return "; ".join(said) or NO_NUMBER


def _elsewhere(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs of one side only, with another run_id or under another name, by method and setting."""
    found = runs["match"].mask(runs["match"].eq(SAME_NAME), "both, with another run_id")
    found = found.mask(runs["name_b"].ne(""), "both, in B as " + runs["name_b"])
    status = runs["status_a"].where(runs["status_a"].eq(runs["status_b"]), runs["status_a"] + " / " + runs["status_b"])
    table = runs.assign(found=found, status=status.str.strip(" /"))
    rows = []
    for (method, setting, place), group in table.groupby(["method", "setting", "found"], sort=True):
        kinds = Counter(group["status"])
        state = ", ".join(kinds) if len(kinds) == 1 else ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
        seeds = overview.ranges(sorted({int(seed) for seed in group["seed"]}))
        row = {"method": method, "setting": setting, "found": place, "runs": len(group)}
        rows.append(row | {"seeds": seeds, "status": state})
    return pd.DataFrame(rows, columns=["method", "setting", "found", "runs", "seeds", "status"])


def seed_tables(files: Attachments, frame: pd.DataFrame, info: StudyInfo) -> dict[str, Table]:
    """`over_seeds` as the page shows it: what is not the same, and what is equal in all seeds; `all`: both, as CSV."""

    def side(name: str) -> Column:
        return Column(f"{name}: mean ± SD (seeds)", lambda row: _mean(row, name.lower()))

    def difference(row: Row) -> str:
        if pd.isna(row["low"]):
            return short(row["difference"])
        return f"{short(row['difference'])} [{short(row['low'])}, {short(row['high'])}]"

    def p_values(row: Row) -> str:
        return p_value(row["p"]) + ("" if pd.isna(row["p"]) else f"; {p_value(row['p_holm'])}")

    place = [*[_setting(info)] * (frame["setting"].nunique() > 1), text("protocol", "protocol"), count("step", "step")]
    numbers = [
        Column("B\u00a0−\u00a0A [95\u00a0%]", difference, strong=True),
        Column("p; Holm", p_values),
        Column("detectable", lambda row: short(row["detectable"])),
        Column("seeds with equal means", lambda row: f"{row['equal']} of {row['shared']}"),
    ]
    words = Column("in words", lambda row: row["words"] + (f" ({row['test']})" if row["test"] else ""), text=True)
    equal = frame["equal"].eq(frame["seeds_a"]) & frame["equal"].eq(frame["seeds_b"])
    means = [*place, side("A"), side("B")]
    parts = {
        "differing": (frame[~equal], [*means, *numbers, words], "Mean return over training seeds, B against A"),
        "equal": (frame[equal], [*means, words], "Mean returns that are equal"),
    }
    made = {
        name: shown(Attachments(), name, rows, "method", columns, title)
        for name, (rows, columns, title) in parts.items()
    }
    return {"all": files.table("over_seeds", frame), **made}


def _mean(row: Row, side: str) -> str:
    if not row[f"seeds_{side}"]:
        return NO_NUMBER
    mean, sd, seeds = (row[f"{part}_{side}"] for part in ("mean", "sd", "seeds"))
    return f"{short(mean)} ± {short(sd)} ({seeds})" if seeds > 1 else f"{short(mean)} ({seeds})"


def verdict_frame(a: Sequence[Judgement], b: Sequence[Judgement]) -> pd.DataFrame:
    """Every judgement of either side by id, with both verdicts and reasons; what changed comes first."""
    mine, theirs = ({one.id: one for one in side} for side in (a, b))
    rows = []
    for key in dict.fromkeys([*mine, *theirs]):
        x, y = mine.get(key), theirs.get(key)
        one = x or y
        assert one is not None
        row = {"change": _change(x, y), "id": key, "kind": one.kind, "paper": one.paper, "statement": one.statement}
        for side, judged in (("a", x), ("b", y)):
            said = (judged.verdict.value, judged.outcome.value, judged.reason) if judged else ("", "", "")
            row |= dict(zip((f"verdict_{side}", f"outcome_{side}", f"reason_{side}"), said, strict=True))
        rows.append(row)
    sides = [f"{part}_{side}" for side in "ab" for part in ("verdict", "outcome", "reason")]
    frame = pd.DataFrame(rows, columns=["change", "id", "kind", "paper", "statement", *sides])
    return frame.sort_values("change", key=lambda x: x.map(CHANGES.index), kind="stable", ignore_index=True)


def _change(a: Judgement | None, b: Judgement | None) -> str:
    if a is None or b is None:
        return ONLY_B if a is None else ONLY_A
    if a.verdict is not b.verdict:
        return "changed"
    return SAME[0] if a.reason == b.reason else SAME[1]


def verdict_tables(files: Attachments, frame: pd.DataFrame) -> dict[str, Table]:
    """The verdicts that are not the same, and those that are."""

    def side(name: str) -> Column:
        key = name.lower()

        def cell(row: Row) -> str:
            word = row[f"verdict_{key}"].replace("_", " ")
            return f"{word} ({row[f'outcome_{key}']}): {row[f'reason_{key}']}" if word else NO_NUMBER

        return Column(f"{name}: verdict and reason", cell, text=True)

    what = Column("what is published", lambda row: f"{row['paper']}: {row['statement']}", text=True)
    columns = [text("change", "change"), what, side("A"), side("B")]
    same = frame["change"].isin(SAME)
    return {
        "changed": shown(files, "verdicts_changed", frame[~same], "id", columns, "Verdicts that are not the same"),
        "same": shown(files, "verdicts_same", frame[same], "id", columns, "Verdicts that are the same"),
    }

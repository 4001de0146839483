"""One number per run: what verdicts are formed from, whether it comes from the store or from committed evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reports.exhibits import learning, seconds
from reports.exhibits.plane import NUMBERS, directions
from reports.exhibits.spread import thinned_curves
from reports.exhibits.training import late
from reports.export import FRACTIONS, evidence, measure_columns, read_evidence
from reports.grids.tables import grid_of, scores
from reports.overview import of_settings
from reports.papers.exhibits import AnyExhibit, LearningExhibit, PlaneExhibit, SecondsExhibit, SpreadExhibit
from reports.papers.published import Published
from reports.records import Records
from reports.study_info import StudyInfo
from reports.tables import done

KEYS = ["setting", "method", "seed", "protocol", "step"]
COLUMNS = [*KEYS, "name", "value", "sd", "tasks"]
NAN = float("nan")
BESIDE = {SpreadExhibit: "_curves", LearningExhibit: "_curves", PlaneExhibit: "_directions", SecondsExhibit: "_seconds"}
"""Exhibits of which a run has numbers once, and the committed file in which these are."""


@dataclass(frozen=True)
class StudyNumbers:
    """The numbers of one study at one scale.

    evidence: the frame of `reports.export.evidence`.
    table:    one row per finished run and number: KEYS, name, value, and where it is a mean over meta-test tasks their
              SD and number. A number that a run has once has an empty protocol and step 0.
    unit:     what the column `seed` counts, and tests are over.
    """

    info: StudyInfo
    evidence: pd.DataFrame
    table: pd.DataFrame
    unit: str = "seed"

    def of(self, method: str, setting: str, name: str, protocol: str, step: int) -> pd.DataFrame:
        """value, sd and tasks by training seed; empty where no run has that number."""
        rows = self.table
        keep = rows["method"].eq(method) & rows["setting"].eq(setting) & rows["name"].eq(name)
        keep &= rows["protocol"].eq(protocol) & rows["step"].eq(step)
        return rows.loc[keep, ["seed", "value", "sd", "tasks"]].set_index("seed").sort_index()

    def last_step(self, protocol: str) -> int:
        """The last adaptation step that any run of the protocol measured; 0 where none did."""
        steps = self.table.loc[self.table["protocol"].eq(protocol), "step"]
        return int(steps.max()) if len(steps) else 0

    @property
    def code_versions(self) -> list[str]:
        """The code that made the runs."""
        return sorted(self.evidence["code_version"].unique())


def of_records(records: Records, info: StudyInfo, published: Published) -> StudyNumbers:
    """The numbers of recorded runs."""
    mine = of_settings(records, info)
    further = []
    for exhibit in published.exhibits_of(info.name):
        labels = exhibit.labels(info.labels)
        if isinstance(exhibit, SpreadExhibit):
            further.append(_of_exhibit(exhibit, thinned_curves(mine, exhibit, labels)))
        elif isinstance(exhibit, LearningExhibit):
            further.append(_of_exhibit(exhibit, learning.drawn(mine, exhibit, labels)))
        elif isinstance(exhibit, SecondsExhibit):
            further.append(_of_exhibit(exhibit, seconds.seconds(mine, labels)))
        elif isinstance(exhibit, PlaneExhibit):
            further.append(_of_exhibit(exhibit, directions(mine, exhibit, labels)))
    return _numbers(evidence(mine, info.columns), info, published, further)


def of_evidence(path: Path, info: StudyInfo, published: Published) -> StudyNumbers:
    """The numbers of a committed evidence file and of those beside it.

    Errors: UserError where the evidence is missing or damaged.
    """
    further = []
    for exhibit in published.exhibits_of(info.name):
        ending = next((ending for kind, ending in BESIDE.items() if isinstance(exhibit, kind)), None)
        beside = path.with_name(f"{path.stem}{ending}.csv")
        if ending and beside.is_file():
            wide = pd.read_csv(beside)  # two exhibits of a kind have one file
            further.append(_of_exhibit(exhibit, wide[wide["method"].isin(exhibit.labels(info.labels))]))
    return _numbers(read_evidence(path), info, published, further)


def _numbers(table: pd.DataFrame, info: StudyInfo, published: Published, further: list[pd.DataFrame]) -> StudyNumbers:
    rows = done(table)
    named = {"mean_return": "sd_over_tasks"} | ({FRACTIONS[0]: FRACTIONS[1]} if FRACTIONS[0] in rows else {})
    parts = [_named(rows, name, name, sd) for name, sd in named.items()]
    parts += [_named(rows, name, name) for name in measure_columns(table)]
    if info.is_grid:
        parts.append(_of_grid(table, info, published))
    merged = pd.concat([part for part in [*parts, *further] if len(part)] or [pd.DataFrame(columns=COLUMNS)])
    merged = merged[merged["value"].notna()].reset_index(drop=True)
    return StudyNumbers(info, table, merged.astype({"seed": "int64", "step": "int64", "value": "float64"}))


def _named(rows: pd.DataFrame, column: str, name: str, sd: str | None = None) -> pd.DataFrame:
    tasks = rows["tasks"].astype("float64")
    spread = rows[sd].astype("float64") if sd else pd.Series(NAN, index=rows.index)
    return rows[KEYS].assign(name=name, value=rows[column].astype("float64"), sd=spread, tasks=tasks)


def _of_grid(table: pd.DataFrame, info: StudyInfo, published: Published) -> pd.DataFrame:
    """`score_during`, `score_adapted` in the units of the printed table, and what is known exactly, in the same."""
    grid = grid_of(table, info.settings, info.labels, published, info.name)
    found = scores(grid)
    if found.empty:
        return pd.DataFrame(columns=COLUMNS)
    once = found.assign(protocol="", step=0)
    parts = []
    for accounting, rows in once.groupby("accounting", sort=True):
        parts.append(_named(rows, "score", f"score_{accounting}", "sd_score"))
    for name in [name for name in map(str, found) if name.endswith("_return") and name != "mean_return"]:
        rows = once[once["accounting"].eq("during")]
        scaled = rows.assign(**{name: rows[name] * rows["setting"].map(grid.factor)})
        parts.append(_named(scaled, name, name))
    return pd.concat(parts, ignore_index=True)


def _of_exhibit(exhibit: AnyExhibit, wide: pd.DataFrame) -> pd.DataFrame:
    """The numbers that a run has once, of what an exhibit makes of it."""
    if wide.empty:
        return pd.DataFrame(columns=COLUMNS)
    if isinstance(exhibit, SpreadExhibit):
        return _of_training(wide, {name: name for name in exhibit.spreads}, exhibit.outcome)
    if isinstance(exhibit, LearningExhibit):
        return _of_training(wide, {exhibit.outcome: f"{exhibit.outcome}_all"}, exhibit.outcome)
    names = (seconds.TOTAL, seconds.UPDATES) if isinstance(exhibit, SecondsExhibit) else (*NUMBERS, "away")
    return _once(wide, [name for name in names if name in wide])


def _of_training(curves: pd.DataFrame, means: Mapping[str, str], outcome: str) -> pd.DataFrame:
    """Of every run the mean of each metric over training, and of the outcome over its last tenth (`<outcome>_last`).

    means: metric -> what its mean is called.
    """
    keys = ["setting", "method", "seed"]
    runs = curves.groupby(keys, sort=True)
    names = {called: runs[name].mean() for name, called in means.items() if name in curves}
    if outcome in curves:
        names[f"{outcome}_last"] = late(curves).groupby(keys, sort=True)[outcome].mean()
    return _once(pd.DataFrame(names).reset_index(), list(names))


def _once(wide: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Numbers that a run has once, from a column per number."""
    parts = [
        wide[["setting", "method", "seed"]].assign(
            protocol="", step=0, name=name, value=wide[name].astype("float64"), sd=NAN, tasks=NAN
        )
        for name in names
    ]
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)

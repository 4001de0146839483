"""The exhibits of a study as blocks of its page, with the paper's claims beside what was measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd

from reports.attachments import Attachments
from reports.exhibits import ladder as ladder_exhibit
from reports.exhibits import measures as measures_exhibit
from reports.exhibits import paths as paths_exhibit
from reports.exhibits import plane as plane_exhibit
from reports.exhibits import single_seeds as single_seeds_exhibit
from reports.exhibits import spread as spread_exhibit
from reports.exhibits.source import Part, Source
from reports.overview import of_settings
from reports.papers.exhibits import (
    AnyExhibit,
    LadderExhibit,
    MeasuresExhibit,
    PathsExhibit,
    PlaneExhibit,
    SingleSeedsExhibit,
    SpreadExhibit,
)  # fmt: skip
from reports.papers.published import Published
from reports.records import Records
from reports.study_info import SettingInfo, StudyInfo


def blocks(
    files: Attachments, records: Records, table: pd.DataFrame, info: StudyInfo, published: Published
) -> list[dict[str, Any]]:
    """Every exhibit that is declared for the study, with a part per setting; parts without data are left out.

    records: those of the study's settings; table: their evidence.
    """
    made = []
    for exhibit in published.exhibits_of(info.name):
        claims = {claim: published.claim(exhibit.paper, claim) for claim in exhibit.claim_ids}
        parts = []
        for setting in _settings(exhibit, info):
            alone = dataclasses.replace(info, settings=(setting,))
            name = exhibit.id + (f"_{setting.name}" if info.is_grid else "")
            mine = table[table["setting"].eq(setting.name)]
            source = Source(of_settings(records, alone), mine, info, setting, claims, name, published)
            part = _part(files, exhibit, source)
            if part.figures or part.tables:
                parts.append({"title": setting.describe(), "part": part})
        made.append(
            {
                "exhibit": exhibit,
                "paper": published.paper(exhibit.paper),
                "parts": parts,
                "claims": [claims[claim] for claim in exhibit.claims],
                "many": info.is_grid,
            }
        )
    return made


def figure_data(records: Records, published: Published, study: str) -> dict[str, str]:
    """What has to be committed so that the figures can be drawn again: ending of a file's name -> CSV.

    `_paths`: positions; `_curves`: training metrics, thinned; `_directions`: the numbers of every path of parameters.
    """
    found: dict[str, list[pd.DataFrame]] = {}
    for exhibit in published.exhibits_of(study):
        labels = exhibit.labels(sorted(records.runs["method"].unique()))
        mine = _of(records, exhibit)
        if isinstance(exhibit, PathsExhibit):
            found.setdefault("_paths", []).append(paths_exhibit.drawn(mine, exhibit.protocol, labels))
        elif isinstance(exhibit, SpreadExhibit):
            found.setdefault("_curves", []).append(spread_exhibit.thinned_curves(mine, exhibit, labels))
        elif isinstance(exhibit, PlaneExhibit):
            found.setdefault("_curves", []).append(plane_exhibit.drawn(mine, exhibit, labels))
            found.setdefault("_directions", []).append(plane_exhibit.directions(mine, exhibit, labels))
    full = {ending: [frame for frame in frames if len(frame)] for ending, frames in found.items()}
    return {ending: _csv(pd.concat(frames, ignore_index=True)) for ending, frames in full.items() if frames}


def _settings(exhibit: AnyExhibit, info: StudyInfo) -> list[SettingInfo]:
    if exhibit.settings is None:
        return list(info.settings)
    known = {setting.name: setting for setting in info.settings}
    return [known[name] for name in exhibit.settings if name in known]


def _of(records: Records, exhibit: AnyExhibit) -> Records:
    """The records of the settings that an exhibit shows."""
    if exhibit.settings is None:
        return records
    return dataclasses.replace(records, runs=records.runs[records.runs["setting"].isin(exhibit.settings)])


def _part(files: Attachments, exhibit: AnyExhibit, source: Source) -> Part:
    if isinstance(exhibit, MeasuresExhibit):
        return measures_exhibit.part(files, exhibit, source)
    if isinstance(exhibit, PathsExhibit):
        return paths_exhibit.part(files, exhibit, source)
    if isinstance(exhibit, SpreadExhibit):
        return spread_exhibit.part(files, exhibit, source)
    if isinstance(exhibit, LadderExhibit):
        return ladder_exhibit.part(files, exhibit, source)
    if isinstance(exhibit, SingleSeedsExhibit):
        return single_seeds_exhibit.part(files, exhibit, source)
    return plane_exhibit.part(files, exhibit, source)


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")

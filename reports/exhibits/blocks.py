"""The exhibits of a study as blocks of its page, with the paper's claims beside what was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.attachments import Attachments
from reports.exhibits import ladder as ladder_exhibit
from reports.exhibits import learning as learning_exhibit
from reports.exhibits import measures as measures_exhibit
from reports.exhibits import paths as paths_exhibit
from reports.exhibits import plane as plane_exhibit
from reports.exhibits import seconds as seconds_exhibit
from reports.exhibits import single_seeds as single_seeds_exhibit
from reports.exhibits import spread as spread_exhibit
from reports.exhibits.source import Part, Source
from reports.overview import of_settings
from reports.papers.exhibits import (
    AnyExhibit,
    LadderExhibit,
    LearningExhibit,
    MeasuresExhibit,
    PathsExhibit,
    PlaneExhibit,
    SecondsExhibit,
    SingleSeedsExhibit,
    SpreadExhibit,
)  # fmt: skip
from reports.papers.printed import ClaimRow
from reports.papers.published import Published
from reports.records import Records
from reports.study_info import SettingInfo, StudyInfo


def blocks(
    files: Attachments, records: Records, table: pd.DataFrame, info: StudyInfo, published: Published
) -> list[dict[str, Any]]:
    """Every exhibit that is declared for the study, with a part per setting or one for all; none without data.

    records: those of the study's settings; table: their evidence.
    """
    made = []
    for exhibit in published.exhibits_of(info.name):
        claims = {claim: published.claim(exhibit.paper, claim) for claim in exhibit.claim_ids}
        parts = []
        for asked in _settings(exhibit, info):
            part = _part(files, exhibit, _source(exhibit, asked, records, table, info, claims, published))
            if part.figures or part.tables:
                parts.append({"title": asked[0].describe(), "part": part})
        made.append(
            {
                "exhibit": exhibit,
                "paper": published.paper(exhibit.paper),
                "parts": parts,
                "claims": [claims[claim] for claim in exhibit.claims],
                "many": info.is_grid and not exhibit.together,
            }
        )
    return made


def _source(
    exhibit: AnyExhibit,
    settings: Sequence[SettingInfo],
    records: Records,
    table: pd.DataFrame,
    info: StudyInfo,
    claims: Mapping[str, ClaimRow],
    published: Published,
) -> Source:
    """What one part of an exhibit is made from: these settings of the study."""
    asked = dataclasses.replace(info, settings=tuple(settings))
    name = exhibit.id + (f"_{settings[0].name}" if info.is_grid and not exhibit.together else "")
    mine = table[table["setting"].isin([setting.name for setting in settings])]
    told = asked if exhibit.together else info
    return Source(of_settings(records, asked), mine, told, settings[0], claims, name, published)


def figure_data(records: Records, published: Published, study: str) -> dict[str, str]:
    """What has to be committed so that the figures can be drawn again: ending of a file's name -> CSV.

    `_paths`: positions; `_curves`: training metrics, thinned; `_directions`: the numbers of every path of parameters;
    `_seconds`: what a meta-iteration of every run took.
    """
    found: dict[str, list[pd.DataFrame]] = {}
    for exhibit in published.exhibits_of(study):
        labels = exhibit.labels(sorted(records.runs["method"].unique()))
        mine = _of(records, exhibit)
        if isinstance(exhibit, PathsExhibit):
            found.setdefault("_paths", []).append(paths_exhibit.drawn(mine, exhibit.protocol, labels))
        elif isinstance(exhibit, SpreadExhibit):
            found.setdefault("_curves", []).append(spread_exhibit.thinned_curves(mine, exhibit, labels))
        elif isinstance(exhibit, LearningExhibit):
            found.setdefault("_curves", []).append(learning_exhibit.drawn(mine, exhibit, labels))
        elif isinstance(exhibit, SecondsExhibit):
            found.setdefault("_seconds", []).append(seconds_exhibit.seconds(mine, labels))
        elif isinstance(exhibit, PlaneExhibit):
            found.setdefault("_curves", []).append(plane_exhibit.drawn(mine, exhibit, labels))
            found.setdefault("_directions", []).append(plane_exhibit.directions(mine, exhibit, labels))
    full = {ending: [frame for frame in frames if len(frame)] for ending, frames in found.items()}
    return {ending: _csv(pd.concat(frames, ignore_index=True)) for ending, frames in full.items() if frames}


def _settings(exhibit: AnyExhibit, info: StudyInfo) -> list[list[SettingInfo]]:
    """The settings of every part of an exhibit."""
    known = {setting.name: setting for setting in info.settings}
    shown = [known[name] for name in (known if exhibit.settings is None else exhibit.settings) if name in known]
    return [shown] if exhibit.together and shown else [[setting] for setting in shown]


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
    if isinstance(exhibit, LearningExhibit):
        return learning_exhibit.part(files, exhibit, source)
    if isinstance(exhibit, SecondsExhibit):
        return seconds_exhibit.part(files, exhibit, source)
    return plane_exhibit.part(files, exhibit, source)


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")

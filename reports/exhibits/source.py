"""What an exhibit is made from, and what it leaves on the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reports.papers.exhibits import Exhibit
from reports.papers.printed import ClaimRow
from reports.papers.published import Published
from reports.records import Records
from reports.statistics import t_interval
from reports.study_info import SettingInfo, StudyInfo


@dataclass(frozen=True)
class Source:
    """One setting of a study.

    records, evidence: of this setting only; evidence as `reports.export.evidence` makes it.
    claims:  the paper's statements by id. name: of the files of this setting. published: what is printed.
    """

    records: Records
    evidence: pd.DataFrame
    info: StudyInfo
    setting: SettingInfo
    claims: Mapping[str, ClaimRow]
    name: str
    published: Published | None = None

    def labels(self, exhibit: Exhibit) -> list[str]:
        """The methods that an exhibit shows."""
        return exhibit.labels(self.info.labels)

    def finished(self) -> pd.DataFrame:
        """run_id, method and seed of the finished runs."""
        runs = self.records.runs
        return runs.loc[runs["status"].eq("done"), ["run_id", "method", "seed"]]


@dataclass
class Part:
    """What one exhibit shows of one setting.

    measured: claim -> the lines that stand beside it; those under "" stand beside every other claim.
    sentences: what the numbers say, computed.
    """

    figures: list[dict[str, Any]] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)
    measured: dict[str, list[str]] = field(default_factory=lambda: {"": []})
    sentences: list[str] = field(default_factory=list)


def interval_columns(values: Any, prefix: str = "") -> dict[str, float]:
    """Mean, sample SD and 95 % t interval over seeds, as columns of a frame."""
    found = t_interval(values)
    parts = {"mean": found.mean, "sd": found.sd, "low": found.low, "high": found.high}
    return {f"{prefix}{key}": number for key, number in parts.items()}

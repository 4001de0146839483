"""What the caller tells the page about a study: plain data, filled by the command line from the study file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class MethodInfo:
    """One method of the study: its label in the records, and one line that says what it is."""

    label: str
    description: str


@dataclass(frozen=True)
class Deviation:
    """A point on which the paper's text and its released code differ, and what the study does about it."""

    topic: str
    report: str
    code: str
    choice: str


@dataclass(frozen=True)
class StudyInfo:
    """A study as the page shows it.

    name, setting, scale: as in the tags of the records.
    methods:              in the order of every table and figure.
    seeds:                the training seeds that the study expects; with `methods` they say what is missing.
    commands:             block name ("run", "report", "tables", "tests", "figures", ...) -> the command that makes it;
                          a block without its own entry shows "report".
    """

    name: str
    title: str
    setting: str
    scale: str
    methods: tuple[MethodInfo, ...]
    seeds: tuple[int, ...]
    deviations: tuple[Deviation, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """Name of the page and its folder; another scale than `paper` has its own."""
        return self.name if self.scale == "paper" else f"{self.name}_{self.scale}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The method labels, in order."""
        return tuple(method.label for method in self.methods)

    def command(self, block: str) -> str:
        """The command that regenerates a block of the page."""
        return self.commands.get(block) or self.commands.get("report") or f"metarepro report {self.name}"

"""What the caller tells the page about a study: plain data, filled by the command line from the study file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Scalar = int | float | str | bool


@dataclass(frozen=True)
class SettingInfo:
    """One setting of a study: its name in the records, and its coordinates in a grid ({} for a study without one)."""

    name: str
    columns: Mapping[str, Scalar] = field(default_factory=dict)

    def describe(self) -> str:
        """The coordinates as text, such as "N = 10, K = 5"; the name where there are none."""
        return ", ".join(f"{name} = {value}" for name, value in self.columns.items()) or self.name


@dataclass(frozen=True)
class MethodInfo:
    """One method of the study: its label in the records, and one line that says what it is.

    seeds:    the seeds expected of this method; a method with nothing to train has one.
    settings: names of the settings in which the method takes part.
    """

    label: str
    description: str
    seeds: tuple[int, ...]
    settings: tuple[str, ...]


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

    name, scale: as in the tags of the records.
    settings:    in the order of every table and figure; one without columns, or a grid.
    methods:     in the order of every table and figure; their seeds and settings say what is missing.
    seeds:       the training seeds that the study expects.
    unasked:     (setting, method, seed) that follow from these but are not asked for: a setting may have fewer seeds.
    findings:    what the results say, a paragraph each; words between backticks are code.
    commands:    block name ("run", "report", "tables", "tests", "figures", ...) -> the command that makes it;
                 a block without its own entry shows "report".
    """

    name: str
    title: str
    scale: str
    settings: tuple[SettingInfo, ...]
    methods: tuple[MethodInfo, ...]
    seeds: tuple[int, ...]
    deviations: tuple[Deviation, ...] = ()
    findings: tuple[str, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    unasked: frozenset[tuple[str, str, int]] = frozenset()

    @property
    def stem(self) -> str:
        """Name of the page and its folder; another scale than `paper` has its own."""
        return self.name if self.scale == "paper" else f"{self.name}_{self.scale}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The method labels, in order."""
        return tuple(method.label for method in self.methods)

    @property
    def is_grid(self) -> bool:
        """Whether the study has settings with coordinates."""
        return any(setting.columns for setting in self.settings)

    @property
    def columns(self) -> dict[str, Mapping[str, Scalar]]:
        """Setting name -> coordinates, as `reports.export.evidence` takes them; empty for a study without a grid."""
        return {setting.name: setting.columns for setting in self.settings} if self.is_grid else {}

    @property
    def expected(self) -> set[tuple[str, str, int]]:
        """Every run that the study expects, as (setting, method, seed)."""
        every = {(setting, m.label, seed) for m in self.methods for setting in m.settings for seed in m.seeds}
        return every - self.unasked

    def command(self, block: str) -> str:
        """The command that regenerates a block of the page."""
        return self.commands.get(block) or self.commands.get("report") or f"metarepro report {self.name}"

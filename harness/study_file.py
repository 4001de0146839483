"""The schema of a study file, and the seeds that its text stands for."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from harness.api import Settings
from harness.errors import UserError
from harness.spec import Budget, Count, ModelChoice, Name, Resources


def _seed_text(value: Any) -> str:
    if type(value) not in (int, str):
        raise ValueError('seeds are text such as "0-4" or "0,2,7"')
    return str(value)


SeedText = Annotated[str, BeforeValidator(_seed_text)]
ColumnName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]


MOST_RUNS = 100_000
"""Seeds of a study, and runs: more could not be planned in any time."""


class MethodEntry(Settings):
    """One method of a study: an algorithm, and where it differs from what the study says for all."""

    algorithm: str
    module: str | None = None
    """The Python file that declares the algorithm, relative to the file that says so; None if it is installed."""
    description: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    budget: dict[str, Any] = Field(default_factory=dict)
    protocols: Annotated[list[Name], Field(min_length=1)] | None = None
    """Those of the study's meta-test protocols that this method is measured under; None for all."""
    resources: dict[str, Any] = Field(default_factory=dict)
    """Where it differs from the study's ``resources``."""
    seeds: SeedText | None = None
    """The method's own seeds, whatever the study's are: one is enough for a method without anything to train."""


class ProtocolEntry(Settings):
    """A meta-test protocol as a study file writes it."""

    rule: str
    updates: Annotated[int, Field(ge=0)]
    description: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    steps_per_task: Count | None = None
    """Collect episodes until a task has this many steps, instead of ``episodes_per_task`` episodes of any length."""
    model: ModelChoice = "last"


class EvaluationEntry(Settings):
    """The meta-test as a study file writes it."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    meta_test_tasks: Count
    episodes_per_task: Count
    shared_noise: bool
    protocols: Annotated[dict[Name, ProtocolEntry], Field(min_length=1)]


class Deviation(Settings):
    """A point on which report and released code differ, and what the study does about it."""

    topic: str
    report: str
    code: str
    here: str


class GridEntry(Settings):
    """One setting of a grid: its coordinates, and what it changes of the study; mappings merge, null drops a key."""

    columns: Annotated[dict[ColumnName, bool | int | float | str], Field(min_length=1)]
    settings: dict[str, Any] = Field(default_factory=dict)
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    methods: dict[str, Any] = Field(default_factory=dict)
    budget: dict[str, Any] = Field(default_factory=dict)
    resources: dict[str, Any] = Field(default_factory=dict)
    evaluation: dict[str, Any] = Field(default_factory=dict)


class StudyFile(Settings):
    """The schema of a study file. A study has one setting under its name, or a grid of them."""

    study: Name
    title: str
    paper: str
    setting: Name | None = None
    grid: dict[Name, GridEntry] = Field(default_factory=dict)
    suite: str
    suite_module: str | None = None
    """The Python file that declares the suite, relative to the file that says so; None if it is installed."""
    extends: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    methods: Annotated[dict[Name, MethodEntry], Field(min_length=1)]
    budget: Budget
    resources: Resources = Resources()
    """What every run needs of a machine: ``device``, ``cpus``, ``gpus``; changes no run_id."""
    evaluation: EvaluationEntry
    seeds: SeedText
    checkpoint_every: Count = 25
    """Meta-iterations between checkpoints; does not change any number."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Measured CPU minutes of the whole study as written, for the first estimate of how long it will take."""
    deviations: list[Deviation] = Field(default_factory=list)
    findings: list[str] = Field(default_factory=list)
    """What the results at scale paper say, a paragraph each; the page shows them beside the tables. A scale that is
    worth findings of its own states them in its patch."""
    companions: list[Name] = Field(default_factory=list)
    """Studies that this study's page shows as well."""
    scales: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_setting_or_a_grid(self) -> StudyFile:
        if (self.setting is None) == (not self.grid):
            raise ValueError("a study needs either 'setting', the name of its one setting, or 'grid'")
        names = {name: ", ".join(sorted(entry.columns)) for name, entry in self.grid.items()}
        for name, columns in names.items():
            if columns != (first := next(iter(names.values()))):
                raise ValueError(f"grid: every setting needs the same columns; {name} has {columns}, others {first}")
        return self

    @model_validator(mode="after")
    def _every_companion_once(self) -> StudyFile:
        shown = [self.study, *self.companions]
        if twice := next((name for name in self.companions if shown.count(name) > 1), None):
            raise ValueError(f"companions: {twice} is on the page of {self.study} already")
        return self

    def settings_and_columns(self) -> dict[str, dict[str, Any]]:
        """The settings by name with their coordinates; a single setting has none."""
        if self.setting is not None:
            return {self.setting: {}}
        return {name: dict(entry.columns) for name, entry in self.grid.items()}


def parse_seeds(text: str, where: str = "--seeds") -> list[int]:
    """``"0-4"`` or ``"0,2,7"`` or both mixed, to a sorted list without repeats."""
    seeds: set[int] = set()
    if not text.isascii():
        raise UserError(f"{where}: {text!r} is not a list of seeds; write 0-4 or 0,2,7")
    for part in text.split(","):
        if len(part.strip()) > 25:
            raise UserError(f"{where}: {part.strip()[:25]!r}... is too long; write 0-4 or 0,2,7")
        low, dash, high = part.strip().partition("-")
        if not (low.isdecimal() and (high.isdecimal() if dash else True)) or (dash and int(low) > int(high)):
            raise UserError(f"{where}: {text!r} is not a list of seeds; write 0-4 or 0,2,7")
        last = int(high) if dash else int(low)
        if last >= 2**31 or len(seeds) + last - int(low) >= MOST_RUNS:
            raise UserError(
                f"{where}: {part.strip()!r} is too large; seeds are below 2^31, at most {MOST_RUNS} at once"
            )
        seeds.update(range(int(low), last + 1))
    return sorted(seeds)

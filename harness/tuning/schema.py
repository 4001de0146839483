"""The schema of a tuning file: what is searched, in which stages, for which objective, on which budget.

A tuning file is data, like a study, and tunes any study: a trial is the study with some of its values assigned.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from harness.api import Settings
from harness.spec import Count, Name, Seed
from harness.study_file import SeedText

Number = Annotated[float, Field(strict=False)]
COLUMNS = ("tuning", "scale", "protocol", "stage", "method", "trial", "state", "value")
AFTER = ("pre_update_return", "post_update_return", "seeds", "values", "reason", "run_ids", "cpu_s")
"""Columns of the table of trials, before and after those of the parameters: no parameter can be called so."""


class RangeEntry(Settings):
    """A real number between two bounds, uniform, or uniform in its logarithm."""

    low: Number
    high: Number
    log: bool = False

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, found low {self.low:g} and high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range begins above 0, found low {self.low:g}")
        return self


class ChoiceEntry(Settings):
    """One of several values."""

    choices: Annotated[tuple[bool | int | float | str, ...], Field(strict=False, min_length=2)]


def _kind_of(entry: Any) -> str:
    return "choice" if isinstance(entry, ChoiceEntry) or (isinstance(entry, dict) and "choices" in entry) else "range"


Parameter = Annotated[
    Annotated[RangeEntry, Tag("range")] | Annotated[ChoiceEntry, Tag("choice")], Discriminator(_kind_of)
]


class CurveObjective(Settings):
    """A metric of meta-training, the mean over all meta-iterations or its last value."""

    of: Literal["curve"]
    name: str
    over: Literal["mean", "last"] = "mean"


class MetaTestObjective(Settings):
    """The mean return over the meta-test's tasks after some updates."""

    of: Literal["meta_test"]
    protocol: Name
    step: Annotated[int, Field(ge=0)]


Objective = Annotated[CurveObjective | MetaTestObjective, Field(discriminator="of")]


class PruneEntry(Settings):
    """Leave a trial out of further seeds once it looks worse than half of the others (Optuna's ``MedianPruner``).

    After every seed but the last: pruned if the best of its means so far (over the first seed, over two, ...) is below
    the median, over the complete trials of earlier batches, of their means over as many seeds. None of them is pruned.
    """

    startup_trials: Count
    """Finished trials before any is pruned."""


class StageEntry(Settings):
    """One search. Later stages build on the best trial of those that they come ``after``."""

    description: str = ""
    protocol: Name
    """What a page puts together: stages of one protocol build on one another."""
    method: Name
    trials: Count
    space: Annotated[dict[Name, Parameter], Field(min_length=1)]
    assign: Annotated[dict[str, str], Field(min_length=1)]
    """Place in the study -> a parameter, or a product of several: ``ratio * critic``."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """What the study is changed to for this stage; mappings merge, null drops a key, as in a scale."""
    after: list[Name] = Field(default_factory=list)
    objective: Objective
    """Always maximised."""
    seeds: SeedText
    prune: PruneEntry | None = None
    published: dict[str, str] = Field(default_factory=dict)
    """Place in the study -> scope of the printed value, in the rows that ``published_name`` names."""
    published_name: str | None = None

    @property
    def factors(self) -> dict[str, list[str]]:
        """Place in the study -> the parameters whose product goes there."""
        return {place: [name.strip() for name in product.split("*")] for place, product in self.assign.items()}

    @property
    def columns(self) -> dict[str, str]:
        """Place in the study -> its name in tables: the last word of it, or all of it where two share that word."""
        words = {place: place.rpartition(".")[2] for place in self.assign}
        taken = [*self.space, *words.values(), *COLUMNS, *AFTER]
        return {place: word if taken.count(word) == 1 else place for place, word in words.items()}

    @model_validator(mode="after")
    def _parameters_are_used(self) -> Self:
        if reserved := sorted(set(self.space) & {*COLUMNS, *AFTER}):
            raise ValueError(f"space: {reserved[0]!r} is a column of the table of trials; call the parameter otherwise")
        used = {name for factors in self.factors.values() for name in factors}
        if unknown := sorted(used - set(self.space)):
            raise ValueError(f"assign uses {unknown[0]!r}, which is not in the space; it has {', '.join(self.space)}")
        if unused := sorted(set(self.space) - used):
            raise ValueError(f"assign does not use {unused[0]!r} of the space")
        if unknown := sorted(set(self.published) - set(self.assign)):
            raise ValueError(f"published names {unknown[0]!r}, which is not assigned")
        return self

    @model_validator(mode="after")
    def _products_are_of_numbers(self) -> Self:
        for place, factors in self.factors.items():
            for name in factors if len(factors) > 1 else ():
                entry = self.space[name]
                if isinstance(entry, ChoiceEntry) and not all(type(one) in (int, float) for one in entry.choices):
                    raise ValueError(f"assign.{place}: {name!r} has choices that are no numbers, so it has no product")
        return self


class SamplerEntry(Settings):
    """How trials are proposed: at random, or by a tree-structured Parzen estimator (Bergstra et al. 2011)."""

    name: Literal["tpe", "random"] = "tpe"
    startup_trials: Annotated[int, Field(ge=0)] = 20
    """Random trials before the estimator begins."""
    candidates: Count = 24
    """Points among which the estimator takes the best."""


class TuningFile(Settings):
    """The schema of a tuning file."""

    tuning: Name
    title: str
    study: str
    """The study that is tuned, a path relative to the tuning file."""
    study_scale: Name = "paper"
    setting: Name | None = None
    """Which setting of a study that is a grid."""
    table: str | None = None
    """The printed table of what was found, by its id in the suite's published.yaml."""
    seed: Seed
    batch: Count = 4
    """Trials that are proposed together, whatever the number of workers."""
    sampler: SamplerEntry = SamplerEntry()
    stages: Annotated[dict[Name, StageEntry], Field(min_length=1)]
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Measured CPU minutes of the whole tuning as written."""
    notes: list[str] = Field(default_factory=list)
    """How this search differs from the published one."""
    findings: list[str] = Field(default_factory=list)
    """What the results at scale paper say, a paragraph each."""
    scales: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        seen: set[str] = set()
        for name, stage in self.stages.items():
            for earlier in stage.after:
                if earlier not in seen:
                    raise ValueError(f"stages.{name}.after: {earlier!r} is no stage that comes before it")
            seen.add(name)
        return self
